"""What a page is to be made of, told apart by what files hold; imports nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.input_files import MODELS, Kind, check_input
from kdna_deploy.kinds import named_kind
from kdna_deploy.words import parameters, said


@dataclass(frozen=True)
class Inputs:
    """Files, by what they hold."""

    checkpoints: tuple[Path, ...] = ()
    artifacts: tuple[Path, ...] = ()
    runs: tuple[Path, ...] = ()
    sweeps: tuple[Path, ...] = ()


def told_apart(given: Sequence[Path]) -> Inputs:
    """Files by what they hold; one that is named twice counts once.

    Raises:
        InputError: one is not there, may not be read, or is nothing that a page is made of.
    """
    found: dict[str, list[Path]] = {"checkpoints": [], "artifacts": [], "runs": [], "sweeps": []}
    seen: set[Path] = set()
    for path in given:
        kind = _kind(path)
        if path.resolve() not in seen:
            found[kind].append(path)
        seen.add(path.resolve())
    return Inputs(**{kind: tuple(paths) for kind, paths in found.items()})


def check_used(found: Inputs, words: Mapping[str, object]) -> None:
    """Refuse `words` of networks and files where none was named.

    Raises:
        UsageError: some were said.
    """
    if not (found.checkpoints or found.artifacts) and (names := said(words)):
        concern = "concerns" if len(names) == 1 else "concern"
        raise UsageError(
            f"{parameters(names)} {concern} networks and files; name a checkpoint or a file as well, or leave that out."
        )


def _kind(path: Path) -> str:
    if path.suffix == ".json":
        check_input(path, (Kind.saved_run,), "report")
        return _json_kind(path)
    check_input(path, MODELS, "report")
    return "checkpoints" if named_kind(path) is Kind.checkpoint else "artifacts"


def _json_kind(path: Path) -> str:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        kind = data.get("kind") if isinstance(data, dict) else None
    except (ValueError, RecursionError):
        raise InputError(f"'{path}' is no JSON, or damaged; save it again.") from None
    except OSError as error:
        raise InputError(f"'{path}' may not be read: {(error.strerror or str(error)).lower()}.") from error
    found = {"bench": "runs", "sweep": "sweeps"}.get(kind if isinstance(kind, str) else "")
    if found is None:
        raise InputError(
            f"'{path}' is neither a run that `bench(save=...)` wrote nor what `sweep(save=...)` did; give one of "
            "these, a checkpoint or an artifact."
        )
    return found
