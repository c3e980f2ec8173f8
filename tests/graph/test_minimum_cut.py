"""The cut is the cheapest there is, and among equals the one that leaves least to compute."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdna_deploy.graph.minimum_cut import minimum_cut

Edge = tuple[int, int]


@st.composite
def graphs(draw: st.DrawFn) -> tuple[dict[int, int], list[Edge], list[int], list[int]]:
    size = draw(st.integers(2, 7))
    costs = {vertex: draw(st.integers(0, 5)) for vertex in range(size)}
    pairs = list(combinations(range(size), 2))
    edges = draw(st.lists(st.sampled_from(pairs), unique=True))
    sources = draw(st.lists(st.sampled_from(range(size)), min_size=1, unique=True))
    sinks = draw(st.lists(st.sampled_from(range(size)), min_size=1, unique=True))
    return costs, edges, sources, sinks


def is_cut(chosen: set[int], edges: list[Edge], sources: list[int], sinks: list[int]) -> bool:
    reached = {vertex for vertex in sources if vertex not in chosen}
    for a, b in sorted(edges):  # in topological order
        if a in reached and b not in chosen:
            reached.add(b)
    return not reached & set(sinks)


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True)
@given(graph=graphs())
def test_no_choice_of_vertices_is_a_cheaper_cut(graph: tuple[dict[int, int], list[Edge], list[int], list[int]]) -> None:
    costs, edges, sources, sinks = graph
    found = minimum_cut(costs, edges, sources, sinks)
    assert is_cut(found, edges, sources, sinks)
    choices = [set(c) for size in range(len(costs) + 1) for c in combinations(costs, size)]
    cheapest = min(sum(costs[v] for v in c) for c in choices if is_cut(c, edges, sources, sinks))
    assert sum(costs[v] for v in found) == cheapest


def test_of_equal_cuts_the_one_nearest_to_the_sinks_is_taken() -> None:
    assert minimum_cut({"a": 2, "b": 2, "c": 2}, [("a", "b"), ("b", "c")], ["a"], ["c"]) == {"c"}


def test_a_parent_is_stored_once_its_children_outweigh_it() -> None:
    costs = {"parent": 9, "m1": 3, "m2": 3, "child1": 9, "child2": 9}
    edges = [("parent", "child1"), ("m1", "child1"), ("parent", "child2"), ("m2", "child2")]
    sources, sinks = ["parent", "m1", "m2"], ["child1", "child2"]
    assert minimum_cut(costs, edges, sources, sinks) == {"parent", "m1", "m2"}
    assert minimum_cut({**costs, "m2": 8}, edges, sources, sinks) == {"child1", "child2"}
