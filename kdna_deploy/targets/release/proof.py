"""A release, proved where it lies: its bytes, and what its files answer. PyTorch is not needed.

    is every file there, with the bytes of the manifest?     →   missing, changed
    does every file answer as recorded?                      →   answers differently, cannot be opened

A file that has changed is not run. One whose runtime is not installed is proved by its bytes alone, which is said.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure
from kdna_deploy.evaluation.recorded import ITSELF, Answered, Recorded, judge_answers, read_recorded
from kdna_deploy.evaluation.verify import usual_tolerance
from kdna_deploy.files import file_sha256
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.open import open_session
from kdna_deploy.targets.release.manifest import NAME, Agreed, Manifest, ReleasedModel
from kdna_deploy.targets.release.shipped_files import FileProof, prove_file, unknown_files

REFERENCE = "reference.npz"
_NAMED = 5  # in one note
PROOF_STEPS = ("compare bytes", "compare answers")  # for a listener's plan


@dataclass(frozen=True)
class ModelProof:
    """What a file answers here.

    Attributes:
        runtime: that it was run on; None where it was not run.
        answered: None likewise.
        obstacle: why it was not run, or could not be; empty where it was.
        failed: whether that is a fault of the file, and not a runtime that is missing.
    """

    model: ReleasedModel
    runtime: str | None = None
    answered: Answered | None = None
    obstacle: str = ""
    failed: bool = False

    @property
    def complaint(self) -> str:
        """A sentence; empty where nothing is wrong."""
        file = self.model.file
        if self.failed:
            return f"'{file}' cannot be run: {self.obstacle}"
        if self.answered is None or not self.answered.complaint:
            return ""
        before = "it did when it was shipped" if self.answered.beside == ITSELF else "the trained network does"
        return f"'{file}' does not answer as {before}: {self.answered.complaint}; do not use it on this machine."

    @property
    def note(self) -> str:
        """What a user should know of it, a sentence; empty for nothing."""
        file, then = self.model.file, self.model.runtime
        if self.obstacle and not self.failed:
            return f"{file} was proved by its bytes alone: {self.obstacle}"
        if self.runtime and then and self.runtime != then:
            return f"{file} was shipped with {then}, and {self.runtime} runs it here"
        return ""

    @property
    def proved(self) -> ReleasedModel:
        """The model, with what was found."""
        found = self.answered
        answers = None if found is None else Agreed(found.beside, found.images, found.used)
        return replace(self.model, runtime=self.runtime, answers=answers)


@dataclass(frozen=True)
class Proof:
    """What was found of a release.

    Attributes:
        sha256: of the manifest, which stands for all the rest.
        unknown: what lies in the folder and the manifest does not name.
    """

    folder: Path
    manifest: Manifest
    sha256: str
    files: tuple[FileProof, ...]
    models: tuple[ModelProof, ...]
    unknown: tuple[str, ...] = ()

    @property
    def complaints(self) -> tuple[str, ...]:
        """A sentence for each file with which something is wrong."""
        changed = {one.path for one in self.files if one.complaint}
        # What has changed has its sentence already.
        models = [one.complaint for one in self.models if changed.isdisjoint((*one.model.parts, REFERENCE))]
        return tuple(text for text in (*(one.complaint for one in self.files), *models) if text)

    @property
    def unrun(self) -> str:
        """A sentence where nothing is wrong and nothing was run either, so that bytes alone were proved; else empty."""
        if self.complaints or not self.models or any(one.answered for one in self.models):
            return ""
        return (
            f"No file of '{self.folder}' could be run here, so that nothing but its bytes was proved; install what one "
            "of them needs, and prove it again."
        )

    @property
    def notes(self) -> tuple[str, ...]:
        more = f" and {len(self.unknown) - _NAMED} more" if len(self.unknown) > _NAMED else ""
        unknown = ", ".join(self.unknown[:_NAMED]) + more
        others = [f"not of the release, and not looked at: {unknown}"] if unknown else []
        return tuple(note for note in (*(one.note for one in self.models), *others) if note)


def prove(folder: Path, manifest: Manifest, listener: Listener = SILENT) -> Proof:
    """Prove the release in `folder`, whose `manifest` was read.

    Raises:
        ArtifactError: what its files should answer is damaged, though it has the bytes that were shipped.
    """
    listener.step("compare bytes")
    listener.expect(len(manifest.files), "files")
    files = []
    for one in manifest.files:
        files.append(prove_file(folder, one))
        listener.advance()
    whole = {one.path for one in files if one.state == "as shipped"}
    listener.step("compare answers")
    models = _proved_models(folder, manifest, whole, listener)
    sha256, unknown = file_sha256(folder / NAME), unknown_files(folder, manifest)
    return Proof(folder, manifest, sha256, tuple(files), models, unknown)


def _proved_models(
    folder: Path, manifest: Manifest, whole: Collection[str], listener: Listener
) -> tuple[ModelProof, ...]:
    models = manifest.models
    if REFERENCE not in whole:
        return tuple(_not_run(one, f"what it should answer, '{REFERENCE}', is not as shipped.") for one in models)
    recorded = read_recorded(folder / REFERENCE)
    _check_shapes(folder, manifest, recorded)
    return tuple(
        prove_model(folder, one, recorded, listener)
        if set(one.parts) <= set(whole)
        else _not_run(one, "its files are not as shipped.")
        for one in models
    )


def _check_shapes(folder: Path, manifest: Manifest, recorded: Recorded) -> None:
    """Refuse answers to images of another shape than the network's; no file would be at fault that cannot take them.

    Raises:
        ArtifactError: it is so.
    """
    said = manifest.network.get("image_shape")
    for shape in (list(probe.images.shape[1:]) for probe in recorded.probes):
        if shape != said:
            raise ArtifactError(
                f"'{folder / REFERENCE}' holds images of {'×'.join(map(str, shape))}, which is not the size that "
                f"{NAME} says; copy both again."
            )


def _not_run(model: ReleasedModel, obstacle: str) -> ModelProof:
    return ModelProof(model, obstacle=obstacle, failed=True)


def prove_model(folder: Path, model: ReleasedModel, recorded: Recorded, listener: Listener = SILENT) -> ModelProof:
    """Run a file of the release beside what was recorded."""
    path = folder / model.file
    listener.step(model.file)
    try:
        with open_session(path) as session:
            answered = judge_answers(session, model.file, recorded, usual_tolerance(path))
            return ModelProof(model, session.runtime, answered)
    except RuntimeFailure as error:
        return ModelProof(model, obstacle=str(error))
    except InputError as error:
        return _not_run(model, str(error))
