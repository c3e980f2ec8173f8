"""Accuracy and agreement on logits whose answer is known, and of files on labelled images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from kdna_deploy.errors import InputError, ParityError
from kdna_deploy.evaluation.accuracy import evaluate
from kdna_deploy.evaluation.evaluate import EvaluationRequest, evaluate_files
from kdna_deploy.images.batch import Images
from kdna_deploy.images.folder import Preprocessing
from kdna_deploy.images.interface import Interface
from kdna_deploy.images.labelled import FILLER, LabelledImages
from kdna_deploy.images.preprocessing import AskedPreprocessing
from tests.conftest import SAMPLES
from tests.recorded import Recorded
from tests.samples import RESNET, SIZE, exported_sample, sample_path

DIGITS = SAMPLES / "digits"


class Table:
    """A session that looks the logits of an image up by the number in its first pixel."""

    name, runtime, batch, image_shape, interface = "table", "none", None, None, Interface()

    def __init__(self, rows: list[list[float]]) -> None:
        self.options: dict[str, str | int] = {}
        self.rows = np.asarray(rows, np.float32)

    def run(self, images: Images) -> Images:
        return self.rows[images[:, 0, 0, 0].astype(int)]


def numbered(*numbers: int) -> Images:
    return np.asarray(numbers, np.float32).reshape(-1, 1, 1, 1)


LOGITS = [[9, 1, 0, 0, 0, 0, 0], [1, 9, 0, 0, 0, 0, 0], [8, 7, 6, 5, 4, 3, 0], [0, 0, 0, 9, 0, 0, 0]]


def test_top1_and_top5_of_known_logits() -> None:
    """Image 2 has its label on the second place, image 3 on the last of seven."""
    labels = np.asarray([0, 1, 1, 6])
    result = evaluate(Table(LOGITS), [(numbered(0, 1), labels[:2]), (numbered(2, 3), labels[2:])])
    assert (result.images, result.top1, result.top5) == (4, 0.5, 0.75)
    assert result.agreement is None


@pytest.mark.parametrize(("classes", "top5"), [(3, None), (5, None), (6, 1.0)])
def test_up_to_five_classes_have_no_top5_for_it_would_always_be_whole(classes: int, top5: float | None) -> None:
    assert evaluate(Table([[1.0] * classes]), [(numbered(0), np.asarray([4 % classes]))]).top5 == top5


def test_the_worst_class_comes_first_with_what_it_was_taken_for() -> None:
    result = evaluate(Table(LOGITS), [(numbered(0, 1, 2, 3), np.asarray([0, 1, 1, 6]))])
    assert [(c.label, c.right, c.images, c.taken_for) for c in result.classes] == [
        (6, 0, 1, ((3, 1),)),
        (1, 1, 2, ((0, 1),)),
        (0, 1, 1, ()),
    ]


def test_images_that_fill_up_a_batch_do_not_count() -> None:
    told = Recorded()
    result = evaluate(Table(LOGITS), [(numbered(0, 3, 3), np.asarray([0, FILLER, FILLER]))], listener=told)
    assert (result.images, result.top1, told.counts) == (1, 1.0, [1])


def test_equal_sessions_agree_entirely() -> None:
    result = evaluate(Table(LOGITS), [(numbered(0, 1), np.asarray([0, 0]))], Table(LOGITS))
    assert result.agreement is not None
    assert (result.agreement.same_top1, result.agreement.sqnr) == (1.0, float("inf"))
    assert result.agreement.cosine == pytest.approx(1.0)
    assert result.agreement.reference_top1 == 0.5


def test_sqnr_and_cosine_of_known_differences() -> None:
    """Reference (3, 4), artifact (4, 3): signal 25, noise 2, cosine 24/25."""
    result = evaluate(Table([[4, 3]]), [(numbered(0), np.asarray([1]))], Table([[3, 4]]))
    assert result.agreement is not None
    assert result.agreement.sqnr == pytest.approx(10 * np.log10(25 / 2))
    assert result.agreement.cosine == pytest.approx(24 / 25)
    assert (result.agreement.same_top1, result.agreement.reference_top1, result.top1) == (0.0, 1.0, 0.0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_no_number_are_never_scored(value: float) -> None:
    """As class 0 they would be right for image 0, and the same as each other."""
    broken, whole = Table([LOGITS[0], [0, value, 0, 0, 0, 0, 0]]), Table(LOGITS)
    for labels in (np.asarray([0, 0]), np.asarray([0, FILLER])):
        with pytest.raises(InputError, match=r"table answers 1 of 2 images with (NaN|infinity); check `mean`"):
            evaluate(broken, [(numbered(0, 1), labels)])
    with pytest.raises(InputError, match="table answers 1 of 2"):
        evaluate(whole, [(numbered(0, 1), None)], broken)
    with pytest.raises(ParityError, match="and table does not: it does not compute the same"):
        evaluate(broken, [(numbered(0, 1), None)], whole)


def test_a_masked_class_is_minus_infinity_in_both() -> None:
    mask = -np.inf
    reference, artifact = Table([[3, 4, mask]]), Table([[4, 3, mask]])
    agreement = evaluate(artifact, [(numbered(0), np.asarray([0]))], reference).agreement
    assert agreement is not None
    assert agreement.sqnr == pytest.approx(10 * np.log10(25 / 2))
    assert agreement.cosine == pytest.approx(24 / 25)
    departs = evaluate(Table([[3, 4, 0]]), [(numbered(0), np.asarray([1]))], reference).agreement
    assert departs is not None
    assert departs.sqnr == -np.inf


@pytest.mark.parametrize("rows", [[1.0, 2.0], [[[1.0]], [[2.0]]]])
def test_what_is_no_row_of_logits_is_refused(rows: list[float]) -> None:
    with pytest.raises(InputError, match="one row of logits for each"):
        evaluate(Table(rows), [(numbered(0, 1), np.asarray([0, 0]))])  # type: ignore[arg-type]


def test_networks_of_different_classes_are_not_compared() -> None:
    with pytest.raises(InputError, match="they are not the same network"):
        evaluate(Table([[1, 2, 3]]), [(numbered(0), np.asarray([0]))], Table([[1, 2]]))


def test_without_labels_the_answers_of_the_reference_stand_in() -> None:
    """Two of three answers are the same, whatever is right; one of these images is class 0 and the filler of nobody."""
    artifact = Table([[9, 0], [9, 0], [0, 9]])
    reference = Table([[9, 0], [0, 9], [0, 9]])
    result = evaluate(artifact, [(numbered(0, 1, 2), None)], reference)
    assert (result.images, result.top1) == (3, pytest.approx(2 / 3))
    assert result.agreement is not None and result.agreement.reference_top1 == 1.0
    with pytest.raises(InputError, match="beside a reference"):
        evaluate(artifact, [(numbered(0), None)])


def test_no_images_are_refused() -> None:
    for batches in ([], [(numbered(0), np.asarray([FILLER]))]):
        with pytest.raises(InputError, match="no images to evaluate on"):
            evaluate(Table(LOGITS), batches)


def make_folders(folder: Path, *names: str, images: int = 1) -> Path:
    for number, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for index in range(images):
            Image.new("RGB", (8, 8), (10 * number, 0, 0)).save(folder / name / f"{index}.png")
    return folder


PLAIN = Preprocessing(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


def test_folders_named_by_numbers_are_those_classes(tmp_path: Path) -> None:
    images = LabelledImages(make_folders(tmp_path, "10", "2"), (3, 8, 8), PLAIN)
    assert images.classes == {2: "2", 10: "10"}
    (batch, labels), *_ = images.batches(4)
    assert labels.tolist() == [2, 10]
    assert batch[1, 0, 0, 0] == 0.0  # the folder "10" was made first, of black images
    images.check(1000)
    with pytest.raises(InputError, match="2 class folders, and the network has 10 classes"):
        images.check(10)


def test_folders_named_by_words_are_counted_in_alphabetical_order(tmp_path: Path) -> None:
    images = LabelledImages(make_folders(tmp_path, "zebra", "ant"), (3, 8, 8), PLAIN)
    assert images.classes == {0: "ant", 1: "zebra"}
    images.check(2)
    with pytest.raises(InputError, match="name the folders by the numbers"):
        images.check(3)


def test_a_fixed_batch_is_filled_up(tmp_path: Path) -> None:
    images = LabelledImages(make_folders(tmp_path, "0", "1", images=3), (3, 8, 8), PLAIN)
    batches = list(images.batches(4, fixed=True))
    assert [len(batch) for batch, _ in batches] == [4, 4]
    assert batches[1][1].tolist() == [1, 1, FILLER, FILLER]
    assert [len(batch) for batch, _ in images.batches(4)] == [4, 2]


def test_unreadable_images_are_told_and_skipped(tmp_path: Path) -> None:
    make_folders(tmp_path, "0", "1")
    (tmp_path / "0" / "broken.png").write_bytes(b"no image")
    told = Recorded()
    images = LabelledImages(tmp_path, (3, 8, 8), PLAIN, told)
    assert [labels.tolist() for _, labels in images.batches(8)] == [[0, 1]]
    assert [(path.name, bool(reason)) for path, reason in told.skipped] == [("broken.png", True)]


def test_folders_without_any_readable_image_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no class folders"):
        LabelledImages(tmp_path, (3, 8, 8)).check(2)
    with pytest.raises(InputError, match="There is no folder"):
        LabelledImages(tmp_path / "none", (3, 8, 8)).check(2)
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "broken.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="None of the 1 files"):
        list(LabelledImages(tmp_path, (3, 8, 8), PLAIN).batches(2))


@pytest.fixture
def red_or_blue(tmp_path: Path) -> Path:
    """A network whose first logit is the mean of the first channel, the second that of the last."""
    weight = np.zeros((3, 2), np.float32)
    weight[0, 0] = weight[2, 1] = 1.0
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "red-or-blue",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 2])],
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save_model(model, tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


ASKED = AskedPreprocessing((0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("preprocessing", "top1"),
    [
        (ASKED, 1.0),
        (AskedPreprocessing((0.0,) * 3, (1.0,) * 3, color="BGR"), 0.0),
        (AskedPreprocessing((0.9, 0.0, 0.0), (1.0,) * 3), 0.5),  # what is red is no longer
        (AskedPreprocessing((0.0,) * 3, (100.0, 1.0, 1.0)), 0.5),
    ],
)
def test_images_are_prepared_as_was_asked(
    red_or_blue: Path, tmp_path: Path, preprocessing: AskedPreprocessing, top1: float
) -> None:
    for label, colour in enumerate([(200, 0, 30), (30, 0, 200)]):
        (tmp_path / "data" / str(label)).mkdir(parents=True)
        Image.new("RGB", (8, 8), colour).save(tmp_path / "data" / str(label) / "a.png")
    done = evaluate_files(EvaluationRequest(red_or_blue, tmp_path / "data", preprocessing=preprocessing))
    assert done.result.top1 == top1


@pytest.mark.parametrize(("batch", "told"), [(2, [2, 2, 1]), (4, [4, 1]), (32, [5])])
def test_as_many_images_as_were_asked_for_are_run_at_once(
    red_or_blue: Path, tmp_path: Path, batch: int, told: list[int]
) -> None:
    folder = make_folders(tmp_path / "data", "0", images=5)
    seen = Recorded()
    evaluate_files(EvaluationRequest(red_or_blue, folder, batch=batch, preprocessing=ASKED), listener=seen)
    assert seen.counts == told


@pytest.mark.slow
@pytest.mark.parametrize("batch", [None, 8])
def test_the_exported_sample_recognises_the_digits_as_the_checkpoint_does(tmp_path: Path, batch: int | None) -> None:
    path = tmp_path / "net.onnx"
    exported_sample(path, RESNET, batch=batch)
    heard = Recorded()
    done = evaluate_files(
        EvaluationRequest(path, DIGITS, against=sample_path(RESNET), batch=16, size=SIZE), listener=heard
    )
    assert (done.result.images, heard.totals, done.result.top1) == (50, [50], 1.0)
    assert done.result.agreement is not None
    assert done.result.agreement.same_top1 == 1.0
    assert done.result.agreement.sqnr > 100  # float32 against float32


@pytest.mark.slow
def test_artifacts_for_different_sizes_are_not_compared(tmp_path: Path) -> None:
    exported_sample(tmp_path / "net.onnx")
    from kdna_deploy.targets.onnx.export import export_fused
    from kdna_deploy.targets.onnx.options import OnnxOptions
    from kdna_deploy.targets.source import Request, open_fused_source

    export_fused(open_fused_source(sample_path(RESNET), Request(size=(32, 32))), tmp_path / "small.onnx", OnnxOptions())
    with pytest.raises(InputError, match="export both for one size"):
        evaluate_files(EvaluationRequest(tmp_path / "net.onnx", DIGITS, against=tmp_path / "small.onnx"))
