"""Is a file what this version makes of a checkpoint? `export` with nothing written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.extras import require_converter
from kdna_deploy.input_files import Kind, check_images, check_input
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.verbs.arguments import PathLike, optional_path
from kdna_deploy.verbs.export_source import check_source
from kdna_deploy.verbs.result import Result

if TYPE_CHECKING:
    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.reproduction import Reproduction


@dataclass(frozen=True, repr=False)
class CheckedFile(Result):
    """Whether a file was reproduced, byte for byte, and what differs."""

    reproduction: Reproduction

    @property
    def identical(self) -> bool:
        return self.reproduction.identical

    @property
    def complaint(self) -> str:
        """What differs first, a sentence; empty where nothing does."""
        found = self.reproduction
        if found.identical:
            return ""
        made = f"what kdna-deploy {found.version} makes of '{found.source}'"
        return f"'{found.path}' is not {made}: {found.differences[0]}."

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.check import check_report

        return check_report(self.reproduction)


def check(
    file: PathLike,
    network: PathLike,
    *,
    source: PathLike | None = None,
    model: str | None = None,
    calibration: PathLike | None = None,
    listener: Listener = SILENT,
) -> CheckedFile:
    """Make the ONNX file `file` again from the checkpoint or fused graph `network`, with the options that it records.

    Raises:
        UsageError: calibration images or a model's code are missing, or something is given for nothing.
        InputError: a file cannot be loaded, or does not say how it was made.
        ExportError, ParityError: it cannot be made again.
    """
    path, made_from = optional_path(file), optional_path(network)
    checkpoint, images = optional_path(source), optional_path(calibration)
    if path is None or made_from is None:
        raise UsageError("Name the file, and the checkpoint that it should be made from.")
    check_input(path, (Kind.onnx,), "`check`")
    check_input(made_from, (Kind.fused, Kind.checkpoint), "export")
    check_source(made_from, checkpoint)
    if images is not None:
        check_images(images, "`calibration`")
    require_converter("Making a file again")
    from kdna_deploy.targets.reproduction import Ingredients, check_reproduction

    return CheckedFile(check_reproduction(path, Ingredients(made_from, checkpoint, model, images), listener))
