"""File → where it first departs from its checkpoint: what `bisect` needs, found from the file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from kdna_deploy.errors import UsageError
from kdna_deploy.evaluation.verify import verify_files
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
    is looked into, and where that agrees, and the engine or the prepared file does not, they are at fault.

    Raises:
        UsageError: `against` is no checkpoint, or `candidate` one itself.
        InputError: a file cannot be loaded.
    """
    if against is not None and against.suffix in (".onnx", ".pt2", ENGINE):
        raise UsageError(f"Layers are compared with those of the trained network; '{against}' is no checkpoint.")
    graph = _looked_into(candidate)
    if graph != candidate:
        found = bisect_file(graph, against, factory, listener)
        what = "the engine" if candidate.suffix == ENGINE else "the prepared file"
        if found.layer or (candidate.suffix != ENGINE and verify_files(candidate, graph, None).passed):
            return found
        return replace(found, layer=OUTPUT, stage=f"{what} (every layer of {graph.name} agrees)")
    made = read_provenance(candidate)
    return bisect(candidate, original_network(made, candidate, against, factory), made, listener)


def _looked_into(candidate: Path) -> Path:
    """The file whose layers are compared."""
    if candidate.suffix == ENGINE:
        return candidate.parent / read_record(candidate).onnx
    prepared = prepared_record(candidate)
    return prepared.portable(candidate) if prepared else candidate
