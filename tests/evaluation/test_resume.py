"""An evaluation that is interrupted goes on, to the result that it would have had; and only from its own state."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import kdna_deploy as kd
from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.progress import Listener
from tests.verbs.test_evaluate import PLAIN, network

FILES, BATCH = 20, 3


class Interrupting(Listener):
    """Interrupts after so many batches, and remembers what it heard."""

    def __init__(self, batches: int) -> None:
        self.left = batches
        self.done = 0.0
        self.skipped: list[str] = []
        self.notes: list[str] = []

    def advance(self, done: float = 1) -> None:
        self.done += done
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt

    def skip(self, item: object, reason: str) -> None:
        self.skipped.append(Path(str(item)).name)

    def note(self, sentence: str) -> None:
        self.notes.append(sentence)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two networks, and images of noise of which two cannot be read."""
    rng = np.random.default_rng(0)
    for name in ("net", "other"):
        network(tmp_path / f"{name}.onnx", rng.normal(size=(3, 7)))
    (tmp_path / "data").mkdir()
    for n in range(FILES):
        Image.fromarray(rng.integers(0, 256, (8, 8, 3), np.uint8)).save(tmp_path / "data" / f"{n:02}.png")
    for n in (4, 11):
        (tmp_path / "data" / f"{n:02}.png").write_bytes(b"no image")
    (tmp_path / "data" / "val.txt").write_text("\n".join(f"{n:02}.png {n % 7}" for n in range(FILES)))
    return tmp_path


def evaluate(place: Path, **words: Any) -> dict[str, Any]:
    words = {"against": place / "other.onnx", "batch_size": BATCH, "resume": place / "state.json", **PLAIN, **words}
    return kd.evaluate(place / "net.onnx", place / "data", **words).to_dict()


def interrupted(place: Path, batches: int = 2, **words: Any) -> Interrupting:
    listener = Interrupting(batches)
    with pytest.raises(KeyboardInterrupt):
        evaluate(place, listener=listener, **words)
    return listener


@pytest.mark.parametrize("batches", range(1, 7))
def test_the_result_is_that_of_an_evaluation_in_one_piece(place: Path, batches: int) -> None:
    whole = evaluate(place, resume=None)
    interrupted(place, batches)
    again = Interrupting(100)
    assert evaluate(place, listener=again) == whole
    assert again.done == whole["images"] == 18 and sorted(again.skipped) == ["04.png", "11.png"]
    assert len(again.notes) == 1 and "went on after" in again.notes[0]
    assert not (place / "state.json").exists()


def test_it_may_be_interrupted_again_and_again(place: Path) -> None:
    whole = evaluate(place, resume=None)
    interrupted(place)
    for _ in range(4):
        interrupted(place)  # the first that is heard are the images before
    assert evaluate(place) == whole


def test_an_evaluation_that_nothing_interrupts_leaves_no_file(place: Path) -> None:
    assert evaluate(place) == evaluate(place, resume=None)
    assert not (place / "state.json").exists()


def test_sums_that_an_interruption_left_within_a_batch_are_not_written(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = evaluate(place, resume=None)
    interrupted(place, 3)
    kept = (place / "state.json").read_text()

    def cut(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("kdna_deploy.evaluation.accuracy._add_reference", cut)
        interrupted(place, 100)
    assert (place / "state.json").read_text() == kept
    assert evaluate(place) == whole


def change_model(place: Path) -> None:
    shutil.copy(place / "other.onnx", place / "net.onnx")


def change_reference(place: Path) -> None:
    shutil.copy(place / "net.onnx", place / "other.onnx")


def change_image(place: Path) -> None:
    os.utime(place / "data" / "07.png", (0, 0))


def change_label(place: Path) -> None:
    table = place / "data" / "val.txt"
    table.write_text(table.read_text().replace("07.png 0", "07.png 1"))


@pytest.mark.parametrize(
    ("change", "words", "said"),
    [
        (change_model, {}, "of an evaluation that differs in the model; give the same command"),
        (change_reference, {}, "differs in the file of `against`"),
        (change_image, {}, "differs in the images or their classes"),
        (change_label, {}, "differs in the images or their classes"),
        (None, {"limit": 10}, "differs in the images or their classes"),
        (None, {"batch_size": 4}, "differs in the options"),
        (None, {"color": "BGR"}, "differs in the options"),
        (None, {"against": None}, "differs in the file of `against` and a version of kdna-deploy or of a runtime;"),
    ],
)
def test_the_state_of_another_evaluation_is_refused_and_left_alone(
    place: Path, change: Any, words: dict[str, Any], said: str
) -> None:
    interrupted(place)
    kept = (place / "state.json").read_text()
    if change:
        change(place)
    with pytest.raises(InputError, match=said):
        evaluate(place, **words)
    assert (place / "state.json").read_text() == kept


@pytest.mark.parametrize(
    "damage",
    [
        lambda state: "{",
        lambda state: "[1]",
        lambda state: json.dumps({**state, "kind": "bench"}),
        lambda state: json.dumps({**state, "position": -1}),
        lambda state: json.dumps({**state, "position": 5}),
        lambda state: json.dumps({**state, "sums": {**state["sums"], "signal": None}}),
        lambda state: json.dumps({**state, "sums": {**state["sums"], "confusion": [[0, 1]]}}),
        lambda state: json.dumps({name: value for name, value in state.items() if name != "identity"}),
    ],
)
def test_a_file_that_is_no_state_is_refused_and_left_alone(place: Path, damage: Any) -> None:
    interrupted(place)
    text = damage(json.loads((place / "state.json").read_text()))
    (place / "state.json").write_text(text)
    with pytest.raises(InputError, match=r"state\.json' is (no state of an evaluation|a damaged state)"):
        evaluate(place)
    assert (place / "state.json").read_text() == text


def test_a_place_that_cannot_be_written_is_refused_before_any_work(place: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no folder .*; make it, or choose another with `resume`"):
        evaluate(place, resume=place / "gone" / "state.json")
    with pytest.raises(UsageError, match="is the input itself; choose another name with `resume`"):
        evaluate(place, resume=place / "net.onnx")
