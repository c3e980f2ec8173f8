"""The record beside an engine, ``<engine>.json``: what it was built from, with what, and for which GPU.

An engine itself tells none of this, and fails far from the cause where it does not fit. Engines hold for exactly the
library version that built them: NVIDIA promises more for neither library, except to engines built to be
version-compatible, which these are not. An engine of TensorRT is for the GPU model that it was timed on, one of
TensorRT-RTX for the compute capabilities that it was built for.

Every refusal ends in the command that builds the engine again.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from kdna_deploy.errors import ArtifactError, KdnaError, RuntimeFailure
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.graph.provenance import parse as parse_provenance
from kdna_deploy.json_schema import (
    Kind,
    LaterSchema,
    Misfit,
    anything,
    boolean,
    check_schema,
    integer,
    list_of,
    one_of,
    optional,
    record,
    shown,
    text,
)
from kdna_deploy.precision import GraphPrecision
from kdna_deploy.runtimes.nvidia.batches import Batches
from kdna_deploy.runtimes.nvidia.gpu import Gpu
from kdna_deploy.runtimes.nvidia.library import DEFAULT_CAPABILITIES, LibraryName, library
from kdna_deploy.runtimes.nvidia.log import Notice

SCHEMA_VERSION = 1
SUFFIX = ".json"


@dataclass(frozen=True)
class EngineRecord:
    """The record of an engine.

    Attributes:
        library, library_version: that built it, and alone can run it.
        engine_sha256: of the engine file.
        onnx, onnx_sha256: name and digest of the file that it was built from.
        precision: of the graph.
        tf32: whether float32 convolutions may round to TF32.
        batches: that it takes.
        image_shape: (c, h, w).
        compute_capabilities: that it was built for, as ``8.6``; none for the default of TensorRT-RTX.
        gpu: name of the GPU that it was built on, None where none was needed.
        warnings: of the builder.
        rebuild: the command that builds it again.
        provenance: of the ONNX file, None where it has none.
    """

    library: LibraryName
    library_version: str
    engine_sha256: str
    onnx: str
    onnx_sha256: str
    precision: GraphPrecision
    tf32: bool
    batches: Batches
    image_shape: tuple[int, int, int]
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    warnings: tuple[Notice, ...]
    rebuild: str
    provenance: Provenance | None
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, sort_keys=True) + "\n"


def record_path(engine: Path) -> Path:
    """Where the record of `engine` lies."""
    return engine.with_name(engine.name + SUFFIX)


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def rebuild_command(
    onnx: Path, output: Path, name: LibraryName, batches: Batches, tf32: bool, capabilities: tuple[str, ...]
) -> str:
    """The command line that builds an engine, to be typed in the engine's folder."""
    words = ["kdna-deploy", "export", str(onnx), f"--{name}", "--batch", str(batches), "-o", output.name]
    words += [] if tf32 else ["--no-tf32"]
    words += [word for capability in capabilities for word in ("--compute-capability", capability)]
    return shlex.join(words)


def read_record(engine: Path) -> EngineRecord:
    """The record of the engine file `engine`.

    Raises:
        ArtifactError: there is no engine, or its record is missing, damaged, or of a later kdna-deploy.
    """
    if not engine.is_file():
        raise ArtifactError(f"There is no file '{engine}'.")
    path = record_path(engine)
    # Without a record the original options are not known; these are what can be said.
    again = "`export('MODEL.onnx', tensorrt=True)` (or `tensorrt_rtx=True`)"
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")), path)
    except FileNotFoundError as error:
        raise ArtifactError(
            f"'{engine}' has no record '{path.name}' beside it, so nothing tells which library and GPU it is for; "
            f"build it again: {again}"
        ) from error
    except (OSError, ValueError, RecursionError, KdnaError) as error:
        if isinstance(error, LaterSchema):
            raise
        raise ArtifactError(f"The record '{path}' is damaged; build the engine again: {again}") from error


