"""Is an ONNX file what this version makes of a checkpoint?

    FILE's provenance → how it was made → export again, into a scratch folder → compare, byte for byte

Equal input, options and versions give equal bytes. Names of files and folders are no part of that: those that FILE
records are taken over. Options are FILE's own; what it cannot hold is asked for again: the calibration images (their
digest is recorded, so that other ones are noticed) and the code of a user's own model. An int8 file's layers in float32
are taken from its record, not searched for again, so the images that it was judged by are not needed.

Does not apply to engines: a library numbers what is in them anew in every build, and TensorRT chooses kernels by time.
Another processor may round activations differently while it calibrates, which the scales of an int8 file then show.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import onnx

from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.external_data import model_name
from kdna_deploy.files import file_sha256, scratch_folder
from kdna_deploy.graph.classes import class_count, returned_shape
from kdna_deploy.graph.file import load_fused
from kdna_deploy.graph.freezing import AttentionOptions
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.folder import ImageSource
from kdna_deploy.images.preprocessing import Preprocessing, from_record
from kdna_deploy.images.record import images_sha256
from kdna_deploy.images.split import EVERY_FIFTH, Split, split_images
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.precision import CODES
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model, weights_file
from kdna_deploy.runtimes.prepared import require_portable
from kdna_deploy.targets.onnx.codes.export import StorageOptions, export_codes
from kdna_deploy.targets.onnx.difference import file_differences
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.half.export import HalfOptions, export_half
from kdna_deploy.targets.onnx.int8.export import Int8Options, export_int8
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.recorded_options import RecordedOptions, recorded_options
from kdna_deploy.targets.source import Asked, FusedSource, Request, open_fused_source
from kdna_deploy.version import VERSION


@dataclass(frozen=True)
class Reproduction:
    """What came of making a file again.

    Attributes:
        path: the file.
        source: the checkpoint or fused graph that it should come from.
        version: of this package.
        differences: a clause each, the most telling first; none where the bytes are equal.
    """

    path: Path
    source: Path
    version: str
    differences: tuple[str, ...]

    @property
    def identical(self) -> bool:
        return not self.differences


@dataclass(frozen=True)
class Ingredients:
    """What a file does not hold: checkpoint or fused graph, its checkpoint, the code of one's own model, images."""

    model: Path
    source: Path | None = None
    factory: str | None = None
    calibration: Path | None = None


def check_reproduction(
    path: Path,
    given: Ingredients,
    listener: Listener = SILENT,
) -> Reproduction:
    """Make the ONNX file at `path` again and compare.

    Raises:
        UsageError: it is no ONNX file, or calibration images or a model's code are missing, or given for nothing.
        ArtifactError: it does not say how it was made, or says what makes no sense.
        ExportError, ParityError: it cannot be made again.
    """
    listener.step("read how it was made")
    theirs, made = _opened(path)
    options = recorded_options(made, path)
    if made.factory and not given.factory:
        hint = made.factory_hint(path)
        raise UsageError(
            f"'{path}' holds the network of {made.factory}; add `model={hint!r}` to let its code build it."
        )
    earlier = [*_other_checkpoint(made, given), *_other_images(path, made, options, given)]
    if earlier:
        return Reproduction(path, given.model, VERSION, tuple(earlier))
    with scratch_folder("check") as folder:
        opened = open_fused_source(given.model, _request(made, options, given), listener)
        if opened.provenance.source_sha256 != made.source_sha256:
            return Reproduction(path, given.model, VERSION, (_OTHER_CHECKPOINT,))
        opened = _as_recorded(opened, made, options)
        weights = weights_file(theirs, path)
        again = folder / (model_name(weights.name) if weights else path.name)
        _export(opened, again, options, made, weights is not None, given, listener)
        listener.step("compare")
        return Reproduction(path, given.model, VERSION, tuple(file_differences(path, theirs, made, again)))


def _as_recorded(opened: FusedSource, made: Provenance, options: RecordedOptions) -> FusedSource:
    """`opened` with what a user said of classes and images, which only the file knows."""
    if (baseline := made.options.get("baseline")) is not None:  # a file of its own
        opened = replace(opened, provenance=opened.provenance.with_options(baseline=baseline))
    if (labels := made.options.get("labels")) is not None:
        opened = opened.with_class_names(tuple(made.class_names), Path(str(labels)))
    if options.precision == "fp32" or options.images is None:
        return opened
    return replace(opened, provenance=replace(opened.provenance, preprocessing=made.preprocessing))


_OTHER_CHECKPOINT = "it was made from another checkpoint"


def _opened(path: Path) -> tuple[onnx.ModelProto, Provenance]:
    if named_kind(path) is not Kind.onnx:
        raise UsageError(
            f"`check` takes an ONNX file, not '{path.name}'; of an engine, check the ONNX file that lies beside it."
        )
    require_portable(path, "`check` makes")
    model = read_model(path, weights=False)
    made = provenance_of_model(model, path)
    if made is None:
        raise ArtifactError(f"'{path}' does not say how it was made: kdna-deploy did not write it.")
    return model, made


