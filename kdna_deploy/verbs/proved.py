"""Does a folder that `ship` wrote still hold, and compute, what was shipped?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.progress import Listener
from kdna_deploy.targets.release.manifest import read_manifest
from kdna_deploy.verbs.result import Result

if TYPE_CHECKING:
    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.release.proof import Proof


@dataclass(frozen=True, repr=False)
class Proved(Result):
    """A release, proved where it lies.

    Attributes:
        path: the folder.
        proof: of each of its files.
    """

    path: Path
    proof: Proof

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong, and some file was run."""
        return not self.complaints and not self.unrun

    @property
    def notes(self) -> tuple[str, ...]:
        return self.proof.notes

    @property
    def complaints(self) -> tuple[str, ...]:
        """What is wrong and what to do, a sentence for each file; none where it passed."""
        return self.proof.complaints

    @property
    def complaint(self) -> str:
        """All of them; empty where it passed."""
        return " ".join(self.complaints)

    @property
    def unrun(self) -> str:
        """A sentence where no file could be run here, so that bytes alone were proved; else empty."""
        return self.proof.unrun

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.release import proof_report

        return proof_report(self.proof)


def proved(folder: Path, listener: Listener) -> Proved:
    """Prove the release in `folder`.

    Raises:
        ArtifactError: it holds none, or what proves it is damaged.
    """
    manifest = read_manifest(folder)
    from kdna_deploy.targets.release.proof import PROOF_STEPS, prove

    listener.plan(PROOF_STEPS)
    return Proved(folder, prove(folder, manifest, listener))
