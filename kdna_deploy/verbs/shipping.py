"""A release, made: each step is one of the verbs, then the manifest, and the proof.

    load → fuse → export (a file a target) → package (a folder a server) → record answers → reports → prove

All of it is written beside its place, and renamed when it has passed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdna_deploy.benchmark.environment import environment
from kdna_deploy.errors import ParityError
from kdna_deploy.evaluation.recorded import Recorded, record_answers, save_recorded
from kdna_deploy.evaluation.verify import usual_tolerance
from kdna_deploy.external_data import external_files
from kdna_deploy.files import file_sha256, new_folder
from kdna_deploy.kinds import Kind, beside_own, named_kind
from kdna_deploy.network.input_size import ASSUMED
from kdna_deploy.network.load import load_network
from kdna_deploy.progress import Listener, Part
from kdna_deploy.runtimes.nvidia.engine_record import record_path
from kdna_deploy.runtimes.open import open_session, read_provenance
from kdna_deploy.selection.judged import judged
from kdna_deploy.targets.release.manifest import (
    NAME,
    Manifest,
    ReleasedFile,
    ReleasedModel,
    ReleasedPackage,
    read_manifest,
)
from kdna_deploy.targets.release.plan import FALLBACK, FILES
from kdna_deploy.targets.release.proof import REFERENCE, prove_model
from kdna_deploy.targets.release.readme import readme
from kdna_deploy.targets.serving.model import check_address
from kdna_deploy.targets.serving.servers import SERVERS
from kdna_deploy.verbs.export import ExportedFile, export
from kdna_deploy.verbs.fuse import FusedNetwork
from kdna_deploy.verbs.load import LoadedNetwork
from kdna_deploy.verbs.package import package
from kdna_deploy.verbs.ship_beside import write_beside
from kdna_deploy.verbs.shipment import Shipment
from kdna_deploy.verbs.sweep_files import Files, proved_of

_RECORD, _REPORT, _PROVE = "record answers", "write reports", "prove"


class _Part(Part):
    """Tells the steps of a verb on, and keeps its notes: they stay in the manifest."""

    def __init__(self, whole: Listener, notes: list[str]) -> None:
        super().__init__(whole)
        self._notes = notes

    def note(self, sentence: str) -> None:
        self._notes.append(sentence)


@dataclass
class _Making:
    """A release that is being made, in `place`."""

    request: Shipment
    place: Path
    files: Files
    listener: Listener
    notes: list[str] = field(default_factory=list)
    exported: dict[str, ExportedFile] = field(default_factory=dict)

    @property
    def part(self) -> Listener:
        return _Part(self.listener, self.notes)

    def fused(self, target: str = FALLBACK) -> FusedNetwork:
        """Fused once for each choice of children."""
        children = self.request.children if FILES[target].shares else "materialize"
        return self.files.fused(children, "keep", self.part)


def shipped(request: Shipment, listener: Listener) -> tuple[Manifest, str]:
    """Write the folder; its manifest, and the SHA-256 of that.

    Raises:
        KdnaError: as the verbs; nothing is written.
    """
    planned = request.planned
    for name in (name for server, files in planned.packages.items() if SERVERS[server].port for name in files):
        check_address(Path(name), request.checkpoint)  # told now, not after all has been made
    servers = tuple(f"{server}/" for server in planned.packages)
    listener.plan(("load", "fuse", *planned.files.values(), *servers, _RECORD, _REPORT, _PROVE))
    listener.step("load")
    network = load_network(request.checkpoint, request.arch, request.factory, request.ema)
    licence = request.licence.name if request.licence else network.checkpoint.training.licence or None
    with new_folder(request.folder) as place:
        files = Files(LoadedNetwork(network, request.size), {}, place=request.folder)
        making = _Making(request, place, files, listener)
        listener.step("fuse")
        fused = making.fused()
        # Two engines may be built of one file.
        models = {one.file: one for target in planned.files for one in _exported(making, target)}.values()
        packages = tuple(_packaged(making, server) for server in planned.packages)
        listener.step(_RECORD)
        recorded = _recorded(making, tuple(models))
        listener.step(_REPORT)
        making.notes += write_beside(place, request, fused, making.exported, licence)
        listener.step(_PROVE)
        proved = tuple(_proved(making, model, recorded) for model in models)
        return _finished(making, proved, packages, licence)


def _exported(making: _Making, target: str) -> list[ReleasedModel]:
    """The file of `target`; of an engine, also the ONNX file that it was built from."""
    request = making.request
    name, words, command = request.planned.files[target], request.words(target), request.export_command(target)
    making.listener.step(name)
    done = export(making.fused(target), making.place / name, **words, listener=making.part)
    making.notes += done.notes
    making.exported[name] = done
    if done.engine is None:
        return [_model(done.path, target, proved_of(done), command)]
    assert done.onnx is not None
    of_engine = judged(done.engine, "its ONNX file") or "; ".join(done.engine.notes)
    return [
        _model(done.onnx.path, target, proved_of(done), command),
        _model(done.path, target, of_engine, command),
    ]


def _model(path: Path, target: str, exported: str, command: str) -> ReleasedModel:
    kind = named_kind(path)
    if kind is Kind.onnx:
        beside = external_files(path)
    else:
        beside = (record_path(path),) if kind is Kind.engine else beside_own(path)
    return ReleasedModel(path.name, target, (path.name, *(one.name for one in beside)), exported, command)


def _packaged(making: _Making, server: str) -> ReleasedPackage:
    making.listener.step(f"{server}/")
    place, names = making.place, making.request.planned.packages[server]
    done = package([place / name for name in names], server, place / server, listener=making.part)
    making.notes += done.package.notes
    known = {file_sha256(place / name): name for name in names}
    inside = {path.relative_to(place).as_posix(): file_sha256(path) for path in _files(place / server)}
    copies = {path: known[digest] for path, digest in inside.items() if digest in known}
    return ReleasedPackage(server, server, copies, making.request.package_command(server))


def _recorded(making: _Making, models: Sequence[ReleasedModel]) -> Recorded:
    """What the trained network answers, and what files in int8 answer themselves."""
    int8 = [one.file for one in models if _rounds_by_design(making.place / one.file)]
    roundoffs = {usual_tolerance(making.place / one.file).roundoff for one in models if one.file not in int8}
    source = making.fused().source
    recorded = record_answers(source.reference, source.graph.image_shape, roundoffs)
    for name in int8:
        with open_session(making.place / name) as session:
            recorded = recorded.with_own(name, session)
    save_recorded(recorded, making.place / REFERENCE)
    return recorded


def _rounds_by_design(path: Path) -> bool:
    """Files in int8; an engine has a tolerance of its own."""
    return named_kind(path) is not Kind.engine and read_provenance(path).options.get("precision") == "int8"


def _proved(making: _Making, model: ReleasedModel, recorded: Recorded) -> ReleasedModel:
    """`model`, as it answers here.

    Raises:
        ParityError: it does not answer as the trained network does.
    """
    found = prove_model(making.place, model, recorded, making.part)
    if found.complaint:
        why = found.obstacle or (found.answered.complaint if found.answered else "")
        raise ParityError(f"'{model.file}' was not proved: {why.rstrip('.')}; nothing was written. Please report this.")
    making.notes += [found.note] if found.note else []
    return found.proved


def _finished(
    making: _Making, models: tuple[ReleasedModel, ...], packages: tuple[ReleasedPackage, ...], licence: str | None
) -> tuple[Manifest, str]:
    """Write the README, and the manifest with all that is in the folder."""
    place, request, here = making.place, making.request, environment()
    manifest = Manifest(
        name=request.planned.name,
        network=_network(making),
        licence=licence,
        targets=request.planned.targets,
        models=models,
        packages=packages,
        files=(),
        commands={"ship": request.command, "verify": request.proving},
        made_with={
            "versions": here.versions,
            "python": here.python,
            "system": here.system,
            "processor": here.processor,
        },
        notes=tuple(dict.fromkeys(making.notes)),
    )
    (place / "README.md").write_text(readme(manifest), encoding="utf-8")
    files = (
        ReleasedFile(path.relative_to(place).as_posix(), path.stat().st_size, file_sha256(path))
        for path in _files(place)
    )
    (place / NAME).write_text(replace(manifest, files=tuple(files)).to_json(), encoding="utf-8")
    return read_manifest(place), file_sha256(place / NAME)


def _network(making: _Making) -> dict[str, object]:
    made = making.fused().source.provenance
    return {
        "checkpoint": made.source,
        "sha256": made.source_sha256,
        "architecture": made.name,
        "parameters": made.parameters,
        "macs": made.macs,
        "image_shape": list(made.image_shape),
        "size_assumed": bool(made.options.get(ASSUMED)),
        "preprocessing": made.preprocessing or None,
        "classes": made.num_classes,
        "recorded_top1": made.recorded_top1,
    }


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
