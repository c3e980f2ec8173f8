"""No input ends in an internal error, writes, executes, or takes memory as it pleases."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.hostile_inputs.case import INPUT, Case, run
from tests.hostile_inputs.samples import CHECKPOINT, FUSED, MODEL, ONNX, SIZE
from tests.hostile_inputs.suite import LEAST, PARTS, all_cases, families, part, tested

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="memory is limited and measured as Linux does it"),
]


def test_there_are_a_thousand_and_no_two_are_one() -> None:
    assert len(tested()) >= LEAST
    assert {case.family for case in tested()} == families().keys()
    assert sum(families().values()) == len(all_cases())
    twice = [name for name, count in Counter(case.id for case in all_cases()).items() if count > 1]
    assert not twice, twice


@pytest.mark.parametrize("number", range(PARTS))
def test_hostile_inputs(number: int, tmp_path: Path) -> None:
    failed = []
    for case in part(number):
        outcome = run(case, tmp_path)
        if outcome.complaints:
            failed.append(f"{case.id}\n    {'; '.join(outcome.complaints)}\n    {outcome.stderr[:300]}")
    assert not failed, "\n".join(failed)


@pytest.mark.parametrize("name", [CHECKPOINT, FUSED, ONNX])
def test_what_the_inputs_are_made_from_is_sound(name: str, tmp_path: Path) -> None:
    """So that refusals are due to what was changed."""
    size = ("--input-size", SIZE) if name == CHECKPOINT else ()
    arguments = ("verify", name, "--against", CHECKPOINT, *MODEL, *size)
    outcome = run(Case("sound", name, arguments, lambda _: None, frozenset({0})), tmp_path)
    assert not outcome.complaints, outcome.stderr


def _leaves_a_file(folder: Path) -> None:
    (folder / "factory_that_writes.py").write_text("def build():\n    open('ran', 'w').close()\n    raise ValueError\n")


def test_what_is_written_is_noticed(tmp_path: Path) -> None:
    arguments = ("inspect", CHECKPOINT, "--model", "factory_that_writes:build")
    outcome = run(Case("canary", "a file", arguments, _leaves_a_file, frozenset({INPUT, 2})), tmp_path)
    assert any("wrote ['ran']" in complaint for complaint in outcome.complaints), outcome.complaints


def _takes_memory(folder: Path) -> None:
    source = (
        "import numpy\ndef build():\n    taken = numpy.ones(1 << 29, numpy.uint8)\n    raise ValueError(len(taken))\n"
    )
    (folder / "factory_that_takes.py").write_text(source)


def test_memory_is_noticed(tmp_path: Path) -> None:
    arguments = ("inspect", CHECKPOINT, "--model", "factory_that_takes:build")
    outcome = run(Case("canary", "memory", arguments, _takes_memory, frozenset({INPUT, 2})), tmp_path)
    assert any(complaint.startswith("took 5") for complaint in outcome.complaints), outcome.complaints
