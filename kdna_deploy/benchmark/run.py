"""Latency of ONNX files beside their plain backbone: opens, measures, compares."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from kdna_deploy.benchmark.affinity import pinned
from kdna_deploy.benchmark.environment import Environment, environment
from kdna_deploy.benchmark.latency import LatencySettings, measure_latency
from kdna_deploy.benchmark.plain_backbone import export_plain_backbone, plain_identity
from kdna_deploy.benchmark.statistics import Ratio, Samples, Summary, paired_ratio, summarise
from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.onnx.cost import count_onnx, file_bytes
from kdna_deploy.provenance import KEY, Provenance, from_json
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.session import Images

SCHEMA_VERSION = 1
# A tail this far above the median means that something else used the core.
_NOISY_TAIL = 1.25
_DEFAULT_SHAPE = (3, 224, 224)


@dataclass(frozen=True)
class BenchOptions:
    """What to measure.

    Attributes:
        threads: of an inference, each on a core of its own.
        batch: images in one inference.
        baseline: ONNX file to compare with; None for the plain backbone of each model.
        settings: how long.
    """

    threads: int = 1
    batch: int = 1
    baseline: Path | None = None
    settings: LatencySettings = field(default_factory=LatencySettings)


@dataclass(frozen=True)
class Row:
    """One measured candidate.

    Attributes:
        parameters: trained parameters; numbers stored in the file where its provenance is unknown.
        macs: multiply-accumulates of one image, counted on the file.
        file_bytes: size of the file.
        baseline: name of the row that `ratio` refers to; None for a baseline itself.
        samples: milliseconds, one a round.
    """

    name: str
    parameters: int
    macs: int
    file_bytes: int
    latency: Summary
    baseline: str | None
    ratio: Ratio | None
    samples: Samples


@dataclass(frozen=True)
class BenchResult:
    """A measurement. `cores` is empty where the process could not be pinned."""

    rows: tuple[Row, ...]
    runtime: str
    cores: tuple[int, ...]
    options: BenchOptions
    environment: Environment
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Candidate:
    name: str
    path: Path
    parameters: int
    macs: int
    images: Images
    baseline: str | None


def bench(
    models: Sequence[Path],
    options: BenchOptions,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[float], None] = lambda _: None,
) -> BenchResult:
    """Measure ONNX `models`, interleaved with their baselines.

    Raises:
        ArtifactError: a model cannot be opened.
        UsageError: a batch that a model does not take, or no baseline is known.
    """
    machine = environment()
    with tempfile.TemporaryDirectory(prefix="kdna-bench-") as folder:
        candidates = _candidates(models, options, Path(folder), on_step)
        on_step("measure")
        with pinned(options.threads) as cores:
            sessions = [OrtSession(c.path, options.threads, c.name) for c in candidates]
            samples = measure_latency(sessions, [c.images for c in candidates], options.settings, on_progress)
        rows = _rows(candidates, samples)
    return BenchResult(rows, sessions[0].runtime, cores, options, machine, _notes(rows, cores))


def _candidates(
    models: Sequence[Path], options: BenchOptions, folder: Path, on_step: Callable[[str], None]
) -> list[_Candidate]:
    found: dict[str, _Candidate] = {}
    if options.baseline is not None:
        fixed = _candidate(options.baseline, options, None)
        found[fixed.name] = fixed
    plains: dict[str, str] = {}
    for path in models:
        candidate = _candidate(path, options, None)
        baseline = next(iter(found)) if options.baseline is not None else None
        if baseline is None:
            provenance = _provenance(path)
            if provenance is None:
                raise UsageError(
                    f"'{path}' was not exported by kdna-deploy; give what to compare with: --baseline FILE."
                )
            network = plain_identity(provenance)
            if network not in plains:
                on_step(f"export the plain backbone of {provenance.name}")
                plain = _plain(provenance, folder / str(len(found)), options, found)
                plains[network] = plain.name
                found[plain.name] = plain
            baseline = plains[network]
        name = next(n for n in _names(path) if n not in found)
        found[name] = replace(candidate, name=name, baseline=baseline)
    return list(found.values())


def _plain(provenance: Provenance, folder: Path, options: BenchOptions, found: dict[str, _Candidate]) -> _Candidate:
    """The plain backbone, exported into `folder`, under a name that none of `found` has."""
    folder.mkdir()
    plain = export_plain_backbone(provenance, folder)
    _, h, w = provenance.image_shape
    name = f"{plain.name} {h}×{w}"
    # Another network of that name, of other widths, say, may be among the candidates.
    numbered = (f"{name} #{number}" for number in itertools.count(2))
    free = name if name not in found else next(n for n in numbered if n not in found)
    return _candidate(plain.path, options, None, free)


def _names(path: Path) -> Iterator[str]:
    """Names to choose from when the same file, or another of the same name, is measured too."""
    yield path.name
    yield str(path)
    yield from (f"{path} #{number}" for number in itertools.count(2))


def _candidate(path: Path, options: BenchOptions, baseline: str | None, name: str | None = None) -> _Candidate:
    cost = count_onnx(path)
    provenance = _provenance(path)
    session = OrtSession(path, options.threads)
    if session.batch not in (None, options.batch):
        raise UsageError(f"'{path}' takes batches of {session.batch} alone; add --batch-size {session.batch}.")
    shape = session.image_shape or (provenance.image_shape if provenance else _DEFAULT_SHAPE)
    images = np.random.default_rng(0).standard_normal((options.batch, *shape), dtype=np.float32)
    session.run(images)  # a model that cannot run is found before the measuring begins
    parameters = provenance.parameters if provenance else cost.stored
    return _Candidate(name or path.name, path, parameters, cost.macs, images, baseline)


def _provenance(path: Path) -> Provenance | None:
    if path.suffix != ".onnx":
        raise ArtifactError(f"'{path}' is not an .onnx file; make one with: kdna-deploy export {path} --onnx.")
    text = OrtSession(path, threads=1).metadata().get(KEY)
    return from_json(text, str(path)) if text else None


def _rows(candidates: list[_Candidate], samples: list[Samples]) -> tuple[Row, ...]:
    by_name = {c.name: s for c, s in zip(candidates, samples, strict=True)}
    return tuple(
        Row(
            name=c.name,
            parameters=c.parameters,
            macs=c.macs,
            file_bytes=file_bytes(c.path),
            latency=summarise(by_name[c.name]),
            baseline=c.baseline,
            ratio=paired_ratio(by_name[c.name], by_name[c.baseline]) if c.baseline else None,
            samples=by_name[c.name],
        )
        for c in candidates
    )


def _notes(rows: tuple[Row, ...], cores: tuple[int, ...]) -> tuple[str, ...]:
    notes = []
    noisy = [row.name for row in rows if row.latency.p90 > _NOISY_TAIL * row.latency.median]
    if noisy:
        notes.append(f"this machine is noisy: p90 lies more than 25 % above the median for {', '.join(noisy)}")
    if not cores:
        notes.append("this system cannot pin a process to a core: expect more spread")
    return tuple(notes)
