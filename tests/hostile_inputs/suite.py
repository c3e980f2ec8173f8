"""All cases, family by family, and those that the tests run.

Some families sweep over a file: a bit after the other flipped, a value after the other replaced. The tests run a few
of each sweep, and everything that stands for itself; `tests.hostile_inputs.report` runs all.
"""

from __future__ import annotations

import functools
from itertools import groupby

from tests.hostile_inputs import archives, checkpoints, onnx_files, own_files, pictures, releases, words
from tests.hostile_inputs.case import Case

LEAST = 1000
PARTS = 20  # that the tests run them in
_STRIDE = 11  # a prime to the kinds of strange values, so that each of them is met
_SWEEPS = {
    *(f"{kind}, damaged" for kind in ("checkpoint", "fused graph", "images", "ONNX file")),
    *(f"fused graph, {part}" for part in ("forbidden operators", "malformed program", "malformed provenance")),
    *("fused graph, weights", "ONNX file, malformed metadata", "engine records", "saved runs"),
    *("prepared files, malformed record", "ONNX file, inspected", "ncnn file, weights damaged"),
    "release, malformed manifest",
    *(f"{kind} file, damaged" for kind in ("MNN", "LiteRT", "ncnn")),
}


@functools.cache
def all_cases() -> tuple[Case, ...]:
    found = [
        case
        for source in (checkpoints, archives, onnx_files, own_files, releases, pictures, words)
        for case in source.cases()
    ]
    return tuple(found)


@functools.cache
def tested() -> tuple[Case, ...]:
    """Every case that stands for itself, and each `_STRIDE`-th of a sweep."""
    swept = [case for case in all_cases() if case.family in _SWEEPS]
    alone = [case for case in all_cases() if case.family not in _SWEEPS]
    return (*alone, *swept[::_STRIDE])


def part(number: int) -> tuple[Case, ...]:
    """Every `PARTS`-th case that is tested: each part takes about the same time."""
    return tested()[number::PARTS]


def families() -> dict[str, int]:
    """How many cases each family has."""
    ordered = sorted(all_cases(), key=lambda case: case.family)
    return {family: len(list(group)) for family, group in groupby(ordered, key=lambda case: case.family)}
