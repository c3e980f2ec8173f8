"""What a reader of the page can type: the command that makes a file again, and what brings a section that is not there.

A page is read without Python, so that these are command lines whoever wrote it. What a record cannot hold is asked for
in capitals: the images that merely judged a file, and the limit by which layers were left in float32. Does not apply to
words that a user said of the architecture where the shapes of the weights left a choice.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kdna_deploy.external_data import external_files
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.interface import KEY as INTERFACE
from kdna_deploy.images.split import EVERY_FIFTH
from kdna_deploy.kinds import OWN, Kind, named_kind
from kdna_deploy.precision import CODES
from kdna_deploy.targets.onnx.options import DEFAULT_OPSET

_USUAL = {"precision": "fp32", "weights": "fp32", "target": "cpu", "batch": "dynamic", "opset": DEFAULT_OPSET}
_CALIBRATED = ("int8", "fp16", "calibration")  # options that images are recorded in
_RANDOM, _METHOD = "random", "minmax"


def making_command(made: Provenance, artifact: Path) -> str:
    """The command line that makes `artifact` again, as far as its record tells, to be typed beside its checkpoint."""
    kind = named_kind(artifact)
    verb, words = "fuse", tuple[str, ...]()
    if kind is not Kind.fused:
        own = kind in OWN
        verb, words = "export", (*_file_words(made, own), *_judged_words(made), *_interface_words(made))
        words += (*_option("external-data", bool(external_files(artifact))), *_option(kind.name, own))
        words += _option("with-baseline", "baseline" in made.options)
    typed = (*_graph_words(made), *words, *_image_words(made), *_loading_words(made))
    return shlex.join(["kdna-deploy", verb, made.source or "CKPT", *typed, "-o", artifact.name])


def preparing_command(portable: str, prepared: Path) -> str:
    """The command line that prepares the file `portable` again."""
    return shlex.join(["kdna-deploy", "prepare", portable, "-o", prepared.name])


def checking_command(made: Provenance, artifact: Path) -> str:
    """The command line that says whether `artifact` is, byte for byte, what the installed version makes."""
    images = _option("calibration", next(_images(made), None))
    words = (*images, *_option("model", made.factory))
    return shlex.join(["kdna-deploy", "export", made.source or "CKPT", "--check", artifact.name, *words])


def _graph_words(made: Provenance) -> Iterator[str]:
    options, (_, height, width) = made.options, made.image_shape
    yield from _option("input-size", height if height == width else f"{height}x{width}")
    own_codes = options.get("precision") == "int8" and _part(options, "int8").get("share_codes") is False
    if (children := options.get("children", "materialize")) != "materialize" or own_codes:
        yield from _option("children", children)
    if (attention := options.get("channel_attention", "keep")) != "keep":
        yield from (*_option("attention", attention), *_option("yes-drop", attention == "drop"))
        yield from _option("freeze-below", _part(options, "calibration").get("freeze_below"))


def _file_words(made: Provenance, own: bool) -> Iterator[str]:
    options = made.options
    for name, usual in _USUAL.items():
        if (value := options.get(name, usual)) != usual and not (own and name == "target"):  # chosen, not said
            yield from _option(name, value)
    yield from _option("no-simplify", options.get("simplify") is False)
    yield from _option("dynamic-size", bool(options.get("dynamic_size")))
    yield from _option("half-io", bool(_part(options, "fp16").get("half_io")))
    yield from _option("labels", options.get("labels"))


def _judged_words(made: Provenance) -> Iterator[str]:
    int8, int4 = (_part(made.options, name) for name in ("int8", "int4"))
    if (method := int8.get("method", _METHOD)) != _METHOD:
        yield from _option("calibration-method", method)
    if (judges := int8.get("held_out", EVERY_FIFTH)) != EVERY_FIFTH:
        yield from _option("held-out", judges)
    if int8.get("kept_float") or int4.get("kept_float"):
        yield from _option("max-drop", "POINTS")


def _interface_words(made: Provenance) -> Iterator[str]:
    interface = _part(made.options, INTERFACE)
    yield from _option("preprocess", interface.get("layout"))
    if interface.get("top"):
        yield from _option("postprocess", f"topk:{interface['top']}")
    elif interface.get("softmax"):
        yield from _option("postprocess", "softmax")


def _image_words(made: Provenance) -> Iterator[str]:
    """The images that it was calibrated with, and how images become its input, where the file depends on that."""
    judged = made.options.get("weights") in CODES and any(_judged_words(made))
    yield from _option("calibration", next(_images(made), "IMAGES" if judged else None))
    read = any("mean" in _part(made.options, name) for name in _CALIBRATED)
    if read or _part(made.options, INTERFACE).get("layout"):
        for name in ("mean", "std", "resize", "color"):
            yield from _option(name, made.preprocessing.get(name))
        yield from _option("crop", "x".join(map(str, made.preprocessing.get("crop") or ())) or None)


def _images(made: Provenance) -> Iterator[str]:
    """Names of images that calibrated it; where several did, for int8 and to freeze attention, they are the same."""
    named = (_part(made.options, name).get("images", _RANDOM) for name in _CALIBRATED)
    return (str(name) for name in named if name != _RANDOM)


def _loading_words(made: Provenance) -> Iterator[str]:
    """What a checkpoint does not hold."""
    method = _part(made.architecture or {}, "method")
    yield from _option("outputs", ",".join(made.stage_names) or None)
    for name in ("temperature", "multiplier"):
        yield from _option(name, method.get(name))
    yield from _option("base", made.base or None)
    yield from _option("ema", made.ema)
    yield from _option("model", made.factory)


def _option(name: str, value: Any) -> tuple[str, ...]:
    """With its value, as it is typed, or alone where that is true; nothing where there is none, or false."""
    if value is None or isinstance(value, bool):
        return (f"--{name}",) if value else ()
    return (f"--{name}", ",".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))


def _part(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = options.get(name)
    return part if isinstance(part, Mapping) else {}


def what_brings(section: str) -> str:
    """How to have a section that is left out: a clause."""
    return {
        "summary": "name a checkpoint, a file, or what bench or sweep saved",
        "front": "needs latency and accuracy of files: name files with --data DIR, or what sweep --save wrote",
        "sharing": "needs a network that shares kernels: name its checkpoint",
        "attention": "needs a network with children: name its checkpoint; --calibration DIR adds attention over images",
        "similarity": "needs images: name the checkpoint with --calibration DIR; --plain FILE puts another beside",
        "time": "needs a measurement: name files that ONNX Runtime opens, or what bench --profile --save wrote",
        "accuracy": "needs labelled images: name a checkpoint or a file with --data DIR",
        "choice": "needs candidates: name what sweep --save wrote",
        "tables": "needs something that was measured or inspected",
        "provenance": "needs a file",
    }[section]
