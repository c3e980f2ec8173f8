"""Portable ONNX file → the same, prepared for the processor and the ONNX Runtime at hand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.files import check_output
from kdna_deploy.input_files import Kind, check_input
from kdna_deploy.kinds import prepared_name
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.verbs.arguments import PathLike, optional_path
from kdna_deploy.verbs.output_names import check_name
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import file_of

if TYPE_CHECKING:
    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.onnx.prepare import PreparedFile
    from kdna_deploy.verbs.source import Files

PREPARE_STEPS = ("optimise", "write", "verify")  # for a listener's plan


@dataclass(frozen=True, repr=False)
class Prepared(Result):
    """A file that was written and verified.

    Attributes:
        path: the file.
        prepared: what was written, for which processor, and how it agrees with the portable file.
    """

    path: Path
    prepared: PreparedFile

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.prepare import prepare_report

        return prepare_report(self.prepared)


def prepare(file: Files, output: PathLike | None = None, *, listener: Listener = SILENT) -> Prepared:
    """Write an ONNX file as ONNX Runtime executes it here, so that it opens in milliseconds.

    Its weights lie beside it and are mapped into memory, where all processes share them. What it computes is what the
    portable file computes, which is verified. It is for this kind of processor and this version of ONNX Runtime alone.

    Args:
        file: ``.onnx``, or what `export` wrote.
        output: the file to write; ``NAME.prepared.onnx`` by default, in the current folder.

    Raises:
        UsageError: the file is prepared already, or the output cannot be written or does not end in ``.onnx``.
        InputError: the file cannot be opened.
        ParityError: what was written computes something else; nothing is kept.
    """
    path = file_of(file, "prepare")
    check_input(path, (Kind.onnx,), "prepare")
    wanted = optional_path(output) or prepared_name(path)
    check_output(wanted, (path,))
    check_name(wanted, Kind.onnx)
    listener.plan(PREPARE_STEPS)
    from kdna_deploy.targets.onnx.prepare import prepare_onnx

    return Prepared(wanted, prepare_onnx(path, wanted, listener))
