"""Every option of every command reaches what it is for, alone: a table with an entry for each, or the test fails.

An entry is the command without the option, the option, and what then differs in the request that the library receives
(`handed.py`): just that, so that an option that takes another one's value is noticed as well. What the library makes of
a request is tested where the library is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from kdna_deploy.cli.app import COMMANDS
from kdna_deploy.errors import UsageError
from kdna_deploy.images.folder import MEAN, STD, Preprocessing, image_files, read_image
from tests.benchmark.test_saved import PAIR, save
from tests.cli.handed import SHAPE, WORST, Request, changed, commands, handed, invoke, options_of
from tests.samples import RESNET, SIZE, sample_path

Check = Callable[[Request, Request], bool]  # the request without the option, and with it


@dataclass(frozen=True)
class Entry:
    """What an option does.

    Attributes:
        before: the command without it.
        option: added to that.
        expected: what differs then, key → value; a function of the two values where it is no constant.
        after: the whole command with it, where it does not suffice to add it.
        alone: whether nothing else may differ.
    """

    before: str
    option: str
    expected: dict[str, Any] = field(default_factory=dict)
    after: str = ""
    alone: bool = True

    @property
    def name(self) -> str:
        return self.option.split()[0]


ARCHITECTURE = {
    "--arch mobilenet_v2": {"arch": "mobilenet_v2"},
    "--layout layer4=FS-FSF": {"layout": "layer4=FS-FSF"},
    "--no-channel": {"channel": False},
    "--filter": {"filter": True},
    "--no-spatial": {"spatial": False},
    "--reductions 4,24": {"reductions": (4, 24)},
    "--scale 0.5": {"scale": 0.5},
    "--outputs C3,C4": {"outputs": ("C3", "C4")},
    "--multiplier 0.5": {"multiplier": 0.5},
    "--base base.pth": {"base": "base.pth"},
    "--temperature 30": {"temperature": 30.0},
}


def loading(command: str, prefix: str, inputs: str | None = None) -> list[Entry]:
    """What every command does with options of the network; one that writes protects the base among its `inputs`."""
    also = {"--base base.pth": {inputs: protects("base.pth")}} if inputs else {}
    return [
        *(
            Entry(
                command,
                option,
                {f"{prefix}.arch.{name}": value for name, value in words.items()} | also.get(option, {}),
            )
            for option, words in ARCHITECTURE.items()
        ),
        Entry(command, "--model mine.network:build", {f"{prefix}.factory": "mine.network:build"}),
        Entry(command, "--ema", {f"{prefix}.ema": True}),
    ]


def as_json(command: str) -> Entry:
    return Entry(command, "--json", {"Sink.as_json": True})


# Every word on preprocessing is said before one of them is changed, so that no default comes in between.
SAID = "--mean 0.4,0.5,0.6 --std 0.2,0.25,0.3 --resize 24 --crop 20x16 --color RGB"
PREPROCESSING = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.25, 0.3), 24, (20, 16), "RGB")
WORDS = {
    "--mean 0.1,0.2,0.3": {"mean": (0.1, 0.2, 0.3)},
    "--std 0.9,0.8,0.7": {"std": (0.9, 0.8, 0.7)},
    "--resize 30": {"resize": 30},
    "--crop 12x14": {"crop": (12, 14)},
    "--color BGR": {"color": "BGR"},
}


def images_with(words: dict[str, Any], folder: str = "images", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    preprocessing = Preprocessing(**{**vars(PREPROCESSING), **words})
    files = image_files(Path(folder))
    return np.stack([read_image(path, (shape[1], shape[2]), preprocessing) for path in files])


def protects(name: str) -> Callable[[Any, Any], bool]:
    """A file that no output may replace."""
    return lambda old, new: set(new) - set(old) == {Path(name)}


def attention(command: str, request: str, inputs: str) -> list[Entry]:
    """What `fuse` and `export` do with channel attention and calibration images."""
    keep, freeze = command, f"{command} --attention freeze --calibration images {SAID}"
    key = f"{request}.attention"
    found = [
        Entry(freeze, "--attention drop --yes-drop", {f"{key}.choice": "drop"}),
        Entry(freeze, "--freeze-below 0.5", {f"{key}.below": 0.5}),
        Entry(
            freeze,
            "--calibration others",
            {
                f"{key}.images": lambda _, new: np.array_equal(new, images_with({}, "others")),
                f"{key}.record.images": "others",
                f"{key}.record.sha256": lambda old, new: len(old) == len(new) == 64,
                inputs: lambda _, new: Path("others") in new,
            },
        ),
        Entry(
            keep,
            "--attention freeze --calibration images",
            {f"{key}.choice": "freeze", f"{key}.images": lambda old, new: len(new) == 12},
            alone=False,
        ),
    ]
    for option, words in WORDS.items():
        (name,) = words
        taken = {f"{key}.images": lambda _, new, words=words: np.array_equal(new, images_with(words))}
        found.append(Entry(freeze, option, {f"{key}.record.{name}": words[name], **taken}))
    return found


INT8 = f"export ckpt.pt --precision int8 --calibration images {SAID}"
SWEEP = "sweep ckpt.pt --data held"
SHIP = "ship ckpt.pt"
SHIP_INT8 = f"ship ckpt.pt --targets cpu-int8 --calibration images {SAID}"
ENGINE = "export net.onnx --tensorrt-rtx"
FROM_FUSED = "open_fused_source.request"
EXPORTED = "export_fused.options"
BUILT = "export_engine.options"


def square(words: dict[str, Any], folder: str) -> np.ndarray:
    """At the size of the network."""
    return images_with(words, folder, (3, *SIZE))


def judged(old: np.ndarray, new: np.ndarray) -> bool:
    """All of the images in `held`, and none of the others."""
    return np.array_equal(new, square({}, "held"))


def calibrating(old: np.ndarray, new: np.ndarray) -> bool:
    """All of the images in `images`, none of which judges now."""
    return len(old) == 10 and np.array_equal(new, square({}, "images"))


TABLE: dict[str, list[Entry]] = {
    "inspect": [
        *loading("inspect ckpt.pt", "load_network"),
        Entry("inspect ckpt.pt", "--input-size 96x64", {"inspect_network.image_size": (96, 64)}),
        as_json("inspect ckpt.pt"),
    ],
    "fuse": [
        *loading("fuse ckpt.pt", "fuse_checkpoint.request", "save_fused.inputs"),
        *attention("fuse ckpt.pt", "fuse_checkpoint.request", "save_fused.inputs"),
        Entry("fuse ckpt.pt", "--output other.fused.pt2", {"save_fused.path": Path("other.fused.pt2")}),
        Entry(
            "fuse ckpt.pt",
            "--save-merged net.safetensors",
            {"save_merged": True, "save_merged.path": Path("net.safetensors")},
            alone=False,
        ),
        Entry("fuse ckpt.pt", "--input-size 96x64", {"fuse_checkpoint.request.size": (96, 64)}),
        Entry("fuse ckpt.pt", "--children share", {"fuse_checkpoint.request.children": "share"}),
        as_json("fuse ckpt.pt"),
    ],
    "export": [
        *loading("export ckpt.pt", FROM_FUSED, "export_fused.inputs"),
        *attention("export ckpt.pt", FROM_FUSED, "export_fused.inputs"),
        Entry("export ckpt.pt", "--attention keep", {f"{FROM_FUSED}.attention": "keep"}),
        Entry("export ckpt.pt", "--onnx"),  # what is done by default
        Entry(
            "export ckpt.pt",
            "--openvino",
            {
                "export_openvino.output": Path("ckpt.xml"),
                "export_openvino.options.int8.max_drop": 0.5,
            },
            after=f"{INT8} --openvino --max-drop 0.5",
            alone=False,
        ),
        Entry(
            "export ckpt.pt",
            "--ncnn",
            {"export_converted.output": Path("ckpt.ncnn.param"), "export_converted.options.weights": "fp16"},
            after="export ckpt.pt --ncnn --weights fp16",
            alone=False,
        ),
        Entry(
            "export ckpt.pt",
            "--mnn",
            {"export_converted.output": Path("ckpt.mnn"), "export_converted.options.opset": 20},
            after="export ckpt.pt --mnn --opset 20",
            alone=False,
        ),
        Entry(
            "export ckpt.pt",
            "--litert",
            {"export_converted.output": Path("ckpt.tflite"), "export_converted.options.batch": 2},
            after="export ckpt.pt --litert --batch 2",
            alone=False,
        ),
        Entry(
            "export ckpt.pt",
            "--executorch",
            {"export_converted.output": Path("ckpt.pte"), "export_converted.options.max_bloat": 2.0},
            after="export ckpt.pt --executorch --max-bloat 2",
            alone=False,
        ),
        Entry(
            ENGINE,
            "--tensorrt",
            {
                f"{BUILT}.library": "tensorrt",
                "export_engine.output": Path("net.engine"),
                "open_library.name": "tensorrt",
            },
            after="export net.onnx --tensorrt",
        ),
        Entry(
            "export net.onnx --tensorrt",
            "--tensorrt-rtx",
            {
                f"{BUILT}.library": "tensorrt-rtx",
                "export_engine.output": Path("net.rtx.engine"),
                "open_library.name": "tensorrt-rtx",
            },
            after=ENGINE,
        ),
        Entry("export ckpt.pt", "--output other.onnx", {"export_fused.output": Path("other.onnx")}),
        Entry(ENGINE, "--output other.rtx.engine", {"export_engine.output": Path("other.rtx.engine")}),
        Entry(
            "export net.fused.pt2",
            "--source else.pt",
            {f"{FROM_FUSED}.source": Path("else.pt"), "export_fused.inputs": protects("else.pt")},
        ),
        Entry("export ckpt.pt", "--check net.onnx", {"check_reproduction.path": Path("net.onnx")}, alone=False),
        *(
            Entry("export net.fused.pt2 --check net.onnx", option, {f"check_reproduction.given.{name}": value})
            for option, name, value in (
                ("--source else.pt", "source", Path("else.pt")),
                ("--model mine.network:build", "factory", "mine.network:build"),
                ("--calibration images", "calibration", Path("images")),
            )
        ),
        Entry("export ckpt.pt", "--input-size 96x64", {f"{FROM_FUSED}.size": (96, 64)}),
        Entry("export ckpt.pt", "--batch 4", {f"{EXPORTED}.batch": 4}),
        Entry("export ckpt.pt", "--dynamic-size", {f"{EXPORTED}.dynamic_size": True}, alone=False),  # in the record too
        Entry(
            f"{ENGINE} --batch 1:2:3",
            "--batch 2:5:9",
            {f"{BUILT}.build.batches.{name}": n for name, n in (("smallest", 2), ("typical", 5), ("largest", 9))},
        ),
        Entry("export ckpt.pt", "--target any", {f"{EXPORTED}.target": "any"}),
        Entry("export ckpt.pt", "--target tensorrt", {f"{EXPORTED}.target": "tensorrt"}),
        Entry(INT8, "--target tensorrt", {"export_int8.options.target": "tensorrt"}),
        Entry("export ckpt.pt", "--opset 20", {f"{EXPORTED}.opset": 20}),
        Entry("export ckpt.pt", "--children share", {f"{FROM_FUSED}.children": "share"}),
        Entry("export ckpt.pt", "--children materialize", {f"{FROM_FUSED}.children": "materialize"}),
        Entry(
            "export ckpt.pt",
            "--children on-the-fly",
            {f"{FROM_FUSED}.children": "share", f"{EXPORTED}.on_the_fly": True},
        ),
        Entry(INT8, "--children materialize", {"export_int8.int8.share": False}),
        Entry("export ckpt.pt", "--max-bloat 1.5", {f"{EXPORTED}.max_bloat": 1.5}),
        Entry(
            "export ckpt.pt",
            "--precision fp16",
            {"export_half": True, "export_half.options.target": "tensorrt"},
            alone=False,
        ),
        Entry("export ckpt.pt", "--precision int8", {"export_int8": True}, after=INT8, alone=False),
        Entry("export ckpt.pt", "--weights fp16", {f"{EXPORTED}.weights": "fp16"}),
        Entry("export ckpt.pt", "--weights int8", {"export_codes.options.weights": "int8"}, alone=False),
        Entry("export ckpt.pt", "--weights int4", {"export_codes.options.weights": "int4"}, alone=False),
        Entry(
            "export ckpt.pt --weights int8 --calibration images",
            "--max-drop 0.5",
            {"export_codes.storage.max_drop": 0.5},
        ),
        Entry("export ckpt.pt --precision fp16", "--half-io", {"export_half.half.half_io": True}),
        Entry(
            INT8,
            "--held-out held",
            {
                "export_int8.int8.images.held_out": judged,
                "export_int8.int8.images.calibration": calibrating,
                "export_int8.int8.images.labels": [3, 3, 7],
                "export_int8.int8.images.labelled": True,
                "export_int8.int8.images.record.held_out": "held",
                "export_int8.inputs": protects("held"),
            },
        ),
        Entry(
            INT8,
            "--held-out others",  # without class folders
            {
                "export_int8.int8.images.held_out": lambda _, new: np.array_equal(new, square({}, "others")),
                "export_int8.int8.images.calibration": calibrating,
                "export_int8.int8.images.labels": [None, None, None],
                "export_int8.int8.images.record.held_out": "others",
                "export_int8.inputs": protects("others"),
            },
        ),
        *(
            Entry(
                f"{INT8} --held-out {held}",
                option,
                {
                    f"export_int8.int8.images.{name}": lambda _, new, folder=folder, words=words: np.array_equal(
                        new, square(words, folder)
                    )
                    for name, folder in (("held_out", held), ("calibration", "images"))
                }
                | {f"export_int8.int8.images.record.{name}": value for name, value in words.items()},
            )
            for held in ("held", "others")
            for option, words in WORDS.items()
        ),
        Entry(INT8, "--calibration-method entropy", {"export_int8.int8.method": "entropy"}),
        Entry(INT8, "--calibration-method percentile", {"export_int8.int8.method": "percentile"}),
        Entry(INT8, "--max-drop 0.5", {"export_int8.int8.max_drop": 0.5}),
        Entry(INT8, "--workers 3", {"export_int8.int8.workers.count": 3}),
        Entry(INT8, "--ray a:1", {"export_int8.int8.workers.ray": "a:1"}),
        # The names go into the provenance: tests/verbs/test_run.py.
        Entry("export ckpt.pt", "--labels names.txt", {"export_fused.inputs": protects("names.txt")}),
        Entry("export ckpt.pt", "--preprocess nchw", {f"{EXPORTED}.interface.layout": "nchw"}),
        *(
            Entry(
                f"export ckpt.pt --preprocess nhwc {SAID}",
                option,
                {f"{EXPORTED}.interface.preprocessing.{name}": value for name, value in words.items()},
            )
            for option, words in WORDS.items()
        ),
        Entry(
            "export ckpt.pt",
            "--postprocess topk:3",
            {f"{EXPORTED}.interface.{name}": value for name, value in (("softmax", True), ("top", 3), ("classes", 10))},
        ),
        Entry("export ckpt.pt", "--no-simplify", {f"{EXPORTED}.simplify": False}),
        Entry("export ckpt.pt --no-simplify", "--simplify", {f"{EXPORTED}.simplify": True}),
        Entry("export ckpt.pt", "--external-data", {f"{EXPORTED}.external_data": True}),
        Entry("export ckpt.pt", "--prepare"),  # once the file is written: tests/verbs/test_prepare.py
        Entry("export ckpt.pt", "--with-baseline", {"write_baseline": True}, alone=False),
        Entry(ENGINE, "--no-tf32", {f"{BUILT}.build.tf32": False}),
        Entry(f"{ENGINE} --no-tf32", "--tf32", {f"{BUILT}.build.tf32": True}),
        Entry(
            ENGINE,
            "--compute-capability 8.6 --compute-capability 12.0",
            {f"{BUILT}.build.compute_capabilities": ("8.6", "12.0"), "check_capabilities.wanted": ("8.6", "12.0")},
        ),
        Entry(ENGINE, "--layers", {f"{BUILT}.layer_information": True}),
        as_json("export ckpt.pt"),
    ],
    "prepare": [
        Entry("prepare net.onnx", "--output other.onnx", {"prepare_onnx.output": Path("other.onnx")}),
        as_json("prepare net.onnx"),
    ],
    "package": [
        Entry("package net.onnx --for triton", "--to models", {"package_files.folder": Path("models")}),
        *(
            Entry(
                "package net.onnx --for triton",
                f"--for {server}",
                {"package_files.name": server, "package_files.folder": Path(server)},
            )
            for server in ("openvino-model-server", "kserve", "kserve-model-server", "onnxruntime-cpp")
        ),
        as_json("package net.onnx --for triton"),
    ],
    "verify": [
        *loading("verify net.onnx", "verify_files"),
        Entry("verify net.onnx", "--against ckpt.pt", {"verify_files.against": Path("ckpt.pt")}),
        Entry("verify net.onnx", "--inputs images", {"verify_files.inputs": Path("images")}),
        Entry("verify net.onnx", "--rtol 0.5", {"verify_files.rtol": 0.5}),
        Entry("verify net.onnx", "--atol 0.25", {"verify_files.atol": 0.25}),
        Entry(
            "verify net.onnx",
            "--bisect",
            {
                "bisect_file": True,
                "bisect_file.candidate": Path("net.onnx"),
            },
        ),
        Entry("verify net.onnx --bisect", "--against ckpt.pt", {"bisect_file.against": Path("ckpt.pt")}, alone=False),
        Entry(
            "verify net.onnx",
            "--save-worst worst.npy",
            {
                "save_image": True,
                "save_image.path": Path("worst.npy"),
                "save_image.image": lambda _, new: np.array_equal(new, WORST),
                "save_image.inputs": (Path("net.onnx"),),
            },
        ),
        Entry("verify net.onnx", "--input-size 96x64", {"verify_files.size": (96, 64)}),
        as_json("verify net.onnx"),
    ],
    "run": [
        *loading("run net.onnx images", "classify.request"),
        *(
            Entry(
                f"run net.onnx images {SAID}",
                option,
                {f"classify.request.preprocessing.{name}": value for name, value in words.items()},
            )
            for option, words in WORDS.items()
        ),
        Entry("run net.onnx images", "--top 2", {"classify.request.top": 2}),
        Entry("run net.onnx images", "--time", {"classify.request.timed": True}),
        Entry(
            "run net.onnx images",
            "--labels names.txt",
            {"classify.request.labels": Path("names.txt"), "classify.request.class_names": tuple("0123456789")},
        ),
        Entry("run net.onnx images", "--input-size 96x64", {"classify.request.size": (96, 64)}),
        as_json("run net.onnx images"),
    ],
    "evaluate": [
        *loading("evaluate net.onnx --data held", "evaluate_files.request"),
        *(
            Entry(
                f"evaluate net.onnx --data held {SAID}",
                option,
                {f"evaluate_files.request.preprocessing.{name}": value for name, value in words.items()},
            )
            for option, words in WORDS.items()
        ),
        Entry("evaluate net.onnx --data held", "--data images", {"evaluate_files.request.data.path": Path("images")}),
        *(
            Entry(f"evaluate net.onnx --data held{before}", option, {f"evaluate_files.request.data.{name}": value})
            for before, option, name, value in (
                ("", "--ground-truth names.txt", "ground_truth", Path("names.txt")),
                ("", "--synsets names.txt", "synsets", Path("names.txt")),
                ("", "--limit 7", "limit", 7),
                (" --limit 7", "--seed 3", "seed", 3),
            )
        ),
        Entry(
            "evaluate net.onnx --data held", "--against ckpt.pt", {"evaluate_files.request.against": Path("ckpt.pt")}
        ),
        Entry(
            "evaluate net.onnx --data held",
            "--resume at.json",
            {"evaluate_files.request.resume": Path("at.json")},
        ),
        Entry("evaluate net.onnx --data held", "--batch-size 7", {"evaluate_files.request.batch": 7}),
        Entry("evaluate net.onnx --data held", "--workers 3", {"evaluate_files.request.workers.count": 3}),
        Entry("evaluate net.onnx --data held", "--ray a:1", {"evaluate_files.request.workers.ray": "a:1"}),
        Entry("evaluate net.onnx --data held", "--input-size 96x64", {"evaluate_files.request.size": (96, 64)}),
        as_json("evaluate net.onnx --data held"),
    ],
    "bench": [
        *loading("bench net.onnx", "bench.options")[:-1],
        *loading("bench net.onnx --gpu", "bench.options")[:-1],
        Entry("bench net.onnx", "--gpu", {"bench.options.batch": 128, "bench.options.device.streams": 1}, alone=False),
        Entry("bench net.onnx", "--cpu-threads 3", {"bench.options.device.threads": 3}),
        Entry("bench net.onnx", "--cpu-streams 3", {"bench.options.device.streams": 3}),
        Entry("bench net.onnx", "--batch-size 4", {"bench.options.batch": 4}),
        Entry("bench net.onnx --gpu", "--batch-size 4", {"bench.options.batch": 4}),
        Entry(
            "bench net.onnx",
            "--runtime pytorch --runtime openvino",
            {"bench.options.runtimes": ("pytorch", "openvino")},
        ),
        Entry("bench net.onnx --gpu", "--runtime tensorrt", {"bench.options.runtimes": ("tensorrt",)}),
        Entry(
            "bench net.onnx --gpu",
            "--precision tf32 --precision int8",
            {"bench.options.device.precisions": ("tf32", "int8")},
        ),
        Entry("bench net.onnx --gpu", "--streams 3", {"bench.options.device.streams": 3}),
        Entry("bench net.onnx --gpu", "--no-cuda-graphs", {"bench.options.device.cuda_graphs": False}),
        Entry("bench net.onnx --gpu --no-cuda-graphs", "--cuda-graphs", {"bench.options.device.cuda_graphs": True}),
        Entry("bench net.onnx --gpu", "--host-copies", {"bench.options.device.host_copies": True}),
        Entry("bench net.onnx", "--baseline other.onnx", {"bench.options.baseline": Path("other.onnx")}),
        Entry("bench net.onnx", "--baseline pytorch", {"bench.options.baseline": "pytorch"}),
        Entry("bench net.onnx", "--baseline run.json", {"bench.options.baseline.path": Path("run.json")}, alone=False),
        Entry("bench net.onnx --gpu", "--baseline other.onnx", {"bench.options.baseline": Path("other.onnx")}),
        Entry("bench net.onnx", "--iterations 17", {"bench.options.settings.iterations": 17}),
        Entry("bench net.onnx", "--min-time 1.5", {"bench.options.settings.min_time": 1.5}),
        Entry("bench net.onnx --gpu", "--iterations 17", {"bench.options.settings.iterations": 17}),
        Entry("bench net.onnx --gpu", "--min-time 1.5", {"bench.options.settings.min_time": 1.5}),
        Entry(
            "bench net.onnx",
            "--protocol paper",
            {
                "bench.options.protocol": "paper",
                "bench.options.settings.iterations": 1000,
                "bench.options.settings.min_time": 0.0,
            },
        ),
        Entry(
            "bench net.onnx",
            "--suite layouts",
            {"bench_suite.name": "layouts"},
            after="bench --suite layouts",
            alone=False,
        ),
        Entry(
            "bench net.onnx --gpu",
            "--suite table1",
            {"bench_suite.name": "table1"},
            after="bench --gpu --suite table1",
            alone=False,
        ),
        Entry(
            "bench --suite table1",
            "--methods kw,odconv,kw",
            {"bench_suite.options.methods": ("kw", "odconv")},
            alone=False,
        ),
        Entry("bench net.onnx", "--no-cold-start", {"bench.options.device.cold_start": False}),
        Entry("bench net.onnx --no-cold-start", "--cold-start", {"bench.options.device.cold_start": True}),
        Entry("bench net.onnx", "--profile", {"bench.options.device.profile": True}),
        Entry(
            "bench net.onnx",
            "--compare",
            {"compare_runs": True},
            after="bench --compare run.json run.json",
            alone=False,
        ),
        Entry("bench net.onnx", "--input-size 96x64", {"bench.options.size": (96, 64)}),
        Entry("bench net.onnx --gpu", "--input-size 96x64", {"bench.options.size": (96, 64)}),
        as_json("bench net.onnx"),
    ],
    "sweep": [
        *loading(SWEEP, "search.request"),
        *(
            Entry(f"{SWEEP} {SAID}", option, {f"search.request.images.{name}": option.split()[1]})
            for option, (name,) in WORDS.items()
            if name != "resize"
        ),
        Entry(f"{SWEEP} {SAID}", "--resize 30", {"search.request.images.resize": 30}),
        Entry(SWEEP, "--data images", {"search.request.data": Path("images")}),
        Entry(SWEEP, "--ground-truth names.txt", {"search.request.ground_truth": Path("names.txt")}),
        Entry(SWEEP, "--synsets names.txt", {"search.request.synsets": Path("names.txt")}),
        Entry(SWEEP, "--calibration images", {"search.request.images.path": Path("images")}),
        Entry(SWEEP, "--max-size 10MB", {"search.request.limits.max_bytes": 10_000_000}),
        Entry(SWEEP, "--max-drop 0.5", {"search.request.limits.max_drop": 0.5}),
        Entry(SWEEP, "--max-latency 5ms", {"search.request.limits.max_latency_ms": 5.0}),
        Entry(SWEEP, "--max-memory 100MB", {"search.request.limits.max_memory": 100_000_000}),
        Entry(SWEEP, "--minimize memory", {"search.request.minimize": "memory"}),
        Entry(SWEEP, "--limit 7", {"search.request.minutes": 7.0}),
        Entry(SWEEP, "--to elsewhere", {"search.request.root": Path("elsewhere")}),
        Entry(SWEEP, "--workers 3", {"search.request.workers": 3}),
        Entry(SWEEP, "--ray a:1", {"search.request.ray": "a:1"}),
        Entry(SWEEP, "--cpu-threads 3", {"search.request.threads": 3}),
        Entry(SWEEP, "--iterations 17", {"search.request.iterations": 17}),
        Entry(SWEEP, "--min-time 1.5", {"search.request.min_time": 1.5}),
        Entry(SWEEP, "--input-size 96x64", {"search.request.size": (96, 64)}),
        as_json(SWEEP),
    ],
    "report": [
        *loading("report ckpt.pt", "gather.asked"),
        Entry("report ckpt.pt", "--calibration images", {"gather.asked.calibration": Path("images")}),
        Entry("report ckpt.pt --calibration images", "--plain else.pt", {"gather.asked.plain": Path("else.pt")}),
        Entry("report ckpt.pt", "--data held", {"gather.asked.data.path": Path("held")}, alone=False),
        *(
            Entry(f"report ckpt.pt --data held{before}", option, {f"gather.asked.data.{name}": value})
            for before, option, name, value in (
                ("", "--ground-truth names.txt", "ground_truth", Path("names.txt")),
                ("", "--synsets names.txt", "synsets", Path("names.txt")),
                ("", "--limit 7", "limit", 7),
                (" --limit 7", "--seed 3", "seed", 3),
            )
        ),
        *(
            Entry(f"report ckpt.pt --data held {SAID}", option, {f"gather.asked.preprocessing.{name}": value})
            for option, words in WORDS.items()
            for name, value in words.items()
        ),
        Entry("report net.onnx", "--no-bench", {"gather.asked.bench": False}),
        Entry("report net.onnx --no-bench", "--bench", {"gather.asked.bench": True}),
        Entry("report ckpt.pt", "--input-size 96x64", {"gather.asked.size": (96, 64)}),
        as_json("report ckpt.pt"),
    ],
    "ship": [
        *loading(SHIP, "shipped.request"),
        Entry(
            SHIP,
            "--targets cpu,triton",
            {
                "shipped.request.asked": ("cpu", "triton"),
                "shipped.request.planned.packages.triton": ["ckpt.onnx"],
            },
        ),
        Entry(SHIP, "--to elsewhere", {"shipped.request.folder": Path("elsewhere")}),
        Entry(SHIP, "--licence MIT", {"shipped.request.licence.name": "MIT"}, alone=False),
        Entry(SHIP, "--labels names.txt", {"shipped.request.labels": Path("names.txt")}),
        Entry(SHIP, "--children share", {"shipped.request.children": "share"}),
        Entry(SHIP_INT8, "--calibration others", {"shipped.request.judged_by.images.path": Path("others")}),
        Entry(SHIP_INT8, "--held-out held", {"shipped.request.judged_by.held_out": Path("held")}),
        Entry(SHIP_INT8, "--max-drop 0.5", {"shipped.request.judged_by.max_drop": 0.5}),
        *(
            Entry(
                SHIP_INT8,
                option,
                {f"shipped.request.judged_by.images.{name}": 30 if name == "resize" else option.split()[1]},
            )
            for option, (name,) in WORDS.items()
        ),
        Entry(SHIP, "--input-size 96x64", {"shipped.request.size": (96, 64)}),
        as_json(SHIP),
    ],
    "list": [as_json("list")],
}
# What these do is not in the request; each has a test of its own below.
ELSEWHERE = {
    "fuse": {"--yes-drop"},
    "export": {"--yes-drop"},
    "evaluate": {"--fail-if"},  # once it is done: tests/verbs/test_evaluate.py
    "bench": {"--save", "--fail-if"},
    "sweep": {"--save"},  # once it is done: tests/verbs/test_sweep.py
    "report": {"--output", "--figures"},  # once it is done: tests/verbs/test_report.py
}
ENTRIES = [(command, entry) for command, entries in TABLE.items() for entry in entries]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with every file that the table names. The commands run in it and write nothing."""
    folder = tmp_path_factory.mktemp("named")
    for name in ("ckpt.pt", "else.pt"):
        (folder / name).symlink_to(sample_path(RESNET))
    for name in ("net.onnx", "other.onnx", "net.fused.pt2"):
        (folder / name).write_bytes(b"never opened")
    (folder / "names.txt").write_text("\n".join("0123456789"))
    random = np.random.default_rng(0)
    for name, count in {"images": 12, "others": 3, "held/3": 2, "held/7": 1}.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number:02}.png")
    save(PAIR, folder)
    return folder


