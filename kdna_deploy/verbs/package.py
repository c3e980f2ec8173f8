"""Files → a folder that a server takes as it is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.files import check_folder
from kdna_deploy.input_files import check_input
from kdna_deploy.kinds import named_kind
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.targets.release.manifest import read_manifest
from kdna_deploy.targets.release.plan import taken
from kdna_deploy.targets.release.shipped_files import check_model
from kdna_deploy.targets.serving.servers import SERVERS, Server
from kdna_deploy.verbs.arguments import PathLike, chosen, optional_path
from kdna_deploy.verbs.result import Result
from kdna_deploy.verbs.source import file_of

if TYPE_CHECKING:
    from kdna_deploy.reports.report import Report
    from kdna_deploy.targets.serving.package import Package
    from kdna_deploy.verbs.source import Files

PACKAGE_STEPS = ("read", "write")  # for a listener's plan


@dataclass(frozen=True, repr=False)
class Packaged(Result):
    """A folder that was written.

    Attributes:
        path: the folder.
        package: what is in it.
    """

    path: Path
    package: Package

    @property
    def report(self) -> Report:
        from kdna_deploy.reports.package import package_report

        return package_report(self.package)


def package(
    models: Files | Sequence[Files], server: str, to: PathLike | None = None, *, listener: Listener = SILENT
) -> Packaged:
    """Put files together as a server takes them, with its configuration, a client and a README. PyTorch is not needed.

    Args:
        models: files that `export` wrote, or those of others: ``.onnx``, and what else the server takes; or a folder
            that `ship` wrote, of which those are taken that the server takes.
        server: "triton", "openvino-model-server", "kserve", "kserve-model-server", or "onnxruntime-cpp", a program.
        to: the folder to write, which is not there, or empty; by default named after the server, in the current folder.

    Raises:
        UsageError: there is no such server, the folder holds something, or two files have one name.
        InputError: a file cannot be opened, or the server does not take it.
    """
    taking = SERVERS[chosen("server", server, tuple(SERVERS))]
    several = [models] if isinstance(models, (str, os.PathLike)) or hasattr(models, "path") else list(models)  # type: ignore[arg-type]
    if not several:
        raise UsageError("Name a file, or several, to package.")
    paths = [path for one in several for path in _files(file_of(one, "package"), server)]
    for path in paths:
        check_input(path, taking.kinds, f"a package for {taking.title}")
        _check_named(path, taking)
    from kdna_deploy.targets.serving.package import package_files

    folder = optional_path(to) or Path(server)
    check_folder(folder)
    listener.plan(PACKAGE_STEPS)
    return Packaged(folder, package_files(paths, server, folder, listener))


def _check_named(path: Path, server: Server) -> None:
    """Refuse what is of no known kind, and by its name of none that the server takes: nothing would read it.

    Raises:
        InputError: it is.
    """
    if named_kind(path) not in server.kinds:
        kinds = " or ".join(kind.value for kind in server.kinds)
        raise InputError(f"'{path}' is no file that {server.title} takes; give {kinds}.")


def _files(given: Path, server: str) -> list[Path]:
    """A file, or those in a release that the server takes.

    Raises:
        InputError: there are none.
        ArtifactError: one is not as it was shipped.
    """
    if not given.is_dir():
        return [given]
    manifest = read_manifest(given)
    # Of an engine and the file that it was built from, the engine comes last.
    released = {one.target: one for one in manifest.models}
    found = [released[target] for target in taken(server, tuple(released))]
    if not found:
        raise InputError(
            f"'{given}' holds no file that {SERVERS[server].title} takes; ship it with `targets='cpu'` as well."
        )
    for model in found:
        check_model(given, manifest, model)
    return [given / model.file for model in found]
