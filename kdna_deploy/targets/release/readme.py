"""Manifest → the README of a release: ten lines, for whoever finds the folder."""

from __future__ import annotations

import shlex
from importlib.resources import files
from pathlib import Path

from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.targets.release.manifest import Manifest
from kdna_deploy.targets.release.plan import FILES
from kdna_deploy.version import VERSION

_WITH_PYTORCH = frozenset({"executorch"})  # whose runtime imports it


def readme(manifest: Manifest) -> str:
    """Prove, try, make again."""
    extras = _extras(manifest)
    text = files("kdna_deploy.targets.release").joinpath("README.md").read_text(encoding="utf-8")
    return text.format(
        name=manifest.name,
        network=_network(manifest),
        version=VERSION,
        licence=f"Licence: {manifest.licence}." if manifest.licence else "Under which licence, it does not say.",
        files=", ".join(f"`{one.file}` ({one.target})" for one in manifest.models),
        servers=_servers(manifest),
        package=f"'kdna-deploy[{','.join(extras)}]'" if extras else "kdna-deploy",
        pytorch="" if _WITH_PYTORCH & {*extras} else "; PyTorch is not needed",
        trying=_trying(manifest),
        ship=manifest.commands["ship"],
    )


def _network(manifest: Manifest) -> str:
    network = manifest.network
    size = "×".join(map(str, network["image_shape"]))
    classes = f", {network['classes']} classes" if network["classes"] else ""
    return f"{network['architecture']} for images {size}{classes}"


def _servers(manifest: Manifest) -> str:
    folders = ", ".join(f"`{one.folder}`" for one in manifest.packages)
    return f" Folders for servers, each with a README of its own: {folders}." if folders else ""


def _extras(manifest: Manifest) -> tuple[str, ...]:
    """With which the package runs all of the files."""
    targets = {one.target for one in manifest.models}
    return tuple(dict.fromkeys(row.extra for name, row in FILES.items() if name in targets and row.extra))


def _trying(manifest: Manifest) -> str:
    """With the first file that needs no GPU, where there is one; what returns stage outputs names no classes."""
    paths = [Path(one.file) for one in manifest.models]
    file = next((path for path in paths if named_kind(path) is not Kind.engine), paths[0])
    words = ["run", str(file), "photo.jpg"] if manifest.network["classes"] else ["inspect", str(file)]
    return shlex.join(words)