@pytest.fixture(scope="module")
def requests() -> dict[str, Request]:
    """What was handed over without an option; many entries begin with the same command."""
    return {}


@pytest.fixture(autouse=True)
def _here(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_table_has_every_option_and_no_other(command: str) -> None:
    """A new option needs an entry that says what it changes."""
    options = set(options_of(command)) - {"--help"}
    named = {alias(command, entry.name) for entry in TABLE[command]} | ELSEWHERE.get(command, set())
    assert named == options


def test_the_table_has_every_command() -> None:
    assert set(commands()) == set(COMMANDS) == set(TABLE)


def alias(command: str, name: str) -> str:
    """An option by the name that `options_of` gives it; `--no-x` is the other side of `--x`."""
    positive = name.replace("--no-", "--")
    return positive if positive in set(options_of(command)) else name


@pytest.mark.parametrize(("command", "entry"), ENTRIES, ids=[f"{c} {e.option}" for c, e in ENTRIES])
def test_an_option_changes_what_its_help_says_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, requests: dict[str, Request], command: str, entry: Entry
) -> None:
    whole = entry.after or f"{entry.before} {entry.option}"
    assert whole.startswith(command) and entry.before.startswith(command) and entry.name in whole
    if entry.before not in requests:
        requests[entry.before] = handed(monkeypatch, *entry.before.split())
    before = requests[entry.before]
    after = handed(monkeypatch, *whole.split())
    for key, expected in entry.expected.items():
        found = after.get(key)
        if callable(expected):
            assert expected(before.get(key), found), f"{key}: {before.get(key)} → {found}"
        else:
            assert (type(found), found) == (type(expected), expected), key
    differing = changed(before, after)
    assert entry.expected.keys() <= differing
    if entry.alone:
        assert differing == entry.expected.keys()


