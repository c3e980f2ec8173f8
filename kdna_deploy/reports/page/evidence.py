"""What a page is made of: results of the verbs, as far as there are some. Nothing is computed here, nor drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.benchmark.environment import Environment
from kdna_deploy.benchmark.result import BenchResult
from kdna_deploy.evaluation.evaluate import FileEvaluation
from kdna_deploy.evaluation.freezing_cost import FreezingCost
from kdna_deploy.evaluation.similarity import Similarity
from kdna_deploy.evaluation.verify import FileVerification
from kdna_deploy.graph.gate_statistics import GateStatistics
from kdna_deploy.graph.inspection import Inspection
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.selection.result import Sweep

HERE = "for this page"


@dataclass(frozen=True)
class Shown:
    """An image, with what it was taken for.

    Attributes:
        path: its file.
        label, taken_for: its class, and the likeliest one, of this `probability`.
        picture: what it looks like, a data URI.
    """

    path: Path
    label: str
    taken_for: str
    probability: float
    picture: str

    @property
    def right(self) -> bool:
        return self.label == self.taken_for


@dataclass(frozen=True)
class FileEvidence:
    """A checkpoint or an artifact.

    Attributes:
        size: bytes, with the weights that lie beside it.
        provenance: of an artifact that carries some.
        portable: of a prepared file, the name of the one that it was made from.
        verification: against the network that it was made from; None where `unverified` says why not, a clause.
        evaluation: on the labelled images.
    """

    path: Path
    sha256: str
    size: int
    provenance: Provenance | None = None
    portable: str = ""
    verification: FileVerification | None = None
    unverified: str = ""
    evaluation: FileEvaluation | None = None

    @property
    def runs_on_cpu(self) -> bool:
        return named_kind(self.path) is not Kind.engine


@dataclass(frozen=True)
class NetworkEvidence:
    """A trained network, `file` being its checkpoint.

    Attributes:
        gates, costs: of what depends on the image, over the calibration images; a cost is that of freezing it alone.
        similarity: of its layers, and of those of a plain network where one was given.
    """

    inspection: Inspection
    file: FileEvidence
    gates: tuple[GateStatistics, ...] = ()
    costs: tuple[FreezingCost, ...] = ()
    similarity: Similarity | None = None


@dataclass(frozen=True)
class Evidence:
    """All of it.

    Attributes:
        machine: that the page was made on.
        networks: from checkpoints.
        artifacts: what was made of them.
        runs: each with where it is, such as "in run.json"; `HERE` is that of the artifacts, in their order.
        sweeps: by the name of the file that they were saved in.
        images: that the first evaluated file recognises worst.
        notes: what a reader should know, a sentence each.
    """

    machine: Environment
    networks: tuple[NetworkEvidence, ...] = ()
    artifacts: tuple[FileEvidence, ...] = ()
    runs: tuple[tuple[str, BenchResult], ...] = ()
    sweeps: tuple[tuple[str, Sweep], ...] = ()
    images: tuple[Shown, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[FileEvidence, ...]:
        """Checkpoints first."""
        return (*(network.file for network in self.networks), *self.artifacts)

    @property
    def judged(self) -> FileEvaluation | None:
        """The evaluation that confusion and images are of: the first."""
        return next((file.evaluation for file in self.files if file.evaluation), None)
