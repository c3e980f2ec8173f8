"""The kinds of files there are, and what a file's name says of its kind.

    .onnx         an ONNX file, .prepared.onnx one that was prepared for the processor at hand, .baseline.onnx the plain
                  backbone that another is measured beside
    .pt2          a fused graph
    .engine       an engine, of TensorRT-RTX as well (.rtx.engine)
    .xml          an OpenVINO file, its weights in a .bin beside it
    .param        an ncnn file, its weights in a .bin beside it
    .mnn          an MNN file
    .tflite       a LiteRT file
    .pte          an ExecuTorch file
    all others    a checkpoint, where a model is wanted

What a file really holds is told from its bytes (`input_files`).
"""

from __future__ import annotations

from enum import Enum
from pathlib import Path


class Kind(Enum):
    """What a file holds, as it is called in messages."""

    checkpoint = "a checkpoint"
    fused = "a fused graph"
    onnx = "an ONNX file"
    engine = "an engine"
    openvino = "an OpenVINO file"
    ncnn = "an ncnn file"
    mnn = "an MNN file"
    litert = "a LiteRT file"
    executorch = "an ExecuTorch file"
    images = "a NumPy file"
    image = "an image"
    saved_run = "a JSON file"


OWN = (Kind.openvino, Kind.ncnn, Kind.mnn, Kind.litert, Kind.executorch)  # that one runtime alone opens
MODELS = (Kind.onnx, *OWN, Kind.fused, Kind.engine, Kind.checkpoint)
SUFFIXES = {
    Kind.onnx: ".onnx",
    Kind.fused: ".pt2",
    Kind.engine: ".engine",
    Kind.openvino: ".xml",
    Kind.ncnn: ".param",
    Kind.mnn: ".mnn",
    Kind.litert: ".tflite",
    Kind.executorch: ".pte",
}
IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".gif"})
LABEL_SUFFIXES = (".csv", ".tsv", ".jsonl", ".txt")  # of a table of image files and their classes
FUSED = ".fused.pt2"
PREPARED = ".prepared.onnx"
BASELINE = ".baseline.onnx"  # the plain backbone of a file
RELEASE = ".release"  # a folder
_NAMED = {suffix: kind for kind, suffix in SUFFIXES.items()}
_CHECKPOINT_SUFFIXES = (FUSED, ".pth.tar", ".safetensors", ".pth", ".pt", ".tar", ".ckpt", ".bin", ".pt2")


def named_kind(path: Path) -> Kind:
    """Which kind of model the name of `path` says it is."""
    return _NAMED.get(path.suffix, Kind.checkpoint)


def prepared_name(portable: Path) -> Path:
    """Where the ONNX file `portable` is written prepared when nobody says, in the current folder."""
    return Path(portable.name.removesuffix(portable.suffix) + PREPARED)


def baseline_name(file: Path) -> Path:
    """Where the plain backbone of `file` is written, beside it."""
    return file.with_name(file.name.removesuffix(file.suffix) + BASELINE)


def stem(path: Path) -> str:
    """File name without what says which kind of file it is: ``net.pth.tar`` → ``net``."""
    for suffix in _CHECKPOINT_SUFFIXES:
        if path.name.endswith(suffix) and path.name != suffix:
            return path.name.removesuffix(suffix)
    return path.stem


def beside_own(path: Path) -> tuple[Path, ...]:
    """Where the weights of the OpenVINO or ncnn file `path` must lie; nowhere of files of other kinds."""
    return (path.with_suffix(".bin"),) if named_kind(path) in (Kind.openvino, Kind.ncnn) else ()


def model_of_weights(path: Path) -> Path | None:
    """The OpenVINO or ncnn file whose weights must lie in `path`; None where none lies beside it."""
    models = (path.with_suffix(SUFFIXES[kind]) for kind in (Kind.ncnn, Kind.openvino))
    return next((model for model in models if path in beside_own(model) and model.is_file()), None)
