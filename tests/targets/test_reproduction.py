"""Equal input, options and versions give equal bytes, and `export --check` tells what is not equal."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from PIL import Image

import kdna_deploy as kd
from kdna_deploy.errors import ArtifactError, KdnaError, UsageError
from kdna_deploy.external_data import external_files
from kdna_deploy.graph.provenance import KEY
from kdna_deploy.images.record import images_sha256
from kdna_deploy.targets.reproduction import Ingredients, Reproduction, check_reproduction
from tests import every_format
from tests.conftest import REPOSITORY, Cli
from tests.every_format import CHECKPOINT, FACTORY, IMAGES, INT8_FLOAT

# The first test makes every format, twice: half a minute on an idle core.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.usefixtures("traced_once")]

CALIBRATED = ("frozen.onnx", "half.onnx", "int8.onnx", INT8_FLOAT, "int8, TensorRT.onnx")
OTHERS = (
    *("float32.onnx", "fixed.onnx", "stored as half.onnx", "stored as int8.onnx", "stored as int4.onnx"),
    *("external.onnx", "shared.onnx", "on the fly.onnx", "pixels.onnx"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the ingredients, and every format in ``made``. Never change what is in it."""
    folder = tmp_path_factory.mktemp("one")
    every_format.ingredients(folder)
    (folder / "made").mkdir()
    every_format.make(folder, folder / "made")
    return folder


def weights_of(made: Path, name: str) -> Path:
    (weights,) = external_files(made / "made" / name)
    return weights


def check(made: Path, path: Path, **others: Path) -> Reproduction:
    """Against the ingredients in `made`, with images where the name of the file says that there were some."""
    images = made / IMAGES if path.name in CALIBRATED else None
    given = {"model": made / CHECKPOINT, "calibration": images, **others}
    return check_reproduction(path, Ingredients(**given, factory=FACTORY))


def test_every_format_has_equal_bytes_in_another_process_folder_and_order_of_hashes(made: Path, tmp_path: Path) -> None:
    """At another time, too; zip archives, for one, could hold it."""
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.every_format", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=500)
    assert done.returncode == 0, done.stderr
    again, first = json.loads(done.stdout.splitlines()[-1]), every_format.digests(made / "made")
    assert len(first) >= 14
    assert [name for name in first if again[name] != first[name]] == []
    assert again.keys() == first.keys()


