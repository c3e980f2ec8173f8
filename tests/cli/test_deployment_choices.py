"""Children and channel attention as a user asks for them on the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from kdna_deploy.graph.file import save_fused
from tests.conftest import SAMPLES, Cli
from tests.samples import fused_sample

SAMPLE = SAMPLES / "digits_resnet18_quarter.pth.tar"
DIGITS = SAMPLES / "digits"
SMALL = ("--input-size", "64")


@pytest.mark.slow
def test_shared_children_are_kept_from_fuse_to_export_and_changed_on_request(cli_here: Cli, tmp_path: Path) -> None:
    shutil.copy(SAMPLE, tmp_path / "ckpt.pt")
    fused = json.loads(cli_here("fuse", "ckpt.pt", *SMALL, "--children", "share", "--json").stdout)
    assert fused["children"] == "share"
    assert fused["ledger"]["storage"]["kernels"] < fused["ledger"]["storage"]["convolutions"]
    shared = json.loads(cli_here("export", "--json").stdout)
    assert [stage["stage"] for stage in shared["ledger"]] == [
        "checkpoint",
        "fused graph",
        "ONNX file",
        "ONNX Runtime, optimised",
    ]
    full = json.loads(cli_here("export", "--children", "materialize", "-o", "full.onnx", "--json").stdout)
    assert full["bytes"] > 1.5 * shared["bytes"]
    # What was multiplied out cannot be taken apart: it is fused again from the checkpoint, and says so.
    own, output = fused_sample(), tmp_path / "full.fused.pt2"
    save_fused(own.graph, own.provenance.beside(output, tmp_path / "ckpt.pt"), output)
    again = cli_here("export", "full.fused.pt2", "--children", "share", "-o", "again.onnx", "--json")
    assert "fused again from ckpt.pt" in again.stderr
    assert json.loads(again.stdout)["bytes"] == pytest.approx(shared["bytes"], rel=0.01)


@pytest.mark.slow
def test_frozen_attention_is_measured_reported_and_never_called_equivalent(cli_here: Cli, tmp_path: Path) -> None:
    images = tmp_path / "images"
    shutil.copytree(DIGITS, images)
    (images / "0" / "broken.png").write_bytes(b"not an image")
    frozen = ("--attention", "freeze", "--calibration", "images")
    table = cli_here("export", SAMPLE, *SMALL, *frozen, "-o", "frozen.onnx")
    assert table.returncode == 0, table.stderr
    assert "NOT equivalent" in table.stdout
    assert "broken.png" in table.stderr
    assert "attention frozen" in table.stdout
    data = json.loads(cli_here("export", SAMPLE, *SMALL, *frozen, "-o", "frozen.onnx", "--json").stdout)
    assert data["equivalent"] is False
    assert data["output_change"]["images"] == 50
    assert len(data["gates"]) == 6
    assert not {"Mul", "Sigmoid"} & set(data["nodes"])
    (entry,) = onnx.load(tmp_path / "frozen.onnx").metadata_props
    recorded = json.loads(entry.value)["options"]["calibration"]
    assert (recorded["images"], recorded["count"], recorded["color"]) == ("images", 50, "RGB")
    assert recorded["mean"] == [0.485, 0.456, 0.406]
    threshold = sorted(gate["variance"] for gate in data["gates"])[2]
    partial = ("--freeze-below", str(threshold))
    some = json.loads(cli_here("export", SAMPLE, *SMALL, *frozen, *partial, "-o", "some.onnx", "--json").stdout)
    assert [gate["frozen"] for gate in some["gates"]].count(True) == 2
    assert some["nodes"]["Mul"] == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code", "cause"),
    [
        (("--attention", "freeze"), 2, "--calibration"),
        (("--attention", "drop"), 2, "--yes-drop"),
        (("--calibration", "images"), 2, "--attention"),
        (("--freeze-below", "1"), 2, "--attention"),
        (("--attention", "freeze", "--calibration", "nowhere"), 3, "There is no file or folder 'nowhere'"),
        (("--attention", "freeze", "--calibration", "empty"), 3, "too few images: 0"),
        (("--attention", "freeze", "--calibration", "nan.npy"), 3, "NaN"),
        (("--attention", "freeze", "--calibration", "small.npy"), 3, "[n, 3, 64, 64]"),
        (("--attention", "freeze", "--calibration", "nan.npy", "--mean", "x"), 2, "--mean 'x'"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(
    cli_here: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, cause: str
) -> None:
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "nan.npy", np.full((2, 3, 64, 64), np.nan, np.float32))
    np.save(tmp_path / "small.npy", np.zeros((2, 3, 8, 8), np.float32))
    before = sorted(tmp_path.iterdir())
    ran = cli_here("fuse", SAMPLE, *SMALL, *arguments)
    assert ran.returncode == code
    (sentence,) = [line for line in ran.stderr.splitlines() if line.startswith("error:")]
    assert cause in sentence
    assert "Traceback" not in ran.stderr
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.slow
def test_sharing_a_frozen_graph_is_refused_rather_than_unfreezing_it(cli_here: Cli, tmp_path: Path) -> None:
    sample, output = fused_sample(), tmp_path / "net.fused.pt2"
    frozen = sample.provenance.with_options(channel_attention="freeze")
    save_fused(sample.graph, frozen.beside(output, SAMPLE), output)
    refused = cli_here("export", "net.fused.pt2", "--children", "share")
    assert refused.returncode == 2
    assert "fuse the checkpoint again" in refused.stderr
    assert not (tmp_path / "net.onnx").exists()
