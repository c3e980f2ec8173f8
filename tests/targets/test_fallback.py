"""What an export gives up, in which order, what it says of it, and what no attempt can mend."""

from __future__ import annotations

import pytest

from kdna_deploy.errors import (
    ArtifactError,
    ExportError,
    InputError,
    KdnaError,
    ParityError,
    RuntimeFailure,
    UsageError,
)
from kdna_deploy.targets.fallback import Attempt, first_that_works
from kdna_deploy.targets.onnx.export import attempts
from kdna_deploy.targets.onnx.options import OnnxOptions

ATTEMPTS = (Attempt("asked"), Attempt("plainer", "not simplified"), Attempt("plain", "spelled for any"))


def failing(**errors: Exception) -> tuple[list[str], object]:
    """What was tried, and a `make` that fails with `errors` and else returns its choice."""
    tried: list[str] = []

    def make(choice: str) -> str:
        tried.append(choice)
        if choice in errors:
            raise errors[choice]
        return choice

    return tried, make


def test_what_works_at_once_has_no_note() -> None:
    tried, make = failing()
    assert first_that_works(ATTEMPTS, make) == ("asked", ())
    assert tried == ["asked"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ParityError("It departs by 1."), "the file departs beyond the tolerance"),
        (ExportError("The ONNX model is invalid: a name twice; please report this."), "The ONNX model is invalid"),
        (ArtifactError("ONNX Runtime cannot open 'x': no such kernel."), "cannot open 'x': no such kernel"),
        (InputError("x takes images 1×3×2×2 and cannot run on 2×3×2×2: no."), "cannot run on"),
        (IndexError("list index out of range\nat line 3"), "IndexError: list index out of range"),
        (ValueError(), "ValueError"),
    ],
)
def test_each_thing_given_up_is_said_with_its_reason(error: Exception, reason: str) -> None:
    tried, make = failing(asked=error, plainer=error)
    result, notes = first_that_works(ATTEMPTS, make)
    assert (result, tried) == ("plain", ["asked", "plainer", "plain"])
    assert [note.partition(": ")[0] for note in notes] == ["not simplified", "spelled for any"]
    assert all(reason in note and "\n" not in note and "report" not in note for note in notes)


def test_the_error_of_the_plain_attempt_is_the_one_that_a_user_sees() -> None:
    last = ParityError("the plain one departs")
    _, make = failing(asked=ExportError("invalid"), plainer=ValueError("odd"), plain=last)
    with pytest.raises(ParityError) as raised:
        first_that_works(ATTEMPTS, make)
    assert raised.value is last


def test_a_transform_that_stumbles_on_every_attempt_is_one_sentence() -> None:
    _, make = failing(**dict.fromkeys(("asked", "plainer", "plain"), KeyError("dilations")))
    with pytest.raises(ExportError, match=r"^The file cannot be made: KeyError: 'dilations'; please report"):
        first_that_works(ATTEMPTS, make)


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no"),
        RuntimeFailure("no"),
        KdnaError("disk full"),
        OSError("gone"),
        MemoryError(),
        KeyboardInterrupt(),
    ],
)
def test_what_no_attempt_can_mend_is_not_tried_again(error: BaseException) -> None:
    tried, make = failing(asked=error)  # type: ignore[arg-type]
    with pytest.raises(type(error)):
        first_that_works(ATTEMPTS, make)
    assert tried == ["asked"]


@pytest.mark.parametrize(
    ("options", "tried"),
    [
        (OnnxOptions(), [(True, "cpu"), (False, "cpu"), (False, "any")]),
        (OnnxOptions(simplify=False), [(False, "cpu"), (False, "any")]),
        (OnnxOptions(target="tensorrt"), [(True, "tensorrt"), (False, "tensorrt")]),
        (OnnxOptions(target="any", simplify=False), [(False, "any")]),
    ],
)
def test_simplification_is_given_up_first_and_the_spelling_second(
    options: OnnxOptions, tried: list[tuple[bool, str]]
) -> None:
    assert [(a.choice.simplify, a.choice.target) for a in attempts(options)] == tried
    assert [bool(a.without) for a in attempts(options)] == [False] + [True] * (len(tried) - 1)