def _parse(data: Any, path: Path) -> EngineRecord:
    check_schema(data, SCHEMA_VERSION, str(path))
    names = {entry.name for entry in fields(EngineRecord)}
    if set(data) != names:
        raise Misfit("of other fields")
    fitting = record({name: _FIELDS.get(name, anything) for name in names})(data)
    made = data["provenance"]
    return EngineRecord(
        **{
            **fitting,
            "batches": Batches(**fitting["batches"]),
            "image_shape": tuple(fitting["image_shape"]),
            "compute_capabilities": tuple(fitting["compute_capabilities"]),
            "warnings": tuple(Notice(**notice) for notice in fitting["warnings"]),
            "provenance": None if made is None else parse_provenance(made, str(path)),
        }
    )


_LABEL = text(most=1000)
_BATCH = integer(1, 1 << 20)
# What every field of `EngineRecord` may hold in a file.
_FIELDS: Mapping[str, Kind] = {
    "library": one_of(*get_args(LibraryName)),
    "library_version": _LABEL,
    "engine_sha256": text(r"[0-9a-f]{64}"),
    "onnx": _LABEL,
    "onnx_sha256": text(r"[0-9a-f]{64}"),
    "precision": one_of(*get_args(GraphPrecision)),
    "tf32": boolean,
    "batches": record({"smallest": _BATCH, "typical": _BATCH, "largest": _BATCH}),
    "image_shape": list_of(integer(1, 1 << 16), most=3, least=3),
    "compute_capabilities": list_of(text(r"\d{1,3}\.\d{1,3}"), most=20),
    "gpu": optional(_LABEL),
    "warnings": list_of(record({"text": shown, "count": integer(0)})),
    "rebuild": text("kdna-deploy .*"),  # what a user is asked to type
    "provenance": lambda value: value,  # see `kdna_deploy.graph.provenance`
    "schema_version": integer(1),
}


def check_engine(engine: Path, record: EngineRecord) -> None:
    """Refuse a file whose bytes are not those that were recorded.

    Raises:
        ArtifactError: they are not.
    """
    if file_sha256(engine) != record.engine_sha256:
        raise ArtifactError(
            f"'{engine}' is not the engine that its record describes: it was changed or cut short; build it again: "
            f"{record.rebuild}"
        )


def check_version(engine: Path, record: EngineRecord, installed: str) -> None:
    """Refuse an engine of another version of its library than the one `installed`.

    Raises:
        RuntimeFailure: it is of another.
    """
    if record.library_version != installed:
        title = library(record.library).title
        raise RuntimeFailure(
            f"'{engine}' was built by {title} {record.library_version} and cannot run on {title} {installed}; build it "
            f"again: {record.rebuild}"
        )


def check_gpu(engine: Path, record: EngineRecord, gpu: Gpu) -> None:
    """Refuse an engine that was not built for `gpu`.

    Raises:
        RuntimeFailure: it was built for others.
    """
    if record.gpu is not None:
        fits, made_for = record.gpu == gpu.name, f"on the GPU {record.gpu} and for it alone"
    elif record.compute_capabilities:
        fits = gpu.compute_capability in record.compute_capabilities
        made_for = f"for compute capability {', '.join(record.compute_capabilities)}"
    else:
        fits = _numbers(gpu.compute_capability) >= _numbers(DEFAULT_CAPABILITIES[0])
        made_for = f"for compute capability {', '.join(DEFAULT_CAPABILITIES)} and later"
    if not fits:
        # The recorded command would build it for the recorded capabilities once more.
        again = record.rebuild
        if record.gpu is None:
            again = f"{again.partition(' --compute-capability ')[0]} --compute-capability {gpu.compute_capability}"
        raise RuntimeFailure(
            f"'{engine}' was built {made_for}, and this GPU is a {gpu.name} with {gpu.compute_capability}; build it "
            f"again: {again}"
        )


def _numbers(capability: str) -> tuple[int, ...]:
    return tuple(map(int, capability.split(".")))
