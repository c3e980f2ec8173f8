"""How far a file may be from the network that it was made from, by the precision that it is in or records.

Most runtimes add products in several sums at once. XNNPACK, which LiteRT and ExecuTorch compute with, adds them one
after another to the bias: where that is most of a logit, each of K additions rounds at its size, and the largest of a
thousand logits is off by 4 · 0.6 · √K units in the last place. 128 of them are those of 2,800 products.

Does not apply to files that compute in int8, which are judged by their accuracy, and to engines (`engine_tolerance`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Tolerance:
    """Largest difference allowed.

    Attributes:
        rtol: share of an output's spread over images.
        atol: absolute, on top of that.
        roundoff: unit roundoff of the format that the candidate computes in.
        tie: `rtol` for the lead of one class over another; not a user's to widen.
        last_places: units in the last place of an output's largest number that it may be off, however little it varies.
    """

    rtol: float
    atol: float = 0.0
    roundoff: float = 2.0**-24
    tie: float = 1e-4
    last_places: float = 8.0


FLOAT32 = Tolerance(rtol=1e-4)
HALF = Tolerance(rtol=1e-2, roundoff=2.0**-11, tie=1e-2)
INT8_WEIGHTS = Tolerance(rtol=1e-1, roundoff=2.0**-6, tie=1e-1)
INT4_WEIGHTS = Tolerance(rtol=5e-1, roundoff=2.0**-6, tie=5e-1)
_SEQUENTIAL, _ONE_AFTER_ANOTHER = ("litert", "executorch"), 128.0
_STORED = {"fp16": HALF, "int8": INT8_WEIGHTS, "int4": INT4_WEIGHTS}


def recorded_tolerance(options: Mapping[str, Any]) -> Tolerance:
    """Of an artifact made with `options` (`Provenance.options`)."""
    computed = HALF if options.get("precision") == "fp16" else FLOAT32
    return summed_as(options.get("format", ""), _STORED.get(options.get("weights", "fp32"), computed))


def summed_as(form: str, tolerance: Tolerance) -> Tolerance:
    """`tolerance` for a file of the format `form`, whose runtime adds in an order of its own."""
    return replace(tolerance, last_places=_ONE_AFTER_ANOTHER) if form in _SEQUENTIAL else tolerance
