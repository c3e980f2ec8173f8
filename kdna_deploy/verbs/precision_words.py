"""What a user says of precision, the target and the images that judge it, and what these exclude."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.input_files import check_images
from kdna_deploy.precision import CODES, WEIGHTS
from kdna_deploy.progress import Listener
from kdna_deploy.verbs.arguments import check_number, check_workers, chosen
from kdna_deploy.verbs.image_words import ImageWords

if TYPE_CHECKING:
    from kdna_deploy.graph.graph import Graph
    from kdna_deploy.images.preprocessing import Preprocessing
    from kdna_deploy.images.split import Split
    from kdna_deploy.targets.onnx.codes.export import StorageOptions
    from kdna_deploy.targets.onnx.half.export import HalfOptions
    from kdna_deploy.targets.onnx.int8.export import Int8Options
    from kdna_deploy.targets.source import FusedSource

PRECISIONS = ("fp32", "fp16", "int8")
TARGETS = ("cpu", "tensorrt", "any")
CHILDREN = ("materialize", "share", "on-the-fly")
METHODS = ("minmax", "percentile", "entropy")


@dataclass(frozen=True)
class PrecisionWords:
    """What was said; `engine` is whether an engine is built from the file."""

    precision: str
    weights: str
    half_io: bool
    target: str | None
    children: str | None
    held_out: Path | None
    method: str
    max_drop: float | None
    images: ImageWords
    engine: bool = False
    workers: int | None = None
    ray: str | None = None

    @property
    def chosen_target(self) -> str:
        """Engines are built from TensorRT's graphs, and CPUs do not compute in half precision."""
        return self.target or ("tensorrt" if self.engine or self.precision == "fp16" else "cpu")

    @property
    def uses_images(self) -> bool:
        """Whether calibration images are of use, whatever becomes of channel attention."""
        return self.precision != "fp32" or self.weights in CODES

    @property
    def prepares(self) -> bool:
        """Whether image files are read; a note says then how they are prepared."""
        files = [path for path in (self.images.path, self.held_out) if path is not None and path.is_dir()]
        return self.uses_images and bool(files)

    def check(self) -> None:
        """Refuse what makes no sense, before anything heavy is imported.

        Raises:
            UsageError: a word that there is not, int8 without images, an option without the precision that it goes
                with, or a target for which the file would make no sense.
            InputError: there are no images where they should be.
        """
        chosen("precision", self.precision, PRECISIONS)
        chosen("weights", self.weights, WEIGHTS)
        chosen("calibration_method", self.method, METHODS)
        chosen("target", self.chosen_target, TARGETS)
        if self.children is not None:
            chosen("children", self.children, CHILDREN)
        refusal = next((text for applies, text in self._refusals() if applies), None)
        if refusal:
            raise UsageError(refusal)
        check_number("max_drop", self.max_drop)
        check_workers(self.workers, self.ray)
        self.images.check()
        if self.held_out is not None:
            check_images(self.held_out, "`held_out`")

    def check_size(self, dynamic: bool) -> None:
        """Refuse a `dynamic` height and width of what is made for, or judged at, one size.

        Raises:
            UsageError: it is an engine, or rounded to codes.
        """
        if dynamic and self.engine:
            raise UsageError("Engines are built for one height and width here; leave `dynamic_size` out.")
        if dynamic and self.uses_images and self.precision != "fp16":
            raise UsageError(
                "What is in int8 or int4 is judged on images of one height and width; leave `dynamic_size` out, or "
                "choose fp32 or fp16."
            )

    def check_outputs(self, graph: Graph) -> None:
        """Refuse what a network that returns something else than logits [n, classes] cannot be written as.

        Raises:
            UsageError: it is to be judged by its logits, or returns stage outputs and is to be an engine.
        """
        if graph.stage_names:
            given = f"This network returns stage outputs ({', '.join(graph.stage_names)})"
            if self.engine:
                raise UsageError(f"{given}, and engines are built of classifiers alone here; export an ONNX file.")
        elif self.precision == "int8" or self.weights in CODES:
            from kdna_deploy.graph.classes import class_count, returned_shape, shown

            returned = returned_shape(graph)
            if class_count(returned) is not None:
                return
            given = f"This network returns {shown(returned)}"
        else:
            return
        if self.precision == "int8":
            raise UsageError(f'{given}, and `precision="int8"` is judged by logits; choose fp32 or fp16.')
        if self.weights in CODES:
            raise UsageError(f'{given}, and `weights="{self.weights}"` is judged by logits; choose fp32 or fp16.')

    @property
    def inputs(self) -> tuple[Path, ...]:
        """What no output may replace."""
        return (*self.images.inputs, *([] if self.held_out is None else [self.held_out]))

    def _refusals(self) -> list[tuple[bool, str]]:
        target, int8, fp16 = self.chosen_target, self.precision == "int8", self.precision == "fp16"
        lazy, coded = self.children in ("share", "on-the-fly"), self.weights in CODES
        return [
            (
                int8 and self.images.path is None,
                '`precision="int8"` needs images like those the network will see: name them with `calibration`.',
            ),
            (
                not (int8 or coded) and (self.held_out is not None or self.max_drop is not None),
                '`held_out` and `max_drop` go with `precision="int8"`, and `weights="int8"` or "int4".',
            ),
            (
                not (int8 or coded) and (self.workers is not None or self.ray is not None),
                '`workers` and `ray` judge what is in int8 or int4; leave them out, or choose `precision="int8"`.',
            ),
            (
                not int8 and self.method != "minmax",
                '`calibration_method` goes with `precision="int8"`; choose that, or leave it out.',
            ),
            (
                coded and self.images.path is None and (self.held_out is not None or self.max_drop is not None),
                "`held_out` and `max_drop` need images like those the network will see: name them with `calibration`.",
            ),
            (
                self.engine and target == "cpu",
                'An engine is built from a graph for TensorRT; leave `target="cpu"` out.',
            ),
            (self.engine and self.half_io, "Engines take and return float32; leave `half_io` out."),
            (self.half_io and not fp16, '`half_io` goes with `precision="fp16"`.'),
            (
                self.weights != "fp32" and self.precision != "fp32",
                f'`weights="{self.weights}"` goes with `precision="fp32"`; what computes in {self.precision} '
                "has its weights in that.",
            ),
            (
                coded and target == "tensorrt",
                f'TensorRT takes kernels as they are; choose `precision="int8"` in place of `weights="{self.weights}"` '
                "for it.",
            ),
            (
                coded and self.children == "on-the-fly",
                f'`weights="{self.weights}"` is multiplied out at session start, children on the fly never are; choose '
                "one.",
            ),
            (
                fp16 and target == "cpu",
                'CPUs do not compute in half precision; `weights="fp16"` halves the file for them, and '
                '`target="tensorrt"` or any is for GPUs.',
            ),
            (int8 and target == "any", 'No int8 file suits every runtime; choose `target="cpu"` or tensorrt.'),
            (
                target == "tensorrt" and lazy,
                'TensorRT may compute shared kernels at every inference; use `children="materialize"` with it.',
            ),
            (
                int8 and self.children == "on-the-fly",
                'int8 kernels are made once; use `children="materialize"`, or share for the codes that can be.',
            ),
            (
                fp16 and self.children == "on-the-fly",
                '`precision="fp16"` casts kernels once; use `children="materialize"` or share.',
            ),
        ]

    @property
    def children_in_graph(self) -> str | None:
        """What the choice asks of the fused graph; on the fly, children are shared there."""
        if self.precision == "int8":
            return "materialize"
        return "share" if self.children == "on-the-fly" else self.children

    def prepared(self, opened: FusedSource, noted: bool = False) -> FusedSource:
        """`opened` with the preprocessing that its images will have, and a note on where that is from, unless `noted`.

        Raises:
            UsageError: a mean, deviation or size that is none.
            ArtifactError: the record is damaged.
        """
        from kdna_deploy.images.preprocessing import from_record

        if not self.prepares:
            return opened
        asked, made = self.images.asked(), opened.provenance
        recorded, where = from_record(made.preprocessing, made.source), "the checkpoint or artifact"
        note = None if noted else asked.note(recorded, where) or asked.assumed(recorded, where)
        told = replace(opened, notes=(*opened.notes, *([note] if note else [])))
        if self.precision == "fp32":  # the images judge the file, and leave no trace in it
            return told
        return replace(told, provenance=replace(made, preprocessing=asked.over(recorded).to_record()))

    def _preprocessing(self, opened: FusedSource) -> Preprocessing:
        from kdna_deploy.images.preprocessing import from_record

        return self.images.asked().over(from_record(opened.provenance.preprocessing, opened.provenance.source))

    def int8_options(self, opened: FusedSource, batch: int | None, listener: Listener) -> Int8Options:
        """What `export_int8` takes."""
        from kdna_deploy.evaluation.workers.opened import Workers
        from kdna_deploy.targets.onnx.int8.export import Int8Options

        method = chosen("calibration_method", self.method, METHODS)
        images = self._split(opened, batch, listener)
        return Int8Options(
            *(images, method, self.max_drop, self.children != "materialize"),  # type: ignore[arg-type]
            workers=Workers(self.workers, self.ray),
        )

    def storage_options(self, opened: FusedSource, batch: int | None, listener: Listener) -> StorageOptions:
        """What `export_codes` takes."""
        from kdna_deploy.evaluation.workers.opened import Workers
        from kdna_deploy.targets.onnx.codes.export import StorageOptions

        images = None if self.images.path is None else self._split(opened, batch, listener)
        return StorageOptions(images, self.max_drop, workers=Workers(self.workers, self.ray))

    def _split(self, opened: FusedSource, batch: int | None, listener: Listener) -> Split:
        from kdna_deploy.graph.classes import class_count, returned_shape
        from kdna_deploy.images.split import split_images

        assert self.images.path is not None
        shape, outputs = opened.graph.image_shape, class_count(returned_shape(opened.graph))
        assert outputs is not None, "checked"
        return split_images(
            *(self.images.path, self.held_out, shape, self._preprocessing(opened), outputs, batch, listener),
            class_names=tuple(opened.provenance.class_names),
        )

    def half_options(self, opened: FusedSource, batch: int | None, listener: Listener) -> HalfOptions:
        """What `export_half` takes."""
        from kdna_deploy.images.folder import ImageSource
        from kdna_deploy.images.record import image_record
        from kdna_deploy.targets.onnx.half.export import HalfOptions

        path = self.images.path
        if path is None:
            return HalfOptions(None, self.half_io, {"images": "random"})
        preprocessing = self._preprocessing(opened)
        source = ImageSource(path, opened.graph.image_shape, preprocessing, listener)
        return HalfOptions(lambda: source.batches(batch), self.half_io, image_record(path, preprocessing))
