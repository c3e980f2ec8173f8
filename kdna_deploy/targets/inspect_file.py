"""File → what it says of itself, without running it: what it was made of and by, what it takes, returns and stores.

    .onnx          its graph and metadata; kernels and multiply-accumulates are counted on the graph
    .xml           what it records, read without OpenVINO; likewise .param, .mnn, .tflite and .pte
    .engine        the record beside it
    .fused.pt2     what it records; PyTorch alone reads it

Does not apply to checkpoints: their networks are inspected (`graph.inspection`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.graph.stored_kernels import KernelStorage
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.runtimes.nvidia.engine_record import EngineRecord, read_record, record_path
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model, weights_files
from kdna_deploy.runtimes.open import recorded_provenance
from kdna_deploy.runtimes.own_files import own_file
from kdna_deploy.runtimes.prepared import PreparedRecord, record_in
from kdna_deploy.targets.onnx.cost import OnnxCost, counted
from kdna_deploy.targets.onnx.ledger import onnx_storage


@dataclass(frozen=True)
class TakenOrReturned:
    """An input or output of a graph; an axis is a number, or the name of one that is open."""

    name: str
    type: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.type} [{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class GraphFacts:
    """What an ONNX graph is.

    Attributes:
        opset, ir_version: that it is written in.
        nodes: operator → count.
        inputs, outputs: of the graph.
        cost: its stored numbers, and multiply-accumulates of one image.
    """

    opset: int
    ir_version: int
    nodes: Mapping[str, int]
    inputs: tuple[TakenOrReturned, ...]
    outputs: tuple[TakenOrReturned, ...]
    cost: OnnxCost


@dataclass(frozen=True)
class FileInspection:
    """What a file says of itself.

    Attributes:
        bytes: of the file and of those beside it.
        beside: files that it cannot do without, weights or a record.
        provenance: None where kdna-deploy did not write it.
        graph: of an ONNX file.
        prepared: how it was prepared; None of others.
        engine: the record of an engine.
        storage: the sharing ledger, as far as it is told: of the checkpoint, and of an ONNX file.
    """

    path: Path
    kind: Kind
    bytes: int
    beside: tuple[Path, ...] = ()
    provenance: Provenance | None = None
    graph: GraphFacts | None = None
    prepared: PreparedRecord | None = None
    engine: EngineRecord | None = None
    storage: tuple[KernelStorage, ...] = ()


def inspect_file(path: Path) -> FileInspection:
    """Read what the file at `path`, which is no checkpoint, says of itself.

    Raises:
        ArtifactError: it, or its record, is damaged, or not there.
        RuntimeFailure: it is a ``.pt2``, and PyTorch is not installed.
    """
    kind = named_kind(path)
    if kind is Kind.onnx:
        try:
            return _onnx(path)
        except (ValueError, TypeError, LookupError, OSError) as error:  # what is damaged leads its readers anywhere
            raise ArtifactError(f"'{path}' is no ONNX file, or a damaged one; export it again.") from error
    found = own_file(path)
    if found is not None:
        stored = (*_of_checkpoint(found.provenance), *([found.storage] if found.storage else []))
        return FileInspection(path, kind, found.bytes, found.beside, found.provenance, storage=stored)
    if kind is Kind.engine:
        record, beside = read_record(path), record_path(path)
        made, size = record.provenance, path.stat().st_size + beside.stat().st_size
        return FileInspection(path, kind, size, (beside,), made, engine=record, storage=_of_checkpoint(made))
    made = recorded_provenance(path)
    return FileInspection(path, kind, path.stat().st_size, provenance=made, storage=_of_checkpoint(made))


def _onnx(path: Path) -> FileInspection:
    model = read_model(path, weights=False)
    made, prepared = provenance_of_model(model, path), record_in(model, path)
    weights = weights_files(path)
    storage = onnx_storage(model, "prepared file" if prepared else "ONNX file")
    graph = GraphFacts(
        opset=max((one.version for one in model.opset_import if not one.domain), default=0),
        ir_version=model.ir_version,
        nodes=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        inputs=_values(model.graph.input, {tensor.name for tensor in model.graph.initializer}),
        outputs=_values(model.graph.output),
        cost=counted(model, path, made.image_shape if made else None),  # last, for it changes the model
    )
    return FileInspection(
        path=path,
        kind=Kind.onnx,
        bytes=sum(file.stat().st_size for file in (path, *weights)),
        beside=weights,
        provenance=made,
        graph=graph,
        prepared=prepared,
        storage=(*_of_checkpoint(made), storage),
    )


def _values(values: Iterable[onnx.ValueInfoProto], stored: set[str] | None = None) -> tuple[TakenOrReturned, ...]:
    """Constants, which older files list among the inputs, are none."""
    return tuple(
        TakenOrReturned(
            value.name,
            _type(value.type.tensor_type.elem_type),
            tuple(axis.dim_value or axis.dim_param or "?" for axis in value.type.tensor_type.shape.dim),
        )
        for value in values
        if value.name not in (stored or ())
    )


def _type(number: int) -> str:
    try:
        return str(onnx.helper.tensor_dtype_to_np_dtype(number).name)
    except KeyError:  # files are anybody's
        return "of no known type"


def _of_checkpoint(made: Provenance | None) -> tuple[KernelStorage, ...]:
    return (KernelStorage(**made.kernels),) if made and made.kernels else ()
