"""``kdna-deploy bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdna_deploy.cli import gpu_bench
from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.bench import (
    Baseline,
    BatchSize,
    ColdStart,
    Compare,
    CpuThreads,
    CudaGraphs,
    FailIf,
    GpuFlag,
    HostCopies,
    Iterations,
    MinTime,
    Precisions,
    Profile,
    Protocol,
    ProtocolOption,
    RuntimeName,
    Runtimes,
    Save,
    Streams,
    Suite,
    SuiteOption,
)
from kdna_deploy.cli.options.output import Json
from kdna_deploy.cli.options.source import Arch, Artifacts, InputSize, Model
from kdna_deploy.cli.signals import INTERRUPTED
from kdna_deploy.cli.spelling import spelled
from kdna_deploy.cli.values import newest
from kdna_deploy.errors import ThresholdError, UsageError
from kdna_deploy.files import atomic_output, check_output
from kdna_deploy.input_files import MODELS, Kind, check_input
from kdna_deploy.progress import Listener
from kdna_deploy.reports.formats import check_format
from kdna_deploy.verbs.arguments import check_number, image_size

if TYPE_CHECKING:
    from kdna_deploy.bench.device import BenchOptions, Device
    from kdna_deploy.bench.result import BenchResult
    from kdna_deploy.bench.saved import SavedRun
    from kdna_deploy.bench.thresholds import Threshold


def bench(
    ctx: typer.Context,
    models: Artifacts = None,
    gpu: GpuFlag = False,
    cpu_threads: CpuThreads = 1,
    batch_size: BatchSize = None,
    runtime: Runtimes = None,
    precision: Precisions = None,
    streams: Streams = 1,
    cuda_graphs: CudaGraphs = True,
    host_copies: HostCopies = False,
    baseline: Baseline = None,
    iterations: Iterations = None,
    min_time: MinTime = None,
    protocol: ProtocolOption = Protocol.interleaved,
    suite: SuiteOption = None,
    cold_start: ColdStart = True,
    profile: Profile = False,
    fail_if: FailIf = None,
    save: Save = None,
    compare: Compare = False,
    arch: Arch = None,
    model: Model = None,
    input_size: InputSize = None,
    json: Json = False,
) -> None:
    """Measure latency or throughput beside the plain backbone.

    Candidate and baseline take turns on the same cores, or on the same GPU, and every ratio has an interval. Ctrl-C
    keeps what was measured.
    """
    sink = Sink(json)
    check_number("min_time", min_time)
    if compare:
        if save or fail_if or suite or baseline or gpu:
            raise UsageError("--compare measures nothing: leave out --save, --fail-if, --suite, --baseline and --gpu.")
        _compare(sink, models or [])
        return
    if suite and baseline:
        raise UsageError(f"--suite {suite.value} brings its own baselines; leave out --baseline.")
    runtimes = [name.value for name in runtime or ()]
    gpu_bench.check_device(ctx, gpu, runtimes)
    size = image_size(input_size)
    targets = save or []
    for target in targets:
        check_format(target)
    from kdna_deploy.bench.thresholds import parse_threshold

    thresholds = [parse_threshold(text) for text in fail_if or ()]
    if gpu:
        gpu_bench.check_baseline(baseline, {name.value for name in RuntimeName})
        gpu_bench.check_gpu(suite.value if suite else None)
    models = _models(sink, models, suite)
    for path in models:
        check_input(path, MODELS, "bench")
    inputs = (*models, *_baseline_file(baseline))
    for target in targets:
        check_output(target, inputs)
    if gpu:
        device = _gpu(precision, streams, cuda_graphs, host_copies)
    else:
        device = _cpu(cpu_threads, batch_size, protocol, cold_start, profile)
    options = _options(device, batch_size, runtimes, baseline, iterations, min_time, protocol, arch, model, size)
    result = _measure(sink, models, suite, options)
    _write(sink, result, targets, inputs)
    _finish(sink, thresholds, result)


def _baseline_file(text: str | None) -> tuple[Path, ...]:
    """The file that a baseline is, checked; none where it is a runtime.

    Raises:
        UsageError: it is empty.
        InputError: it cannot be read.
    """
    if text is None or text in {name.value for name in RuntimeName}:
        return ()
    if not text.strip():
        raise UsageError("--baseline is empty; name a model, a saved run or a runtime, or leave the option out.")
    check_input(Path(text), (Kind.saved_run,) if text.endswith(".json") else MODELS, "--baseline")
    return (Path(text),)


def _models(sink: Sink, models: list[Path] | None, suite: Suite | None) -> list[Path]:
    if suite is not None:
        if models:
            raise UsageError(f"--suite {suite.value} builds its own networks; leave '{models[0]}' out.")
        return []
    if models:
        return models
    found = newest("*.onnx", "kdna-deploy export --onnx")
    sink.say(f"using {found}, the newest ONNX file here")
    return [found]


def _cpu(threads: int, batch: int | None, protocol: Protocol, cold_start: bool, profile: bool) -> Device:
    from kdna_deploy.bench.cpu.device import Cpu

    if protocol is Protocol.paper and (threads, batch or 1) != (1, 1):
        raise UsageError("--protocol paper is batch 1 on one thread; leave out --cpu-threads and --batch-size.")
    return Cpu(threads, cold_start, profile)


def _gpu(precisions: list[gpu_bench.Precision] | None, streams: int, cuda_graphs: bool, host_copies: bool) -> Device:
    from kdna_deploy.bench.gpu.device import Gpu

    return Gpu(tuple(dict.fromkeys(one.value for one in precisions or ())), streams, cuda_graphs, host_copies)


def _options(
    device: Device,
    batch: int | None,
    runtimes: list[str],
    baseline: str | None,
    iterations: int | None,
    min_time: float | None,
    protocol: Protocol,
    arch: str | None,
    factory: str | None,
    size: tuple[int, int] | None,
) -> BenchOptions:
    from kdna_deploy.bench.device import BenchOptions
    from kdna_deploy.bench.protocol import PAPER_SETTINGS, Settings

    default = PAPER_SETTINGS if protocol is Protocol.paper else device.settings
    return BenchOptions(
        device,
        batch=batch or device.batch,
        runtimes=tuple(dict.fromkeys(runtimes)),
        baseline=_baseline(baseline),
        settings=Settings(
            iterations if iterations is not None else default.iterations,
            min_time if min_time is not None else default.min_time,
        ),
        protocol=protocol.value,
        factory=factory,
        arch=arch,
        size=size,
    )


def _baseline(text: str | None) -> Path | SavedRun | str | None:
    """A runtime's name, a saved run, or a model."""
    from kdna_deploy.bench.saved import read_run

    if text is None or text in {name.value for name in RuntimeName}:
        return text
    path = Path(text)
    return read_run(path) if path.suffix == ".json" else path


