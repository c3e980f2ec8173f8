"""What the command line says of precision, and what that excludes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.cli.deployment import CalibrationChoice, asked_preprocessing
from kdna_deploy.cli.options.graph import ExportChildren
from kdna_deploy.cli.options.output import Target
from kdna_deploy.cli.options.precision import CalibrationMethod, Precision, Weights
from kdna_deploy.cli.values import check_number
from kdna_deploy.errors import UsageError
from kdna_deploy.input_files import check_images

if TYPE_CHECKING:
    from collections.abc import Callable

    from kdna_deploy.export.onnx.half.export import HalfOptions
    from kdna_deploy.export.onnx.int8.export import Int8Options
    from kdna_deploy.export.source import FusedSource
    from kdna_deploy.images.file import Unreadable
    from kdna_deploy.images.preprocessing import Preprocessing

    Named = Callable[[Unreadable], None]


@dataclass(frozen=True)
class PrecisionChoice:
    """The command line's words on precision."""

    precision: Precision
    weights: Weights
    half_io: bool
    target: Target | None
    children: ExportChildren | None
    held_out: Path | None
    method: CalibrationMethod
    max_drop: float | None
    calibration: CalibrationChoice
    engine: bool = False

    @property
    def chosen_target(self) -> Target:
        """Engines are built from TensorRT's graphs, and CPUs do not compute in half precision."""
        for_gpus = self.engine or self.precision is Precision.fp16
        return self.target or (Target.tensorrt if for_gpus else Target.cpu)

    @property
    def uses_images(self) -> bool:
        """Whether calibration images are of use, whatever becomes of channel attention."""
        return self.precision is not Precision.fp32

    def check(self) -> None:
        """Refuse what makes no sense, before anything heavy is imported.

        Raises:
            UsageError: int8 without images, an option without the precision that it goes with, or a target for which
                the file would make no sense.
            InputError: there are no images where they should be.
        """
        refusal = next((text for applies, text in self._refusals() if applies), None)
        if refusal:
            raise UsageError(refusal)
        check_number(self.max_drop, "--max-drop")
        self.calibration.check()
        if self.held_out is not None:
            check_images(self.held_out, "--held-out")

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What no output may replace."""
        return (*self.calibration.inputs, *([] if self.held_out is None else [self.held_out]))

    def _refusals(self) -> list[tuple[bool, str]]:
        precision, target = self.precision, self.chosen_target
        int8, fp16 = precision is Precision.int8, precision is Precision.fp16
        lazy = self.children in (ExportChildren.share, ExportChildren.on_the_fly)
        return [
            (
                int8 and self.calibration.path is None,
                "--precision int8 needs images like those the network will see: --calibration DIR.",
            ),
            (
                not int8 and (self.held_out is not None or self.max_drop is not None),
                "--held-out and --max-drop go with --precision int8.",
            ),
            (
                self.engine and target is Target.cpu,
                "An engine is built from a graph for TensorRT; leave --target cpu out.",
            ),
            (self.engine and self.half_io, "Engines take and return float32; leave --half-io out."),
            (self.half_io and not fp16, "--half-io goes with --precision fp16."),
            (
                self.weights is Weights.fp16 and precision is not Precision.fp32,
                f"--weights fp16 goes with --precision fp32; {precision.value} has smaller weights already.",
            ),
            (
                fp16 and target is Target.cpu,
                "CPUs do not compute in half precision; --weights fp16 halves the file for them, and --target "
                "tensorrt or any is for GPUs.",
            ),
            (int8 and target is Target.any, "No int8 file suits every runtime; choose --target cpu or tensorrt."),
            (
                target is Target.tensorrt and lazy,
                "TensorRT may compute shared kernels at every inference; use --children materialize with it.",
            ),
            (
                int8 and self.children is ExportChildren.on_the_fly,
                "int8 kernels are made once; use --children materialize, or share for the codes that can be.",
            ),
            (
                fp16 and self.children is ExportChildren.on_the_fly,
                "--precision fp16 casts kernels once; use --children materialize or share.",
            ),
        ]

    def prepared(self, opened: FusedSource) -> FusedSource:
        """`opened` with the preprocessing that its images will have, and a note where that is, or is not, as recorded.

        Raises:
            UsageError: a mean, deviation or size that is none.
            ArtifactError: the record is damaged.
        """
        from kdna_deploy.images.preprocessing import from_record

        files = [path for path in (self.calibration.path, self.held_out) if path is not None and path.is_dir()]
        if not self.uses_images or not files:
            return opened
        asked, made = asked_preprocessing(self.calibration), opened.provenance
        recorded = from_record(made.preprocessing, made.source)
        note = asked.note(recorded, "the checkpoint or artifact")
        return replace(
            opened,
            provenance=replace(made, preprocessing=asked.over(recorded).to_record()),
            notes=(*opened.notes, *([note] if note else [])),
        )

    def _preprocessing(self, opened: FusedSource) -> Preprocessing:
        from kdna_deploy.images.preprocessing import from_record

        return asked_preprocessing(self.calibration).over(
            from_record(opened.provenance.preprocessing, opened.provenance.source)
        )

    def int8_options(self, opened: FusedSource, batch: int | None, on_unreadable: Named) -> Int8Options:
        """What `export_int8` takes."""
        import torch

        from kdna_deploy.export.onnx.int8.export import Int8Options
        from kdna_deploy.images.split import split_images

        assert self.calibration.path is not None
        shape = opened.graph.image_shape
        outputs = opened.graph(torch.zeros(2, *shape)).shape[1]
        preprocessing = self._preprocessing(opened)
        images = split_images(
            *(self.calibration.path, self.held_out, shape, preprocessing, outputs, batch, on_unreadable),
            class_names=tuple(opened.provenance.class_names),
        )
        share = self.children is not ExportChildren.materialize
        return Int8Options(images, self.method.value, self.max_drop, share)

    def half_options(self, opened: FusedSource, batch: int | None, on_unreadable: Named) -> HalfOptions:
        """What `export_half` takes."""
        from kdna_deploy.export.onnx.half.export import HalfOptions
        from kdna_deploy.images.folder import ImageSource
        from kdna_deploy.images.record import image_record

        path = self.calibration.path
        if path is None:
            return HalfOptions(None, self.half_io, {"images": "random"})
        preprocessing = self._preprocessing(opened)
        source = ImageSource(path, opened.graph.image_shape, preprocessing, on_unreadable)
        return HalfOptions(lambda: source.batches(batch), self.half_io, image_record(path, preprocessing))
