"""What a user says of images: where they are, and how they become network input."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.input_files import check_images
from kdna_deploy.verbs.arguments import Numbers, Size, chosen, image_size, numbers
from kdna_deploy.words import parameters

if TYPE_CHECKING:
    from kdna_deploy.images.preprocessing import AskedPreprocessing

COLORS = ("RGB", "BGR", "L")
_OF_FILES = ("mean", "std", "resize", "crop", "color")


@dataclass(frozen=True)
class ImageWords:
    """Calibration images, and the preprocessing of image files, as far as it was said.

    Attributes:
        path: folder, ``.npy`` or ``.npz``; None for none.
        mean, std: per channel, of pixels in 0..1.
        resize: shorter side in pixels.
        crop: centre crop.
        color: channels of the image files.
    """

    path: Path | None = None
    mean: Numbers | None = None
    std: Numbers | None = None
    resize: int | None = None
    crop: Size | None = None
    color: str | None = None

    def check(self) -> None:
        """Refuse what makes no sense, before anything heavy is imported.

        Raises:
            UsageError: a mean, deviation or size that is none.
            InputError: there are no images where they should be.
        """
        self.asked()
        if self.path is not None:
            check_images(self.path, "`calibration`")

    def check_read(self, *images: Path | None, instead: str) -> None:
        """Refuse what is said of image files where none are read; `instead` is what to do then, a clause.

        `images` are folders of them, files of arrays, which hold images that are prepared already, or None.

        Raises:
            UsageError: it was said.
        """
        said = [name for name in _OF_FILES if getattr(self, name) is not None]
        if said and not any(one is not None and one.is_dir() for one in images):
            say = "say" if len(said) > 1 else "says"
            raise UsageError(f"{parameters(said)} {say} how image files become input, and none are read; {instead}.")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What no output may replace."""
        return () if self.path is None else (self.path,)

    def asked(self) -> AskedPreprocessing:
        """How image files become network input, as far as it was said.

        Raises:
            UsageError: a mean, deviation or size that is none.
        """
        from kdna_deploy.images.preprocessing import AskedPreprocessing

        mean, std = numbers("mean", self.mean), numbers("std", self.std)
        _check_pixels("mean", mean, least=0.0)
        _check_pixels("std", std, least=math.ulp(0.0))
        asked = AskedPreprocessing(
            mean=mean,
            std=std,
            resize=self.resize,
            crop=image_size(self.crop),
            color=None if self.color is None else chosen("color", self.color, COLORS),  # type: ignore[arg-type]
        )
        asked.check()
        return asked


def _check_pixels(name: str, values: tuple[float, ...] | None, least: float) -> None:
    """Values of pixels in 0..1."""
    outside = next((value for value in values or () if not least <= value <= 1), None)
    if outside is not None:
        remedy = "divide it by 255" if math.isfinite(outside) and outside > 1 else "check how the network was trained"
        wanted = "from 0 to 1" if least == 0 else "above 0, to 1"
        raise UsageError(f"`{name}` {outside:g} is not {wanted}, and it is of pixels in 0..1; {remedy}.")
