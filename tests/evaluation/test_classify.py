"""Classes of images on networks whose answers are known: which, with what probability, what is said, what is timed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from kdna_deploy.errors import InputError
from kdna_deploy.evaluation.classify import Classification, ClassifyRequest, classify
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.file import ImageBytes
from kdna_deploy.images.interface import Interface
from kdna_deploy.images.preprocessing import AskedPreprocessing, Preprocessing
from kdna_deploy.runtimes.onnx_file import record
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.interface import complete_interface
from tests.recorded import Recorded

PLAIN = AskedPreprocessing((0.0,), (1.0,))
COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def network(folder: Path, batch: int | str = "n", last: str = "", outputs: int = 3, gain: float = 2.0) -> Path:
    """Answers with `gain` times the mean of each channel: red, green, blue; `last` is an operator behind that."""
    weight = np.eye(outputs, 3, dtype=np.float32) * gain
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w"], ["y"] if not last else ["z"], transB=1),
        *([helper.make_node(last, ["z"], ["y"])] if last else []),
    ]
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, outputs])],
        [numpy_helper.from_array(weight, "w")],
    )
    path = folder / "net.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def pictures(folder: Path) -> tuple[Path, ...]:
    paths = []
    for name, colour in COLOURS.items():
        paths.append(folder / f"{name}.png")
        Image.new("RGB", (8, 8), colour).save(paths[-1])
    return tuple(paths)


def answers(done: Classification) -> list[tuple[str, list[int]]]:
    return [(image.path.name, [one.label for one in image.classes]) for image in done.images]


def test_the_likeliest_classes_come_first_with_the_softmax_of_their_logits(tmp_path: Path) -> None:
    heard = Recorded()
    request = ClassifyRequest(network(tmp_path), pictures(tmp_path), top=2, preprocessing=PLAIN)
    done = classify(request, heard)
    assert answers(done) == [("red.png", [0, 1]), ("green.png", [1, 0]), ("blue.png", [2, 0])]
    whole = np.exp(2) + 2
    for image in done.images:
        assert [one.probability for one in image.classes] == pytest.approx([np.exp(2) / whole, 1 / whole], rel=1e-6)
    assert [str(one) for one in done.images[1].classes] == ["class 1", "class 0"]
    assert done.notes == ("nothing in net.onnx names its classes; give `labels`",)
    assert (heard.steps, heard.totals, heard.counts) == (["open", "run"], [3], [1, 1, 1])
    assert (done.num_classes, done.image_shape, done.times) == (3, (3, 8, 8), None)


def test_a_thousand_classes_without_names_are_taken_for_imagenets_and_that_is_told(tmp_path: Path) -> None:
    done = classify(ClassifyRequest(network(tmp_path, outputs=1000), pictures(tmp_path), top=1, preprocessing=PLAIN))
    assert [str(image.classes[0]) for image in done.images] == ["tench", "goldfish", "great white shark"]
    assert done.notes == ("nothing in net.onnx names its classes; assumed the 1000 of ImageNet",)


def test_a_fixed_batch_is_filled_up_and_its_filler_not_told(tmp_path: Path) -> None:
    request = ClassifyRequest(network(tmp_path, batch=2), pictures(tmp_path), 1, timed=True, preprocessing=PLAIN)
    done = classify(request)
    assert answers(done) == [("red.png", [0]), ("green.png", [1]), ("blue.png", [2])]
    assert done.times is not None
    assert (done.times.images, done.times.batch) == (3, 2)
    assert min(done.times.decoding, done.times.preparing, done.times.inference) > 0


def test_a_folder_and_the_content_of_a_file_are_images_too(tmp_path: Path) -> None:
    red, *_ = pictures(tmp_path)
    given = (ImageBytes(red.read_bytes()), tmp_path)
    done = classify(ClassifyRequest(network(tmp_path), given, 1, preprocessing=PLAIN))
    assert answers(done) == [("-", [0]), ("blue.png", [2]), ("green.png", [1]), ("red.png", [0])]
    assert str(done.images[0].path) == "-"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"There is no image file in '.*empty'"):
        classify(ClassifyRequest(network(tmp_path), (tmp_path / "empty",)))


def test_what_cannot_be_read_is_skipped_and_named_and_nothing_else_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    heard = Recorded()
    given = (tmp_path / "bad.png", *pictures(tmp_path))
    done = classify(ClassifyRequest(network(tmp_path), given, 1, preprocessing=PLAIN), heard)
    assert len(done.images) == 3
    assert [path.name for path, _ in heard.skipped] == [path.name for path, _ in done.skipped] == ["bad.png"]
    with pytest.raises(InputError, match=r"'.*bad\.png' is not an image that can be read: it is empty, damaged"):
        classify(ClassifyRequest(network(tmp_path), given[:1]))
    with pytest.raises(InputError, match=r"None of the 2 images can be read\. '.*bad\.png' is not an image"):
        classify(ClassifyRequest(network(tmp_path), given[:1] * 2))


def test_probabilities_are_not_made_flat_by_another_softmax(tmp_path: Path) -> None:
    request = ClassifyRequest(network(tmp_path, last="Softmax", gain=5), pictures(tmp_path)[:1], preprocessing=PLAIN)
    done = classify(request)
    assert done.images[0].classes[0].probability == pytest.approx(np.exp(5) / (np.exp(5) + 2), rel=1e-6)
    assert "net.onnx answers with probabilities, which are shown as they are" in done.notes


TAKES_PIXELS = Interface("nhwc", Preprocessing((0.0,), (1.0,)), softmax=True, top=2, classes=3)


def taking_pixels(folder: Path, interface: Interface = TAKES_PIXELS) -> Path:
    """The same network with its preprocessing, and an answer, within."""
    model = ir.from_proto(onnx.load(network(folder)))
    complete_interface(model, interface)
    made = Provenance("", "", None, "a:b", False, (3, 8, 8), 9, 9, 0)
    made = replace(made, preprocessing=interface.preprocessing.to_record())
    path, complete = folder / "pixels.onnx", ir.to_proto(model)
    record(complete, made.with_options(interface=interface.to_record()))
    onnx.save_model(complete, path)
    return path


def test_a_file_that_takes_pixels_is_given_those_of_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given, run = [], OrtSession.run
    monkeypatch.setattr(OrtSession, "run", lambda session, images: given.append(images) or run(session, images))
    done = classify(ClassifyRequest(taking_pixels(tmp_path), pictures(tmp_path), top=2, timed=True))
    assert {(images.shape, str(images.dtype)) for images in given} == {((1, 8, 8, 3), "uint8")}
    plain = classify(ClassifyRequest(network(tmp_path), pictures(tmp_path), top=2, preprocessing=PLAIN))
    assert answers(done) == answers(plain) and done.num_classes == plain.num_classes == 3
    for one, other in zip(done.images, plain.images, strict=True):
        assert [c.probability for c in one.classes] == pytest.approx([c.probability for c in other.classes], rel=1e-6)
    assert not any("probabilities" in note for note in done.notes)


def test_of_a_file_that_names_few_classes_no_more_are_told(tmp_path: Path) -> None:
    done = classify(ClassifyRequest(taking_pixels(tmp_path), pictures(tmp_path), top=3))
    assert [len(image.classes) for image in done.images] == [2, 2, 2]
    assert "pixels.onnx names 2 classes, and no more" in done.notes


def test_preprocessing_that_is_within_the_file_is_not_to_be_said(tmp_path: Path) -> None:
    net, images = taking_pixels(tmp_path), pictures(tmp_path)
    classify(ClassifyRequest(net, images, preprocessing=PLAIN))  # which is what the file does
    with pytest.raises(InputError, match=r"pixels\.onnx takes pixels and normalises them by itself, with mean 0"):
        classify(ClassifyRequest(net, images, preprocessing=AskedPreprocessing(mean=(0.5,))))


def test_a_single_number_is_no_choice_among_classes(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"net\.onnx answers with a single number"):
        classify(ClassifyRequest(network(tmp_path, outputs=1), pictures(tmp_path), preprocessing=PLAIN))


def test_names_are_those_that_were_given_and_as_many_as_the_classes(tmp_path: Path) -> None:
    net, (_, green, _) = network(tmp_path), pictures(tmp_path)
    named = {"labels": Path("names.txt"), "preprocessing": PLAIN}
    done = classify(ClassifyRequest(net, (green,), class_names=tuple(COLOURS), **named))  # type: ignore[arg-type]
    assert [str(one) for one in done.images[0].classes] == ["green", "red", "blue"]
    assert done.notes == ()
    with pytest.raises(InputError, match=r"'names\.txt' names 2 classes, and the network has 3"):
        classify(ClassifyRequest(net, (green,), class_names=("a", "b"), **named))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (AskedPreprocessing(), r"assumed for images: mean 0\.485 .*, RGB, for nothing in net\.onnx .* give `mean` and"),
        (AskedPreprocessing(mean=(0.0,)), r"assumed for images: mean 0, std 0\.229 .* tells how .*; give `std`$"),
    ],
)
def test_what_is_assumed_of_the_preprocessing_is_said_in_one_line(
    tmp_path: Path, asked: AskedPreprocessing, said: str
) -> None:
    done = classify(ClassifyRequest(network(tmp_path), pictures(tmp_path), preprocessing=asked))
    (note,) = [note for note in done.notes if "assumed" in note]
    assert re.search(said, note) and "\n" not in note, note
