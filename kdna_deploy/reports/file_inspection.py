"""What `inspect` tells of a file: what it was made of and by, what it takes and returns, what it stores."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.input import input_data, input_facts
from kdna_deploy.reports.ledger import ledger_cells, storage_cells
from kdna_deploy.reports.quantities import megabytes
from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.runtimes.nvidia.engine_record import EngineRecord
from kdna_deploy.runtimes.nvidia.library import library
from kdna_deploy.targets.inspect_file import FileInspection, GraphFacts

_UNKNOWN = "not recorded: kdna-deploy did not write it"


def file_inspection_report(found: FileInspection) -> Report:
    """Everything that a file says of itself."""
    made = found.provenance
    parts: list[Facts | Cells] = [Facts(found.path.name, list(_rows(found)))]
    if made is not None:
        parts += [Facts("Made of", list(_origin(made))), input_facts(made, made.interface(found.path))]
    if found.storage:
        parts.append(storage_cells(found.storage))
    if made is not None and made.parents:
        parts.append(ledger_cells(made.shared_kernels))
    return Report(tuple(parts), _data(found))


def _rows(found: FileInspection) -> Iterator[tuple[str, str]]:
    names = ", ".join(os.path.relpath(path, found.path.parent) for path in found.beside)
    beside = f", with {names} beside it" if names else ""
    yield "file", f"{found.kind.value} ({megabytes(found.bytes)}{beside})"
    if found.provenance is None:
        yield "made of", _UNKNOWN
    if found.prepared is not None:
        yield "prepared for", found.prepared.made_for
        yield "prepared from", found.prepared.source
    if found.engine is not None:
        yield from _engine(found.engine)
    if found.graph is not None:
        yield from _graph(found.graph)


def _engine(engine: EngineRecord) -> Iterator[tuple[str, str]]:
    capabilities = ", ".join(engine.compute_capabilities)
    yield "built by", f"{library(engine.library).title} {engine.library_version}, of {engine.onnx}"
    yield "for", engine.gpu or (f"compute capability {capabilities}" if capabilities else "any supported GPU")
    yield "precision", f"{engine.precision}{', TF32 allowed' if engine.tf32 and engine.precision == 'fp32' else ''}"
    yield "batches", str(engine.batches)


def _graph(graph: GraphFacts) -> Iterator[tuple[str, str]]:
    yield "takes", "; ".join(map(str, graph.inputs))
    yield "returns", "; ".join(map(str, graph.outputs))
    yield "opset", f"{graph.opset} (IR version {graph.ir_version})"
    yield "nodes", ", ".join(f"{count} {operator}" for operator, count in graph.nodes.items())
    yield "stored", f"{graph.cost.stored:,} numbers"
    yield "MACs", f"{graph.cost.macs:,} for one image"


def _origin(made: Provenance) -> Iterator[tuple[str, str]]:
    yield "network", made.name
    if made.architecture:
        yield from (("layout", f"{stage}: {layout}") for stage, layout in made.architecture["layouts"].items())
    if made.source:
        yield "checkpoint", f"{made.source}{', averaged weights' if made.ema else ''}, SHA-256 {made.source_sha256}"
    else:
        yield "checkpoint", "none: the network lay in no file, or is untrained"
    if made.base:
        yield "base", f"{made.base}, SHA-256 {made.base_sha256}"
    yield "parameters", f"{made.parameters:,} trained"
    yield "channel attentions", f"{made.channel_attentions}, dynamic" if made.channel_attentions else "none"
    yield from ((name.replace("_", " "), _told(value)) for name, value in made.options.items())
    if made.versions:
        yield "made by", _told(made.versions)


def _told(value: Any) -> str:
    """An option in words."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name.replace('_', ' ')} {_told(one)}" for name, one in value.items() if one is not None)
    if isinstance(value, (list, tuple)):
        return " ".join(map(_told, value)) or "none"
    words = {True: "yes", False: "no"}
    return words[value] if isinstance(value, bool) else str(value)


def _data(found: FileInspection) -> dict[str, Any]:
    made, graph = found.provenance, found.graph
    return document(
        "inspect",
        {
            "file": str(found.path),
            "format": found.kind.name,
            "bytes": found.bytes,
            "beside": [str(path) for path in found.beside],
            "provenance": asdict(made) if made else None,
            **(input_data(made, made.interface(found.path)) if made else {}),
            "graph": asdict(graph) if graph else None,
            "prepared": asdict(found.prepared) if found.prepared else None,
            "engine": asdict(found.engine) if found.engine else None,
            "ledger": [asdict(row) for row in found.storage],
        },
    )
