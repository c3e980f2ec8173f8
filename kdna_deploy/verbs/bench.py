"""Latency on the CPU, or throughput on a GPU, interleaved with the plain backbone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdna_deploy.errors import RuntimeFailure, UsageError
from kdna_deploy.files import atomic_output, check_output
from kdna_deploy.input_files import MODELS, check_input
from kdna_deploy.network.configuration import Configuration, Words, configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.reports.formats import check_format
from kdna_deploy.runtimes.table import RUNTIMES
from kdna_deploy.verbs.arguments import PathLike, Size, check_number, image_size, newest
from kdna_deploy.verbs.bench_words import (
    baseline_file,
    check_device,
    check_gpu,
    check_suite,
    check_words,
    chosen_methods,
)
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import file_of

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from kdna_deploy.benchmark.device import BenchOptions, Device
    from kdna_deploy.benchmark.result import BenchResult, Row
    from kdna_deploy.benchmark.saved import SavedRun
    from kdna_deploy.benchmark.thresholds import Threshold
    from kdna_deploy.figures.drawing import Drawing
    from kdna_deploy.reports.report import Report
    from kdna_deploy.verbs.source import Files


@dataclass(frozen=True, repr=False)
class Benchmark(Result):
    """What was measured.

    Attributes:
        result: rows, floors, the machine and its state.
        thresholds: what must not hold.
        saved: files that were written.
    """

    result: BenchResult
    thresholds: tuple[Threshold, ...] = ()
    saved: tuple[Path, ...] = ()

    @property
    def rows(self) -> tuple[Row, ...]:
        """A row a model and baseline."""
        return tuple(self.result.rows)

    @property
    def partial(self) -> bool:
        """Whether it was interrupted."""
        return self.result.partial

    @property
    def crossed(self) -> tuple[str, ...]:
        """The thresholds that hold and must not, a sentence each."""
        from kdna_deploy.benchmark.thresholds import crossed

        return crossed(self.thresholds, [row for row in self.result.rows if row.baseline is not None])

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.bench import bench_report

        return bench_report(self.result)

    @property
    def drawings(self) -> tuple[Drawing, ...]:
        from kdna_deploy.figures.of_results import of_bench

        return of_bench(self.result)


def bench(
    *models: Files,
    gpu: bool = False,
    cpu_threads: int = 1,
    cpu_streams: int | None = None,
    batch_size: int | None = None,
    runtime: Sequence[str] = (),
    precision: Sequence[str] = (),
    streams: int = 1,
    cuda_graphs: bool = True,
    host_copies: bool = False,
    baseline: PathLike | None = None,
    iterations: int | None = None,
    min_time: float | None = None,
    protocol: str = "interleaved",
    suite: str | None = None,
    methods: str | Sequence[str] = (),
    cold_start: bool = True,
    profile: bool = False,
    fail_if: Sequence[str] = (),
    save: Sequence[PathLike] = (),
    arch: str | None = None,
    model: str | None = None,
    input_size: Size | None = None,
    listener: Listener = SILENT,
    **architecture: Unpack[Words],
) -> Benchmark:
    """Measure `models` beside their baselines, round by round on the same cores or the same GPU.

    Args:
        models: ``.onnx``, ``.xml``, ``.pt2``, checkpoints, or what `fuse` or `export` wrote; with `gpu` also engines.
            The newest ``.onnx`` in the current folder where none is named.
        gpu: throughput and latency on an NVIDIA GPU.
        cpu_threads: threads of an inference, each on a core of its own.
        cpu_streams: measure throughput as well, with one and with so many inferences under way at once.
        batch_size: images in one inference; 1, with `gpu` 128.
        runtime: what runs the files; what opens them by default.
        precision: with `gpu`: ``"fp32"``, ``"tf32"``, ``"fp16"``, ``"int8"``.
        streams: with `gpu`: inferences under way at once.
        cuda_graphs: with `gpu`: replay captured graphs.
        host_copies: with `gpu`: time copies from and to the host as well.
        baseline: a model, a saved run, or a runtime; the plain backbone by default.
        iterations: timed runs of each candidate, at least.
        min_time: seconds for each model with its baseline, at least.
        protocol: ``"interleaved"``, or ``"paper"``: batch 1, one thread, 1,000 runs, ratio of means.
        suite: build and measure a set of networks instead: ``"table1"``, ``"layouts"``, ``"runtimes"``.
        methods: of ``suite="table1"``, those to measure, ``"kw,odconv"`` or a sequence; all of the paper's table, with
            `gpu` KernelDNA. ``"a2d2c"`` is no row of it.
        cold_start: load time and memory, in fresh processes.
        profile: where the time goes, by operator and layer.
        fail_if: conditions such as ``"ratio>1.35"``; those that hold are in `Benchmark.crossed`.
        save: files to write: ``.json`` with samples, ``.csv``, ``.md``.
        arch, model, architecture: how to load a checkpoint, see `load`; not with `suite`.
        input_size: of the images, for checkpoints and files that take any.

    Raises:
        UsageError: what was said makes no sense.
        InputError: a file cannot be loaded.
        RuntimeFailure: a runtime or a device is not there.
    """
    check_number("min_time", min_time)
    check_words(protocol, suite, baseline, precision, batch_size)
    check_suite(suite, {"arch": arch, "model": model, **architecture})
    named = chosen_methods(methods, suite)
    if protocol == "paper" and (cpu_threads, batch_size or 1) != (1, 1):
        raise UsageError("`protocol='paper'` is batch 1 on one thread; leave out `cpu_threads` and `batch_size`.")
    if cpu_streams is not None and (cpu_streams < 1 or gpu or protocol == "paper"):
        raise UsageError(
            f"`cpu_streams={cpu_streams}` must be from 1, and goes neither with `gpu` nor with the paper's protocol; "
            "leave it out, or those."
        )
    runtimes = tuple(dict.fromkeys(runtime))
    check_device(gpu, runtimes, (cpu_threads, protocol, cold_start, profile), precision, streams, host_copies)
    size, said = image_size(input_size), configured(arch, architecture)
    targets = tuple(Path(path) for path in ([save] if isinstance(save, (str, Path)) else save))
    for target in targets:
        check_format(target)
    from kdna_deploy.benchmark.thresholds import parse_threshold

    thresholds = tuple(map(parse_threshold, [fail_if] if isinstance(fail_if, str) else fail_if))
    compared = None if baseline is None else str(baseline)
    if gpu:
        check_gpu(suite, compared)
    files = _files(models, suite, listener)
    for path in files:
        check_input(path, MODELS, "bench")
    inputs = (*files, *baseline_file(compared))
    for target in targets:
        check_output(target, inputs, "save")
    listener.plan(("prepare",))  # the groups are planned once they are known
    listener.step("prepare")
    device = (
        _gpu(precision, streams, cuda_graphs, host_copies)
        if gpu
        else _cpu(cpu_threads, cold_start, profile, cpu_streams)
    )
    options = _options(device, batch_size, runtimes, compared, iterations, min_time, protocol, said, model, size, named)
    result = _measure(files, suite, options, listener)
    if thresholds and not result.partial and not any(row.baseline for row in result.rows):
        raise RuntimeFailure(
            "Nothing was compared, so that `fail_if` says nothing; name a `baseline`, or leave it out."
        )
    _write(result, targets, inputs)
    return Benchmark(result, thresholds, targets)


def _files(models: Sequence[Any], suite: str | None, listener: Listener) -> tuple[Path, ...]:
    if suite is not None and models:
        raise UsageError(f"`suite={suite!r}` builds its own networks; leave '{models[0]}' out.")
    if suite is None and not models:
        found = newest("*.onnx", "`export(onnx=True)`")
        listener.note(f"using {found}, the newest ONNX file here")
        return (found,)
    return tuple(file_of(one, "bench") for one in models)


def _cpu(threads: int, cold_start: bool, profile: bool, streams: int | None) -> Device:
    from kdna_deploy.benchmark.cpu.device import Cpu

    return Cpu(threads, cold_start, profile, streams)


def _gpu(precisions: Sequence[str], streams: int, cuda_graphs: bool, host_copies: bool) -> Device:
    from kdna_deploy.benchmark.gpu.device import Gpu

    wanted: Any = tuple(dict.fromkeys(precisions))
    return Gpu(wanted, streams, cuda_graphs, host_copies)


def _options(
    device: Device,
    batch: int | None,
    runtimes: tuple[str, ...],
    baseline: str | None,
    iterations: int | None,
    min_time: float | None,
    protocol: str,
    arch: Configuration,
    factory: str | None,
    size: tuple[int, int] | None,
    methods: tuple[str, ...],
) -> BenchOptions:
    from kdna_deploy.benchmark.device import BenchOptions
    from kdna_deploy.benchmark.protocol import PAPER_SETTINGS, Settings

    default = PAPER_SETTINGS if protocol == "paper" else device.settings
    spelled: Any = protocol
    return BenchOptions(
        device,
        batch=batch or device.batch,
        runtimes=runtimes,
        baseline=_baseline(baseline),
        settings=Settings(
            iterations if iterations is not None else default.iterations,
            min_time if min_time is not None else default.min_time,
        ),
        protocol=spelled,
        factory=factory,
        arch=arch,
        size=size,
        methods=methods,
    )


def _baseline(text: str | None) -> Path | SavedRun | str | None:
    """A runtime's name, a saved run, or a model."""
    from kdna_deploy.benchmark.saved import read_run

    if text is None or text in RUNTIMES:
        return text
    path = Path(text)
    return read_run(path) if path.suffix == ".json" else path


def _measure(files: Sequence[Path], suite: str | None, options: BenchOptions, listener: Listener) -> BenchResult:
    from kdna_deploy.benchmark.run import bench as run_bench
    from kdna_deploy.benchmark.run import bench_suite

    return bench_suite(suite, options, listener) if suite else run_bench(files, options, listener)


def _write(result: BenchResult, targets: Sequence[Path], inputs: tuple[Path, ...]) -> None:
    from kdna_deploy.reports.bench_data import written

    for target in targets:
        with atomic_output(target, inputs, "save") as temporary:
            temporary.write_text(written(result, target), encoding="utf-8")