def _measure(sink: Sink, models: list[Path], suite: Suite | None, options: BenchOptions) -> BenchResult:
    from kdna_deploy.bench.run import bench as run_bench
    from kdna_deploy.bench.run import bench_suite

    with sink.progress() as (label, fraction):
        listener = _Bar(label, fraction)
        if suite is not None:
            return bench_suite(suite.value, options, listener)
        return run_bench(models, options, listener)


class _Bar(Listener):
    """The sink's bar: a label, and the part of the step that is done."""

    def __init__(self, label: Callable[[str], None], fraction: Callable[[float], None]) -> None:
        self._label, self._fraction = label, fraction
        self._total, self._done = 1.0, 0.0

    def step(self, name: str) -> None:
        self._label(name)

    def expect(self, total: float, unit: str = "images") -> None:
        self._total, self._done = total, 0.0

    def advance(self, done: float = 1) -> None:
        self._done += done
        self._fraction(self._done / self._total)


def _write(sink: Sink, result: BenchResult, targets: list[Path], inputs: tuple[Path, ...]) -> None:
    from kdna_deploy.reports import bench_data, bench_tables

    for note in result.notes:
        sink.warn(note)
    for target in targets:
        with atomic_output(target, inputs) as temporary:
            temporary.write_text(spelled(bench_data.written(result, target)), encoding="utf-8")
    sink.result(lambda: bench_tables.bench_report(result), lambda: bench_data.bench_data(result))
    for target in targets:
        sink.say(f"saved {target}")


def _finish(sink: Sink, thresholds: list[Threshold], result: BenchResult) -> None:
    """The exit code, after the result was printed: that of an interruption, or of a crossed threshold."""
    from kdna_deploy.bench.thresholds import crossings

    if result.partial:
        raise typer.Exit(INTERRUPTED)
    rows = [row for row in result.rows if row.baseline is not None]
    for threshold in thresholds:
        found = crossings(threshold, rows)
        if found:
            told = ", ".join(
                f"{c.model} has no such figure" if c.value is None else f"{c.model} has {c.value:.4g}" for c in found
            )
            sink.fail(f"--fail-if '{threshold}': {told}.")
            raise typer.Exit(ThresholdError.exit_code)


def _compare(sink: Sink, files: list[Path]) -> None:
    if len(files) != 2:
        raise UsageError("--compare takes two saved runs: kdna-deploy bench --compare A.json B.json.")
    for path in files:
        check_input(path, (Kind.saved_run,), "--compare")
    from kdna_deploy.bench.compare import compare_runs
    from kdna_deploy.bench.saved import read_run
    from kdna_deploy.reports import bench_data, bench_tables

    first, second = (read_run(path) for path in files)
    comparison = compare_runs(first, second)
    if comparison.differences:
        sink.warn("the runs are not comparable, for they differ in: " + "; ".join(comparison.differences))
    sink.result(lambda: bench_tables.comparison_report(comparison), lambda: bench_data.comparison_data(comparison))
