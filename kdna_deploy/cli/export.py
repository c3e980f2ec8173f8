"""``kdna-deploy export``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer

from kdna_deploy.cli.command import given
from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.architecture import with_architecture
from kdna_deploy.cli.options.engine import Capabilities, Layers, TensorRt, TensorRtRtx, Tf32
from kdna_deploy.cli.options.graph import (
    ExportAttentionOption,
    ExportChildrenOption,
    FreezeBelow,
    YesDrop,
    check_confirmed,
)
from kdna_deploy.cli.options.images import (
    Calibration,
    ColorOption,
    Crop,
    HeldOut,
    Labels,
    Mean,
    Postprocess,
    Preprocess,
    Resize,
    Std,
)
from kdna_deploy.cli.options.output import (
    Batch,
    Check,
    DynamicSize,
    ExecuTorch,
    ExternalData,
    Json,
    LiteRt,
    MaxBloat,
    Mnn,
    Ncnn,
    Onnx,
    OpenVino,
    Opset,
    Output,
    Prepare,
    Simplify,
    TargetOption,
    WithBaseline,
)
from kdna_deploy.cli.options.precision import (
    CalibrationMethod,
    HalfIo,
    MaxDrop,
    Method,
    Precision,
    PrecisionOption,
    Weights,
    WeightsOption,
)
from kdna_deploy.cli.options.source import Arch, Ema, Exportable, InputSize, Model, Source
from kdna_deploy.cli.options.workers import Ray, Workers
from kdna_deploy.errors import AccuracyError, UsageError
from kdna_deploy.verbs.arguments import DYNAMIC, newest
from kdna_deploy.verbs.check import check as checked
from kdna_deploy.verbs.export import export as exported
from kdna_deploy.verbs.own_formats import written_alone

# What a file that is checked cannot hold; everything else is in its provenance.
_TAKEN = {"model_file", "check", "source", "model", "calibration", "json"}


@with_architecture
def export(
    context: typer.Context,
    model_file: Exportable = None,
    onnx: Onnx = False,
    openvino: OpenVino = False,
    ncnn: Ncnn = False,
    mnn: Mnn = False,
    litert: LiteRt = False,
    executorch: ExecuTorch = False,
    tensorrt: TensorRt = False,
    tensorrt_rtx: TensorRtRtx = False,
    output: Output = None,
    source: Source = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    batch: Batch = DYNAMIC,
    dynamic_size: DynamicSize = False,
    target: TargetOption = None,
    opset: Opset = 18,
    children: ExportChildrenOption = None,
    max_bloat: MaxBloat = None,
    precision: PrecisionOption = Precision.fp32,
    weights: WeightsOption = Weights.fp32,
    half_io: HalfIo = False,
    held_out: HeldOut = None,
    calibration_method: Method = CalibrationMethod.minmax,
    max_drop: MaxDrop = None,
    workers: Workers = None,
    ray: Ray = None,
    attention: ExportAttentionOption = None,
    yes_drop: YesDrop = False,
    freeze_below: FreezeBelow = None,
    calibration: Calibration = None,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    color: ColorOption = None,
    labels: Labels = None,
    preprocess: Preprocess = None,
    postprocess: Postprocess = None,
    simplify: Simplify = True,
    external_data: ExternalData = False,
    prepare: Prepare = False,
    with_baseline: WithBaseline = False,
    tf32: Tf32 = True,
    compute_capability: Capabilities = None,
    layers: Layers = False,
    check: Check = None,
    json: Json = False,
    **architecture: Any,
) -> None:
    """Write an ONNX file, an engine or another runtime's, and verify it.

    Other runtimes are OpenVINO, ncnn, MNN, LiteRT and ExecuTorch. A checkpoint is fused on the way. The file is run
    beside the network as it was trained, and appears under its name only where it computes the same; int8 is judged by
    its accuracy instead.
    """
    sink = Sink(json)
    if check is not None:
        _check(context, check, model_file, source, model, calibration, sink)
        return
    own = {"openvino": openvino, "ncnn": ncnn, "mnn": mnn, "litert": litert, "executorch": executorch}
    if onnx and (name := next((name for name, wanted in own.items() if wanted), None)):
        raise UsageError(written_alone(name, "`onnx`"))
    check_confirmed(attention, yes_drop)
    if model_file is None:
        model_file = newest("*.fused.pt2", "kdna-deploy fuse CKPT")
        sink.say(f"using {model_file}, the newest fused graph here")
    with _shown_losses(sink), sink.listening() as listener:
        done = exported(
            model_file,
            output,
            openvino=openvino,
            ncnn=ncnn,
            mnn=mnn,
            litert=litert,
            executorch=executorch,
            tensorrt=tensorrt,
            tensorrt_rtx=tensorrt_rtx,
            source=source,
            arch=arch,
            model=model,
            ema=ema,
            input_size=input_size,
            batch=batch,
            dynamic_size=dynamic_size,
            target=target.value if target else None,
            opset=opset,
            children=children.value if children else None,
            max_bloat=max_bloat,
            precision=precision.value,
            weights=weights.value,
            half_io=half_io,
            held_out=held_out,
            calibration_method=calibration_method.value,
            max_drop=max_drop,
            workers=workers,
            ray=ray,
            attention=attention.value if attention else None,
            freeze_below=freeze_below,
            calibration=calibration,
            mean=mean,
            std=std,
            resize=resize,
            crop=crop,
            color=color.value if color else None,
            labels=labels,
            preprocess=preprocess.value if preprocess else None,
            postprocess=postprocess,
            simplify=simplify,
            external_data=external_data,
            prepare=prepare,
            with_baseline=with_baseline,
            tf32=tf32,
            compute_capability=tuple(compute_capability or ()),
            layers=layers,
            listener=listener,
            **architecture,
        )
    sink.report(done.report)


@contextmanager
def _shown_losses(sink: Sink) -> Iterator[None]:
    """Show which layers lose the accuracy when too much is lost, where that is known."""
    try:
        yield
    except AccuracyError as error:
        if error.sensitivities:
            from kdna_deploy.reports.cells import rich_table
            from kdna_deploy.reports.guarded import sensitivity_cells

            sink.show(rich_table(sensitivity_cells(error.sensitivities, bits=error.bits)))
        raise


def _check(
    context: typer.Context,
    file: Path,
    model_file: Path | None,
    source: Path | None,
    factory: str | None,
    calibration: Path | None,
    sink: Sink,
) -> None:
    """Is `file` what this version makes of `model_file`? Exit code 1 if it is something else.

    Raises:
        UsageError: an option that the file's own stands against.
    """
    if other := next(iter(given(context, _TAKEN)), None):
        raise UsageError(f"--check takes the options that '{file}' records; leave --{other.replace('_', '-')} out.")
    if model_file is None:
        raise UsageError(
            f"Name the checkpoint that '{file}' should be made from: kdna-deploy export CKPT --check {file}."
        )
    with sink.listening() as listener:
        found = checked(file, model_file, source=source, model=factory, calibration=calibration, listener=listener)
    sink.report(found.report)
    if not found.identical:
        sink.fail(found.complaint)
        raise typer.Exit(1)
