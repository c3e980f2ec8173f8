"""What counts as agreement."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.runtimes.session import Images
from kdna_deploy.verification import FLOAT32, Agreement, Tolerance, compare
from kdna_deploy.verification_files import verify_files
from tests.conftest import SAMPLES
from tests.samples import MOBILENET, RESNET, export_sample, sample_path

NAN, INF = float("nan"), float("inf")


class Fixed:
    """A session that returns the same logits whatever the images."""

    runtime = "none"
    batch = None
    image_shape = None

    def __init__(self, logits: object, name: str = "fixed") -> None:
        self.name = name
        self.logits = np.asarray(logits, dtype=np.float32)

    def run(self, images: Images) -> Images:
        return self.logits


def agreement(candidate: object, reference: object, tolerance: Tolerance = FLOAT32) -> Agreement:
    (only,) = compare(Fixed(candidate), Fixed(reference), [np.zeros((2, 3, 4, 4), np.float32)], tolerance)
    return only


@pytest.mark.parametrize(
    ("candidate", "reference", "tolerance", "passes"),
    [
        ([[8.0, 0.125]], [[8.0, 0.0]], Tolerance(rtol=1 / 64), True),  # exactly as much as is allowed
        ([[8.0, 0.126]], [[8.0, 0.0]], Tolerance(rtol=1 / 64), False),
        ([[8.0, 0.375]], [[8.0, 0.0]], Tolerance(rtol=1 / 64, atol=0.25), True),
        ([[8.0, 0.376]], [[8.0, 0.0]], Tolerance(rtol=1 / 64, atol=0.25), False),
        ([[1.0, 0.5]], [[1.0, 0.0]], Tolerance(rtol=0.0, atol=0.5), True),
        ([[1.0, 2.0]], [[1.0, 2.0]], Tolerance(rtol=0.0), True),
        # The scale is the reference's: a candidate cannot widen its own tolerance.
        ([[3.0, 1.0]], [[1.0, 1.0]], Tolerance(rtol=0.75), False),
        # A large negative logit is a scale too.
        ([[0.125, -8.0]], [[0.0, -8.0]], Tolerance(rtol=1 / 64), True),
        ([[0.0, 0.0]], [[0.0, 0.0]], FLOAT32, True),
    ],
)
def test_the_largest_difference_may_be_atol_plus_rtol_times_the_largest_logit(
    candidate: object, reference: object, tolerance: Tolerance, passes: bool
) -> None:
    assert agreement(candidate, reference, tolerance).passed is passes


def test_float32_tolerance_accepts_rounding_and_nothing_coarser() -> None:
    reference = np.linspace(-10, 10, 21)
    assert agreement([reference + 0.0009], [reference]).passed
    assert not agreement([reference + 0.0011], [reference]).passed


@pytest.mark.parametrize("tolerance", [FLOAT32, Tolerance(rtol=1e9, atol=1e9), Tolerance(rtol=INF, atol=INF)])
@pytest.mark.parametrize(
    ("candidate", "reference"),
    [
        ([[NAN, 1.0]], [[1.0, 1.0]]),
        ([[1.0, 1.0]], [[1.0, NAN]]),
        ([[NAN, 1.0]], [[NAN, 1.0]]),
        ([[INF, 1.0]], [[1.0, 1.0]]),
        ([[1.0, 1.0]], [[-INF, 1.0]]),
        ([[INF, 1.0]], [[INF, 1.0]]),
    ],
)
def test_nan_and_infinity_never_pass(candidate: object, reference: object, tolerance: Tolerance) -> None:
    with np.errstate(invalid="ignore"):
        assert not agreement(candidate, reference, tolerance).passed


def test_a_tolerance_that_is_nan_passes_nothing() -> None:
    assert not agreement([[1.0, 2.0]], [[1.0, 2.0]], Tolerance(rtol=NAN)).passed


def test_figures_of_an_agreement_are_those_of_the_logits() -> None:
    found = agreement([[1.0, 2.0, 3.0], [5.0, 0.0, 1.0]], [[1.0, 2.5, 3.0], [0.0, 4.0, 1.0]])
    assert found.batch == 2
    assert found.max_difference == 5.0
    assert found.mean_difference == pytest.approx(9.5 / 6)
    assert found.scale == 4.0
    assert found.allowed == pytest.approx(4e-4)
    assert found.same_top1 == 1


def test_outputs_of_different_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(InputError, match=r"small returns shape \(1, 2\), large \(1, 3\)"):
        compare(Fixed([[1.0, 2.0]], "small"), Fixed([[1.0, 2.0, 3.0]], "large"), [np.zeros((1, 3, 4, 4), np.float32)])


def test_every_batch_is_compared_and_reported() -> None:
    seen: list[int] = []
    batches = [np.zeros((n, 3, 4, 4), np.float32) for n in (1, 4, 2)]
    agreements = compare(Fixed([[1.0]]), Fixed([[1.0]]), batches, on_batch=seen.append)
    assert len(agreements) == 3
    assert seen == [1, 4, 2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported sample network beside its checkpoint."""
    folder = tmp_path_factory.mktemp("exported")
    export_sample(folder / "net.onnx")
    export_sample(folder / "four.onnx", batch=4, simplify=False)
    source = sample_path(RESNET)
    (folder / source.name).write_bytes(source.read_bytes())
    return folder


