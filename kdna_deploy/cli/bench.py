"""``kdna-deploy bench``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import typer

from kdna_deploy.cli.command import given
from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.architecture import with_architecture
from kdna_deploy.cli.options.bench import (
    Baseline,
    BatchSize,
    ColdStart,
    Compare,
    CpuStreams,
    CpuThreads,
    CudaGraphs,
    GpuFlag,
    HostCopies,
    Iterations,
    Methods,
    MinTime,
    Precisions,
    Profile,
    Protocol,
    ProtocolOption,
    Runtimes,
    Save,
    Streams,
    SuiteOption,
)
from kdna_deploy.cli.options.output import FailIf, Json
from kdna_deploy.cli.options.source import Arch, Artifacts, InputSize, Model
from kdna_deploy.cli.signals import INTERRUPTED
from kdna_deploy.errors import ThresholdError, UsageError
from kdna_deploy.verbs.bench import bench as measured
from kdna_deploy.verbs.compare import compare as compared
from kdna_deploy.words import parameters, said

_COMPARED = ("models", "compare", "json")  # all that a comparison takes


@with_architecture
def bench(
    ctx: typer.Context,
    models: Artifacts = None,
    gpu: GpuFlag = False,
    cpu_threads: CpuThreads = 1,
    cpu_streams: CpuStreams = None,
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
    methods: Methods = None,
    cold_start: ColdStart = True,
    profile: Profile = False,
    fail_if: FailIf = None,
    save: Save = None,
    compare: Compare = False,
    arch: Arch = None,
    model: Model = None,
    input_size: InputSize = None,
    json: Json = False,
    **architecture: Any,
) -> None:
    """Measure latency or throughput beside the plain backbone.

    Candidate and baseline take turns on the same cores, or on the same GPU, and every ratio has an interval. Ctrl-C
    keeps what was measured.
    """
    sink = Sink(json)
    if compare:
        if other := given(ctx, _COMPARED):
            raise UsageError(f"--compare measures nothing; leave {parameters(said(other))} out.")
        found = compared(*(models or ()))
        if found.warning:
            sink.warn(found.warning)
        sink.report(found.report)
        return
    check_device(ctx, gpu)
    with sink.listening() as listener:
        done = measured(
            *(models or ()),
            gpu=gpu,
            cpu_threads=cpu_threads,
            cpu_streams=cpu_streams,
            batch_size=batch_size,
            runtime=runtime or (),
            precision=[one.value for one in precision or ()],
            streams=streams,
            cuda_graphs=cuda_graphs,
            host_copies=host_copies,
            baseline=baseline,
            iterations=iterations,
            min_time=min_time,
            protocol=protocol.value,
            suite=suite.value if suite else None,
            methods=() if methods is None else methods,
            cold_start=cold_start,
            profile=profile,
            fail_if=fail_if or (),
            save=save or (),
            arch=arch,
            model=model,
            input_size=input_size,
            listener=listener,
            **architecture,
        )
    for note in done.result.notes:
        sink.warn(note)
    sink.report(replace(done.report, notes=()))
    for target in done.saved:
        sink.say(f"saved {target}")
    if done.partial:
        raise typer.Exit(INTERRUPTED)
    if done.crossed:
        sink.fail(done.crossed[0])
        raise typer.Exit(ThresholdError.exit_code)


# Told by whether they were typed, so that their defaults are refused as well.
_GPU_ONLY = ("precision", "streams", "cuda_graphs", "host_copies")
_CPU_ONLY = ("cpu_threads", "cpu_streams", "profile", "cold_start", "protocol")


def check_device(ctx: typer.Context, gpu: bool) -> None:
    """Refuse options that belong to the other device.

    Raises:
        UsageError: one does.
    """
    for parameter in _CPU_ONLY if gpu else _GPU_ONLY:
        source = ctx.get_parameter_source(parameter)
        if source is not None and source.name == "COMMANDLINE":
            device = (
                "is for the CPU; leave it out, or --gpu." if gpu else "belongs to --gpu; add that, or leave it out."
            )
            raise UsageError(f"`{parameter}` {device}")
