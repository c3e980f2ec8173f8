"""``kdna-deploy verify``."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options import Arch, Ema, Json, Model, OptionalInputSize, check_number, newest, parse_size
from kdna_deploy.errors import UsageError
from kdna_deploy.files import check_output
from kdna_deploy.input_files import MODELS, check_images, check_input


def verify(
    model_file: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="Artifact to check; the newest *.onnx here.", show_default=False),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="What it must agree with; the checkpoint that it was made from.", show_default=False),
    ] = None,
    inputs: Annotated[
        Path | None, typer.Option(metavar="DIR|FILE", help="Images, .npy or .npz, beside generated ones.")
    ] = None,
    rtol: Annotated[
        float | None,
        typer.Option(help="Allowed difference, share of an output's spread over images; 1e-4, in half precision 1e-2."),
    ] = None,
    atol: Annotated[float, typer.Option(help="Allowed difference on top of that.")] = 0.0,
    bisect: Annotated[
        bool, typer.Option("--bisect", help="Find the first layer that departs, and the stage at fault.")
    ] = False,
    save_worst: Annotated[
        Path | None, typer.Option("--save-worst", metavar="FILE.npy", help="Keep the image that departs most.")
    ] = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: OptionalInputSize = None,
    json: Json = False,
) -> None:
    """Prove that an artifact computes what the trained network computes. Exit code 1 if it does not."""
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
    from kdna_deploy.reports import data, tables
    from kdna_deploy.reports.bisection import bisection_data, bisection_report

    with sink.listening() as listener:
        result = verify_files(model_file, against, inputs, rtol, atol, size, model, arch, ema, listener)
        found = bisect_file(model_file, against, model, listener) if bisect else None
    if save_worst is not None and result.worst_image is not None:
        save_image(result.worst_image, save_worst, read)
        sink.say(f"the image that departs most is in {save_worst}; compare on it with --inputs {save_worst}")
    for note in result.notes:
        sink.note(note)
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
