"""Groups of candidates → figures on the GPU: throughput, latency, noise floor, and the state of the GPU meanwhile.

An interruption (Ctrl-C) keeps what has been measured; the result then says that it is partial. A group that fails, for
want of GPU memory, say, loses its own figures alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kdna_deploy.bench.environment import environment
from kdna_deploy.bench.gpu.files import Reports
from kdna_deploy.bench.gpu.nvml import Monitor, state
from kdna_deploy.bench.gpu.plan import (
    GpuGroup,
    GpuOptions,
    available,
    images_for,
    missing_runtimes,
    plan,
    release_memory,
)
from kdna_deploy.bench.gpu.result import GpuResult, MeasuredGroup, notes_on, rows_of
from kdna_deploy.bench.gpu.suite import build_table1
from kdna_deploy.bench.gpu.throughput import Throughputs, measure_throughput
from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.runtimes.gpu_catalogue import gpu_runtime
from kdna_deploy.runtimes.nvidia.cuda import torch_cuda
from kdna_deploy.runtimes.nvidia.gpu import Gpu, needed_gpu

_UNMEASURED = Throughputs((), (), complete=False)


def bench_gpu(models: Sequence[Path], options: GpuOptions, reports: Reports | None = None) -> GpuResult:
    """Measure `models` (``.onnx``, ``.pt2``, checkpoints or engines), interleaved with their baselines.

    Raises:
        RuntimeFailure: there is no GPU, or nothing can be measured on it.
        InputError: a model cannot be opened.
        UsageError: a batch that a model does not take, or no baseline is known.
    """
    gpu, reports = _ready(options), reports or Reports()
    with tempfile.TemporaryDirectory(prefix="kdna-bench-") as folder:
        return measure(plan(models, options, Path(folder), reports), options, gpu, reports)


def bench_gpu_table1(options: GpuOptions, reports: Reports | None = None) -> GpuResult:
    """Build and measure the networks of the paper's Table 1.

    Raises:
        RuntimeFailure: there is no GPU, or nothing can be measured on it.
    """
    gpu, reports = _ready(options), reports or Reports()
    with tempfile.TemporaryDirectory(prefix="kdna-bench-") as folder:
        suite = build_table1(options, Path(folder), reports)
        return replace(measure(suite.groups, options, gpu, reports), suite=suite)


def measure(groups: Sequence[GpuGroup], options: GpuOptions, gpu: Gpu, reports: Reports) -> GpuResult:
    """Measure planned `groups`.

    Raises:
        RuntimeFailure: nothing in them can be measured.
    """
    if not any(available(group) for group in groups):
        raise RuntimeFailure(f"{groups[0].candidates[0].unavailable.rstrip('.')}.")
    monitor = Monitor(gpu)
    before = monitor.sample()
    with monitor.watching() as samples:
        measured = _measure_all(groups, options, reports)
    rows, floors = rows_of(measured, options.batch)
    partial = not all(one.throughputs.complete or one.failure for one in measured)
    seen = state(samples, before, monitor.sample())
    sizes = dict.fromkeys(note for group in groups for c in group.candidates for note in c.network.notes)
    extra = (*sizes, *missing_runtimes(options), *([monitor.note] if monitor.note else []))
    return GpuResult(
        rows=rows,
        floors=floors,
        options=options,
        machine=monitor.machine,
        state=seen,
        environment=environment(),
        notes=notes_on(rows, floors, seen, extra, partial),
        partial=partial,
    )


def _ready(options: GpuOptions) -> Gpu:
    """Refuse what cannot work before anything is built for it."""
    for name in options.runtimes:
        gpu_runtime(name)
    gpu = needed_gpu("`bench(gpu=True)` measures")
    torch_cuda()  # buffers, streams and events are PyTorch's
    return gpu


def _measure_all(groups: Sequence[GpuGroup], options: GpuOptions, reports: Reports) -> list[MeasuredGroup]:
    found: list[MeasuredGroup] = []
    for number, group in enumerate(groups):
        reports.step(f"measure {_title(group)}")
        part = _part(reports, number, len(groups))
        found.append(_measure(group, options, part))
        if not (found[-1].throughputs.complete or found[-1].failure):
            reports.step("interrupted")
            break
    return [*found, *(MeasuredGroup(group, _UNMEASURED) for group in groups[len(found) :])]


def _measure(group: GpuGroup, options: GpuOptions, reports: Reports) -> MeasuredGroup:
    """Samples of the available candidates, then those of a second session of the first one, the noise floor's."""
    candidates = available(group)
    if not candidates:
        return MeasuredGroup(group, replace(_UNMEASURED, complete=True))
    twin = [*candidates, candidates[0]]
    openers = [one.opener for one in twin if one.opener]
    images = [images_for(one.network.image_shape, options.batch) for one in twin]
    try:
        taken = measure_throughput(openers, images, options.settings, options.host_copies, reports.fraction)
        return MeasuredGroup(group, taken)
    except RuntimeFailure as error:
        return MeasuredGroup(group, _UNMEASURED, str(error))
    finally:
        release_memory()


def _part(reports: Reports, number: int, of: int) -> Reports:
    return Reports(reports.step, lambda done: reports.fraction((number + done) / of))


def _title(group: GpuGroup) -> str:
    return " beside ".join(one.name for one in reversed(available(group))) or group.candidates[0].name
