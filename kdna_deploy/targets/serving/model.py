"""File → what a server has to know of it: its name there, what it takes and returns, the files that belong to it.

    NAME.onnx      its graph says so; weights beside it come along
    NAME.engine    the ONNX file that it was built from says so, which lies beside it, and is told by its SHA-256
    NAME.xml       the .bin beside it comes along; its server reads the rest by itself

A batch is open where the first axis of all inputs and outputs is. Does not apply to prepared files: they are for one
processor, and which one a server will have is not known.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kdna_deploy.errors import ArtifactError, InputError, UsageError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.class_names import known_names
from kdna_deploy.images.interface import PLAIN, Interface, Layout
from kdna_deploy.images.preprocessing import AskedPreprocessing, Preprocessing, from_record
from kdna_deploy.kinds import Kind
from kdna_deploy.runtimes.nvidia.batches import Batches
from kdna_deploy.runtimes.nvidia.engine_record import EngineRecord
from kdna_deploy.targets.inspect_file import FileInspection, TakenOrReturned, inspect_file

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_OPEN_BATCH = 32  # the most images that a server puts together, where the file takes any number
_COLOURS = (3, 1)  # as many channels as image files have, colours first


@dataclass(frozen=True)
class ServedModel:
    """A file that a server is given.

    Attributes:
        name: of the model on the server.
        path: of the file.
        kind: of the file.
        beside: files without which it cannot be opened; their names must stay, relative to it.
        inputs, outputs: as the file has them; none of an OpenVINO file.
        max_batch: images that the server may put together; 0 where the batch is not open.
        provenance: None of a file that is not ours.
        least_batch: images that it takes at least, where the axis of the batch is open.
    """

    name: str
    path: Path
    kind: Kind
    beside: tuple[Path, ...]
    inputs: tuple[TakenOrReturned, ...]
    outputs: tuple[TakenOrReturned, ...]
    max_batch: int
    provenance: Provenance | None
    least_batch: int = 1

    @property
    def interface(self) -> Interface:
        """What it takes and returns, as far as it is recorded."""
        return self.provenance.interface(self.path) if self.provenance else PLAIN

    @property
    def int8_for_ort(self) -> bool:
        """Whether it is our int8 for ONNX Runtime, with weights of all 8 bits (`runtimes.int8_kernels`)."""
        options = self.provenance.options if self.provenance else {}
        return self.kind is Kind.onnx and options.get("precision") == "int8" and options.get("target") != "tensorrt"

    @property
    def channels(self) -> int | None:
        """Of its images; None where nothing tells: of pixels, one axis alone must have as many numbers as colours."""
        if self.provenance:
            return self.provenance.image_shape[0]
        if len(self.inputs) != 1 or len(self.inputs[0].shape) != 4:
            return None
        _, second, _, last = self.inputs[0].shape
        if self.inputs[0].type == "uint8":
            return next((count for count in _COLOURS if (second == count) != (last == count)), None)
        return second if isinstance(second, int) else None

    @property
    def pictured(self) -> bool:
        """Whether image files become what it takes, as far as is known."""
        return self.channels in (None, *_COLOURS)

    @property
    def recorded_preprocessing(self) -> Preprocessing | None:
        """Of images; None where nothing is recorded."""
        return from_record(self.provenance.preprocessing, str(self.path)) if self.provenance else None

    @property
    def preprocessing(self) -> Preprocessing:
        """Of images, as recorded, else ImageNet's: of grey ones where it takes one channel."""
        assumed = AskedPreprocessing(color="L" if self.channels == 1 else "RGB")
        return self.recorded_preprocessing or assumed.over()

    @property
    def layout(self) -> Layout | None:
        """Of the pixels that it takes: as recorded, else where one axis alone has as many numbers as colours."""
        recorded = self.interface.layout
        if recorded or len(self.inputs) != 1 or self.inputs[0].type != "uint8" or len(self.inputs[0].shape) != 4:
            return recorded
        _, second, _, last = (axis == self.preprocessing.channels for axis in self.inputs[0].shape)
        return None if second == last else "nchw" if second else "nhwc"

    @property
    def image_size(self) -> tuple[int, int] | None:
        """(h, w) of its images; None where nothing tells."""
        if self.provenance:
            return self.provenance.image_shape[1:]
        if len(self.inputs) != 1 or len(self.inputs[0].shape) != 4:
            return None
        axes = self.inputs[0].shape
        height, width = axes[1:3] if self.layout == "nhwc" else axes[2:]
        return (height, width) if isinstance(height, int) and isinstance(width, int) else None

    @property
    def answers_classes(self) -> bool:
        """Whether it answers an image with logits or with classes, as far as is known."""
        if not self.outputs:
            return not (self.provenance and self.provenance.stage_names)
        return self.interface.top is not None or (len(self.outputs) == 1 and len(self.outputs[0].shape) in (0, 2))

    @property
    def num_classes(self) -> int | None:
        """Of the network; None where nothing tells."""
        if self.interface.top is not None:
            return self.interface.classes
        axes = self.outputs[0].shape if len(self.outputs) == 1 else ()
        if len(axes) == 2 and isinstance(axes[1], int):
            return axes[1]
        return self.provenance.num_classes if self.provenance else None

    @property
    def recorded_names(self) -> tuple[str, ...]:
        return tuple(self.provenance.class_names) if self.provenance else ()

    @property
    def class_names(self) -> tuple[str, ...]:
        """As `run` names them; none where they are not known."""
        recorded, classes = self.recorded_names, self.num_classes
        return known_names(recorded, len(recorded) if classes is None else classes)

    def dims(self, value: TakenOrReturned) -> tuple[int, ...]:
        """Axes of an input or output, −1 where one is open; without the batch's, where that is open."""
        numbers = tuple(axis if isinstance(axis, int) else -1 for axis in value.shape)
        return numbers[1:] if self.max_batch else numbers

    def sample_dims(self, value: TakenOrReturned) -> tuple[int, ...] | None:
        """The same of an input in numbers: the fewest images, of the recorded size; None where that is not known."""
        dims = self.dims(value)
        if -1 not in dims:
            return dims
        if len(value.shape) != 4:
            return None
        batch = () if self.max_batch else (max(dims[0], self.least_batch),)
        image = dims[len(batch) :]
        if -1 not in image:
            return (*batch, *image)
        return (*batch, *self.interface.shape(self.provenance.image_shape)) if self.provenance else None


