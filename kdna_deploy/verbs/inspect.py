"""What a checkpoint holds, and what a file that was made of one says of itself. Files need no PyTorch."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import UsageError
from kdna_deploy.input_files import MODELS, check_input
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.network.configuration import Words, configured
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.verbs.arguments import Size, image_size
from kdna_deploy.verbs.load import Inspected, LoadedNetwork, load
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import check_unsaid

if TYPE_CHECKING:
    from typing import TypeAlias

    from torch import nn
    from typing_extensions import Unpack

    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.inspect_file import FileInspection
    from kdna_deploy.verbs.source import Written

    Inspectable: TypeAlias = "str | os.PathLike[str] | Written | LoadedNetwork | nn.Module"


@dataclass(frozen=True, repr=False)
class InspectedFile(Result):
    """What a file says of itself: what it was made of, what it takes and returns, its sharing ledger, sizes."""

    inspection: FileInspection

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.file_inspection import file_inspection_report

        return file_inspection_report(self.inspection)


def inspect(
    network: Inspectable,
    *,
    arch: str | None = None,
    model: str | None = None,
    ema: bool = False,
    input_size: Size | None = None,
    listener: Listener = SILENT,
    **architecture: Unpack[Words],
) -> Inspected | InspectedFile:
    """Tell what a checkpoint holds, or what a file says of itself.

    Args:
        network: checkpoint, ``.onnx``, ``.xml``, ``.engine``, ``.pt2``, what a verb wrote or `load` returned, or a
            module.
        arch, model, ema, architecture: how to load a checkpoint, see `load`.
        input_size: of the images that multiply-accumulates are counted for; as a checkpoint records, else 224.

    Raises:
        UsageError: what was said makes no sense.
        InputError: the file cannot be read.
        RuntimeFailure: it takes PyTorch, which is not installed.
    """
    written = getattr(network, "path", None)
    path = written if isinstance(written, Path) else network
    if isinstance(path, (str, os.PathLike)):
        check_input(Path(path), MODELS, "inspect")
        if named_kind(Path(path)) is not Kind.checkpoint:
            if configured(arch, architecture) or model or ema or image_size(input_size):
                raise UsageError(
                    f"`arch`, `model`, `ema` and `input_size` say how to load a checkpoint, and '{path}' is none; "
                    "leave them out."
                )
            return _of_file(Path(path), listener)
    listener.plan(("load", "capture", "find parents and children"))
    if isinstance(network, LoadedNetwork):
        check_unsaid(configured(arch, architecture), model, ema)
        return replace(network, input_size=image_size(input_size) or network.input_size).inspect(listener)
    words = {"arch": arch, "model": model, "ema": ema, "input_size": input_size, "listener": listener}
    return load(path, **words, **architecture).inspect(listener)  # type: ignore[arg-type]


def _of_file(path: Path, listener: Listener) -> InspectedFile:
    listener.plan(("read",))
    listener.step("read")
    from kdna_deploy.targets.inspect_file import inspect_file

    return InspectedFile(inspect_file(path))
