"""Does a fused graph compute what its network does? Folding changes nothing but rounding: that alone is allowed.

    |fused − original| ≤ max(1e-6 · spread, rounding)      on probes of every kind (`evaluation.parity`), and, for a
                                                           report, both beside the original in float64

Does not apply to what is written of a graph, which has tolerances of its own (`evaluation.tolerance`). A float32 file
that keeps to this one proves its graph too (`onnx.verification`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kdna_deploy.evaluation.agreement import Agreement, require_agreement
from kdna_deploy.evaluation.compare import compare
from kdna_deploy.evaluation.parity import difference
from kdna_deploy.evaluation.tolerance import Tolerance
from kdna_deploy.graph.graph import Graph
from kdna_deploy.graph.shapes import is_traced
from kdna_deploy.images.batch import Answers
from kdna_deploy.images.probes import few_probes, is_stressed
from kdna_deploy.runtimes.pytorch import TorchSession
from kdna_deploy.runtimes.remembered import Remembered

ROUNDING_ONLY = Tolerance(rtol=1e-6)


@dataclass(frozen=True)
class Rounding:
    """What folding changed.

    Attributes:
        agreements: of the fused graph with the original, both in float32, on every kind of image.
        fused_to_original: largest absolute difference of the outputs on a random image, both in float32.
        original_to_reference: likewise, of the original from its own run in float64; None where it has none, or nobody
            asked for it.
        fused_to_reference: likewise, of the fused graph.
        scale: largest absolute output.
    """

    agreements: tuple[Agreement, ...]
    fused_to_original: float
    original_to_reference: float | None
    fused_to_reference: float | None
    scale: float

    @property
    def is_rounding_only(self) -> bool:
        return all(agreement.passed for agreement in self.agreements)


def measure_rounding(graph: Graph, original: Remembered, in_float64: bool = True) -> Rounding:
    """Compare the fused `graph` and the `original` with each other, and, if asked, both with `original` in float64."""
    probes = few_probes(graph.image_shape)
    fused = Remembered(TorchSession(graph, "fused graph"))
    if is_traced(graph):  # of code that is known to answer each image by itself
        for session in (fused, original):
            session.answer_together([probe.images for probe in probes if is_stressed(probe.kind)])
    agreements = compare(fused, original, probes, ROUNDING_ONLY)
    images = probes[0].images
    got, expected = fused.run_all(images), original.run_all(images)
    exact = original.in_float64(images) if in_float64 else None
    return Rounding(
        agreements=agreements,
        fused_to_original=_distance(got, expected),
        original_to_reference=None if exact is None else _distance(expected, exact),
        fused_to_reference=None if exact is None else _distance(got, exact),
        scale=max(float(np.abs(one[np.isfinite(one)]).max(initial=0.0)) for one in expected),
    )


def require_rounding(rounding: Rounding, failure: str) -> None:
    """Refuse where there is more than rounding.

    Raises:
        ParityError: it begins with `failure`.
    """
    require_agreement(rounding.agreements, failure, "please report this with the model.")


def _distance(a: Answers, b: Answers) -> float:
    pairs = zip(a, b, strict=True)
    return max(float(difference(one.astype(np.float64), other.astype(np.float64)).max()) for one, other in pairs)
