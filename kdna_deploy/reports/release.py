"""What `ship` tells of a release, and `verify` of one: its files, what they were proved by, and what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdna_deploy.reports.agreement import finite
from kdna_deploy.reports.cells import Cells, Fact
from kdna_deploy.reports.quantities import megabytes
from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.targets.release.manifest import Agreed, Manifest, ReleasedModel
from kdna_deploy.targets.release.proof import ModelProof, Proof
from kdna_deploy.targets.release.shipped_files import STATES
from kdna_deploy.words import counted

_BESIDE = "used: share of what is allowed, of the image and the output that use most of it"


def ship_report(folder: Path, manifest: Manifest, sha256: str) -> Report:
    """Of a folder that was written."""
    size = sum(one.bytes for one in manifest.files)
    files = counted(len(manifest.files) + 1, "file")
    facts = [("written", f"{folder} ({megabytes(size)} in {files})"), *_known(manifest, sha256)]
    rows = [(*_named(one, manifest), *_answers(one.answers)) for one in manifest.models]
    data = {"output": str(folder), "manifest_sha256": sha256, **asdict(manifest)}
    return Report(
        (Facts("Release", facts), _cells("Beside the recorded answers", rows)),
        document("ship", {name: value for name, value in data.items() if name not in ("schema_version", "kind")}),
        manifest.notes,
    )


def proof_report(proof: Proof) -> Report:
    """Of a folder that was looked at again."""
    manifest = proof.manifest
    facts = [("folder", str(proof.folder)), *_known(manifest, proof.sha256), ("bytes", _bytes(proof))]
    facts += [(one.path, one.state) for one in proof.files if one.complaint]
    rows = [(*_named(one.proved, manifest), *_found(one)) for one in proof.models]
    data = {
        "folder": str(proof.folder),
        "manifest_sha256": proof.sha256,
        "passed": not proof.complaints and not proof.unrun,
        "files": [{"path": one.path, "state": one.state} for one in proof.files],
        "models": [_model_data(one) for one in proof.models],
        "unknown": list(proof.unknown),
        "complaints": list(proof.complaints),
        "unrun": proof.unrun or None,
        "notes": list(proof.notes),
    }
    return Report(
        (Facts("Release", facts), _cells("Beside the recorded answers", rows)), document("verify", data), proof.notes
    )


def _known(manifest: Manifest, sha256: str) -> list[Fact]:
    """What a manifest says of the whole."""
    network = manifest.network
    copies = {one.folder: [f"{path} = {file}" for path, file in one.models.items()] for one in manifest.packages}
    return [
        ("manifest", f"SHA-256 {sha256}"),
        ("network", f"{network.get('architecture')}, {network.get('checkpoint')}"),
        ("licence", manifest.licence or "not known"),
        ("targets", ", ".join(manifest.targets)),
        *((f"{folder}/", ", ".join(same)) for folder, same in copies.items()),
    ]


def _bytes(proof: Proof) -> str:
    states = [one.state for one in proof.files]
    told = (f"{states.count(state)} {state}" for state in STATES if state in states)
    return ", ".join(told)


def _cells(title: str, rows: Sequence[tuple[str, ...]]) -> Cells:
    headings = ("file", "runtime", "MB", "images", "used", "")
    return Cells(title, headings, tuple(rows), left=2, caption=_BESIDE)


def _named(model: ReleasedModel, manifest: Manifest) -> tuple[str, ...]:
    parts = [manifest.file(part) for part in model.parts]
    return model.file, model.runtime or "–", f"{sum(part.bytes for part in parts if part) / 1e6:.2f}"


def _answers(answers: Agreed | None) -> tuple[str, str, str]:
    return ("–", "–", "not run") if answers is None else (str(answers.images), f"{answers.used:.1%}", "")


def _found(one: ModelProof) -> Iterable[str]:
    if one.answered is None:
        return ("–", "–", "FAIL" if one.failed else "not run")
    found = one.answered
    return (str(found.images), f"{found.used:.1%}", "FAIL" if found.complaint else "pass")


def _model_data(one: ModelProof) -> dict[str, Any]:
    told = None if one.answered is None else asdict(one.answered).items()
    return {
        "file": one.model.file,
        "runtime": one.runtime,
        "answers": None if told is None else {name: finite(value) for name, value in told},
        "not_run": one.obstacle or None,
        "complaint": one.complaint or None,
    }
