"""The cheapest way to store constants that others are computed from: a minimum vertex cut.

    sources → … → sinks        choose vertices of least total cost so that every way from a source to a sink meets one

With the trained constants as sources, the weights of the layers as sinks and the room that a value takes as its cost,
the cut is what to store. Everything behind it is computed. Where several cuts cost the same, the one nearest to the
sinks is taken: least is left to compute. By augmenting paths (Edmonds and Karp): graphs of some hundred vertices.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Mapping
from typing import TypeVar

Vertex = TypeVar("Vertex", bound=Hashable)
# A vertex is two: all of its inflow passes the edge from (vertex, IN) to (vertex, OUT), which carries its cost.
_IN, _OUT = 0, 1
_SOURCE, _SINK = "source", "sink"


def minimum_cut(
    costs: Mapping[Vertex, int],
    edges: Iterable[tuple[Vertex, Vertex]],
    sources: Iterable[Vertex],
    sinks: Iterable[Vertex],
) -> set[Vertex]:
    """The vertices of the cheapest cut between `sources` and `sinks`; both may be cut themselves."""
    infinite = 1 + sum(costs.values())
    room: dict[Hashable, dict[Hashable, int]] = defaultdict(lambda: defaultdict(int))

    def join(a: Hashable, b: Hashable, capacity: int) -> None:
        room[a][b] += capacity
        room[b][a] += 0

    for vertex, cost in costs.items():
        join((vertex, _IN), (vertex, _OUT), cost)
    for source, user in edges:
        join((source, _OUT), (user, _IN), infinite)
    for vertex in sources:
        join(_SOURCE, (vertex, _IN), infinite)
    for vertex in sinks:
        join((vertex, _OUT), _SINK, infinite)
    while (path := _path(room)) is not None:
        flow = min(room[a][b] for a, b in path)
        for a, b in path:
            room[a][b] -= flow
            room[b][a] += flow
    near = _reaching_sink(room)
    return {vertex for vertex in costs if (vertex, _OUT) in near and (vertex, _IN) not in near}


def _path(room: Mapping[Hashable, Mapping[Hashable, int]]) -> list[tuple[Hashable, Hashable]] | None:
    """A shortest way from source to sink on which something can still flow."""
    came: dict[Hashable, Hashable] = {_SOURCE: _SOURCE}
    queue = deque([_SOURCE])
    while queue and _SINK not in came:
        at = queue.popleft()
        for to, left in room[at].items():
            if left > 0 and to not in came:
                came[to] = at
                queue.append(to)  # type: ignore[arg-type]
    if _SINK not in came:
        return None
    path, at = [], _SINK
    while at != _SOURCE:
        path.append((came[at], at))
        at = came[at]  # type: ignore[assignment]
    return path  # type: ignore[return-value]


def _reaching_sink(room: Mapping[Hashable, Mapping[Hashable, int]]) -> set[Hashable]:
    """From where something can still flow to the sink."""
    found: set[Hashable] = {_SINK}
    queue: deque[Hashable] = deque(found)
    while queue:
        to = queue.popleft()
        for at in room[to]:  # every edge has its reverse
            if at not in found and room[at][to] > 0:
                found.add(at)
                queue.append(at)
    return found
