"""How far an engine may depart from what it is verified against, as a share of each output's spread over images.

    fp32 without TF32   as every other float32 artifact
    fp32 with TF32      operands of convolutions rounded to 11 bits of mantissa
    fp16                the same 11 bits, and sums rounded as well
    int8                8 bits

Rounding is relative to a layer's numbers; these are what some fifty layers may add up to.
"""

from __future__ import annotations

from kdna_deploy.evaluation.tolerance import FLOAT32, HALF, Tolerance
from kdna_deploy.precision import GraphPrecision
from kdna_deploy.runtimes.nvidia.engine_record import EngineRecord

_TOLERANCES: dict[GraphPrecision, Tolerance] = {
    "fp32": HALF,
    "fp16": HALF,
    "int8": Tolerance(rtol=5e-2, roundoff=2.0**-8, tie=5e-2),
}


def engine_tolerance(record: EngineRecord) -> Tolerance:
    """What an engine with this record is held to."""
    strict = record.precision == "fp32" and not record.tf32
    return FLOAT32 if strict else _TOLERANCES[record.precision]
