"""What every runtime offers: images in, logits out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from kdna_deploy.images.batch import Images


class Session(Protocol):
    """A loaded artifact.

    Attributes:
        name: what it is, for tables.
        runtime: what runs it, with the version.
        batch: the only batch size it takes, or None.
        image_shape: (c, h, w) it takes, None where any.
        options: of the runtime, as they were set; for the record of a measurement.
    """

    name: str
    runtime: str
    batch: int | None
    image_shape: tuple[int, int, int] | None
    options: Mapping[str, str | int]

    def run(self, images: Images) -> Images:
        """Logits [n, classes] of normalised `images` [n, c, h, w], both float32."""
