"""Fused graph ↔ ``.pt2``: `torch.export`'s archive of graph, weights and provenance.

No Python class is needed to open it.

Does not apply: a ``.pt2`` that could run code (`archive_check`); this package writes none.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch

from kdna_deploy.archive_check import check_archive
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
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths and source lines of whoever made the file
        node.meta.pop("from_node", None)  # addresses in memory, other ones in every run
    program.example_inputs = None  # blank images, which would be stored as they are
    # Through memory: on a full disk, torch's own file writer ends the whole process.
    archive = io.BytesIO()
    torch.export.save(program, archive, extra_files={_EXTRA: provenance.to_json()})
    with atomic_output(path, inputs) as temporary:
        temporary.write_bytes(archive.getbuffer())


def load_fused(path: Path) -> FusedFile:
    """Open a ``.pt2`` of this package.

    Raises:
        ArtifactError: the file is missing, damaged, not ours, or could run code.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    check_archive(path, _EXTRA)
    extra = {_EXTRA: ""}
    try:
        program = torch.export.load(path, extra_files=extra)
    except Exception as error:  # torch's deserialiser raises whatever it stumbles on
        raise ArtifactError(f"'{path}' cannot be opened by torch {torch.__version__}; fuse it again.") from error
    provenance = from_json(extra[_EXTRA], str(path))
    return FusedFile(path, program_graph(program, provenance.image_shape), provenance)
