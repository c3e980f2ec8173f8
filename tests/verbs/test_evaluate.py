"""`evaluate` from beginning to end, on a network that tells red from blue."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import kdna_deploy as kd
from kdna_deploy.errors import InputError, UsageError
from tests.cli.handed import invoke

PLAIN: dict[str, Any] = {"mean": (0.0,) * 3, "std": (1.0,) * 3}
PLAINLY = ("--mean", "0,0,0", "--std", "1,1,1")


def network(path: Path, weight: Any) -> Path:
    """One whose logits are the mean colour times `weight` [3, classes]."""
    weight = np.asarray(weight, np.float32)
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", weight.shape[1]])],
        [numpy_helper.from_array(weight, "weight")],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.fixture
def red_or_blue(tmp_path: Path) -> Path:
    return network(tmp_path / "net.onnx", [[1, 0], [0, 0], [0, 1]])


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """Ten red and ten blue images in one folder, four of them with the other's class in `labels.csv`."""
    folder = tmp_path / "colours"
    folder.mkdir()
    lines = ["file,label"]
    for n in range(20):
        Image.new("RGB", (8, 8), (200, 0, n) if n < 10 else (n, 0, 200)).save(folder / f"{n:02}.png")
        lines.append(f"{n:02}.png,{int((n < 10) == (n % 5 == 0))}")
    (folder / "labels.csv").write_text("\n".join(lines))
    return folder


def test_a_table_gives_the_labels_and_the_result_says_so(red_or_blue: Path, colours: Path) -> None:
    (colours / "notes.md").write_text("x")
    found = kd.evaluate(red_or_blue, colours, **PLAIN)
    assert found.top1 == 0.8
    data = found.to_dict()
    assert (data["layout"], data["left_out"]) == ("table 'labels.csv', classes as numbers", ["1 other file"])
    assert (data["images"], data["available"], data["limit"], data["seed"]) == (20, 20, None, None)
    line = f"images 20 in 2 of 2 classes, {colours}: table 'labels.csv', classes as numbers; left out: 1 other file"
    assert line in " ".join(str(found).split())


def test_a_sample_is_drawn_and_its_seed_recorded(red_or_blue: Path, colours: Path) -> None:
    first, same, other = (kd.evaluate(red_or_blue, colours, limit=6, seed=seed, **PLAIN) for seed in (1, 1, 5))
    data = first.to_dict()
    assert (data["images"], data["available"], data["limit"], data["seed"]) == (6, 20, 6, 1)
    assert [one["images"] for one in data["classes"]] == [3, 3]
    assert data == same.to_dict() != other.to_dict()
    assert "6 of 20, drawn with seed 1, in 2 of 2 classes" in " ".join(str(first).split())
    assert kd.evaluate(red_or_blue, colours, limit=1, **PLAIN).to_dict()["seed"] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"limit": 0}, "`limit` is 0"),
        ({"seed": 1}, "says which images `limit` draws"),
        ({"fail_if": "top1"}, "is not METRIC OPERATOR NUMBER, such as 'top1<99'; metrics: top1, top5, agreement"),
        ({"fail_if": "ratio>1"}, "metrics: top1"),
        ({"fail_if": "top1<0.99"}, "compares per cent with 0.99; write 'top1<99'"),
        ({"fail_if": "agreement<99"}, "is a figure beside another model; name that with `against`"),
    ],
)
def test_words_that_make_no_sense_are_refused(red_or_blue: Path, colours: Path, words: Any, said: str) -> None:
    with pytest.raises(UsageError) as refused:
        kd.evaluate(red_or_blue, colours, **words)
    assert said in str(refused.value)


def test_a_table_of_a_table_and_a_folder_as_a_table_are_refused(red_or_blue: Path, colours: Path) -> None:
    table = colours / "labels.csv"
    assert kd.evaluate(red_or_blue, table, **PLAIN).top1 == 0.8
    with pytest.raises(UsageError, match="is a table already"):
        kd.evaluate(red_or_blue, table, ground_truth=table)
    with pytest.raises(UsageError, match="is a folder; give a table"):
        kd.evaluate(red_or_blue, colours, ground_truth=colours)
    with pytest.raises(InputError, match=r"There is no file '.*gone\.txt'"):
        kd.evaluate(red_or_blue, colours, synsets=colours / "gone.txt")
    table.write_text("file,label\n00.png,2\n")
    with pytest.raises(InputError, match="line 2: there is no class 2, for the network has 0 to 1; give each"):
        kd.evaluate(red_or_blue, colours)


def test_every_figure_can_be_a_gate(red_or_blue: Path, colours: Path, tmp_path: Path) -> None:
    green = network(tmp_path / "green.onnx", [[1, 0], [0, 0], [0, 2]])  # recognises the same, with other logits
    blind = network(tmp_path / "blind.onnx", [[1, 0], [0, 0], [0, 0]])  # takes what is blue for red as well
    limits = ("top1<81", "top1<80", "agreement<100", "drop>0", "sqnr<30", "cosine<1", "top5<99")
    found = kd.evaluate(red_or_blue, colours, against=green, fail_if=limits, **PLAIN)
    # The blue halves of the images are as good as alone in the noise: 10 · log₁₀((200² + 4 · 200²) / 200²) = 6.99.
    assert found.crossed[0] == "`fail_if` 'top1<81': net.onnx has 80."
    assert [one.split("'")[1] for one in found.crossed] == ["top1<81", "sqnr<30", "cosine<1", "top5<99"]
    assert found.evaluation.result.agreement is not None
    assert found.evaluation.result.agreement.sqnr == pytest.approx(6.99, abs=0.01)
    assert found.crossed[3] == "`fail_if` 'top5<99': net.onnx has no such figure."
    found = kd.evaluate(blind, colours, against=red_or_blue, fail_if=limits, **PLAIN)
    assert [one.split("'")[1] for one in found.crossed][:4] == ["top1<81", "top1<80", "agreement<100", "drop>0"]
    assert found.crossed[3] == "`fail_if` 'drop>0': blind.onnx has 30."
    assert kd.evaluate(red_or_blue, colours, against=blind, fail_if="drop>0", **PLAIN).crossed == ()  # it is better


def test_a_gate_ends_the_command_with_1_after_its_document(
    red_or_blue: Path, colours: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ("evaluate", red_or_blue, "--data", colours, *PLAINLY, "--json")
    assert invoke(*command, "--fail-if", "top1<80") == 0
    capsys.readouterr()
    assert invoke(*command, "--fail-if", "top1<80", "--fail-if", "top1<=80") == 1
    told = capsys.readouterr()
    assert json.loads(told.out)["top1"] == 0.8
    assert told.err.splitlines()[-1] == "error: --fail-if 'top1<=80': net.onnx has 80."
