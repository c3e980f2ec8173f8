"""All cases, family by family."""

from __future__ import annotations

import functools
from itertools import groupby

from tests.hostile_inputs import archives, checkpoints, onnx_files, pictures, words
from tests.hostile_inputs.case import Case

LEAST = 1000
PARTS = 40  # that the tests run them in


@functools.cache
def all_cases() -> tuple[Case, ...]:
    found = [case for source in (checkpoints, archives, onnx_files, pictures, words) for case in source.cases()]
    return tuple(found)


def part(number: int) -> tuple[Case, ...]:
    """Every `PARTS`-th case: each part takes about the same time."""
    return all_cases()[number::PARTS]


def families() -> dict[str, int]:
    """How many cases each family has."""
    ordered = sorted(all_cases(), key=lambda case: case.family)
    return {family: len(list(group)) for family, group in groupby(ordered, key=lambda case: case.family)}