@pytest.mark.parametrize("name", [*OTHERS, *CALIBRATED, "half, random.onnx"])
def test_a_file_is_what_this_version_makes_of_its_checkpoint(
    made: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under another name, in another folder, and of images in a file of another name."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "files"
    folder.mkdir()
    path = folder / ("renamed.onnx" if name == "float32.onnx" else name)
    shutil.copy(made / "made" / name, path)
    if name == "external.onnx":
        shutil.copy(weights_of(made, name), folder)
    given = {}
    if name in CALIBRATED:
        given["calibration"] = folder / "others.npy"
        shutil.copy(made / IMAGES, given["calibration"])
    found = check(made, path, **given)
    assert found.identical, found.differences
    beside = {entry.name for entry in folder.iterdir()} - {path.name, "others.npy"}
    assert beside == ({weights_of(made, name).name} if name == "external.onnx" else set())
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.slow
def test_so_is_one_with_images_of_a_folder_and_class_names_of_a_file(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images").mkdir()
    for number, pixels in enumerate(np.random.default_rng(0).integers(0, 256, (10, 12, 12, 3), np.uint8)):
        Image.fromarray(pixels).save(tmp_path / "images" / f"{number}.png")
    (tmp_path / "names.txt").write_text("ant\nbee\ncat\ndog\nemu\n")
    words = {"precision": "int8", "calibration": "images", "std": "0.5", "labels": "names.txt", "input_size": 12}
    file = kd.export(made / CHECKPOINT, "int8.onnx", model=FACTORY, **words)  # type: ignore[arg-type]
    found = check(made, file.path, calibration=tmp_path / "images")
    assert found.identical, found.differences
    assert None not in {one.name for one in kd.run(file, "images/0.png").images[0].classes}


def test_a_fused_graph_will_do_in_place_of_its_checkpoint(made: Path) -> None:
    fused = made / "made" / "net.fused.pt2"
    assert check(made, made / "made" / "float32.onnx", model=fused).identical


def change_weight(model: onnx.ModelProto) -> None:
    tensor = max(model.graph.initializer, key=lambda t: len(t.raw_data))
    value = numpy_helper.to_array(tensor).copy()
    value.flat[7] += 0.25
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def change_node(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Softplus"


def edited(**changes: object) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == KEY)
        entry.value = json.dumps({**json.loads(entry.value), **changes}, sort_keys=True)

    return edit


def option(**changes: object) -> Callable[[onnx.ModelProto], None]:
    def edit(model: onnx.ModelProto) -> None:
        entry = next(entry for entry in model.metadata_props if entry.key == KEY)
        there = json.loads(entry.value)
        there["options"] |= changes
        entry.value = json.dumps(there, sort_keys=True)

    return edit


def document(model: onnx.ModelProto) -> None:
    model.graph.doc_string = "edited"


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 19


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (change_weight, "weights differ: '.*' by up to 2.5e-01, .* of its largest value$"),
        (change_node, r"graph differs: node \d+ is Softplus '.*' in the file, Relu '.*' here"),
        (other_opset, "graph differs: the operator set is ONNX 19 in the file, ONNX 18 here"),
        (edited(versions={"onnx": "1.0"}), "versions of packages differ: .*onnx 1.0 then, .* now"),
        (edited(parameters=5), "metadata differs: parameters is 5 in the file, [0-9]+ here"),
        (option(comment="mine"), "metadata differs: options.comment is mine in the file, missing here"),
        (option(opset=19), "graph differs: the operator set is ONNX 18 in the file, ONNX 19 here"),
        (document, "the bytes differ, but graph, weights and metadata do not"),
    ],
)
def test_what_is_not_equal_is_named(
    made: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], expected: str
) -> None:
    model = onnx.load(made / "made" / "float32.onnx")
    change(model)
    onnx.save_model(model, tmp_path / "net.onnx")
    found = check(made, tmp_path / "net.onnx", model=made / "made" / "net.fused.pt2")
    assert not found.identical
    with pytest.raises(AssertionError, match=expected):
        raise AssertionError(found.differences[0])


def test_a_weight_beside_the_model_is_compared(made: Path, tmp_path: Path) -> None:
    for file in (made / "made" / "external.onnx", weights_of(made, "external.onnx")):
        shutil.copy(file, tmp_path)
    weights = tmp_path / weights_of(made, "external.onnx").name
    values = np.fromfile(weights, np.float32)
    values[11] += 1.0
    values.tofile(weights)
    (difference,) = check(made, tmp_path / "external.onnx").differences
    assert difference.startswith("weights differ: ") and "by up to 1.0e+00" in difference


def test_other_ingredients_are_noticed(made: Path, tmp_path: Path) -> None:
    torch.save({"state_dict": every_format.Gated().state_dict()}, tmp_path / "other.pth")
    np.save(tmp_path / "other.npy", np.zeros((20, *every_format.SHAPE), np.float32))
    files = made / "made"
    assert check(made, files / "float32.onnx", model=tmp_path / "other.pth").differences == (
        "it was made from another checkpoint",
    )
    (images,) = check(made, files / "int8.onnx", calibration=tmp_path / "other.npy").differences
    assert images.startswith("it was calibrated with other images than those in ")


