"""File → a CMake project that classifies images with ONNX Runtime's C++ API, without Python.

    DIR/CMakeLists.txt, main.cpp, image.hpp, processor.hpp      the same for every network
    DIR/network.hpp                                             what this one takes
    DIR/model.onnx, labels.txt

`image.hpp` reads PPM and BMP by itself and resizes as Pillow does, in fixed point, so that the network is given what
`run` gives it, bit for bit. `processor.hpp` is `runtimes.int8_kernels` in C++: the program sets what our sessions set.

It takes one image at a time, in RGB or grey: does not apply to files of a larger fixed batch, nor to other channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np

from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.targets.inspect_file import TakenOrReturned
from kdna_deploy.targets.serving.copying import copied
from kdna_deploy.targets.serving.model import ServedModel

_HEADER = """// What the network in model.onnx takes and returns. 0: resize is 8/7 of the shorter side, crop the size.
#pragma once

#include <array>
#include <cstdint>

namespace network {
constexpr char folder[] = ".";  // where model.onnx and labels.txt lie, seen from where the program is started
"""
_END = "}  // namespace network\n"
_SOURCES = ("CMakeLists.txt", "main.cpp", "image.hpp", "processor.hpp")


def write_onnxruntime_cpp(models: Sequence[ServedModel], folder: Path) -> tuple[str, ...]:
    """Write the project of one file; nothing needs to be said of it.

    Raises:
        UsageError: there are several files.
        InputError: the program cannot feed the file, or does not know what it returns.
    """
    if len(models) > 1:
        raise UsageError("A program opens one file; package them one by one, each with a folder of its own in `to`.")
    (model,) = models
    settings = _settings(model)
    copied(model, folder, "model.onnx")
    (folder / "network.hpp").write_text(settings, encoding="utf-8")
    (folder / "labels.txt").write_text("".join(f"{name}\n" for name in model.class_names), encoding="utf-8")
    for name in _SOURCES:
        source = files("kdna_deploy.targets.serving").joinpath("cpp", name).read_bytes()
        (folder / name).write_bytes(source)
    return ()


def _settings(model: ServedModel) -> str:
    """What the file takes, as constants."""
    interface, preprocessing = model.interface, model.preprocessing
    taken = _taken(model)
    shape = (1, *taken)
    c, h, w = interface.image_shape(taken)
    if preprocessing.channels != c:
        raise InputError(
            f"'{model.path}' takes images of {c} channels, and the program makes them in {preprocessing.color}; "
            "serve it with Triton, and send arrays."
        )
    crop_height, crop_width = preprocessing.crop or (0, 0)
    constants = (
        ("std::array<std::int64_t, 4>", "shape", f"{{{', '.join(map(str, shape))}}}"),
        ("int", "height", h),
        ("int", "width", w),
        ("int", "channels", c),
        ("float", "mean[]", _floats(preprocessing.mean, c)),
        ("float", "deviation[]", _floats(preprocessing.std, c)),
        ("int", "resize", preprocessing.resize or 0),
        ("int", "crop_height", crop_height),
        ("int", "crop_width", crop_width),
        ("bool", "bgr", _bool(preprocessing.color == "BGR")),
        ("bool", "takes_pixels", _bool(interface.layout is not None)),
        ("bool", "channels_last", _bool(interface.layout == "nhwc")),
        ("bool", "answers_probabilities", _bool(interface.answers_probabilities)),
    )
    return _HEADER + "".join(f"constexpr {kind} {name} = {value};\n" for kind, name, value in constants) + _END


def _taken(model: ServedModel) -> tuple[int, int, int]:
    """The axes of an image as the file takes it.

    Raises:
        InputError: it takes or returns something that the program does not know.
    """
    inputs, outputs = model.inputs, model.outputs
    if len(inputs) != 1 or inputs[0].type != ("uint8" if model.interface.layout else "float32"):
        raise InputError(
            f"'{model.path}' takes {_listed(inputs)}; the program feeds one input of float32, or of pixels."
        )
    known = ["float32", "int64"] if model.interface.top else ["float32"]
    if [one.type for one in outputs] != known or any(len(one.shape) != 2 for one in outputs):
        raise InputError(f"'{model.path}' returns {_listed(outputs)}; the program knows classifiers in float32.")
    if isinstance(inputs[0].shape[0], int) and inputs[0].shape[0] != 1:
        raise InputError(
            f"'{model.path}' takes {inputs[0].shape[0]} images at once, and the program one; "
            "export it with `batch='dynamic'`."
        )
    dims = model.sample_dims(inputs[0])
    if dims is None or len(dims) not in (3, 4):
        raise InputError(f"'{model.path}' takes {_listed(inputs)}, and does not tell the size of its images.")
    first, second, third = dims[-3:]
    return first, second, third


def _listed(values: Sequence[TakenOrReturned]) -> str:
    return " and ".join(map(str, values)) or "nothing"


def _floats(values: Sequence[float], channels: int) -> str:
    """One value is that value for each channel."""
    return "{" + ", ".join(f"{_decimal(value)}f" for value in (*values, *values, *values)[:channels]) + "}"


def _decimal(value: float) -> str:
    """Nine digits, which give the same float32 again."""
    text = f"{float(np.float32(value)):.9g}"
    return text if "." in text or "e" in text else f"{text}.0"


def _bool(value: bool) -> str:
    return str(value).lower()
