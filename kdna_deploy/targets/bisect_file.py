"""File → where it first departs from its checkpoint: what `bisect` needs, found from the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kdna_deploy.errors import UsageError
from kdna_deploy.graph.origin import original_network
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.nvidia.engine_record import read_record
from kdna_deploy.runtimes.open import ENGINE, read_provenance
from kdna_deploy.runtimes.prepared import prepared_record
from kdna_deploy.targets.bisect import Bisection, bisect
from kdna_deploy.targets.layer_values import OUTPUT


def bisect_file(
    candidate: Path,
    against: Path | None = None,
    factory: str | None = None,
    listener: Listener = SILENT,
) -> Bisection:
    """Where `candidate` first departs from its checkpoint, which `against` names where it lies elsewhere.

    Nobody can look into an engine, and in a prepared file layers have other names: the ONNX file that it was made from
    is looked into, and where that agrees the engine, or preparing, is at fault.

    Raises:
        UsageError: `against` is no checkpoint, or `candidate` one itself.
        InputError: a file cannot be loaded.
    """
    if against is not None and against.suffix in (".onnx", ".pt2", ENGINE):
        raise UsageError(f"Layers are compared with those of the trained network; '{against}' is no checkpoint.")
    graph, made_of_it = _looked_into(candidate)
    if graph != candidate:
        found = bisect_file(graph, against, factory, listener)
        at_fault = f"{made_of_it} (every layer of {graph.name} agrees)"
        return found if found.layer else replace(found, layer=OUTPUT, stage=at_fault)
    made = read_provenance(candidate)
    return bisect(candidate, original_network(made, candidate, against, factory), made, listener)


def _looked_into(candidate: Path) -> tuple[Path, str]:
    """The file whose layers are compared, and what was made of it."""
    if candidate.suffix == ENGINE:
        return candidate.parent / read_record(candidate).onnx, "the engine"
    prepared = prepared_record(candidate)
    return (prepared.portable(candidate), "the prepared file") if prepared else (candidate, "")
