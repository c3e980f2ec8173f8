"""Candidate → file, in this process: the network is loaded once, and fused once for each choice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kdna_deploy.progress import Listener
from kdna_deploy.selection.candidate import Candidate
from kdna_deploy.selection.judged import judged
from kdna_deploy.selection.store import Made
from kdna_deploy.verbs.export import ExportedFile, export
from kdna_deploy.verbs.fuse import FusedNetwork, fuse
from kdna_deploy.verbs.load import LoadedNetwork
from kdna_deploy.verbs.prepare import prepare


@dataclass
class Files:
    """Makes the files of the candidates of `network`; `calibration` is what is said of images.

    `place` is the folder that they end up in, where they are written to another first.
    """

    network: LoadedNetwork
    calibration: Mapping[str, Any]
    workers: int | None = None
    ray: str | None = None
    place: Path | None = None
    _fused: dict[tuple[str, str], FusedNetwork] = field(default_factory=dict)

    def fused(self, children: str, attention: str, listener: Listener) -> FusedNetwork:
        """Fused once."""
        if (children, attention) not in self._fused:
            images = self.calibration if attention == "freeze" else {}
            made = fuse(self.network, children=children, attention=attention, **images, listener=listener)
            for note in made.notes:
                listener.note(note)
            self._fused[children, attention] = replace(made, source=replace(made.source, place=self.place))
        return self._fused[children, attention]

    def shares(self, listener: Listener) -> bool:
        """Whether parent kernels that are stored once take less room than their children."""
        apart, shared = (self.fused(one, "keep", listener).fused for one in ("materialize", "share"))
        return shared.parameters_after < apart.parameters_after

    def freezes(self, listener: Listener) -> bool:
        """Whether any attention can be frozen."""
        return bool(self.calibration) and self.fused("materialize", "freeze", listener).fused.freezing.done != "keep"

    def make(self, candidate: Candidate, output: Path, portable: Path, listener: Listener) -> Made:
        """Write `output`, verified or judged; a prepared one is made of `portable`.

        Raises:
            KdnaError: as `export` and `prepare`. Nothing is written.
        """
        if candidate.prepared:
            done = prepare(portable, output, listener=listener).prepared
            return Made(done.bytes, judged(done, "the portable file, whose accuracy it has"))
        fused = self.fused(candidate.fused_children, candidate.attention, listener)
        words = candidate.words(self.calibration)
        judged_by: dict[str, Any] = {"workers": self.workers, "ray": self.ray} if "calibration" in words else {}
        exported = export(fused, output, **words, **judged_by, listener=listener)
        return Made(_written(exported).bytes, proved_of(exported))


def proved_of(exported: ExportedFile) -> str:
    """What was proved or measured of a file, in a sentence; int8 and codes were made of a float32 file, which was."""
    written = _written(exported)
    return judged(written, f"the {getattr(written, 'reference', '') or written.float_export.reference}")


def _written(exported: ExportedFile) -> Any:
    return exported.converted or exported.onnx
