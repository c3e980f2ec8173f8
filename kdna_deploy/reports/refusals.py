"""What was refused, a sentence a reason: many layers of a network are refused for the same one."""

from __future__ import annotations

from collections.abc import Iterable

from kdna_deploy.graph.passes import Refusal


def by_reason(refusals: Iterable[Refusal], where: str = "") -> list[str]:
    """ "a, b (pass): reason" of each reason; `where` is the part in brackets, if any."""
    sites: dict[str, list[str]] = {}
    for refusal in refusals:
        sites.setdefault(refusal.reason, []).append(refusal.site)
    brackets = f" ({where})" if where else ""
    return [f"{', '.join(named)}{brackets}: {reason}" for reason, named in sites.items()]
