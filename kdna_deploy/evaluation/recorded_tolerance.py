"""Which tolerance an artifact is held to, by the precision that it records: what `export`, `verify` and bisection ask.

Does not apply to files that compute in int8, which are judged by their accuracy, and to engines (`engine_tolerance`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdna_deploy.evaluation.parity import FLOAT32, HALF, INT8_WEIGHTS, Tolerance


def recorded_tolerance(options: Mapping[str, Any]) -> Tolerance:
    """Of an artifact made with `options` (`Provenance.options`)."""
    if options.get("weights") == "int8":
        return INT8_WEIGHTS
    return HALF if "fp16" in (options.get("weights"), options.get("precision")) else FLOAT32
