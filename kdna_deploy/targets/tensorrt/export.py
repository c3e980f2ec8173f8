"""ONNX file → engine file, with its record beside it.

    read → build → inspect → write engine, record and, on request, layers → rename

Where there is a GPU that the engine is for, the engine is run beside ONNX Runtime on the smallest and the typical batch
before it gets its name. Built ahead of time on another machine it cannot be run; a note then says why, and how to
verify it where it will run. When anything fails nothing is written.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.evaluation.engine_tolerance import engine_tolerance
from kdna_deploy.files import check_output
from kdna_deploy.images.probes import NOISE, Probe, random_probe
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.nvidia.engine_record import EngineRecord, check_gpu, digest, rebuild_command, record_path
from kdna_deploy.runtimes.nvidia.gpu import first_gpu
from kdna_deploy.runtimes.nvidia.library import LibraryName, OpenedLibrary, library, open_library
from kdna_deploy.runtimes.nvidia.onnx_input import OnnxInput, read_onnx
from kdna_deploy.runtimes.onnx_file import read_model
from kdna_deploy.targets.skeleton import Export, parity, write_judged
from kdna_deploy.targets.tensorrt.build import BuildOptions, BuiltEngine, build_engine
from kdna_deploy.targets.tensorrt.inspect import EngineInspection, inspect_engine

_FEWEST_IMAGES = 8  # to verify with


@dataclass(frozen=True)
class EngineOptions:
    """How to write an engine.

    Attributes:
        library: that builds it.
        build: how it is built.
        layer_information: write the layers of the engine beside it, as ``<engine>.layers.json``.
    """

    library: LibraryName = "tensorrt-rtx"
    build: BuildOptions = field(default_factory=BuildOptions)
    layer_information: bool = False


@dataclass(frozen=True, kw_only=True)
class EngineExport(Export):
    """An engine file; its agreements are with ONNX Runtime, and none where the engine could not be run.

    Attributes:
        record: as written beside it.
        inspection: what became of convolutions, pre-scales and kernels.
        layers: where the layers were written, None where that was not asked for.
        seconds: that parsing and building took.
    """

    record: EngineRecord
    inspection: EngineInspection
    layers: Path | None
    seconds: float


def engine_path(onnx_file: Path, name: LibraryName) -> Path:
    """The name of an engine made from `onnx_file` where the user gives none."""
    return onnx_file.with_name(onnx_file.stem + library(name).suffix)


def layers_path(engine: Path) -> Path:
    """Where the layers of `engine` are written."""
    return engine.with_name(engine.name + ".layers.json")


def export_engine(
    onnx_file: Path,
    output: Path,
    options: EngineOptions | None = None,
    listener: Listener = SILENT,
) -> EngineExport:
    """Build an engine from `onnx_file` and write it to `output`, its record beside it.

    Raises:
        RuntimeFailure: the library is not installed, does not fit, or needs a GPU that is not there.
        ArtifactError: the ONNX file cannot be read.
        UsageError: the output cannot be written, or the library cannot build what the options ask for.
        ExportError: the library refuses the file.
        ParityError: the engine computes something else than the ONNX file.
    """
    options = options or EngineOptions()
    check_output(output, (onnx_file,))
    opened = open_library(options.library)
    source = read_onnx(onnx_file)
    built = build_engine(source, opened, options.build, listener)
    listener.step("inspect the engine")
    inspection = inspect_engine(read_model(onnx_file), built.plan, built.layers)
    record = _record(source, opened, built, options.build, output)

    def write(path: Path) -> None:
        path.write_bytes(built.plan)
        record_path(path).write_text(record.to_json(), encoding="utf-8")
        if options.layer_information:
            layers_path(path).write_text(_layers_json(built), encoding="utf-8")

    def judge(path: Path) -> tuple[tuple[Agreement, ...], str | None]:
        obstacle = _obstacle(path, record)
        return () if obstacle else _verify(path, source, record, listener), obstacle

    agreements, obstacle = write_judged(output, (onnx_file,), write, judge, listener)
    return EngineExport(
        path=output,
        bytes=len(built.plan),
        record=record,
        inspection=inspection,
        layers=layers_path(output) if options.layer_information else None,
        agreements=agreements,
        seconds=built.seconds,
        notes=(*built.notes, *inspection.notes, *_not_run(obstacle, output, onnx_file)),
    )


def _record(
    source: OnnxInput, opened: OpenedLibrary, built: BuiltEngine, options: BuildOptions, output: Path
) -> EngineRecord:
    capabilities = (opened.gpu.compute_capability,) if opened.gpu else options.compute_capabilities
    return EngineRecord(
        library=opened.library.name,
        library_version=opened.version,
        engine_sha256=digest(built.plan),
        onnx=source.path.name,
        onnx_sha256=source.sha256,
        precision=source.precision,
        tf32=options.tf32,
        batches=built.batches,
        image_shape=source.image_shape,
        compute_capabilities=capabilities,
        gpu=opened.gpu.name if opened.gpu else None,
        warnings=built.warnings,
        rebuild=rebuild_command(
            _relative(source.path, output.parent),
            output,
            opened.library.name,
            built.batches,
            options.tf32,
            options.compute_capabilities,
        ),
        provenance=source.provenance,
    )


def _relative(path: Path, folder: Path) -> Path:
    """`path` as seen from `folder`, so that both can move together."""
    try:
        return Path(os.path.relpath(path.resolve(), folder.resolve()))
    except ValueError:  # another drive
        return path.resolve()


def _layers_json(built: BuiltEngine) -> str:
    document = {"schema_version": 1, "layers": [asdict(layer) for layer in built.layers]}
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _obstacle(engine: Path, record: EngineRecord) -> str | None:
    """Why the engine cannot be run here; None where it can."""
    from kdna_deploy.runtimes.nvidia.cuda import torch_cuda

    try:
        check_gpu(engine, record, first_gpu())
        torch_cuda()
    except RuntimeFailure as reason:
        return str(reason).partition(";")[0].rstrip(".")
    return None


def _not_run(obstacle: str | None, output: Path, onnx_file: Path) -> tuple[str, ...]:
    if obstacle is None:
        return ()
    verify = f"`verify({output.name!r}, against={onnx_file.name!r})`"
    return (f"the engine has not been run: {obstacle}; on the machine that it is for, run: {verify}",)


def _verify(engine: Path, source: OnnxInput, record: EngineRecord, listener: Listener) -> tuple[Agreement, ...]:
    from kdna_deploy.runtimes.nvidia.session import TensorRtSession
    from kdna_deploy.runtimes.ort import OrtSession

    listener.step("verify against ONNX Runtime")
    sizes = sorted({record.batches.smallest, record.batches.typical})
    # More than one batch of the smallest: the spread of an output takes several images.
    probes = [
        Probe(NOISE, random_probe(size, source.image_shape, source.interface, seed))
        for size in sizes
        for seed in range(-(-_FEWEST_IMAGES // size))
    ]
    departs, remedy = f"The engine departs from '{source.path}'", "Build it with `tf32=False`, or in fp32."
    with TensorRtSession(engine) as candidate, OrtSession(source.path) as reference:
        return parity(candidate, reference, probes, engine_tolerance(record), departs, remedy)
