"""Fused graph ↔ ``.pt2``: `torch.export`'s archive of graph, weights and provenance.

No Python class is needed to open it.

A ``.pt2`` that holds pickled objects is refused: this package writes none, and unpickling could run code.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch

from kdna_deploy.capture import export_program, program_graph
from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import atomic_output
from kdna_deploy.graph import Graph
from kdna_deploy.provenance import KEY, Provenance, from_json

SUFFIX = ".fused.pt2"
_EXTRA = f"{KEY}.json"


@dataclass(frozen=True)
class FusedFile:
    """A fused graph read from a file, with its provenance."""

    path: Path
    graph: Graph
    provenance: Provenance


def save_fused(graph: Graph, provenance: Provenance, path: Path, inputs: tuple[Path, ...] = ()) -> None:
    """Write a fused graph to `path`, all or nothing."""
    program = export_program(graph.module, graph.image_shape)
    program.example_inputs = None  # blank images, which would be stored as they are
    with atomic_output(path, inputs) as temporary:
        try:
            torch.export.save(program, temporary, extra_files={_EXTRA: provenance.to_json()})
        except RuntimeError as error:  # torch's zip writer reports a full disk this way
            raise OSError(f"{str(error).splitlines()[0]} (is the disk full?)") from error


def load_fused(path: Path) -> FusedFile:
    """Open a ``.pt2`` of this package.

    Raises:
        ArtifactError: the file is missing, damaged, not ours, or holds pickled objects.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    _refuse_pickles(path)
    extra = {_EXTRA: ""}
    try:
        program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # torch's deserialiser raises whatever it stumbles on
        raise ArtifactError(f"'{path}' cannot be opened by torch {torch.__version__}; fuse it again.") from error
    if not extra[_EXTRA]:
        raise ArtifactError(f"'{path}' was not written by kdna-deploy; make one with: kdna-deploy fuse CKPT.")
    provenance = from_json(extra[_EXTRA], str(path))
    return FusedFile(path, program_graph(program, provenance.image_shape), provenance)


def _refuse_pickles(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            configs = [name for name in archive.namelist() if name.endswith("_config.json")]
            entries = [entry for name in configs for entry in json.loads(archive.read(name))["config"].values()]
    except (zipfile.BadZipFile, KeyError, ValueError, AttributeError) as error:
        raise ArtifactError(f"'{path}' is no complete .pt2 archive; make it again with: kdna-deploy fuse.") from error
    if any(entry.get("use_pickle") for entry in entries):
        raise ArtifactError(f"'{path}' holds pickled objects, which could run code, and is refused.")
