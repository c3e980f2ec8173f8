"""File → figures: its accuracy beside the network, its latency beside the plain backbone, its start and its memory.

    evaluated    top-1 and agreement, as `evaluate` measures them
    timed        the files of a group take turns with one baseline, as `bench` lets them; then fresh processes open each

The baseline is the same for every group and runtime: the plain backbone in float32 on ONNX Runtime, so that ratios of
different groups can be compared. Does not apply to networks whose plain backbone is not known: there the float32 file
stands in for it, which a note says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kdna_deploy.benchmark.baseline import plain_backbone
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.cpu.findings import CpuFigures
from kdna_deploy.benchmark.device import BenchOptions, Candidate, Group, Variant
from kdna_deploy.benchmark.environment import environment
from kdna_deploy.benchmark.plan import candidate
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.result import BenchResult, Row
from kdna_deploy.benchmark.run import measure
from kdna_deploy.errors import InputError, KdnaError, RuntimeFailure, UsageError
from kdna_deploy.evaluation.evaluate import DataRequest, EvaluationRequest, FileEvaluation, evaluate_files
from kdna_deploy.evaluation.resume import UnfitState
from kdna_deploy.evaluation.workers.opened import Workers
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import package_versions
from kdna_deploy.images.folder import files_within
from kdna_deploy.images.label_table import LabelTable
from kdna_deploy.images.labelled_files import read_labelled
from kdna_deploy.images.preprocessing import AskedPreprocessing
from kdna_deploy.kinds import IMAGE_SUFFIXES, LABEL_SUFFIXES
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.progress import Listener
from kdna_deploy.selection.result import Baseline, Interval
from kdna_deploy.selection.store import Evaluated, Timed

_RUNTIMES = ("kdna-deploy", "onnxruntime", "openvino", "torch", "numpy", "pillow")
_PROTOCOL = 2  # another number where files are measured in another way: what was measured before is measured again
# What a latency depends on, of all that is told of a machine.
_MACHINE = ("cpu", "flags", "cores", "governor", "cgroup_cpus", "cgroup_memory_gib", "system")


@dataclass(frozen=True)
class Measuring:
    """On what, and how, files are measured.

    Attributes:
        checkpoint: of the network, with how it is loaded: `arch`, `factory`, `ema`, and `size` (h, w) of its images.
        data: labelled images; `preprocessing` of theirs as far as it was said.
        workers: who evaluates.
        threads, settings: of the latencies.
        baseline_folder: that the plain backbone is written to, and found in.
    """

    checkpoint: Path
    arch: Configuration
    factory: str | None
    ema: bool
    size: tuple[int, int] | None
    data: DataRequest
    preprocessing: AskedPreprocessing
    threads: int
    settings: Settings
    workers: Workers
    baseline_folder: Path

    @property
    def images_told(self) -> dict[str, Any]:
        """What an accuracy depends on, beside the file: tables, and the names, sizes and times of all image files."""
        path = self.data.path
        tables: tuple[Path | None, ...] = (self.data.ground_truth, self.data.synsets)
        folder, suffixes = path, IMAGE_SUFFIXES.union(LABEL_SUFFIXES)
        if not path.is_dir():  # a table of images beside it; other tables may lie there
            folder, suffixes, tables = path.parent, IMAGE_SUFFIXES, (path, *tables)
        return {
            "data": str(path.absolute()),
            "tables": [file_sha256(table) for table in tables if table],
            "files": [*_listed(folder, suffixes), *self._outside(folder)],
            "preprocessing": self.preprocessing,
            "size": self.size,
            "versions": package_versions(_RUNTIMES),
        }

    def _outside(self, folder: Path) -> list[tuple[str, int, int]]:
        """Of images that a table names elsewhere than in `folder`."""
        try:
            found = read_labelled(self.data.path, self.data.ground_truth, self.data.synsets)
        except InputError:  # told when they are read, with what the network knows of its classes
            return []
        rows = found.rows if isinstance(found, LabelTable) else ()
        here = folder.resolve()
        return sorted(_told(path, str(path)) for _, path, _ in rows if here not in path.resolve().parents)

    @property
    def machine_told(self) -> dict[str, Any]:
        """What a latency depends on, beside the file."""
        told = environment().record
        machine = {name: told[name] for name in _MACHINE}
        how = {"threads": self.threads, "settings": self.settings, "protocol": _PROTOCOL}
        return {**machine, **how, "versions": package_versions(_RUNTIMES)}

    def evaluated(self, path: Path, against: Path, state: Path, listener: Listener) -> Evaluated:
        """Evaluate a file beside another; what is interrupted goes on from `state`.

        Raises:
            InputError: the images cannot be read, or do not fit the network.
        """
        request = EvaluationRequest(
            path,
            self.data,
            against,
            preprocessing=self.preprocessing,
            size=self.size,
            arch=self.arch if against == self.checkpoint else None,
            factory=self.factory,
            ema=self.ema if against == self.checkpoint else False,
            resume=state,
            workers=self.workers,
        )
        try:
            done = evaluate_files(request, listener)
        except UnfitState:  # nobody but a sweep writes there: it was damaged, or is of what lay there before
            state.unlink()
            done = evaluate_files(request, listener)
        if against != self.checkpoint:  # what is to be said of the network and the images has been
            return _accuracy(done)
        for note in done.notes:
            listener.note(note)
        if done.shortfall:
            listener.warn(f"{done.shortfall.text}; likely cause: {done.cause}")
        return _accuracy(done)

    def timed(self, paths: Sequence[Path], reference: Path, listener: Listener) -> Mapping[str, Timed | str]:
        """Name of each file → its figures, or why there are none. `reference` tells what the plain backbone is like.

        Raises:
            KeyboardInterrupt: the user interrupted; what was measured until then tells too little to be kept.
        """
        options = BenchOptions(Cpu(self.threads, cold_start=True), settings=self.settings, factory=self.factory)
        candidates: list[Candidate] = []
        failed: dict[str, Timed | str] = {}
        with tempfile.TemporaryDirectory(prefix="kdna-sweep-") as folder:
            base = self._baseline(reference, Path(folder), options, listener)
            for path in paths:
                if path.name == base.name:
                    continue
                try:
                    candidates.append(_candidate(path, Path(folder), options, listener))
                except KdnaError as error:
                    failed[path.name] = str(error)
            result = measure([Group((base, *candidates))], options, listener=listener)
        if result.partial:
            raise KeyboardInterrupt
        for note in result.notes:
            listener.warn(note)
        return {**failed, **_figures(result)}

    def place_openvino(self, path: Path) -> None:
        """Let OpenVINO see the cores that are measured on first, for it keeps to them (`benchmark.cpu.affinity`)."""
        from kdna_deploy.runtimes.openvino import OpenVinoSession  # which is optional

        with Cpu(self.threads).trying(), OpenVinoSession(path, threads=self.threads) as session:
            assert session.image_shape is not None
            session.run(np.zeros((session.batch or 1, *session.image_shape), np.float32))

    def _baseline(self, reference: Path, folder: Path, options: BenchOptions, listener: Listener) -> Candidate:
        subject = options.device.given(reference, folder / reference.name, options)
        try:
            plain = plain_backbone(subject, self.baseline_folder)
        except UsageError:
            listener.note(
                "the plain backbone of this network is not known, so that latencies are compared with those of "
                f"{reference.name}"
            )
            plain = subject
        return candidate(plain, Variant("onnxruntime", "fp32", "onnxruntime"), options, listener)


def _accuracy(done: FileEvaluation) -> Evaluated:
    beside = done.result.agreement
    assert beside is not None
    return Evaluated(done.result.images, done.result.top1, beside.same_top1, beside.reference_top1)


def _candidate(path: Path, folder: Path, options: BenchOptions, listener: Listener) -> Candidate:
    subject = replace(options.device.given(path, folder / path.name, options), name=path.name, notes=())
    variant, *_ = options.device.variants(subject, options)
    return candidate(subject, variant, options, listener)


def _figures(result: BenchResult) -> dict[str, Timed | str]:
    first, *others = result.rows
    if first.latency is None:
        raise RuntimeFailure(f"The baseline could not be measured: {first.unavailable}.")
    baseline = Baseline(first.name, first.file_bytes, first.latency.median, *_started(first))
    load = result.environment.load
    itself = Timed(first.latency.median, Interval(1.0, 1.0, 1.0), baseline, *_started(first), load)
    return {first.name: itself, **{row.name: _timed(row, baseline, load) for row in others}}


def _timed(row: Row, baseline: Baseline, load: float | None) -> Timed | str:
    if row.latency is None or row.ratio is None:
        return row.unavailable
    low, high = row.ratio.interval or (None, None)
    return Timed(row.latency.median, Interval(row.ratio.value, low, high), baseline, *_started(row), load)


def _started(row: Row) -> tuple[float | None, int | None]:
    """What opening it takes, and its private memory."""
    assert isinstance(row.figures, CpuFigures)
    started = row.figures.cold
    return (started.load_ms, started.private_bytes) if started else (None, None)


def _listed(folder: Path, suffixes: frozenset[str]) -> list[tuple[str, int, int]]:
    """Name, size and time of every file of `suffixes` in a folder, and in those in it."""
    files = (path for path in files_within(folder) if path.suffix.lower() in suffixes and path.exists())
    return sorted(_told(path, str(path.relative_to(folder))) for path in files)


def _told(path: Path, name: str) -> tuple[str, int, int]:
    told = path.stat()
    return name, told.st_size, told.st_mtime_ns
