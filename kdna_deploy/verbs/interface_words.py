"""What a user says of a file's ends: whether it takes pixels, and whether it answers with probabilities or classes."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.verbs.arguments import chosen
from kdna_deploy.verbs.image_words import ImageWords

if TYPE_CHECKING:
    from kdna_deploy.images.interface import Interface, Layout
    from kdna_deploy.targets.source import FusedSource

LAYOUTS: tuple[Layout, ...] = ("nhwc", "nchw")
_SOFTMAX = "softmax"
_TOP = re.compile(r"topk:([1-9][0-9]{0,5})")


@dataclass(frozen=True)
class InterfaceWords:
    """What was said; `images` has how images are prepared, `half_io` is whether images and logits are to be halves."""

    preprocess: str | None
    postprocess: str | None
    images: ImageWords
    half_io: bool = False

    @property
    def plain(self) -> bool:
        """Whether nothing was said of what it takes and answers."""
        return self.preprocess is None and self.postprocess is None

    def check(self) -> None:
        """Refuse what makes no sense, before anything heavy is imported.

        Raises:
            UsageError: a word that there is not, or beside halves.
        """
        if self.preprocess is not None:
            chosen("preprocess", self.preprocess, LAYOUTS)
        if self.postprocess is not None and self.postprocess != _SOFTMAX and not _TOP.fullmatch(self.postprocess):
            raise UsageError(f"`postprocess` is {self.postprocess!r}; choose 'softmax', or 'topk:K' such as 'topk:5'.")
        given = [name for name in ("preprocess", "postprocess") if getattr(self, name) is not None]
        if given and self.half_io:
            raise UsageError(f"`half_io` is for images and logits as they are; leave it or `{given[0]}` out.")

    def applied(self, opened: FusedSource, noted: bool = False) -> tuple[FusedSource, Interface]:
        """What the file of `opened` takes and returns, and `opened` with the preprocessing in it and what to say of it.

        With `noted`, a note says already how images are prepared.

        Raises:
            UsageError: there is no softmax to put behind the network, or fewer classes than are to be named.
            InputError: image files have other channels than the network takes.
            ArtifactError: the recorded preprocessing is damaged.
        """
        from kdna_deploy.images.interface import PLAIN

        interface = PLAIN
        if self.preprocess is not None:
            opened, interface = self._preprocessed(opened, noted)
        if self.postprocess is not None:
            opened, interface = self._postprocessed(opened, interface)
        return opened, interface

    def _preprocessed(self, opened: FusedSource, noted: bool) -> tuple[FusedSource, Interface]:
        from kdna_deploy.images.folder import check_channels
        from kdna_deploy.images.interface import Interface
        from kdna_deploy.images.preprocessing import from_record

        made, asked = opened.provenance, self.images.asked()
        recorded = from_record(made.preprocessing, made.source)
        used = asked.over(recorded)
        check_channels(opened.graph.image_shape, used)
        where = "the checkpoint or artifact"
        note = None if noted else asked.note(recorded, where) or asked.assumed(recorded, where)
        notes = (*opened.notes, *([note] if note else []))
        prepared = replace(opened, provenance=replace(made, preprocessing=used.to_record()), notes=notes)
        return prepared, Interface(chosen("preprocess", str(self.preprocess), LAYOUTS), used)

    def _postprocessed(self, opened: FusedSource, interface: Interface) -> tuple[FusedSource, Interface]:
        import torch

        from kdna_deploy.evaluation.logits import are_probabilities
        from kdna_deploy.graph.classes import class_count, shown
        from kdna_deploy.images.probes import random_images

        if stages := opened.graph.stage_names:
            raise UsageError(f"Stage outputs ({', '.join(stages)}) have no classes; leave `postprocess` out.")
        answers = opened.graph(torch.from_numpy(random_images(2, opened.graph.image_shape))).numpy()
        classes = class_count(answers.shape[1:])
        if classes is None or classes < 2:
            raise UsageError(
                "`postprocess` is for logits of two classes or more, and this network returns "
                f"{shown(answers.shape[1:])}; leave it out."
            )
        already = are_probabilities(answers)
        if self.postprocess == _SOFTMAX:
            if already:
                raise UsageError("The network ends in a softmax of its own; leave `postprocess='softmax'` out.")
            return opened, replace(interface, softmax=True)
        match = _TOP.fullmatch(str(self.postprocess))
        assert match is not None, "checked"
        if int(match[1]) > classes:
            raise UsageError(
                f"`postprocess={self.postprocess!r}` names more classes than the {classes} that the network has."
            )
        note = "the network ends in a softmax of its own, and no other is put behind it"
        noted = replace(opened, notes=(*opened.notes, note)) if already else opened
        return noted, replace(interface, softmax=not already, top=int(match[1]), classes=classes)
