"""What is measured of a file: its accuracy goes on from where it was interrupted, if that can be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.evaluation.evaluate import DataRequest
from kdna_deploy.evaluation.workers.opened import Workers
from kdna_deploy.images.preprocessing import AskedPreprocessing
from kdna_deploy.network.configuration import UNSAID
from kdna_deploy.progress import SILENT
from kdna_deploy.selection.measuring import Measuring
from kdna_deploy.selection.store import Evaluated
from tests.verbs.test_evaluate import network

BLUE_IS_RED = [[1, 0], [0, 0], [1, 0]]


@pytest.fixture
def measuring(tmp_path: Path) -> Measuring:
    """On two images of red and two of blue."""
    for label, colour in enumerate(((255, 0, 0), (0, 0, 255))):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        for n in range(2):
            Image.new("RGB", (8, 8), colour).save(tmp_path / "data" / str(label) / f"{n}.png")
    return Measuring(
        checkpoint=tmp_path / "net.pt",
        arch=UNSAID,
        factory=None,
        ema=False,
        size=None,
        data=DataRequest(tmp_path / "data"),
        preprocessing=AskedPreprocessing((0.0,) * 3, (1.0,) * 3),
        threads=1,
        settings=Settings(),
        workers=Workers(1),
        baseline_folder=tmp_path,
    )


@pytest.mark.parametrize("content", ["{", '{"kind": "evaluation-state", "schema_version": 1}', "[]"])
def test_a_state_that_is_damaged_is_begun_anew(tmp_path: Path, measuring: Measuring, content: str) -> None:
    model, other = network(tmp_path / "a.onnx", BLUE_IS_RED), network(tmp_path / "b.onnx", np.eye(3)[:, [0, 2]])
    state = tmp_path / "a.onnx.evaluation"
    state.write_text(content)
    assert measuring.evaluated(model, other, state, SILENT) == Evaluated(4, 0.5, 0.5, 1.0)
    assert not state.exists()


def test_what_an_accuracy_depends_on_is_every_image_and_the_table_of_them(tmp_path: Path, measuring: Measuring) -> None:
    images, table = tmp_path / "data", tmp_path / "data" / "val.csv"
    table.write_text("file,label\n0/0.png,0\n")
    of_table = replace(measuring, data=DataRequest(table))
    folder_told, table_told = measuring.images_told, of_table.images_told
    (images / ".venv").mkdir()
    Image.new("RGB", (8, 8)).save(images / ".venv" / "logo.png")
    assert (measuring.images_told, of_table.images_told) == (folder_told, table_told)
    (images / "notes.txt").write_text("another table, which may be read in a folder")
    assert measuring.images_told != folder_told and of_table.images_told == table_told
    table.write_text("file,label\n0/0.png,1\n")
    assert of_table.images_told != table_told
    table_told = of_table.images_told
    (images / "0" / "0.png").unlink()
    assert of_table.images_told != table_told


def test_images_that_a_table_names_elsewhere_are_among_them(tmp_path: Path, measuring: Measuring) -> None:
    image, lists = tmp_path / "data" / "0" / "0.png", tmp_path / "lists"
    lists.mkdir()
    (lists / "val.csv").write_text(f"file,label\n{image},0\n")
    of_table = replace(measuring, data=DataRequest(lists / "val.csv"))
    told = of_table.images_told
    assert of_table.images_told == told
    Image.new("RGB", (9, 9)).save(image)
    assert of_table.images_told != told
