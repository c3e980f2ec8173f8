"""``kdna-deploy verify``."""

from __future__ import annotations

import contextlib
from pathlib import Path

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.comparison import Atol, Bisect, Reference, Rtol
from kdna_deploy.cli.options.images import Inputs
from kdna_deploy.cli.options.output import Json, SaveWorst
from kdna_deploy.cli.options.source import Arch, Artifact, Ema, InputSize, Model
from kdna_deploy.cli.values import check_number, newest, parse_size
from kdna_deploy.errors import UsageError
from kdna_deploy.files import check_output
from kdna_deploy.input_files import MODELS, check_images, check_input


def verify(
    model_file: Artifact = None,
    against: Reference = None,
    inputs: Inputs = None,
    rtol: Rtol = None,
    atol: Atol = 0.0,
    bisect: Bisect = False,
    save_worst: SaveWorst = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    json: Json = False,
) -> None:
    """Compare a file with the network as it was trained.

    Exit code 1 where it computes something else.
    """
    sink = Sink(json)
    size = parse_size(input_size) if input_size is not None else None
    check_number(rtol, "--rtol")
    check_number(atol, "--atol")
    if model_file is None:
        model_file = newest("*.onnx", "kdna-deploy export --onnx")
        sink.say(f"using {model_file}, the newest ONNX file here")
    check_input(model_file, MODELS, "verify")
    if against is not None:
        check_input(against, MODELS, "--against")
    if inputs is not None:
        check_images(inputs, "--inputs")
    read = tuple(path for path in (model_file, against, inputs) if path is not None)
    if save_worst is not None:
        check_array_output(save_worst, read)
    from rich.console import Group

    from kdna_deploy.evaluation.parity import worst_of
    from kdna_deploy.evaluation.verify import save_image, verify_files
    from kdna_deploy.export.bisect_file import bisect_file
    from kdna_deploy.images.file import Unreadable
    from kdna_deploy.reports import data, tables
    from kdna_deploy.reports.bisection import bisection_data, bisection_report

    unreadable: list[Unreadable] = []
    with sink.steps() as (step, _):
        result = verify_files(model_file, against, inputs, rtol, atol, size, model, arch, ema, step, unreadable.append)
        found = bisect_file(model_file, against, model, step) if bisect else None
    sink.warn_unreadable(unreadable)
    if save_worst is not None and result.worst_image is not None:
        save_image(result.worst_image, save_worst, read)
        sink.say(f"the image that departs most is in {save_worst}; compare on it with --inputs {save_worst}")
    for note in result.notes:
        sink.say(f"note: {note}")
    title = f"{result.candidate} against {result.reference}"
    sink.result(
        lambda: Group(tables.agreement_table(result.agreements, title), *([bisection_report(found)] if found else [])),
        lambda: {
            **data.verify_data(result.candidate, result.reference, result.agreements),
            **({"bisection": bisection_data(found)} if found else {}),
        },
    )
    worst = worst_of(result.agreements)
    if worst is not None:
        sink.fail(
            f"{result.candidate} does not compute what {result.reference} computes: {worst.complaint}; "
            f"{_remedy(model_file)}."
        )
        raise typer.Exit(1)


def check_array_output(path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Refuse a file that no array could be read from again, before any work.

    Raises:
        UsageError: its suffix is not ``.npy``, or it cannot be written.
    """
    if path.suffix != ".npy":
        raise UsageError(f"'{path}' must end in .npy, so that --inputs can read it.")
    check_output(path, inputs)


def _remedy(path: Path) -> str:
    """An int8 file rounds by design: no export would make it pass."""
    from kdna_deploy.errors import KdnaError
    from kdna_deploy.runtimes.open import read_provenance

    with contextlib.suppress(KdnaError):
        if read_provenance(path).options.get("precision") == "int8":
            return f"it is int8, which rounds: judge it with kdna-deploy evaluate {path} --data DIR --against REF"
    return "export it again from that checkpoint"