def _other_checkpoint(made: Provenance, given: Ingredients) -> Iterator[str]:
    """Of a fused graph, its own provenance tells, once it is open."""
    fused = named_kind(given.model) is Kind.fused
    if not fused and given.model.is_file() and file_sha256(given.model) != made.source_sha256:
        yield _OTHER_CHECKPOINT


def _other_images(path: Path, made: Provenance, options: RecordedOptions, given: Ingredients) -> Iterator[str]:
    """Raises: UsageError where images are missing, or of no use."""
    images = options.images
    if images is None:
        if given.calibration is not None:
            raise UsageError(f"'{path}' was made without calibration images; leave `calibration` out.")
        return
    if given.calibration is None:
        if options.precision != "fp32" or not _frozen_there(made, given):
            raise UsageError(
                f"'{path}' was made with the calibration images '{images.name}', which it does not hold; give them "
                f"again: `calibration={images.name!r}`."
            )
        return
    if not given.calibration.exists():
        raise ArtifactError(f"There is no file or folder '{given.calibration}'.")
    if images.sha256 and images_sha256(given.calibration) != images.sha256:
        yield f"it was calibrated with other images than those in '{given.calibration}'"


def _frozen_there(made: Provenance, given: Ingredients) -> bool:
    """Whether channel attention is fixed in the given fused graph already, as the file has it."""
    if named_kind(given.model) is not Kind.fused:
        return False
    there = load_fused(given.model).provenance.options
    return all(there.get(key) == made.options.get(key) for key in ("channel_attention", "calibration"))


def _request(made: Provenance, options: RecordedOptions, given: Ingredients) -> Request:
    fused = named_kind(given.model) is Kind.fused
    attention: Asked | None = "keep" if options.channel_attention == "keep" else None
    if options.channel_attention != "keep" and not _frozen_there(made, given):

        def frozen(shape: tuple[int, int, int], recorded: Preprocessing | None) -> AttentionOptions:
            source = _images(options, shape, given)
            return AttentionOptions(
                options.channel_attention,
                source.batches if source else None,
                options.freeze_below,
                {k: v for k, v in made.options["calibration"].items() if k not in ("count", "freeze_below")},
                from_record(made.preprocessing, str(given.model)) if source and source.path.is_dir() else None,
            )

        attention = frozen
    return Request(
        given.source,
        None if fused else made.loading(given.model),
        given.factory,
        False if fused else made.ema,
        options.size,
        options.children_in_graph,
        attention,
    )


def _images(options: RecordedOptions, shape: tuple[int, int, int], given: Ingredients) -> ImageSource | None:
    if options.images is None or given.calibration is None:
        return None
    return ImageSource(given.calibration, shape, options.images.preprocessing)


def _export(
    opened: FusedSource,
    output: Path,
    options: RecordedOptions,
    made: Provenance,
    external_data: bool,
    given: Ingredients,
    listener: Listener,
) -> None:
    written = replace(options.onnx, external_data=external_data)
    shape = opened.graph.image_shape
    if options.precision == "fp16":
        source = _images(options, shape, given)
        batches = (lambda: source.batches(written.batch)) if source else None
        record = {k: v for k, v in made.options["fp16"].items() if k not in ("kept_float", "half_io")}
        export_half(opened, output, written, HalfOptions(batches, options.half_io, record), (), listener)
    elif options.precision == "int8":
        split = _split(options, opened, written, made, given)
        int8 = Int8Options(split, options.method, None, options.share_codes, options.kept_float)
        export_int8(opened, output, written, int8, (), listener)
    elif written.weights in CODES:
        export_codes(opened, output, written, StorageOptions(keep_float=options.kept_float), (), listener)
    else:
        export_fused(opened, output, written, (), listener)


def _split(
    options: RecordedOptions, opened: FusedSource, written: OnnxOptions, made: Provenance, given: Ingredients
) -> Split:
    """The images that calibrated; which ones judge makes no difference to the file."""
    assert options.images is not None and given.calibration is not None
    kept = ("method", "kept_float", "share_codes")
    record = {key: value for key, value in made.options["int8"].items() if key not in kept}
    shape = opened.graph.image_shape
    if options.held_out == EVERY_FIFTH:
        # Class folders are read class by class: which fifth judges depends on whether they are the network's classes.
        outputs = None if opened.graph.stage_names else class_count(returned_shape(opened.graph))
        if outputs is None:
            raise ArtifactError(f"'{given.model}' returns no logits, by which a file in int8 is judged; give another.")
        names = tuple(made.class_names)
        split = split_images(
            *(given.calibration, None, shape, options.images.preprocessing, outputs, written.batch), class_names=names
        )
        return replace(split, record=record)
    source = ImageSource(given.calibration, shape, options.images.preprocessing)

    def judging() -> Iterator[tuple[Any, None]]:
        for images in source.batches(written.batch):
            yield images, None

    return Split(lambda: source.batches(written.batch), judging, False, record)