def served_models(paths: Sequence[Path], addressed: bool = True) -> tuple[ServedModel, ...]:
    """The files at `paths`, each under a name of its own; `addressed` where that is part of an address.

    Raises:
        UsageError: two would have one name.
        InputError: a file cannot be served, or is damaged.
    """
    for path in paths if addressed else ():
        check_address(path)
    models = tuple(_served(path) for path in paths)
    for place, model in enumerate(models):
        if any(other.name == model.name for other in models[:place]):
            raise UsageError(f"Two files would be served as '{model.name}'; rename one of them.")
    return models


def check_address(path: Path, checkpoint: Path | None = None) -> None:
    """Refuse a file of whose name no address can be made; `checkpoint` is what it is called after, of one to be made.

    Raises:
        InputError: it is one.
    """
    if not _NAME.fullmatch(name := _served_name(path)):
        raise InputError(
            f"'{(checkpoint or path).name}' gives a model the name '{name}', which is no part of an address; rename "
            f"the {'checkpoint' if checkpoint else 'file'}, with letters, digits, '.', '_' and '-'."
        )


def _served_name(path: Path) -> str:
    """What the file at `path` is called on a server."""
    return path.name.removesuffix(".engine").removesuffix(".onnx").removesuffix(".xml")


def _served(path: Path) -> ServedModel:
    name = _served_name(path)
    found = inspect_file(path)
    if found.prepared is not None:
        raise InputError(
            f"'{path}' is prepared for {found.prepared.made_for}, and a server may have another; "
            f"give the file that it was made from, '{found.prepared.source}'."
        )
    if found.engine is not None:
        return _engine(name, found, found.engine)
    inputs, outputs = (found.graph.inputs, found.graph.outputs) if found.graph else ((), ())
    max_batch = _OPEN_BATCH if found.graph and _batch_is_open((*inputs, *outputs)) else 0
    return ServedModel(name, path, found.kind, found.beside, inputs, outputs, max_batch, found.provenance)


def _engine(name: str, found: FileInspection, record: EngineRecord) -> ServedModel:
    """An engine tells nothing of its inputs without a GPU; the file that it was built from does."""
    path = found.path
    if record.library != "tensorrt":
        raise InputError(
            f"'{path}' is an engine of TensorRT-RTX, for which there is no backend; "
            "give its ONNX file, or an engine of `export` with `tensorrt`."
        )
    built_from = path.with_name(Path(record.onnx).name)
    if not built_from.is_file() or file_sha256(built_from) != record.onnx_sha256:
        raise ArtifactError(
            f"What '{path}' takes and returns is told by '{built_from.name}', which it was built from; "
            "put that file beside it."
        )
    graph = inspect_file(built_from).graph
    assert graph is not None
    batches = record.batches
    inputs, outputs = (_of_batch(values, batches) for values in (graph.inputs, graph.outputs))
    max_batch = batches.largest if batches.smallest == 1 and _batch_is_open((*inputs, *outputs)) else 0
    return ServedModel(name, path, found.kind, (), inputs, outputs, max_batch, found.provenance, batches.smallest)


def _of_batch(values: Sequence[TakenOrReturned], batches: Batches) -> tuple[TakenOrReturned, ...]:
    """An engine of one batch size has that axis as a number, whatever its ONNX file has."""
    if not batches.fixed:
        return tuple(values)
    return tuple(replace(value, shape=(batches.largest, *value.shape[1:])) for value in values)


def _batch_is_open(values: Sequence[TakenOrReturned]) -> bool:
    return all(value.shape and not isinstance(value.shape[0], int) for value in values)
