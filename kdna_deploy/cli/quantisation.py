"""The options of `export` that concern precision."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kdna_deploy.cli.deployment import CalibrationChoice, preprocessing_of
from kdna_deploy.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdna_deploy.fused_source import FusedSource
    from kdna_deploy.int8_export import Int8Options


class Precision(str, Enum):
    fp32 = "fp32"
    int8 = "int8"


class CalibrationMethod(str, Enum):
    minmax = "minmax"
    percentile = "percentile"
    entropy = "entropy"


PrecisionOption = Annotated[
    Precision, typer.Option("--precision", help="int8: quantised for ONNX Runtime on a CPU; needs --calibration.")
]
HeldOut = Annotated[
    Path | None,
    typer.Option(
        "--held-out",
        metavar="DIR|FILE",
        help="Images to judge int8 by, in class folders or not; every fifth of --calibration.",
        show_default=False,
    ),
]
Method = Annotated[
    CalibrationMethod, typer.Option("--calibration-method", help="How int8 finds the range of an activation.")
]
MaxDrop = Annotated[
    float | None,
    typer.Option(
        "--max-drop",
        min=0.0,
        metavar="POINTS",
        help="Percentage points of top-1 that int8 may lose; sensitive layers stay in float32 until it holds.",
    ),
]


@dataclass(frozen=True)
class QuantisationChoice:
    """The command line's words on int8."""

    precision: Precision
    held_out: Path | None
    method: CalibrationMethod
    max_drop: float | None
    calibration: CalibrationChoice

    def check(self) -> None:
        """Refuse what makes no sense, before anything heavy is imported.

        Raises:
            UsageError: int8 without images, or its options without int8.
        """
        if self.precision is Precision.int8:
            if self.calibration.path is None:
                raise UsageError("--precision int8 needs images like those the network will see: --calibration DIR.")
            return
        if self.held_out is not None or self.max_drop is not None:
            raise UsageError("--held-out and --max-drop go with --precision int8.")

    def options(self, opened: FusedSource, batch: int | None, on_unreadable: Callable[[Path], None]) -> Int8Options:
        """What `export_int8` takes."""
        import torch

        from kdna_deploy.held_out import split_images
        from kdna_deploy.int8_export import Int8Options

        assert self.calibration.path is not None
        shape = opened.graph.image_shape
        outputs = opened.graph(torch.zeros(2, *shape)).shape[1]
        images = split_images(
            self.calibration.path,
            self.held_out,
            shape,
            preprocessing_of(self.calibration),
            outputs,
            batch,
            on_unreadable,
        )
        return Int8Options(images, self.method.value, self.max_drop)
