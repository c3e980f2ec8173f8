"""``kdna-deploy evaluate``."""

from __future__ import annotations

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.deployment import CalibrationChoice, asked_preprocessing
from kdna_deploy.cli.options.comparison import Other
from kdna_deploy.cli.options.images import BatchSize, ColorOption, Crop, Labelled, Mean, Resize, Std
from kdna_deploy.cli.options.output import Json
from kdna_deploy.cli.options.source import Arch, Artifact, Ema, InputSize, Model
from kdna_deploy.cli.values import newest, parse_size
from kdna_deploy.input_files import MODELS, check_folder, check_input


def evaluate(
    data: Labelled,
    model_file: Artifact = None,
    against: Other = None,
    batch_size: BatchSize = 32,
    mean: Mean = None,
    std: Std = None,
    resize: Resize = None,
    crop: Crop = None,
    color: ColorOption = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    json: Json = False,
) -> None:
    """Measure accuracy on labelled images, and agreement with a file.

    Top-1 and top-5, the classes recognised worst, and a warning with its likely cause where the accuracy falls short of
    the one that the checkpoint records.
    """
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
    from kdna_deploy.images.file import Unreadable
    from kdna_deploy.reports import evaluation as reports

    asked = asked_preprocessing(words)
    request = EvaluationRequest(model_file, data, against, batch_size, asked, size, arch, model, ema)
    unreadable: list[Unreadable] = []
    with sink.steps() as (step, count):
        done = evaluate_files(request, step, sink.expect_images, count, unreadable.append)
    sink.warn_unreadable(unreadable)
    for note in done.notes:
        sink.say(f"note: {note}")
    if done.shortfall:
        sink.warn(f"{done.shortfall.text}; likely cause: {done.cause}")
    sink.result(lambda: reports.evaluation_report(done), lambda: reports.evaluation_data(done))
