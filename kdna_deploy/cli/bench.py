"""``kdna-deploy bench``."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options import Json, newest
from kdna_deploy.errors import UsageError
from kdna_deploy.files import atomic_output, check_output


def bench(
    models: Annotated[
        list[Path] | None, typer.Argument(help="ONNX files; the newest *.onnx here.", show_default=False)
    ] = None,
    cpu_threads: Annotated[int, typer.Option(min=1, help="Threads of an inference, each on a core of its own.")] = 1,
    batch_size: Annotated[int, typer.Option(min=1, help="Images in one inference.")] = 1,
    baseline: Annotated[
        Path | None, typer.Option(help="ONNX file to compare with; the plain backbone by default.", show_default=False)
    ] = None,
    iterations: Annotated[int, typer.Option(min=1, help="Measured rounds, at least.")] = 100,
    min_time: Annotated[float, typer.Option(min=0.0, help="Seconds of measuring, at least.")] = 3.0,
    save: Annotated[Path | None, typer.Option(help="Also write everything, samples included, to FILE.json.")] = None,
    json: Json = False,
) -> None:
    """Measure latency on ONNX Runtime, interleaved with the plain backbone."""
    sink = Sink(json)
    if save is not None and save.suffix != ".json":
        raise UsageError(f"--save writes JSON; name a file that ends in .json instead of '{save}'.")
    if save is not None:
        check_output(save, tuple(models or ()))
    if not models:
        models = [newest("*.onnx", "kdna-deploy export --onnx")]
        sink.say(f"using {models[0]}, the newest ONNX file here")
    from kdna_deploy.benchmark.latency import LatencySettings
    from kdna_deploy.benchmark.run import BenchOptions
    from kdna_deploy.benchmark.run import bench as run_bench
    from kdna_deploy.reports import data, tables

    options = BenchOptions(cpu_threads, batch_size, baseline, LatencySettings(iterations, min_time))
    with sink.progress() as (label, fraction):
        result = run_bench(models, options, label, fraction)
    for note in result.notes:
        sink.warn(note)
    if save is not None:
        with atomic_output(save, tuple(models)) as temporary:
            temporary.write_text(json_format.dumps(data.bench_data(result), indent=1))
    sink.result(lambda: tables.bench_report(result), lambda: data.bench_data(result))
    if save is not None:
        sink.say(f"saved {save}")
