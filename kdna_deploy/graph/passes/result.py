"""What a pass hands back: how many sites it changed, and what it refused with the reason."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Refusal:
    """A place where a pass did not apply. `site` is the module path, `reason` completes "not folded: …"."""

    site: str
    reason: str


@dataclass(frozen=True)
class PassResult:
    changed: int
    refused: tuple[Refusal, ...] = ()
