"""Options on the numbers that an exported file computes with."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

from kdna_deploy.cli.options.panels import PRECISION, choices


class Precision(str, Enum):
    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


class Weights(str, Enum):
    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"
    int4 = "int4"


class CalibrationMethod(str, Enum):
    minmax = "minmax"
    percentile = "percentile"
    entropy = "entropy"


PrecisionOption = Annotated[
    Precision,
    typer.Option(
        "--precision",
        metavar=choices(Precision),
        help="What the file computes in: fp16 is for GPUs, int8 needs --calibration.",
        rich_help_panel=PRECISION,
    ),
]
WeightsOption = Annotated[
    Weights,
    typer.Option(
        "--weights",
        metavar=choices(Weights),
        help="What weights are stored in, on CPUs: fp16 halves a float32 file, int8 quarters it, int4 leaves 1/7.",
        rich_help_panel=PRECISION,
    ),
]
HalfIo = Annotated[
    bool,
    typer.Option(
        "--half-io",
        help="With --precision fp16: images and logits in half precision as well.",
        rich_help_panel=PRECISION,
    ),
]
Method = Annotated[
    CalibrationMethod,
    typer.Option(
        "--calibration-method",
        metavar=choices(CalibrationMethod),
        help="With --precision int8: how it finds the range of an activation.",
        rich_help_panel=PRECISION,
    ),
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        metavar="POINTS",
        help="Percentage points of top-1 that int8 or int4 may lose; sensitive layers stay in float32 until it holds.",
        show_default="no limit",
        rich_help_panel=PRECISION,
    ),
]
