"""``kdna-deploy export CKPT --check FILE``: is FILE what this version makes of CKPT?"""

from __future__ import annotations

from pathlib import Path

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.errors import UsageError
from kdna_deploy.input_files import Kind, check_images, check_input

# What FILE cannot hold; everything else is in its provenance.
_TAKEN = {"model_file", "check", "source", "model", "calibration", "json"}


def check_export(
    context: typer.Context,
    file: Path,
    model_file: Path | None,
    source: Path | None,
    factory: str | None,
    calibration: Path | None,
    sink: Sink,
) -> None:
    """Make FILE again and compare. Exit code 1 if it is something else.

    Raises:
        UsageError: an option that FILE's own stands against.
    """
    given = [name for name in context.params if _is_given(context, name) and name not in _TAKEN]
    if given:
        raise UsageError(f"--check takes the options that '{file}' records; leave --{given[0].replace('_', '-')} out.")
    if model_file is None:
        raise UsageError(
            f"Name the checkpoint that '{file}' should be made from: kdna-deploy export CKPT --check {file}."
        )
    check_input(file, (Kind.onnx,), "--check")
    check_input(model_file, (Kind.fused, Kind.checkpoint), "export")
    if source is not None:
        check_input(source, (Kind.checkpoint,), "--source")
    if calibration is not None:
        check_images(calibration, "--calibration")
    from kdna_deploy.export.reproduction import Ingredients, check_reproduction
    from kdna_deploy.reports.data import document

    with sink.listening() as listener:
        found = check_reproduction(file, Ingredients(model_file, source, factory, calibration), listener)
    made = f"what kdna-deploy {found.version} makes of '{found.source}'"
    sink.result(
        lambda: (
            f"'{file}' is {'' if found.identical else 'not '}{made}" + (", byte for byte." if found.identical else ".")
        ),
        lambda: document(
            "check",
            {
                "file": str(file),
                "source": str(found.source),
                "version": found.version,
                "identical": found.identical,
                "differences": list(found.differences),
            },
        ),
    )
    if not found.identical:
        for also in found.differences[1:]:
            sink.note(also)
        sink.fail(f"'{file}' is not {made}: {found.differences[0]}.")
        raise typer.Exit(1)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
