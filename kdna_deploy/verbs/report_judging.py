"""The files of a page, judged: held to parity, evaluated on labelled images, measured for a moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.result import BenchResult
from kdna_deploy.benchmark.run import bench
from kdna_deploy.errors import KdnaError, ParityError, RuntimeFailure
from kdna_deploy.evaluation.evaluate import EvaluationRequest, FileEvaluation, evaluate_files
from kdna_deploy.evaluation.verify import verify_files
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.progress import Listener
from kdna_deploy.reports.page.evidence import HERE, Evidence, FileEvidence, NetworkEvidence
from kdna_deploy.verbs.report_asked import Asked, Source
from kdna_deploy.verbs.report_images import worst_images
from kdna_deploy.words import first_sentence

_SHORT = Settings(iterations=60, min_time=1.0)


def verified(file: FileEvidence, sources: dict[str, Source], asked: Asked, listener: Listener) -> FileEvidence:
    """Held to parity with its checkpoint, wherever that was named, where it is to compute the same."""
    listener.step("verify")
    made = file.provenance
    changed = _changed(made)
    if changed:
        return replace(file, unverified=changed)
    origin = sources.get(made.source_sha256) if made else None
    factory = asked.factory if made and made.factory else None
    try:
        words: dict[str, Any] = {"arch": made.loading(origin.path), "ema": made.ema} if made and origin else {}
        against = origin.path if origin else None
        result = verify_files(file.path, against, None, factory=factory, listener=listener, **words)
    except KdnaError as error:
        return replace(file, unverified=first_sentence(error))
    return replace(file, verification=result)


def _changed(made: Provenance | None) -> str:
    """Why an artifact does not compute what was trained, and is not to; empty where it is."""
    options: dict[str, Any] = made.options if made else {}
    attention = options.get("channel_attention", "keep")
    if attention != "keep":
        return "its attention is no longer dynamic, which changes the function; accuracy tells what that costs"
    if options.get("precision") == "int8" or options.get("weights") in ("int8", "int4"):
        return "integers round by design; accuracy tells what that costs"
    return ""


def evaluated_network(
    one: NetworkEvidence, sources: dict[str, Source], asked: Asked, listener: Listener
) -> FileEvidence:
    return replace(one.file, evaluation=_evaluation(one.file.path, None, sources[one.file.sha256], asked, listener))


def evaluated(
    file: FileEvidence, sources: dict[str, Source], asked: Asked, listener: Listener, notes: list[str]
) -> FileEvidence:
    """Beside its checkpoint, or the only one that there is where it does not say which that is.

    Not where it cannot run here, which is noted.
    """
    known = file.provenance.source_sha256 if file.provenance else ""  # of a network that never was in a file, none
    only = next(iter(sources.values())) if len(sources) == 1 else None
    source = sources.get(known) if known else only
    try:
        found = _evaluation(file.path, source.path if source else None, source, asked, listener)
    except (RuntimeFailure, ParityError) as error:
        notes.append(f"{file.path.name} was not evaluated: {first_sentence(error)}")
        return file
    return replace(file, evaluation=found)


def _evaluation(
    path: Path, against: Path | None, source: Source | None, asked: Asked, listener: Listener
) -> FileEvaluation:
    assert asked.data is not None
    loading = source.loading if source else (None, asked.factory, False)
    size, preprocessing = asked.size, asked.preprocessing
    if source and path == source.path:
        size, preprocessing = source.size, source.preprocessing
    request = EvaluationRequest(path, asked.data, against, 32, preprocessing, size, *loading)
    return evaluate_files(request, listener)


def measured(
    files: Sequence[FileEvidence], asked: Asked, listener: Listener, notes: list[str]
) -> tuple[tuple[str, BenchResult], ...]:
    """Latency and profile of what runs on a CPU, beside the plain backbone."""
    paths = [file.path for file in files if file.runs_on_cpu]
    if len(paths) < len(files):
        notes.append("engines are measured on their GPU, by `bench(gpu=True)`, and are left out here")
    if not paths:
        return ()
    options = BenchOptions(Cpu(profile=True), settings=_SHORT, factory=asked.factory, arch=asked.arch, size=asked.size)
    try:
        result = bench(paths, options, listener)
    except KdnaError as error:
        notes.append(f"nothing was measured: {first_sentence(error)}")
        return ()
    if result.partial:
        raise KeyboardInterrupt
    return ((HERE, result),)


def shown_images(found: Evidence, sources: dict[str, Source], asked: Asked, listener: Listener) -> tuple[Any, ...]:
    file = next((file for file in found.files if file.evaluation), None)
    if file is None or file.evaluation is None or asked.data is None:
        return ()
    source = sources.get(file.sha256)
    if source is None:
        loading = (None, asked.factory, False)
        return worst_images(file.path, file.evaluation, asked.preprocessing, asked.size, loading, listener)
    return worst_images(file.path, file.evaluation, source.preprocessing, source.size, source.loading, listener)
