"""Provenance → the options that an artifact was made with, checked: a file's word is not to be trusted.

Does not apply to how a file was judged (`--max-drop`, `--held-out`, `--max-bloat`): that changes nothing in it but what
is recorded as its result.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.graph.freezing import AttentionChoice
from kdna_deploy.graph.passes import Children
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.folder import Color, Preprocessing
from kdna_deploy.precision import GraphPrecision, Weights
from kdna_deploy.targets.onnx.int8.calibration import Method
from kdna_deploy.targets.onnx.options import OnnxOptions, Target

_LARGEST_INPUT = 1 << 28  # numbers in a batch of images: a gigabyte
_RANDOM = "random"


@dataclass(frozen=True)
class RecordedImages:
    """Calibration images: the name of their folder or file, their digest (empty in older files), how they were read."""

    name: str
    sha256: str
    preprocessing: Preprocessing


@dataclass(frozen=True)
class RecordedOptions:
    """How a file was made. What belongs to another precision, or to kept channel attention, has its default."""

    onnx: OnnxOptions
    size: tuple[int, int]
    precision: GraphPrecision
    children_in_graph: Children
    channel_attention: AttentionChoice
    freeze_below: float | None
    images: RecordedImages | None
    half_io: bool
    method: Method
    share_codes: bool
    kept_float: tuple[str, ...]
    held_out: str


def recorded_options(made: Provenance, path: Path) -> RecordedOptions:
    """The options in the provenance of the ONNX file at `path`.

    Raises:
        ArtifactError: they make no sense.
    """
    try:
        read = _read(made.options, made.image_shape)
        return replace(read, onnx=replace(read.onnx, interface=made.interface(path)))
    except (KeyError, TypeError, ValueError, AttributeError, UsageError) as error:
        raise ArtifactError(
            f"'{path}' does not say how it was made in a way that makes sense: {_told(error)}."
        ) from error


def _read(options: Mapping[str, Any], image_shape: tuple[int, ...]) -> RecordedOptions:
    precision = _one_of(options.get("precision", "fp32"), GraphPrecision, "precision")
    weights = _one_of(options.get("weights", "fp32"), Weights, "weights")
    children = options.get("children", "materialize")
    on_the_fly = children == "on-the-fly"
    int8, int4, fp16, frozen = (_part(options, name) for name in ("int8", "int4", "fp16", "calibration"))
    images = [_images(part) for part in (int8, fp16, frozen) if part.get("images", _RANDOM) != _RANDOM]
    c, h, w = (_whole(size, "image_shape") for size in image_shape)
    batch = None if options["batch"] == "dynamic" else _whole(options["batch"], "batch")
    if math.prod((batch or 1, c, h, w)) > _LARGEST_INPUT:
        raise ValueError("its images are too large")
    return RecordedOptions(
        onnx=OnnxOptions(
            opset=_whole(options["opset"], "opset"),
            batch=batch,
            simplify=_flag(options["simplify"], "simplify"),
            on_the_fly=on_the_fly,
            target=_one_of(options["target"], Target, "target"),
            weights=weights,
            dynamic_size=_flag(options.get("dynamic_size", False), "dynamic_size"),
        ),
        size=(h, w),
        precision=precision,
        children_in_graph="share" if on_the_fly else _one_of(children, Children, "children"),
        channel_attention=_one_of(options.get("channel_attention", "keep"), AttentionChoice, "channel_attention"),
        freeze_below=None if frozen.get("freeze_below") is None else float(frozen["freeze_below"]),
        images=images[0] if images else None,
        half_io=_flag(fp16.get("half_io", False), "half_io"),
        method=_one_of(int8.get("method", "minmax"), Method, "method"),
        share_codes=_flag(int8.get("share_codes", True), "share_codes"),
        kept_float=tuple(str(name) for name in (int4 if weights == "int4" else int8).get("kept_float", ())),
        held_out=str(int8.get("held_out", "")),
    )


def _images(part: Mapping[str, Any]) -> RecordedImages:
    given: dict[str, Any] = {}
    for name in ("mean", "std"):
        if name in part:
            given[name] = tuple(float(number) for number in part[name])
    if part.get("resize") is not None:
        given["resize"] = _whole(part["resize"], "resize")
    if part.get("crop") is not None:
        height, width = (_whole(size, "crop") for size in part["crop"])
        given["crop"] = (height, width)
    if "color" in part:
        given["color"] = _one_of(part["color"], Color, "color")
    return RecordedImages(str(part["images"]), str(part.get("sha256", "")), Preprocessing(**given))


def _part(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = options.get(name, {})
    if not isinstance(part, Mapping):
        raise ValueError(f"{name} is no record")
    return part


def _whole(value: Any, name: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} is no number from 1")
    return value


def _flag(value: Any, name: str) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value


def _one_of(value: Any, choices: Any, name: str) -> Any:
    if value not in get_args(choices):
        raise ValueError(f"{name} is none of {', '.join(get_args(choices))}")
    return value


def _told(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    return str(error).rstrip(".") or type(error).__name__
