"""The client of a package: what a server answers it is what `run` answers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

import kdna_deploy as kd
from kdna_deploy.images.class_names import imagenet_classes
from kdna_deploy.images.preprocessing import AskedPreprocessing
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model, record, save
from tests.targets.serving.conftest import SIZE, write_graph
from tests.targets.serving.protocol_server import served

pytestmark = pytest.mark.slow
MADE = f"=> (float[n, 3, {SIZE}, {SIZE}] scaled)"
# What the network was trained on, of pixels: ImageNet's mean and deviation.
NORMALISED = """{
    full = Constant <value = float {255.0}> ()
    mean = Constant <value = float[1, 3, 1, 1] {0.485, 0.456, 0.406}> ()
    deviation = Constant <value = float[1, 3, 1, 1] {0.229, 0.224, 0.225}> ()
    numbers = Cast <to = 1> (%s)
    shares = Div (numbers, full)
    around = Sub (shares, mean)
    scaled = Div (around, deviation)
}"""


def send(folder: Path, image: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", folder / "send.py", image, *words]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8", env={"PYTHONUTF8": "1"})


def printed(done: subprocess.CompletedProcess[str]) -> list[str]:
    assert done.returncode == 0, done.stderr
    return re.sub(" +", " ", done.stdout).splitlines()


def classes_of_run(file: Path, image: Path) -> list[str]:
    (found,) = kd.run(file, image).images
    return [f" {one.probability:.2%} {one}" for one in found.classes]


@pytest.mark.parametrize("name", ["net", "two", "pixels"])
def test_the_readme_sends_an_image_and_gets_the_classes_of_run(files: Path, tmp_path: Path, name: str) -> None:
    done = kd.package([files / f"{one}.onnx" for one in ("net", "two", "pixels")], "triton", tmp_path / "models")
    assert "\n    python3 send.py photo.jpg\n" in (done.path / "README.md").read_text(encoding="utf-8")
    with served(done.path / name / "1" / "model.onnx", name) as url:
        sent = send(done.path, files / "photo.png", "--model", name, "--url", url)
    assert printed(sent) == classes_of_run(files / f"{name}.onnx", files / "photo.png")


@pytest.mark.parametrize("name", ["ten", "many", "half"])
def test_it_names_as_many_classes_as_run_and_by_the_same_names(files: Path, tmp_path: Path, name: str) -> None:
    done = kd.package(files / f"{name}.onnx", "triton", tmp_path / "models")
    with served(files / f"{name}.onnx", name) as url:
        sent = printed(send(done.path, files / "photo.png", "--url", url))
    assert sent == classes_of_run(files / f"{name}.onnx", files / "photo.png")
    assert len(sent) == (3 if name == "half" else 5)
    assumed = [note for note in done.package.notes if "names its classes" in note]
    assert assumed == (["nothing in many.onnx names its classes; assumed the 1000 of ImageNet"] * (name == "many"))
    if name == "many":
        labels = (done.path / "many" / "labels.txt").read_text(encoding="utf-8")
        assert labels.splitlines() == list(imagenet_classes())


def test_of_sixteen_bits_it_keeps_those_that_run_keeps(files: Path, tmp_path: Path) -> None:
    folder = kd.package(files / "net.onnx", "triton", tmp_path / "models").path
    noise = np.random.default_rng(3).integers(0, 1 << 16, (SIZE, SIZE), np.uint16)
    with served(files / "net.onnx", "net") as url:
        for suffix in ("png", "tiff"):
            Image.fromarray(noise).save(image := tmp_path / f"grey.{suffix}")
            assert printed(send(folder, image, "--url", url)) == classes_of_run(files / "net.onnx", image)
        for number, (content, told) in enumerate(((noise, {262: 0}), (noise.astype(np.float32), {}))):
            Image.fromarray(content).save(image := tmp_path / f"{number}.tiff", tiffinfo=told)
            done = send(folder, image, "--url", url)
            said = f"'{image}' has more than 8 bits a channel, and no white is told; convert it to 8 bits.\n"
            assert (done.returncode, done.stdout, done.stderr) == (1, "", said)


def test_what_returns_no_classes_is_told_in_a_sentence_by_both(files: Path, tmp_path: Path) -> None:
    shape = f"[n, 3, {SIZE}, {SIZE}]"
    text = f"net (float{shape} x) => (float{shape} C2, float{shape} C3) {{ C2 = Relu (x) C3 = Abs (x) }}"
    path = write_graph(tmp_path / "maps.onnx", text)
    done = kd.package(path, "kserve-model-server", tmp_path / "models")
    assert "send.py shows no classes of maps, which answers with no row of logits" in done.package.notes
    with served(path, "maps") as url:
        sent = send(done.path, files / "photo.png", "--url", url)
    said = f"The model returns C2 [1, 3, {SIZE}, {SIZE}], C3 [1, 3, {SIZE}, {SIZE}], which are no classes; "
    assert (sent.returncode, sent.stdout, sent.stderr) == (1, "", f"{said}call infer() of this file for the arrays.\n")
    assert not any(
        "send.py" in note for note in kd.package(files / "net.onnx", "triton", tmp_path / "net").package.notes
    )


@pytest.mark.parametrize(
    ("first", "given"),
    [
        (f"prep (uint8[n, 3, {SIZE}, {SIZE}] pixels) {MADE} {NORMALISED % 'pixels'}", "nchw"),
        (
            f"prep (uint8[n, {SIZE}, {SIZE}, 3] pixels) {MADE} "
            f"{NORMALISED.replace('{', '{ planes = Transpose <perm = [0, 3, 1, 2]> (pixels)', 1) % 'planes'}",
            "nhwc",
        ),
    ],
    ids=["nchw", "nhwc"],
)
def test_an_ensemble_is_sent_what_its_first_file_takes(files: Path, tmp_path: Path, first: str, given: str) -> None:
    prep = write_graph(tmp_path / "prep.onnx", first)
    folder = kd.package([prep, files / "net.onnx"], "triton", tmp_path / "models").path
    known = json.loads((folder / "send.json").read_text(encoding="utf-8"))["models"]
    assert (list(known), known["ensemble_net"]["layout"]) == (["ensemble_net", "prep", "net"], given)
    expected = classes_of_run(files / "net.onnx", files / "photo.png")
    with served(files / "net.onnx", "ensemble_net", prep) as url:
        assert printed(send(folder, files / "photo.png", "--model", "ensemble_net", "--url", url)) == expected
    with served(files / "net.onnx", "net") as url:
        assert printed(send(folder, files / "photo.png", "--url", url)) == expected  # the one that the README names


def test_images_of_no_known_size_are_told_in_a_sentence(files: Path, tmp_path: Path) -> None:
    path = write_graph(
        tmp_path / "any.onnx", "net (float[n, 3, h, w] x) => (float[n, 3] y) { p = GlobalMaxPool (x) y = Flatten (p) }"
    )
    folder = kd.package(path, "triton", tmp_path / "models").path
    with served(path, "any") as url:
        sent = send(folder, files / "photo.png", "--url", url)
    said = "Nothing tells the size of the images that any takes; write it into send.json.\n"
    assert (sent.returncode, sent.stdout, sent.stderr) == (1, "", said)


GREY = f"net (float[n, 1, {SIZE}, {SIZE}] x) => (float[n, 3] y) <float[3, 1, 1, 1] w = {{1, 2, 3}}>"
AVERAGED = "{ c = Conv (x, w) p = GlobalAveragePool (c) y = Flatten (p) }"


@pytest.mark.parametrize("ours", [False, True])
def test_a_network_of_one_channel_is_sent_grey_images(files: Path, tmp_path: Path, ours: bool) -> None:
    path = write_graph(tmp_path / "grey.onnx", f"{GREY} {AVERAGED}")
    if ours:  # which tells the channels where the graph does not
        model, made = onnx.load(path), provenance_of_model(read_model(files / "net.onnx"), files)
        assert made is not None
        record(model, replace(made, image_shape=(1, SIZE, SIZE), preprocessing={}, class_names=[]))
        save(model, path)
    done = kd.package(path, "triton", tmp_path / "models")
    assumed = AskedPreprocessing(color="L").over()
    assert f"nothing in grey.onnx tells how images are prepared; assumed {assumed}" in done.package.notes
    with served(path, "grey") as url:
        sent = printed(send(done.path, files / "photo.png", "--url", url))
    (found,) = kd.run(path, files / "photo.png", color="L").images
    assert sent == [f" {one.probability:.2%} {one}" for one in found.classes]


def test_grey_pixels_of_no_recorded_layout_are_sent_as_the_file_has_them(tmp_path: Path) -> None:
    text = f"net (uint8[n, {SIZE}, {SIZE}, 1] x) => (float[n, {SIZE}, {SIZE}, 1] y) {{ y = Cast <to = 1> (x) }}"
    folder = kd.package(write_graph(tmp_path / "grey.onnx", text), "triton", tmp_path / "models").path
    (told,) = json.loads((folder / "send.json").read_text(encoding="utf-8"))["models"].values()
    assert (told["color"], told["layout"], told["size"]) == ("L", "nhwc", [SIZE, SIZE])


def test_of_other_channels_it_makes_no_images_and_says_so(files: Path, tmp_path: Path) -> None:
    text = f"net (float[n, 4, {SIZE}, {SIZE}] x) => (float[n, 4] y) {{ p = GlobalMaxPool (x) y = Flatten (p) }}"
    path = write_graph(tmp_path / "four.onnx", text)
    done = kd.package(path, "triton", tmp_path / "models")
    assert done.package.notes == ("send.py makes no images of 4 channels, which four takes; send arrays",)
    with served(path, "four") as url:
        sent = send(done.path, files / "photo.png", "--url", url)
    shapes = f"[-1, 4, {SIZE}, {SIZE}], and an image becomes [1, 3, {SIZE}, {SIZE}]"
    said = f"four takes {shapes}; mend send.json, or send it arrays of your own.\n"
    assert (sent.returncode, sent.stdout, sent.stderr) == (1, "", said)
    with pytest.raises(kd.InputError, match="of 4 channels, and the program makes them in RGB; serve it with Triton"):
        kd.package(path, "onnxruntime-cpp", tmp_path / "program")


def test_an_ensemble_of_colours_before_grey_is_sent_colours(tmp_path: Path) -> None:
    """What the second file takes tells nothing of the images that the first one does."""
    shape = f"[n, 3, {SIZE}, {SIZE}]"
    text = (
        f"prep (uint8{shape} x) => (float[n, 1, {SIZE}, {SIZE}] y) {{ f = Cast <to = 1> (x) y = Slice (f, a, b, c) }}"
    )
    axes = "<int64[1] a = {0}, int64[1] b = {1}, int64[1] c = {1}>"
    prep = write_graph(tmp_path / "prep.onnx", text.replace("{", f"{axes} {{", 1))
    grey = write_graph(tmp_path / "grey.onnx", f"{GREY} {AVERAGED}")
    folder = kd.package([prep, grey], "triton", tmp_path / "models").path
    known = json.loads((folder / "send.json").read_text(encoding="utf-8"))["models"]
    assert {name: one["color"] for name, one in known.items()} == {"ensemble_grey": "RGB", "prep": "RGB", "grey": "L"}
