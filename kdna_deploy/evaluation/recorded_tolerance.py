"""Which tolerance an artifact is held to, by the precision that it records: what `export`, `verify` and bisection ask.

Does not apply to files that compute in int8, which are judged by their accuracy, and to engines (`engine_tolerance`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdna_deploy.evaluation.parity import FLOAT32, HALF, INT4_WEIGHTS, INT8_WEIGHTS, Tolerance

_STORED = {"fp16": HALF, "int8": INT8_WEIGHTS, "int4": INT4_WEIGHTS}


def recorded_tolerance(options: Mapping[str, Any]) -> Tolerance:
    """Of an artifact made with `options` (`Provenance.options`)."""
    computed = HALF if options.get("precision") == "fp16" else FLOAT32
    return _STORED.get(options.get("weights", "fp32"), computed)
