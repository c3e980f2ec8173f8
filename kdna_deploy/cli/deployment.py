"""The deployment choices that `fuse` and `export` share: children, channel attention, calibration images."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.graph import Attention, ExportChildren
from kdna_deploy.cli.options.images import Color
from kdna_deploy.cli.values import check_number, parse_size
from kdna_deploy.errors import UsageError
from kdna_deploy.input_files import check_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdna_deploy.graph.freezing import AttentionOptions
    from kdna_deploy.images.file import Unreadable
    from kdna_deploy.images.preprocessing import AskedPreprocessing, Preprocessing


def children_in_graph(choice: ExportChildren | None) -> Literal["materialize", "share"] | None:
    """What an export's choice of children asks of the fused graph; on the fly, they are shared there."""
    if choice is None:
        return None
    return "materialize" if choice is ExportChildren.materialize else "share"


@dataclass(frozen=True)
class CalibrationChoice:
    """The command line's words on calibration images."""

    path: Path | None
    mean: str | None
    std: str | None
    resize: int | None
    crop: str | None
    color: Color | None

    def check(self) -> None:
        """Refuse what makes no sense, before anything heavy is imported.

        Raises:
            UsageError: a mean, deviation or size that is none.
            InputError: there are no images where they should be.
        """
        asked_preprocessing(self)
        if self.path is not None:
            check_images(self.path, "--calibration")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What no output may replace."""
        return () if self.path is None else (self.path,)


@contextmanager
def attention_request(
    sink: Sink,
    choice: Attention,
    yes_drop: bool,
    below: float | None,
    calibration: CalibrationChoice,
    other_use: bool = False,
) -> Iterator[Callable[[tuple[int, int, int], Preprocessing | None], AttentionOptions] | None]:
    """What `Request.attention` takes; None where channel attention is kept. Warns of unreadable images at the end.

    With `other_use`, calibration images are of use whatever becomes of channel attention.

    Raises:
        UsageError: dropping without --yes-drop, or calibration images that nothing uses.
    """
    check_number(below, "--freeze-below")
    if choice is Attention.drop and not yes_drop:
        raise UsageError(
            "Dropping channel attention changes what the network computes; add --yes-drop if that is wanted."
        )
    if choice is Attention.keep:
        if (calibration.path is not None and not other_use) or below is not None:
            raise UsageError(
                "--calibration and --freeze-below go with --channel-attention freeze or drop, and --calibration with "
                "--precision int8 or fp16."
            )
        yield None
        return
    unreadable: list[Unreadable] = []

    asked = asked_preprocessing(calibration)

    def make(image_shape: tuple[int, int, int], recorded: Preprocessing | None) -> AttentionOptions:
        from kdna_deploy.graph.freezing import AttentionOptions
        from kdna_deploy.images.folder import ImageSource
        from kdna_deploy.images.record import image_record

        if calibration.path is None:
            return AttentionOptions(choice.value, None, below, {"images": "random"})
        preprocessing = asked.over(recorded)
        source = ImageSource(calibration.path, image_shape, preprocessing, unreadable.append)
        sink.expect_images(len(source))
        record = image_record(calibration.path, preprocessing)
        if not calibration.path.is_dir():
            return AttentionOptions(choice.value, source.batches, below, record)
        if note := asked.note(recorded, "the checkpoint or artifact"):
            sink.say(f"note: {note}")
        return AttentionOptions(choice.value, source.batches, below, record, preprocessing)

    yield make
    sink.warn_unreadable(unreadable)


def asked_preprocessing(words: CalibrationChoice) -> AskedPreprocessing:
    """What the command line says of how image files become network input.

    Raises:
        UsageError: a mean, deviation or size that is none.
    """
    from kdna_deploy.images.preprocessing import AskedPreprocessing

    mean, std = _numbers(words.mean, "--mean"), _numbers(words.std, "--std")
    _check_pixels(mean, "--mean", least=0.0)
    _check_pixels(std, "--std", least=math.ulp(0.0))
    asked = AskedPreprocessing(
        mean=mean,
        std=std,
        resize=words.resize,
        crop=parse_size(words.crop) if words.crop is not None else None,
        color=words.color.value if words.color else None,
    )
    asked.check()
    return asked


def _numbers(text: str | None, option: str) -> tuple[float, ...] | None:
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} '{text}' is not a list of numbers such as 0.485,0.456,0.406.") from None


def _check_pixels(values: tuple[float, ...] | None, option: str, least: float) -> None:
    """Values of pixels in 0..1."""
    outside = next((value for value in values or () if not least <= value <= 1), None)
    if outside is not None:
        remedy = "divide it by 255" if math.isfinite(outside) and outside > 1 else "check how the network was trained"
        wanted = "from 0 to 1" if least == 0 else "above 0, to 1"
        raise UsageError(f"{option} {outside:g} is not {wanted}, and it is of pixels in 0..1; {remedy}.")
