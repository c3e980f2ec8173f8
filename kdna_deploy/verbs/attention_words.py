"""What a user says of attention: keep it, freeze it to its mean over calibration images, or drop it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from kdna_deploy.errors import UsageError
from kdna_deploy.progress import Listener
from kdna_deploy.verbs.arguments import check_number, chosen
from kdna_deploy.verbs.image_words import ImageWords

if TYPE_CHECKING:
    from kdna_deploy.graph.freezing import AttentionOptions
    from kdna_deploy.images.preprocessing import Preprocessing
    from kdna_deploy.targets.source import Asked

CHOICES: tuple[Literal["keep", "freeze", "drop"], ...] = ("keep", "freeze", "drop")


def attention_choice(attention: str | None, channel_attention: str | None, usual: str | None = None) -> str | None:
    """What was said by either name, `usual` where nothing was; `channel_attention` is the earlier one.

    Raises:
        UsageError: both were said, and differ.
    """
    if channel_attention is None or channel_attention == attention:
        return attention
    if attention != usual:
        raise UsageError("`attention` is said twice, once by its earlier name, and differently; give it once.")
    return channel_attention


@dataclass(frozen=True)
class AttentionWords:
    """The words on attention, with a `choice` of None where nothing was said: as it is in what was given.

    With `other_use`, calibration images are of use whatever becomes of it.
    """

    choice: str | None
    below: float | None
    images: ImageWords
    other_use: bool = False

    @property
    def changes(self) -> bool:
        """Whether any is to be frozen or dropped."""
        return self.choice not in (None, "keep")

    @property
    def prepares(self) -> bool:
        """Whether image files are read for it; a note says then how they are prepared."""
        return self.changes and self.images.path is not None and self.images.path.is_dir()

    def check(self) -> None:
        """Refuse what makes no sense, before anything heavy is imported.

        Raises:
            UsageError: another choice than there is, calibration images that nothing uses, or none where they are
                needed.
        """
        if self.choice is not None:
            chosen("attention", self.choice, CHOICES)
        check_number("freeze_below", self.below)
        if not self.changes and ((self.images.path is not None and not self.other_use) or self.below is not None):
            raise UsageError(
                "`calibration` and `freeze_below` go with `attention` freeze or drop, and `calibration` with "
                "`precision` int8 or fp16, or `weights` int8 or int4."
            )

        if self.choice == "freeze" and self.images.path is None:
            raise UsageError(
                "Freezing replaces attention by its mean over calibration images; name a folder of them or an "
                ".npz with `calibration`."
            )

    def request(self, listener: Listener) -> Asked | None:
        """What `Request.attention` takes; None where nothing was said."""
        if self.choice is None:
            return None
        choice = chosen("attention", self.choice, CHOICES)
        if choice == "keep":
            return choice
        asked, path = self.images.asked(), self.images.path

        def make(image_shape: tuple[int, int, int], recorded: Preprocessing | None) -> AttentionOptions:
            from kdna_deploy.graph.freezing import AttentionOptions
            from kdna_deploy.images.folder import ImageSource
            from kdna_deploy.images.record import image_record

            if path is None:
                return AttentionOptions(choice, None, self.below, {"images": "random"})
            preprocessing = asked.over(recorded)
            source = ImageSource(path, image_shape, preprocessing, listener)
            record = image_record(path, preprocessing)
            if not path.is_dir():
                return AttentionOptions(choice, source.batches, self.below, record, images=len(source))
            where = "the checkpoint or artifact"
            if note := asked.note(recorded, where) or asked.assumed(recorded, where):
                listener.note(note)
            return AttentionOptions(choice, source.batches, self.below, record, preprocessing, len(source))

        return make
