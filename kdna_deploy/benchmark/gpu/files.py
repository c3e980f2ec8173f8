"""The files of one network that runtimes on the GPU open, each made when asked for, in a temporary folder.

    fused .pt2 ─▶ ONNX for TensorRT (float32, or cast to float16) ─▶ engine for exactly the measured batch

A user's own file is taken as it is where a runtime opens its kind: an engine by its library, an ONNX file in its own
precision. An ONNX file for CPUs spells the pre-scale as GPUs do not want it, so it is exported again from its
checkpoint, as is what is asked for in another precision than the file has.

Does not apply to int8, which needs calibration images: it is measured where the user gives a file in int8.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from kdna_deploy.benchmark.subject import Subject, same_options
from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.nvidia.batches import Batches
from kdna_deploy.runtimes.nvidia.engine_record import EngineRecord, read_record
from kdna_deploy.runtimes.nvidia.library import LIBRARIES, Library, LibraryName, library
from kdna_deploy.runtimes.nvidia.onnx_input import read_onnx
from kdna_deploy.runtimes.table import RUNTIMES, Artifact, Precision, Source
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.half.export import export_half
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import FusedSource, Request, open_fused_source
from kdna_deploy.targets.tensorrt.build import BuildOptions
from kdna_deploy.targets.tensorrt.export import EngineOptions, export_engine


class GpuFiles:
    """Files of `subject` for batches of `batch`, made in `folder`. `path` is the user's own, if any.

    Attributes:
        own: the precision that the user's file computes in; fp32 where it is one that others are made from.
        library: that built the user's engine, None where it is none.
    """

    def __init__(self, subject: Subject, batch: int, folder: Path, path: Path | None = None) -> None:
        self._subject, self._batch, self._folder = subject, batch, folder
        self._path, self._kind = path, subject.kind
        self.library: LibraryName | None = None
        self.own: Precision = "fp32"
        if path is not None and self._kind == "engine":
            record = read_record(path)
            record.batches.check(batch, path.name)
            self.library, self.own = record.library, _precision_of(record)
        elif path is not None and self._kind == "onnx":
            self.own = read_onnx(path).precision

    def source(self, kind: Artifact) -> Source:
        """The file of a kind that all devices share."""
        return self._subject.artifacts.source(kind)

    def get(self, runtime: str, precision: Precision, listener: Listener = SILENT) -> Path:
        """The file that a runtime opens for a precision, made where it is not there yet.

        Raises:
            KdnaError: it cannot be made.
        """
        kind = RUNTIMES[runtime].artifact
        if kind == "engine":
            return self._engine(library(runtime), precision, listener)
        return self._onnx(precision, listener) if kind == "onnx" else self.source(kind).path

    def _onnx(self, precision: Precision, listener: Listener) -> Path:
        stored: Precision = "fp32" if precision == "tf32" else precision
        if self._path is not None and self._kind == "onnx" and stored == self.own and not self._for_cpus:
            return self._path
        if stored == "int8":
            raise UsageError(
                f"{self._subject.name} is not in int8, which needs calibration images; export it by `precision='int8', "
                "target='tensorrt'`, and measure that file."
            )
        path = self._made(f"{stored}.onnx")
        if not path.exists():
            export = export_half if stored == "fp16" else export_fused
            interface = same_options(self._subject.provenance).interface
            export(self._opened, path, OnnxOptions(target="tensorrt", interface=interface), listener=listener)
        return path

    def _engine(self, builder: Library, precision: Precision, listener: Listener) -> Path:
        if self._path is not None and self._kind == "engine":
            if (builder.name, precision) == (self.library, self.own):
                return self._path
            raise UsageError(
                f"'{self._path}' is an engine of {LIBRARIES[self.library or builder.name].title} in {self.own}; to "
                "measure others, name the ONNX file or the checkpoint that it was built from."
            )
        path = self._made(f"{precision}{builder.suffix}")
        if not path.exists():
            source = self._onnx(precision, listener)
            batches = Batches(self._batch, self._batch, self._batch)
            options = EngineOptions(builder.name, BuildOptions(batches, tf32=precision == "tf32"))
            export_engine(source, path, options, listener)
        return path

    def _made(self, ending: str) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        return self._folder / f"gpu-{ending}"

    @property
    def _for_cpus(self) -> bool:
        made = self._subject.provenance
        return made is not None and made.options.get("target") == "cpu"

    @cached_property
    def _opened(self) -> FusedSource:
        path, checkpoint = self.source("fused").path, self.source("checkpoint")
        return open_fused_source(path, Request(checkpoint.path, factory=checkpoint.factory, children="materialize"))


class EngineAlone:
    """The artifacts of an engine: there is nothing to make others from."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def source(self, kind: Artifact) -> Source:
        raise ArtifactError(
            f"'{self._path}' is an engine; for other runtimes name the ONNX file or the checkpoint that it was built "
            "from."
        )


def given_engine(path: Path) -> Subject:
    """The network of a user's engine. What its record does not tell counts as nothing.

    Raises:
        ArtifactError: the engine or its record cannot be read.
    """
    record = read_record(path)
    made = record.provenance
    parameters, macs = (made.parameters, made.macs) if made else (0, 0)
    return Subject(path.name, parameters, macs, record.image_shape, "engine", EngineAlone(path), None, made)


def _precision_of(record: EngineRecord) -> Precision:
    return "tf32" if record.precision == "fp32" and record.tf32 else record.precision