@pytest.mark.parametrize(
    ("change", "error", "expected"),
    [
        (option(opset="18"), ArtifactError, "options.opset is no integer"),
        (option(opset=7), ArtifactError, "`opset=7` is not supported"),
        (option(batch=10**9), ArtifactError, "too large"),
        (option(target="moon"), ArtifactError, "options.target is none of"),
        (option(simplify="no"), ArtifactError, "options.simplify is no true or false"),
        (option(int8=[1]), ArtifactError, "int8 is no record"),
        (option(children=["share"]), ArtifactError, "children is none of"),
        (edited(options={}), ArtifactError, "batch is missing"),
        (edited(image_shape=[3, -1, 12]), ArtifactError, "image_shape.1 is out of range"),
        (edited(image_shape=[3, 12]), ArtifactError, "image_shape is a list of another length"),
        (lambda model: model.ClearField("metadata_props"), ArtifactError, "kdna-deploy did not write it"),
    ],
)
def test_provenance_that_makes_no_sense_is_refused_in_a_sentence(
    made: Path, tmp_path: Path, change: Callable[[onnx.ModelProto], None], error: type[KdnaError], expected: str
) -> None:
    model = onnx.load(made / "made" / "float32.onnx")
    change(model)
    onnx.save_model(model, tmp_path / "net.onnx")
    with pytest.raises(error, match=expected) as raised:
        check(made, tmp_path / "net.onnx")
    assert "\n" not in str(raised.value)


def test_what_the_file_cannot_hold_is_asked_for(made: Path, tmp_path: Path) -> None:
    files, given = made / "made", Ingredients(made / CHECKPOINT)
    with pytest.raises(UsageError, match=r"add `model='tests\.gated:Gated'`"):
        check_reproduction(files / "float32.onnx", given)
    with pytest.raises(UsageError, match=f"give them again: `calibration='{IMAGES}'`"):
        check_reproduction(files / "int8.onnx", Ingredients(made / CHECKPOINT, factory=FACTORY))
    with pytest.raises(UsageError, match="made without calibration images"):
        check(made, files / "float32.onnx", calibration=made / IMAGES)
    with pytest.raises(UsageError, match="takes an ONNX file"):
        check(made, files / "net.fused.pt2")
    with pytest.raises(ArtifactError, match="There is no file"):
        check(made, tmp_path / "none.onnx")
    (tmp_path / "net.onnx").write_bytes(b"nothing of the kind")
    with pytest.raises(ArtifactError):
        check(made, tmp_path / "net.onnx")


def test_the_digest_of_images_is_of_their_bytes_in_order(tmp_path: Path) -> None:
    for folder, names in (("a", ("1.png", "2.png")), ("b", ("3.png", "4.png")), ("c", ("2.png", "1.png"))):
        (tmp_path / folder).mkdir()
        for name, content in zip(names, (b"one", b"two"), strict=True):
            (tmp_path / folder / name).write_bytes(content)
        (tmp_path / folder / "notes.txt").write_text(folder)
    one, other, turned = (images_sha256(tmp_path / folder) for folder in "abc")
    assert one == other != turned


def test_the_command_says_so_with_its_exit_code(made: Path, tmp_path: Path, cli_here: Cli) -> None:
    path, checkpoint = made / "made" / "float32.onnx", made / CHECKPOINT
    model = ("--model", FACTORY)
    done = cli_here("export", checkpoint, "--check", path, *model, "--json", PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["kind"], told["identical"], told["differences"]) == ("check", True, [])
    refused = cli_here("export", checkpoint, "--check", path, *model, "--opset", "18", PYTHONPATH=str(REPOSITORY))
    assert refused.returncode == 2 and "leave --opset out" in refused.stderr
    changed = onnx.load(path)
    change_weight(changed)
    onnx.save_model(changed, tmp_path / "net.onnx")
    done = cli_here("export", checkpoint, "--check", "net.onnx", *model, PYTHONPATH=str(REPOSITORY))
    assert done.returncode == 1
    assert "is not what kdna-deploy" in done.stderr and "weights differ" in done.stderr
    assert [entry.name for entry in tmp_path.iterdir()] == ["net.onnx"]