def test_an_artifact_is_verified_against_the_checkpoint_it_names(folder: Path) -> None:
    result = verify_files(folder / "net.onnx", None, None)
    assert result.reference == sample_path(RESNET).name
    assert [a.batch for a in result.agreements] == [1, 2, 5]
    assert result.passed


def test_a_fixed_batch_is_verified_at_that_batch_alone(folder: Path) -> None:
    result = verify_files(folder / "four.onnx", None, None)
    assert [a.batch for a in result.agreements] == [4]
    assert result.passed


@pytest.mark.parametrize(("name", "batches"), [("net.onnx", [8] * 6 + [2]), ("four.onnx", [4] * 12)])
def test_verification_runs_on_every_image_of_a_folder(folder: Path, name: str, batches: list[int]) -> None:
    result = verify_files(folder / name, None, SAMPLES / "digits")
    assert [a.batch for a in result.agreements] == batches
    assert result.passed


def hinge(path: Path, at: float, offset: float = 0.0) -> Path:
    """A network of the mean of max(image − at, 0) for each channel, and `offset` more."""
    nodes = [
        helper.make_node("Sub", ["images", "at"], ["moved"]),
        helper.make_node("Relu", ["moved"], ["cut"]),
        helper.make_node("GlobalAveragePool", ["cut"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Add", ["flat", "offset"], ["logits"]),
    ]
    stored = {"at": np.float32(at), "offset": np.asarray([0.0, 0.0, offset], np.float32)}
    graph = helper.make_graph(
        nodes,
        "hinge",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", 3, 4, 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in stored.items()],
    )
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


@pytest.mark.parametrize(("atol", "passes"), [(0.0, False), (0.01, False), (0.06, True)])
def test_what_atol_allows_is_added_for_files(tmp_path: Path, atol: float, passes: bool) -> None:
    one, other = hinge(tmp_path / "one.onnx", -9.0), hinge(tmp_path / "other.onnx", -9.0, offset=0.05)
    # The third logit is the highest by far, so that the offset does not change the answer.
    images = np.zeros((4, 3, 4, 4), np.float32)
    images[:, 2] = np.arange(1, 5).reshape(-1, 1, 1)
    np.save(tmp_path / "images.npy", images)
    assert verify_files(one, other, tmp_path / "images.npy", rtol=1e-6, atol=atol).passed is passes


def test_the_images_that_were_given_are_those_that_are_compared_on(tmp_path: Path) -> None:
    """Below 20 both networks give nothing; random images never come so high."""
    one, other = hinge(tmp_path / "one.onnx", 20.0), hinge(tmp_path / "other.onnx", 21.0)
    images = np.zeros((3, 3, 4, 4), np.float32)
    images[:, 1] = np.arange(1, 4).reshape(-1, 1, 1)
    np.save(tmp_path / "low.npy", images)
    np.save(tmp_path / "high.npy", images + 30 * (images > 0))
    low, high = (verify_files(one, other, tmp_path / f"{name}.npy") for name in ("low", "high"))
    assert [a.batch for a in low.agreements] == [a.batch for a in high.agreements] == [3]
    assert (low.agreements[0].max_difference, high.agreements[0].max_difference) == (0.0, 1.0)
    assert not high.passed


def test_another_network_does_not_pass(folder: Path) -> None:
    result = verify_files(folder / "net.onnx", sample_path(MOBILENET), None)
    assert not result.passed


def test_images_of_another_size_are_refused_with_the_size_that_is_taken(folder: Path) -> None:
    with pytest.raises(InputError, match="takes images n×3×64×64 and cannot run on 1×3×32×48"):
        verify_files(folder / "net.onnx", None, None, size=(32, 48))


def test_an_artifact_without_its_checkpoint_says_how_to_name_one(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "net.onnx"
    alone.write_bytes((folder / "net.onnx").read_bytes())
    with pytest.raises(ArtifactError, match="--against"):
        verify_files(alone, None, None)
    (tmp_path / sample_path(RESNET).name).write_bytes(sample_path(MOBILENET).read_bytes())
    with pytest.raises(ArtifactError, match="has changed since"):
        verify_files(alone, None, None)
