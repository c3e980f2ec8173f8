"""Words that users know from other tools, and what they mean here: understood where the meaning is the same, else
pointed to what there is.

    --imgsz 640        --input-size 640          another name of an option
    --fp16             --precision fp16          a flag that says an option and its value
    --device cuda      --gpu                     by its value
    --weights net.pt   net.pt                    a file in the place of the argument
    --preprocess       --preprocess nhwc         an option without its value
    --workspace 4      one sentence              nothing here means that
    release            ship                      a command

A command's own options come first, and underscores are read as hyphens. What follows ``--`` is left alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from kdna_deploy.errors import UsageError

_ALL = ("inspect", "fuse", "export", "verify", "run", "evaluate", "bench", "sweep", "report", "ship")
_ALIKE = 0.8  # of two names, from which one may be a slip of the other


@dataclass(frozen=True)
class Word:
    """What a word of other tools means.

    Attributes:
        names: its spellings.
        commands: where it means that.
        says: what it stands for; a value that follows is that of the last of these.
        by_value: the same by its value.
        file: whether its value is the file that the command takes as an argument.
        last: whether that argument comes behind the others.
        alone: its value where none follows.
        points: one sentence, where nothing here means the same.
    """

    names: tuple[str, ...]
    commands: tuple[str, ...] = _ALL
    says: tuple[str, ...] = ()
    by_value: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    file: bool = False
    last: bool = False
    alone: str = ""
    points: str = ""


_IMAGES_HERE = "give images with --calibration DIR; --data belongs to evaluate."
_GPU = ("--gpu",)
WORDS = (
    Word(("--source", "--image", "--images", "--input"), ("run",), file=True, last=True),
    Word(("--topk", "--top-k"), ("run",), says=("--top",)),
    Word(("--preprocess",), ("export",), alone="nhwc"),
    Word(("--class-names", "--names", "--classes"), ("run", "export", "ship"), says=("--labels",)),
    Word(("--imgsz", "--img-size", "--img", "--image-size", "--input-res", "--resolution"), says=("--input-size",)),
    Word(("--fp16", "--half"), ("export", "bench"), says=("--precision", "fp16")),
    Word(("--fp32",), ("export", "bench"), says=("--precision", "fp32")),
    Word(("--tf32",), ("bench",), says=("--precision", "tf32")),
    Word(("--int8",), ("export", "bench"), says=("--precision", "int8")),
    Word(("--batch-size",), ("export",), says=("--batch",)),
    Word(("--batch",), ("evaluate", "bench"), says=("--batch-size",)),
    Word(("--dynamic-batch",), ("export",), says=("--batch", "dynamic")),
    Word(("--opset-version",), ("export",), says=("--opset",)),
    Word(("--out", "--output-file", "--save-path"), ("fuse", "export", "prepare", "report"), says=("--output",)),
    Word(
        ("--use-ema", "--model-ema"),
        ("inspect", "fuse", "export", "verify", "run", "evaluate", "sweep", "report", "ship"),
        says=("--ema",),
    ),
    Word(("--ref", "--reference"), ("verify", "evaluate"), says=("--against",)),
    Word(("--data-dir", "--val", "--val-dir", "--dataset"), ("evaluate", "sweep", "report"), says=("--data",)),
    Word(
        ("--calibration-data", "--calibration-dir"),
        ("fuse", "export", "sweep", "report", "ship"),
        says=("--calibration",),
    ),
    Word(("--license",), ("ship",), says=("--licence",)),
    Word(("--target", "--formats"), ("ship",), says=("--targets",)),
    Word(("-o", "--output", "--out", "--output-dir", "--outdir"), ("ship", "package"), says=("--to",)),
    Word(("--server", "--target"), ("package",), says=("--for",)),
    Word(("--threads", "--num-threads"), ("bench", "sweep"), says=("--cpu-threads",)),
    Word(("--iters", "--runs", "--repeat", "--num-iter"), ("bench", "sweep"), says=("--iterations",)),
    Word(("--engine", "--trt"), ("export",), says=("--tensorrt",)),
    Word(("--cuda",), ("bench",), says=_GPU),
    Word(
        ("--device",),
        ("bench",),
        by_value={"cpu": (), "gpu": _GPU, "cuda": _GPU, "cuda:0": _GPU, "0": _GPU},
        points="bench measures on the CPU, or on the first GPU with --gpu; CUDA_VISIBLE_DEVICES says which is first.",
    ),
    Word(
        ("--format",),
        ("export",),
        by_value={
            "onnx": ("--onnx",),
            **dict.fromkeys(("openvino", "ir"), ("--openvino",)),
            "ncnn": ("--ncnn",),
            "mnn": ("--mnn",),
            **dict.fromkeys(("litert", "tflite"), ("--litert",)),
            **dict.fromkeys(("executorch", "pte"), ("--executorch",)),
            **dict.fromkeys(("engine", "tensorrt", "trt"), ("--tensorrt",)),
            **dict.fromkeys(("tensorrt-rtx", "rtx"), ("--tensorrt-rtx",)),
        },
        points="export writes ONNX (--onnx), files of OpenVINO, ncnn, MNN, LiteRT and ExecuTorch (--openvino, "
        "--ncnn, --mnn, --litert, --executorch) and engines (--tensorrt, --tensorrt-rtx); fuse writes a fused graph.",
    ),
    Word(
        ("--weights", "--checkpoint", "--ckpt"),
        ("inspect", "fuse", "export", "run", "evaluate", "bench", "sweep", "report", "ship"),
        file=True,
    ),
    Word(
        ("--weights", "--checkpoint", "--ckpt"),
        ("verify",),
        points="the artifact is an argument, and the checkpoint that it is compared with is --against CKPT.",
    ),
    Word(
        ("--device", "--gpu", "--cuda"),
        points="this runs on the CPU (an engine on its GPU); bench --gpu measures on a GPU.",
    ),
    Word(
        ("--dynamic", "--dynamic-axes"),
        ("export",),
        points="the batch size is dynamic already (--batch dynamic), and the image size is fixed (--input-size).",
    ),
    Word(("--data",), ("fuse", "export", "ship"), points=_IMAGES_HERE),
    Word(("--data",), ("verify",), points="give images with --inputs DIR; --data belongs to evaluate."),
    Word(("--quantize", "--quantise"), ("export",), points="say --precision int8 --calibration DIR."),
    Word(("--bf16",), points="no file is written in bfloat16; bench --runtime openvino-bf16 measures what it gains."),
    Word(
        ("--fp16", "--half", "--int8", "--precision"),
        ("sweep",),
        points="it makes files in every precision, and says which to ship; within --max-drop POINTS.",
    ),
    Word(
        ("--fp16", "--half", "--int8", "--precision"),
        ("ship",),
        points="a precision belongs to a target: --targets cpu,cpu-int8,gpu-fp16.",
    ),
    Word(
        ("--fp16", "--half", "--int8", "--precision"),
        ("inspect", "fuse", "prepare", "verify", "run", "evaluate", "report"),
        points="the precision is chosen when a file is written: export --precision fp16 or int8.",
    ),
    Word(
        ("--output-dir", "--outdir", "--project"),
        ("fuse", "export", "prepare", "report"),
        points="name the file with its folder: -o DIR/NAME.",
    ),
    Word(
        ("--input-shape", "--shape", "--input"),
        points="say the image size with --input-size HxW; channels are told from the weights.",
    ),
    Word(("--simplify", "--opset", "--opset-version"), ("fuse",), points="that belongs to export, which writes ONNX."),
    Word(
        ("--verify", "--no-verify", "--skip-verify"),
        ("fuse", "export", "prepare", "ship"),
        points="what is written is always verified, and nothing turns that off.",
    ),
    Word(("--workspace",), ("export",), points="TensorRT takes the memory that it needs to build; leave it out."),
    Word(("--warmup", "--warm-up"), ("bench",), points="runs to warm up are part of the protocol; leave it out."),
    Word(("--provider", "--backend"), ("bench",), points="say --runtime NAME; bench --help lists the names."),
    Word(
        ("--ema", "--use-ema"),
        ("bench",),
        points="fuse --ema first, and measure that file.",
    ),
    Word(("--tol", "--tolerance"), ("verify",), points="say --rtol SHARE, of an output's spread, and --atol NUMBER."),
    Word(("--num-classes", "--classes", "--nc"), points="it is told from the weights; leave it out."),
    Word(("--num-workers",), ("export", "evaluate", "sweep"), says=("--workers",)),
    Word(("--workers", "--num-workers"), ("ship",), points="files in int8 are judged on all cores; leave it out."),
    Word(
        ("--workers", "--num-workers"),
        points="export, evaluate and sweep share images among processes (--workers); this does not: leave it out.",
    ),
    Word(
        ("--overwrite", "--force"),
        ("fuse", "export", "prepare", "report"),
        points="an earlier output of that name is replaced anyway.",
    ),
    Word(
        ("--overwrite", "--force"),
        ("package", "ship"),
        points="a folder that holds something is never replaced; remove it, or name another with --to.",
    ),
    Word(("--verbose", "--debug"), points="set KDNA_DEBUG=1 to see tracebacks."),
)


def understood(command: str, said: list[str], own: Collection[str]) -> list[str]:
    """The command line `said`, in the words of `command`, whose options are `own`.

    Raises:
        UsageError: a word that means nothing here.
    """
    last: list[str] = []
    return [*_translated(command, iter(said), own, last), *last]


def _translated(command: str, said: Iterator[str], own: Collection[str], last: list[str]) -> Iterator[str]:
    """Without the arguments that come behind all others, which are added to `last`."""
    for token in said:
        if token == "--":
            yield token
            yield from said
            return
        name, equals, value = token.partition("=")
        name = name.replace("_", "-") if name.startswith("--") else name
        word = word_for(command, name)
        if word is not None and word.alone and not equals:
            following = list(itertools.islice(said, 1))
            valued = any(not one.startswith("-") and not _is_file(one) for one in following)
            yield from (name, *(following if valued else [word.alone]))
            if not valued:
                yield from _translated(command, itertools.chain(following, said), own, last)
                return
            continue
        if word is None or (name in own and not word.file):
            yield name + equals + value if name in own else token
            continue
        follows = value if equals else next(said, None) if word.by_value or word.file else None
        meant = _meant(command, word, name, follows, equals + value, name in own)
        if word.last and follows is not None:
            last.extend(meant)
        else:
            yield from meant


def word_for(command: str, name: str) -> Word | None:
    """What `name` means to `command`; the first entry holds."""
    return next((word for word in WORDS if name in word.names and command in word.commands), None)


def _meant(command: str, word: Word, name: str, value: str | None, tail: str, is_own: bool) -> Iterator[str]:
    """`tail` is what `name` was written with: ``=640``, or nothing."""
    if word.file:
        if value is not None and (not is_own or _is_file(value)):
            yield value
        else:
            yield from (name,) if value is None else (name, value)
    elif word.by_value and value is not None and value.lower() in word.by_value:
        yield from word.by_value[value.lower()]
    elif word.points:
        raise UsageError(f"{command} has no option {name}: {word.points}")
    else:
        *before, last = word.says
        yield from (*before, last + tail)


def _is_file(value: str) -> bool:
    """Whether a value looks like a file rather than a word."""
    return "." in value or "/" in value or Path(value).is_file()


def likely(name: str, own: Collection[str]) -> list[str]:
    """The options of which `name` may be a slip: a beginning of theirs, or nearly the same letters."""
    return sorted(
        option
        for option in own
        if (len(name) > len("--x") and option.startswith(name)) or SequenceMatcher(None, name, option).ratio() >= _ALIKE
    )


_COMMANDS = {"release": "ship", "bundle": "ship"}
_NO_COMMANDS = dict.fromkeys(
    ("deploy", "serve"),
    "ship CKPT --to DIR makes a release, and package FILES --for SERVER the folder that a server takes.",
)


def command_meant(name: str) -> str:
    """The command that `name`, of another tool, means here; `name` itself where it is none of these.

    Raises:
        UsageError: nothing here means the same.
    """
    if name in _NO_COMMANDS:
        raise UsageError(f"There is no command {name}: {_NO_COMMANDS[name]}")
    return _COMMANDS.get(name, name)
