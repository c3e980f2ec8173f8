"""``kdna-deploy evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.deployment import (
    CalibrationChoice,
    ColorOption,
    Crop,
    Mean,
    Resize,
    Std,
    asked_preprocessing,
)
from kdna_deploy.cli.options import LARGEST_BATCH, Arch, Ema, Json, Model, OptionalInputSize, newest, parse_size
from kdna_deploy.input_files import MODELS, check_folder, check_input


def evaluate(
    data: Annotated[Path, typer.Option("--data", metavar="DIR", help="A folder of images for each class.")],
    model_file: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="Artifact to evaluate; the newest *.onnx here.", show_default=False),
    ] = None,
    against: Annotated[
        Path | None, typer.Option(help="Another artifact, or the checkpoint, to agree with.", show_default=False)
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, max=LARGEST_BATCH, help="Images in one inference.")] = 32,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    color: ColorOption = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: OptionalInputSize = None,
    json: Json = False,
) -> None:
    """Accuracy of an artifact on labelled images, and its agreement with another."""
    sink = Sink(json)
    size = parse_size(input_size) if input_size is not None else None
    words = CalibrationChoice(None, mean, std, resize, crop, color)
    words.check()
    if model_file is None:
        model_file = newest("*.onnx", "kdna-deploy export --onnx")
        sink.say(f"using {model_file}, the newest ONNX file here")
    check_input(model_file, MODELS, "evaluate")
    if against is not None:
        check_input(against, MODELS, "--against")
    check_folder(data, "--data")
    from kdna_deploy.evaluation.evaluate import EvaluationRequest, evaluate_files
    from kdna_deploy.reports import evaluation as reports

    asked = asked_preprocessing(words)
    request = EvaluationRequest(model_file, data, against, batch_size, asked, size, arch, model, ema)
    with sink.listening() as listener:
        done = evaluate_files(request, listener)
    for note in done.notes:
        sink.note(note)
    if done.shortfall:
        sink.warn(f"{done.shortfall.text}; likely cause: {done.cause}")
    sink.result(lambda: reports.evaluation_report(done), lambda: reports.evaluation_data(done))
