"""Command lines: options with values that make no sense, outputs in impossible places, saved runs, factories."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from tests.hostile_inputs.case import INPUT, NO, OK, USAGE, Case
from tests.hostile_inputs.damage import Make, content, cuts, flips, misfits, written
from tests.hostile_inputs.samples import CHECKPOINT, FUSED, IMAGES, MODEL, ONNX, RUN, SIZE

_SIZE = ("--input-size", SIZE)
_USAGE, _REFUSED = frozenset({USAGE}), frozenset({INPUT})


def cases() -> Iterator[Case]:
    yield from _options()
    yield from _combinations()
    yield from _outputs()
    yield from _saved_runs()
    yield from _factories()


_NUMBERS = ("nan", "inf", "-inf", "-1", "x", "", " ", "1e", "--", "1,2", "²", "0x1")
_COMMANDS: dict[str, tuple[str, ...]] = {
    "fuse": (
        "fuse",
        CHECKPOINT,
        *MODEL,
        "--attention",
        "freeze",
        "--calibration",
        IMAGES,
        "-o",
        "out.fused.pt2",
    ),
    "export": ("export", CHECKPOINT, *MODEL, "--precision", "fp16", "--calibration", IMAGES, "-o", "out.onnx"),
    "verify": ("verify", ONNX, "--against", CHECKPOINT, *MODEL),
    "run": ("run", ONNX, IMAGES),
    "evaluate": ("evaluate", ONNX, "--data", "good-classes"),
    "bench": ("bench", ONNX, "--save", "out.json"),
    "inspect": ("inspect", CHECKPOINT, *MODEL),
    "int8": ("export", CHECKPOINT, *MODEL, "--precision", "int8", "--calibration", IMAGES, "-o", "out.onnx"),
}
_SIZES = (
    "0",
    "-1",
    "",
    " ",
    "x",
    "64x",
    "x64",
    "64x64x64",
    "99999",
    "1e3",
    "64.0",
    "²",
    "٦٤" * 20,
    "1" * 5000,
    "\x1b[2J",
)
_CHANNELS = (
    "nan,nan,nan",
    "inf,0,0",
    "",
    ",",
    "1,2",
    "1,2,3,4",
    "a,b,c",
    "1;2;3",
    "1e999,0,0",
    "0x1,0,0",
    "1,,2",
    "[bold]",
)
_BAD: dict[str, dict[str, tuple[str, ...]]] = {
    "fuse": {
        "--input-size": _SIZES,
        "--mean": _CHANNELS,
        "--std": (*_CHANNELS, "0", "0,0,0", "-1,1,1", "1,1,0", "nan", "1e-400,1,1"),
        "--resize": ("0", "-1", "x", "", "1.5", "nan", "9" * 400),
        "--crop": _SIZES,
        "--color": ("", "rgb ", "RGBA", "CMYK", "x", "[red]"),
        "--children": ("", "none", "Share ", "on-the-fly"),
        "--attention": ("", "none", "x"),
        "--freeze-below": ("nan", "x", "", "-1", "-inf"),
        "--arch": ("", "resnet19", "../resnet18", "\x1b[2J", "x" * 5000),
    },
    "export": {
        "--opset": ("0", "-1", "17", "24", "99999", "x", "", "18.5", "9" * 400),
        "--batch": ("0", "-1", "x", "", "1:2", "1.5", "²", "dynamic ", "99999999999999999999", "nan"),
        "--max-bloat": ("nan", "-1", "x", "", "-inf", "0"),
        "--target": ("", "gpu", "x"),
        "--precision": ("", "bf16", "fp8", "x"),
        "--weights": ("", "int4", "x"),
        "--input-size": _SIZES,
        "--compute-capability": ("", "x", "8.6.1", "-1", "999"),
        "--children": ("", "none"),
    },
    "int8": {
        "--max-drop": ("nan", "-1", "x", "", "inf"),
        "--calibration-method": ("", "mean", "x"),
    },
    "verify": {
        "--rtol": _NUMBERS,
        "--atol": _NUMBERS,
        "--input-size": _SIZES,
        "--save-worst": ("", "out.txt", ".", "/", "no/out.npy"),
    },
    "run": {
        "--top": ("0", "-1", "x", "", "1.5"),
        "--crop": _SIZES,
    },
    "evaluate": {
        "--batch-size": ("0", "-1", "x", "", "1.5", "nan", "9" * 400),
        "--mean": _CHANNELS,
        "--std": (*_CHANNELS, "0,0,0", "-1,1,1"),
        "--crop": _SIZES,
        "--resize": ("0", "-1", "x", ""),
        "--color": ("", "x"),
        "--limit": ("0", "-1", "x", "", "1.5"),
        "--seed": ("0", "-1", "x", ""),  # without --limit
        "--fail-if": ("", "top1", "ratio>1", "top1<0.5", "agreement<9", "top1<nan", "\x1b[2J<1"),
        "--resume": ("", ".", "/", "-", "no/state.json"),
    },
    "bench": {
        "--cpu-streams": ("0", "-1", "x", "", "1.5"),
        "--cpu-threads": ("0", "-1", "x", "", "1.5"),
        "--batch-size": ("0", "-1", "x", ""),
        "--iterations": ("0", "-1", "x", ""),
        "--min-time": ("nan", "-1", "x", "", "inf"),
        "--runtime": ("", "x", "tensorflow"),
        "--protocol": ("", "x"),
        "--suite": ("", "x"),
        "--fail-if": (
            "",
            "x",
            "ratio",
            "ratio>",
            ">1",
            "ratio>x",
            "ratio>nan",
            "ratio=1",
            "ratio>1>2",
            "import os>1",
            "\x1b[2J>1",
        ),
        "--save": ("", "out", "out.exe", "/", ".", "no/out.json"),
        "--streams": ("0", "x"),
        "--precision": ("x", ""),
        "--baseline": ("", "no.json", "tensorflow", "\x1b[2J"),
    },
    "inspect": {
        "--input-size": _SIZES,
        "--arch": ("", "x"),
        "--layout": ("", "FS", "layer3=", "=FF", "FF,FF", "\x1b[2J", "F" * 5000),
        "--reductions": ("", "0", "4.5", "-1", "4,,4", "²"),
        "--scale": ("0", "-1", "nan", "inf", "x"),
        "--outputs": ("", "C1", "C3;C4", "logits,C3"),
    },
}


def _options() -> Iterator[Case]:
    for command, options in _BAD.items():
        for option, values in options.items():
            for value in values:
                name = f"{command} {option} {value[:24]!r}"
                file = option in ("--baseline",)  # what is no word for a runtime is a file that is not there
                codes = frozenset({USAGE, INPUT}) if file else _USAGE
                yield Case("options", name, (*_COMMANDS[command], option, value), _nothing, codes)


def _nothing(folder: Path) -> None:
    pass


def _combinations() -> Iterator[Case]:
    lines = [
        "frobnicate",
        "--nonsense",
        "fuse",
        "fuse a b",
        "fuse --help --nonsense",
        f"fuse {CHECKPOINT} --attention drop",
        f"fuse {CHECKPOINT} --calibration {IMAGES}",
        f"fuse {CHECKPOINT} --freeze-below 1",
        f"export {CHECKPOINT} --tensorrt --tensorrt-rtx",
        f"export {CHECKPOINT} --layers",
        f"export {CHECKPOINT} --no-tf32",
        f"export {CHECKPOINT} --half-io",
        f"export {CHECKPOINT} --held-out {IMAGES}",
        f"export {CHECKPOINT} --max-drop 1",
        f"export {CHECKPOINT} --precision int8",
        f"export {CHECKPOINT} --precision int8 --calibration {IMAGES} --target any",
        f"export {CHECKPOINT} --precision int8 --weights fp16 --calibration {IMAGES}",
        f"export {CHECKPOINT} --weights int8 --max-drop 1",
        f"export {CHECKPOINT} --weights int8 --target tensorrt",
        f"export {CHECKPOINT} --weights int4 --children on-the-fly",
        f"export {ONNX}",
        f"export {ONNX} --precision fp16",
        f"export {FUSED} --arch resnet18",
        f"export {FUSED} --ema",
        f"export {FUSED}",
        "export",
        "verify",
        "run",
        f"run {ONNX}",
        f"run {ONNX} - -",
        "evaluate",
        f"evaluate {ONNX}",
        "bench",
        "bench --compare",
        f"bench --compare {RUN}",
        f"bench --compare {RUN} {RUN} {RUN}",
        f"bench --compare {RUN} {RUN} --save out.json",
        f"bench {ONNX} --suite table1",
        f"bench {ONNX} --suite table1 --baseline pytorch",
        f"bench {ONNX} --precision fp16",
        f"bench {ONNX} --streams 2",
        f"bench {ONNX} --protocol paper --batch-size 2",
        f"verify {ONNX} --bisect --against {ONNX}",
    ]
    for line in lines:
        yield Case("options", f"'{line}'", tuple(line.split()), _nothing, _USAGE)


def _outputs() -> Iterator[Case]:
    family = "outputs"
    writers: dict[str, tuple[str, ...]] = {
        "fuse": ("fuse", CHECKPOINT, *MODEL, *_SIZE, "-o"),
        "export": ("export", CHECKPOINT, *MODEL, *_SIZE, "-o"),
        "bench": ("bench", CHECKPOINT, *MODEL, *_SIZE, "--save"),
        "verify": ("verify", CHECKPOINT, "--against", ONNX, *MODEL, *_SIZE, "--save-worst"),
    }
    ends = {"fuse": ".pt2", "export": ".onnx", "bench": ".json", "verify": ".npy"}
    for command, words in writers.items():
        end = ends[command]
        places: dict[str, tuple[str, Make]] = {
            "the input": (CHECKPOINT, _nothing),
            "the input by another way": (f"../case/{CHECKPOINT}", _nothing),
            "a link to the input": (f"link{end}", _link(f"link{end}", CHECKPOINT)),
            "another name of the input": (f"hard{end}", _hard(f"hard{end}")),
            "a folder": (f"out{end}", lambda f, n=f"out{end}": (f / n).mkdir()),
            "the folder itself": (".", _nothing),
            "the folder above": ("..", _nothing),
            "a folder with a slash": ("out/", lambda f: (f / "out").mkdir()),
            "a missing folder": (f"missing/out{end}", _nothing),
            "a file for a folder": (f"{CHECKPOINT}/out{end}", _nothing),
            "a device": ("/dev/null", _nothing),
            "a named pipe": (f"out{end}", lambda f, n=f"out{end}": os.mkfifo(f / n)),
            "a link to itself": (f"out{end}", _link(f"out{end}", f"out{end}")),
            "nothing": ("", _nothing),
            "a dash": ("-", _nothing),
            "a name of 300 characters": ("x" * 300 + end, _nothing),
            "a name with a zero byte": (f"a\0b{end}", _nothing),
            "a way of 5000 characters": ("a/" * 2500 + f"out{end}", _nothing),
            "a system's folder": (f"/proc/out{end}", _nothing),
        }
        for name, (place, make) in places.items():
            if "system" in name and command != "verify":  # told at the end, after all the work
                continue
            codes = frozenset({USAGE, NO}) if "system" in name else _USAGE
            yield Case(family, f"{command} to {name}", (*words, place), make, codes)


def _link(name: str, target: str) -> Make:
    return lambda folder: (folder / name).symlink_to(target)


def _hard(name: str) -> Make:
    return lambda folder: os.link(folder / CHECKPOINT, folder / name)


def _saved_runs() -> Iterator[Case]:
    family = "saved runs"
    compare, baseline = ("bench", "--compare", RUN, "case.json"), ("bench", ONNX, "--baseline", "case.json")
    answered = frozenset({OK, USAGE, INPUT})
    for name, value in misfits(json.loads(content(RUN)), every=17):
        yield Case(family, name, compare, written("case.json", json.dumps(value).encode()), answered)
    for name, data in flips(RUN, 30):
        yield Case(family, name, compare, written("case.json", data), answered)
    for name, data in cuts(RUN, 20):
        for command in (compare, baseline):
            yield Case(family, f"{name} ({command[2]})", command, written("case.json", data), _REFUSED)
    texts = (
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'"x"',
        b"[" * 100_000,
        b"NaN",
        b"{",
        b"\xff\xfe",
        b'{"a":' * 5000,
        b'{"kind": "bench"}',
    )
    for text in texts:
        for command in (compare, baseline):
            yield Case(family, f"it is {text[:8]!r} ({command[2]})", command, written("case.json", text), _REFUSED)
    places: dict[str, Make] = {
        "a folder": lambda f: (f / "case.json").mkdir(),
        "a named pipe": lambda f: os.mkfifo(f / "case.json"),
        "not there": _nothing,
        "a link to itself": _link("case.json", "case.json"),
    }
    for name, make in places.items():
        for command in (compare, baseline):
            yield Case(family, f"{name} ({command[2]})", command, make, frozenset({USAGE, INPUT}))


_SOURCE = """
import os, sys, time, torch
from torch import nn
class N(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
    def forward(self, x): return x
def raises(): raise ValueError("no network today")
def no_message(): raise ValueError
def no_exit(): raise BaseException("through")
def leaves(): sys.exit(0)
def leaves_with(): sys.exit("bye")
def ends_generator(): raise StopIteration
def key(): raise KeyError("x")
def recurses(): return recurses()
def nothing(): return None
def number(): return 3
def cls(): return N
def escape(): raise ValueError("\\x1b[2J[bold]")
def lines(): raise ValueError("one\\ntwo\\nthree")
def long(): raise ValueError("x" * 100000)
def takes(argument): return N()
def prints(): print("hello"); return None
class Odd(Exception):
    def __str__(self): raise ValueError("no text")
def odd(): raise Odd
def closes(): sys.stdout.close(); return None
text = "network"
"""


def _factories() -> Iterator[Case]:
    family = "factories"
    inside = [
        *("raises", "no_message", "no_exit", "leaves", "leaves_with", "ends_generator", "key", "recurses", "nothing"),
        *("number", "cls", "escape", "lines", "long", "takes", "odd", "text", "missing", "N"),
    ]
    words = [
        *(
            "sys:exit",
            "os:abort_",
            "builtins:exit",
            "builtins:dict",
            "torch.nn:Identity",
            "no_such_module:build",
            "json:loads",
        ),
        *(
            "",
            ":",
            "a:",
            ":b",
            "a",
            "a:b:c",
            "../case:build",
            "a b:c",
            "os.path",
            "hostile_network.raises",
            "\x1b[2J:x",
            "x" * 5000 + ":y",
        ),
    ]
    for number, name in enumerate((*(f"hostile_network_{{}}:{each}" for each in inside), *words)):
        module = f"hostile_network_{number}"  # a name of its own: a module is imported once a process
        factory = name.format(number) if "{" in name else name
        source = written(f"{module}.py", _SOURCE.encode())
        command = ("inspect", "fuse", "export")[number % 3]
        arguments = (command, CHECKPOINT, "--model", factory, *_SIZE)
        yield Case(family, f"{command} {name[:30]!r}", arguments, source, frozenset({USAGE, INPUT}))
    broken = {
        "a syntax error": b"def build(:\n",
        "an exit": b"import sys; sys.exit(0)",
        "an error": b"1/0",
        "zero bytes": b"\0\0",
    }
    for label, text in broken.items():
        module = f"hostile_{label.replace(' ', '_')}"
        words_ = ("inspect", CHECKPOINT, "--model", f"{module}:build", *_SIZE)
        yield Case(family, f"a module with {label}", words_, written(f"{module}.py", text), frozenset({USAGE, INPUT}))
