"""``kdna-deploy run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.architecture import with_architecture
from kdna_deploy.cli.options.images import ColorOption, Crop, Labels, Mean, Pictures, Resize, Std, Time, Top
from kdna_deploy.cli.options.output import Json
from kdna_deploy.cli.options.source import Arch, Ema, InputSize, Model, Runnable
from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.verbs.run import run as classified

_STANDARD_INPUT = Path("-")
_LARGEST = 256 << 20  # bytes of an image file


@with_architecture
def run(
    model_file: Runnable,
    images: Pictures,
    top: Top = 5,
    labels: Labels = None,
    time: Time = False,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    color: ColorOption = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    json: Json = False,
    **architecture: Any,
) -> None:
    """Name the classes of images, with their probabilities.

    Images are prepared as the model records. One that cannot be read is named and skipped.
    """
    sink = Sink(json)
    with sink.listening() as listener:
        done = classified(
            model_file,
            _read(images),
            top=top,
            labels=labels,
            time=time,
            mean=mean,
            std=std,
            resize=resize,
            crop=crop,
            color=color.value if color else None,
            arch=arch,
            model=model,
            ema=ema,
            input_size=input_size,
            listener=listener,
            **architecture,
        )
    sink.report(done.report)


def _read(images: Sequence[Path]) -> list[Path | bytes]:
    """The images, that of ``-`` read from standard input.

    Raises:
        UsageError: nothing is piped in, or it is to be read twice.
        InputError: more is piped in than an image file has.
    """
    if _STANDARD_INPUT not in images:
        return list(images)
    if images.count(_STANDARD_INPUT) > 1:
        raise UsageError("Standard input (-) holds one image; name it once.")
    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("Nothing is piped into standard input (-); write: kdna-deploy run MODEL - < IMAGE.")
    content = sys.stdin.buffer.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise InputError("Standard input holds more than 256 MB, which is no image file.")
    return [content if one == _STANDARD_INPUT else one for one in images]
