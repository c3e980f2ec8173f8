"""Candidates: every combination once, names and files of their own, and a command line that says what they are."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from kdna_deploy.selection.candidate import REFERENCE, Candidate, command_line, grid
from kdna_deploy.selection.rules import RULES, Facts, ruled_out
from tests.cli.handed import parsed

ALL = Facts(shares=True, freezes=True, calibrated=True)
IMAGES = {"calibration": Path("my images"), "mean": "0.5", "crop": "32x40"}


def test_the_grid_has_every_combination_once_and_begins_with_the_reference() -> None:
    assert len(set(grid())) == len(grid()) == 4 * 2 * 2 * (2 + 1)  # prepared for ONNX Runtime alone
    assert grid()[0] == REFERENCE
    for what in ("name", "simplicity"):
        assert len({getattr(one, what) for one in grid()}) == len(grid())
    assert len({one.file("net") for one in grid()}) == len(grid())
    assert min(grid(), key=lambda one: one.simplicity) == REFERENCE


def test_groups_are_whole_and_a_prepared_file_comes_after_its_portable_one() -> None:
    names = [one.group for one in grid()]
    assert len(set(names)) == sum(one != before for one, before in zip(names, [None, *names], strict=False))
    for place, one in enumerate(grid()):
        assert one.portable == one or grid().index(one.portable) < place


@pytest.mark.parametrize(
    ("candidate", "name", "file"),
    [
        (REFERENCE, "float32", "net.float32.onnx"),
        (
            Candidate("fp32", "int8", "share", "freeze", "openvino"),
            "int8 weights shared frozen OpenVINO",
            "net.int8-weights.shared.frozen.xml",
        ),
        (
            Candidate("int8", "fp32", "share", "freeze", "onnxruntime", prepared=True),
            "int8 frozen prepared",
            "net.int8.frozen.prepared.onnx",
        ),
    ],
)
def test_a_candidate_is_called_by_what_it_is(candidate: Candidate, name: str, file: str) -> None:
    assert (candidate.name, candidate.file("net")) == (name, file)


@pytest.mark.parametrize("candidate", grid(), ids=lambda one: one.name)
def test_the_command_of_a_candidate_says_just_what_it_is(candidate: Candidate) -> None:
    loading = {"layout": "layer4=FS-FSF", "channel": False, "reductions": (4, 24), "ema": True, "input_size": "64x64"}
    line = command_line(Path("a net.pt"), Path("to/x.onnx"), {**loading, **candidate.all_words(IMAGES)})
    program, command, *words = shlex.split(line)
    said = parsed(command, words)
    assert (program, said["model_file"], said["output"]) == ("kdna-deploy", Path("a net.pt"), Path("to/x.onnx"))
    assert (said["layout"], said["channel"], said["reductions"], said["ema"]) == ("layer4=FS-FSF", False, "4,24", True)
    assert (said["precision"].value, said["weights"].value) == (candidate.precision, candidate.weights)
    attention = said["attention"].value if said["attention"] else "keep"
    assert (attention, said["prepare"]) == (candidate.attention, candidate.prepared)
    assert said["openvino"] is (candidate.runtime == "openvino")
    usual = "share" if candidate.precision == "int8" else "materialize"
    assert (said["children"].value if said["children"] else usual) == candidate.children
    uses_images = candidate.attention == "freeze" or "int8" in (candidate.precision, candidate.weights)
    assert said["calibration"] == (Path("my images") if uses_images else None)
    assert said["crop"] == ("32x40" if uses_images else None)


def alive(known: Facts) -> list[Candidate]:
    return [one for one in grid() if not ruled_out(one, known)]


def test_every_rule_drops_something_that_no_earlier_one_does() -> None:
    cases = (ALL, Facts(False, True, True), Facts(True, False, True), Facts(True, True, False))
    reasons = {ruled_out(one, known) for known in cases for one in grid()}
    assert reasons == {"", *(rule.says for rule in RULES)}
    assert REFERENCE in alive(Facts(False, False, False, "no OpenVINO"))


def test_what_is_dropped_leaves_one_that_is_no_worse() -> None:
    assert len(alive(ALL)) == 32
    # Prepared files: float32 and int8, attention kept and frozen.
    assert [one.name for one in alive(ALL) if one.prepared] == [
        *("float32 prepared", "int8 prepared", "float32 frozen prepared", "int8 frozen prepared")
    ]
    # int8 stays where nothing can be shared, with codes of the children's own.
    plain = alive(Facts(shares=False, freezes=True, calibrated=True))
    assert {one.children for one in plain} == {"materialize"}
    assert any(one.precision == "int8" for one in plain)


def test_without_calibration_images_what_needs_them_is_dropped() -> None:
    left = alive(Facts(True, True, calibrated=False))
    assert {one.attention for one in left} == {"keep"} and {one.precision for one in left} == {"fp32"}


def test_without_openvino_its_candidates_are_dropped_for_that_reason_alone() -> None:
    known = Facts(True, True, True, openvino_missing="get it")
    assert {ruled_out(one, known) for one in grid() if one.runtime == "openvino"} == {"get it"}
    assert {one.runtime for one in alive(known)} == {"onnxruntime"}
