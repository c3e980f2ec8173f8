"""Where everything on the page comes from: files with their hashes, versions, machines, and the commands again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kdna_deploy.benchmark.environment import processor
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.page.commands import checking_command, making_command, preparing_command
from kdna_deploy.reports.page.evidence import Evidence, FileEvidence
from kdna_deploy.reports.page.parts import Command, Heading, Part, facts, table
from kdna_deploy.reports.page.summary import made_with


def provenance_parts(evidence: Evidence) -> tuple[Part, ...]:
    """Hashes, machines and commands."""
    hashes = (table(_hashes(evidence)),) if evidence.files or evidence.sweeps else ()
    machines = [("this page", _machine(evidence.machine.record))]
    machines += [(f"measured {name}", _machine(result.environment.record)) for name, result in evidence.runs]
    machines += [(f"swept in {name}", _machine(sweep.machine)) for name, sweep in evidence.sweeps]
    versions = _versions(evidence.machine.versions)
    commands = tuple(command for file in evidence.artifacts for command in _commands(file))
    swept = tuple(
        Command(one.name, one.command)
        for _, sweep in evidence.sweeps
        for one in sweep.candidates
        if one.command and one.state == "measured"
    )
    head = (Heading("To make the files again, in the folder of the checkpoint"),) if commands or swept else ()
    return (*hashes, *facts("Machines", machines), *facts("Versions", versions), *head, *commands, *swept)


def _hashes(evidence: Evidence) -> Cells:
    rows = [(file.path.name, file.sha256, *_origin(file), f"{file.size:,}") for file in evidence.files]
    for _, sweep in evidence.sweeps:
        network = sweep.network
        rows.append((network.checkpoint, network.sha256, "–", "–", "–"))
        rows += [
            (one.name, one.sha256, network.checkpoint, network.sha256, f"{one.figures.bytes:,}")
            for one in sweep.measured
            if one.figures
        ]
    headings = ("file", "SHA-256", "made from", "SHA-256 of that", "bytes")
    return Cells("Files, with the weights that lie beside them in their bytes", headings, tuple(rows), left=4)


def _origin(file: FileEvidence) -> tuple[str, str]:
    made = file.provenance
    return (made.source or "a network in memory", made.source_sha256 or "–") if made else ("–", "–")


def _machine(record: Mapping[str, Any]) -> str:
    said = [processor(str(record.get("cpu", "not told")), record.get("flags") or ())]
    said += [f"{record.get('cores', '?')} cores"]
    said += [f"{record['gpu']}"] if record.get("gpu") else []
    said += [f"load {record['load']}"] if record.get("load") is not None else []
    said += [str(record[name]) for name in ("system",) if record.get(name)]
    versions = record.get("versions")
    if isinstance(versions, Mapping):
        names = ("onnxruntime", "openvino", "ncnn", "MNN", "ai-edge-litert", "executorch", "torch")
        runtimes = [f"{name} {versions[name]}" for name in names if name in versions]
        said += runtimes
    return ", ".join(said)


def _versions(versions: Mapping[str, str]) -> list[tuple[str, str]]:
    return [("here", ", ".join(f"{name} {version}" for name, version in versions.items()))]


def _commands(file: FileEvidence) -> tuple[Command, ...]:
    made = file.provenance
    if made is None or named_kind(file.path) is Kind.engine:
        return ()
    if file.portable:
        return (Command(f"{file.path.name}: prepared", preparing_command(file.portable, file.path)),)
    name = f"{file.path.name}: {made_with(made)}"
    found = (Command(name, making_command(made, file.path)),)
    if named_kind(file.path) is not Kind.onnx:
        return found
    return (*found, Command(f"{file.path.name}: whether it is that, byte for byte", checking_command(made, file.path)))