_FREEZE = "fuse ckpt.pt --attention freeze --calibration images"


def test_imagenets_mean_and_deviation_are_taken_where_none_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    request = handed(monkeypatch, *_FREEZE.split())
    plain = Preprocessing(MEAN, STD)
    expected = np.stack([read_image(path, SHAPE[1:], plain) for path in image_files(Path("images"))])
    assert np.array_equal(request["fuse_checkpoint.request.attention.images"], expected)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--std 0,1,1", "`std` 0 is not above 0"),
        ("--std 1,1", "`std`"),
        ("--mean 1,1", "`mean`"),
        ("--std x", "`std` 'x'"),
    ],
)
def test_a_mean_or_deviation_that_is_none_is_refused_by_its_own_name(
    monkeypatch: pytest.MonkeyPatch, option: str, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        handed(monkeypatch, *_FREEZE.split(), *option.split())


@pytest.mark.parametrize("command", ["fuse", "export"])
def test_dropping_needs_to_be_confirmed(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    drop = (command, "ckpt.pt", "--attention", "drop")
    with pytest.raises(UsageError, match="--yes-drop"):
        handed(monkeypatch, *drop)
    received = handed(monkeypatch, *drop, "--yes-drop")
    assert next(value for key, value in received.items() if key.endswith("attention.choice")) == "drop"


def test_attention_has_its_earlier_name(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = handed(monkeypatch, *_FREEZE.replace("--attention", "--channel-attention").split())
    assert not changed(earlier, handed(monkeypatch, *_FREEZE.split()))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """`bench` measures a ratio of 1.2."""
    monkeypatch.setattr("kdna_deploy.benchmark.run.bench", lambda *_: PAIR)


@pytest.mark.usefixtures("measured")
def test_every_save_is_written(tmp_path: Path) -> None:
    names = ("a.json", "b.csv", "c.md")
    invoke("bench", "net.onnx", *(part for name in names for part in ("--save", tmp_path / name)))
    assert json.loads((tmp_path / "a.json").read_text())["kind"] == "bench"
    assert (tmp_path / "b.csv").read_text().splitlines()[1].count(",") > 10
    assert "| net.onnx |" in (tmp_path / "c.md").read_text()


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(("limits", "crossed"), [(("1.3",), False), (("1.1",), True), (("1.3", "1.1"), True)])
def test_every_limit_is_held_against_the_result(
    capsys: pytest.CaptureFixture[str], limits: tuple[str, ...], crossed: bool
) -> None:
    arguments = ("bench", "net.onnx", *(part for limit in limits for part in ("--fail-if", f"ratio>{limit}")))
    assert invoke(*arguments) == int(crossed)
    assert ("--fail-if 'ratio>1.1': net.onnx has 1.2." in capsys.readouterr().err) is crossed


@pytest.mark.usefixtures("measured")
def test_a_result_is_a_table_or_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    invoke("bench", "net.onnx")
    table = capsys.readouterr().out
    invoke("bench", "net.onnx", "--json")
    document = json.loads(capsys.readouterr().out)
    assert "net.onnx" in table and not table.lstrip().startswith("{")
    assert [row["name"] for row in document["rows"]] == ["plain", "net.onnx"]
