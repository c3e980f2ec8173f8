"""Files that return a backbone's stage outputs: what is in them, what they are judged by, what refuses them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor

import kdna_deploy as kd
from kdna_deploy.errors import ArtifactError, KdnaError, ParityError
from kdna_deploy.graph.file import load_fused, save_fused
from kdna_deploy.graph.graph import CONVOLUTIONS, calls, constant
from kdna_deploy.runtimes.nvidia.onnx_input import read_onnx
from kdna_deploy.runtimes.ort import OrtSession
from tests.network.test_stages import NECK, narrow, saved
from tests.test_architectures import trained

pytestmark = pytest.mark.slow
SIZE = 32
IMAGES = torch.randn(3, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@dataclass(frozen=True)
class Files:
    """A detector's checkpoint, and what was made of it."""

    checkpoint: Path
    fused: Path
    onnx: Path
    maps: tuple[Tensor, ...]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("stages")
    torch.manual_seed(0)
    network = trained(narrow("resnet18", "C3,C5").build())
    with torch.no_grad():
        maps = network(IMAGES)
    made = Files(
        saved(network, folder / "det.pth", "backbone.", **NECK), folder / "a.fused.pt2", folder / "a.onnx", maps
    )
    kd.fuse(made.checkpoint, made.fused, outputs="C3,C5", input_size=SIZE)
    kd.export(made.fused, made.onnx)
    return made


def test_they_are_named_in_the_file_and_what_the_network_returns(files: Files) -> None:
    with OrtSession(files.onnx, threads=1) as session:
        assert session.stage_names == ("C3", "C5")
        for got, expected in zip(session.run_all(IMAGES.numpy()), files.maps, strict=True):
            assert np.abs(got - expected.numpy()).max() <= 1e-5 * expected.abs().max()


def test_no_classifier_is_in_the_file(files: Files) -> None:
    model = onnx.load(files.onnx)
    assert {tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 2} == set()
    assert not [tensor.name for tensor in model.graph.initializer if tensor.name.startswith(("fc", "neck", "rpn"))]


@pytest.mark.parametrize(("kind", "against"), [("onnx", None), ("fused", None), ("onnx", "checkpoint")])
def test_it_is_verified_output_by_output(files: Files, kind: str, against: str | None) -> None:
    """Beside a checkpoint, too, that knows nothing of outputs."""
    done = kd.verify(getattr(files, kind), against=getattr(files, against) if against else None)
    assert done.passed
    rows = done.to_dict()["agreements"]
    assert [row["stage"] for row in rows] == ["C3", "C5"] * (len(rows) // 2)
    assert {row["same_top1"] for row in rows} == {None}


def test_a_stage_that_departs_is_named(files: Files, tmp_path: Path) -> None:
    """A filter of the last stage's last kernel, by half of it."""
    opened = load_fused(files.fused)
    weight = constant(calls(opened.graph.module, CONVOLUTIONS)[-1].args[1])  # type: ignore[arg-type]
    weight.data[3] *= 1.5
    save_fused(opened.graph, opened.provenance.beside(tmp_path / "b", files.checkpoint), tmp_path / "b.fused.pt2")
    done = kd.verify(tmp_path / "b.fused.pt2", bisect=True)
    assert done.bisection is not None
    assert done.bisection.layer.startswith("layer4")
    assert "channel 3 of C5 differs" in done.complaint
    assert {row["stage"] for row in done.to_dict()["agreements"] if not row["passed"]} == {"C5"}
    with pytest.raises(ParityError, match="channel 3 of C5 differs"):
        kd.export(tmp_path / "b.fused.pt2", tmp_path / "b.onnx")
    assert not (tmp_path / "b.onnx").exists()


def test_it_is_not_the_network_of_other_outputs(files: Files, tmp_path: Path) -> None:
    one = tmp_path / "one.onnx"
    kd.export(files.checkpoint, one, outputs="C5", input_size=SIZE, simplify=False)
    with pytest.raises(KdnaError, match=r"one\.onnx returns C5, a\.onnx returns C3, C5"):
        kd.verify(one, against=files.onnx)


def test_inspection_tells_their_shapes(files: Files) -> None:
    told = kd.load(files.checkpoint, input_size=SIZE).inspect().to_dict()
    assert told["outputs"] == {"C2": [4, 8, 8], "C3": [8, 4, 4], "C4": [16, 2, 2], "C5": [32, 1, 1]}
    assert told["num_classes"] == 0


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda f, out: kd.export(f.fused, out, precision="int8", calibration=out.parent), "judged by logits"),
        (lambda f, out: kd.export(f.fused, out, weights="int4"), "judged by logits"),
        (lambda f, out: kd.export(f.fused, out, labels=out.parent / "names.txt"), "have no classes"),
        (lambda f, out: kd.export(f.checkpoint, out, attention="drop"), "measured on logits"),
        (lambda f, out: kd.run(f.onnx, out.parent / "0.png"), "of a backbone, not logits"),
        (lambda f, out: kd.evaluate(f.onnx, data=out.parent), "of a backbone, not logits"),
    ],
    ids=["int8", "int4", "labels", "drop", "run", "evaluate"],
)
def test_what_is_told_by_logits_refuses_it(
    files: Files, tmp_path: Path, use: Callable[[Files, Path], Any], message: str
) -> None:
    from PIL import Image

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (SIZE, SIZE)).save(tmp_path / name / "0.png")
    Image.new("RGB", (SIZE, SIZE)).save(tmp_path / "0.png")
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    with pytest.raises(KdnaError, match=message):
        use(files, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_no_engine_is_built_of_it(files: Files) -> None:
    with pytest.raises(ArtifactError, match="to one output"):
        read_onnx(files.onnx)
