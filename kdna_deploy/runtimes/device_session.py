"""What a runtime on the GPU offers beside logits: inferences on images that are there already, and their time."""

from __future__ import annotations

from typing import Protocol

from kdna_deploy.images.batch import Images
from kdna_deploy.runtimes.session import Session


class DeviceSession(Session, Protocol):
    """A `Session` that can keep its images on the device."""

    def load_on_device(self, images: Images) -> None:
        """Copy `images` to where every inference reads them, and wait until they are there."""

    def time_on_device(self, inferences: int, host_copies: bool = False) -> float:
        """Milliseconds of each of `inferences` back-to-back ones on what was loaded.

        `host_copies` adds to each the copy of its images to the device and of its logits back.
        """
