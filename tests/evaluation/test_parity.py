"""What counts as agreement."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.evaluation.compare import compare
from kdna_deploy.evaluation.parity import ROUNDING_FACTOR, Outputs, judge
from kdna_deploy.evaluation.tolerance import FLOAT32, HALF, Tolerance
from kdna_deploy.evaluation.verify import verify_files
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.images.interface import PLAIN
from kdna_deploy.images.probes import FLAT, GIVEN, NOISE, Probe
from tests.conftest import SAMPLES
from tests.recorded import Recorded
from tests.samples import MOBILENET, RESNET, exported_sample, sample_path

NAN, INF = float("nan"), float("inf")


def images(count: int, value: float = 0.0) -> Images:
    return np.full((count, 3, 2, 2), value, np.float32)


class Fixed:
    """A session that answers the images in their order with these logits, again from the first for each probe."""

    runtime = "none"
    image_shape = None
    interface = PLAIN

    def __init__(self, logits: object, name: str = "fixed", batch: int | None = None) -> None:
        self.name = name
        self.batch = batch
        self.logits = np.asarray(logits, dtype=np.float32)

    def run(self, images: Images) -> Images:
        return self.logits[: len(images)]


def agreement(candidate: object, reference: object, tolerance: Tolerance = FLOAT32, kind: str = NOISE) -> Agreement:
    count = len(np.asarray(reference))
    (only,) = compare(Fixed(candidate), Fixed(reference), [Probe(kind, images(count))], tolerance)
    return only


# Two images, and two outputs with spreads of 1 and 16; the first logit is the higher one in each.
VARYING = np.array([[40.0, 0.0], [42.0, 32.0]])
SIXTEENTH = Tolerance(rtol=1 / 64, tie=1 / 64)


@pytest.mark.parametrize(
    ("column", "off", "tolerance", "passes"),
    [
        (0, 1 / 64, SIXTEENTH, True),  # exactly as much as is allowed
        (0, 1.01 / 64, SIXTEENTH, False),
        (1, 16 / 64, SIXTEENTH, True),
        (1, 16.2 / 64, SIXTEENTH, False),
        (0, 0.25 + 1 / 64, Tolerance(rtol=1 / 64, atol=0.25), True),
        (0, 0.26 + 1 / 64, Tolerance(rtol=1 / 64, atol=0.25), False),
        (1, 0.0, Tolerance(rtol=0.0), True),
    ],
)
def test_an_output_may_differ_by_a_share_of_its_own_spread(
    column: int, off: float, tolerance: Tolerance, passes: bool
) -> None:
    candidate = VARYING.copy()
    candidate[0, column] += off
    found = agreement(candidate, VARYING, tolerance)
    assert found.passed is passes
    assert found.column == (column if off else found.column)
    assert found.worst == pytest.approx(off, rel=1e-4)


def test_the_spread_is_the_reference_s() -> None:
    """A candidate cannot widen its own tolerance."""
    assert not agreement(10 * VARYING, VARYING, Tolerance(rtol=0.5)).passed
    assert not agreement(0 * VARYING, VARYING, Tolerance(rtol=0.5)).passed


@pytest.mark.parametrize("mask", [-1e4, -1e9, 0.0, 3.5, -INF, INF])
def test_a_column_that_does_not_vary_hides_nothing_in_the_others(mask: float) -> None:
    """A class mask of −1e9 once made a difference of 1e4 elsewhere look like rounding."""
    draw = np.random.default_rng(0)
    wrong, right = draw.normal(size=(2, 8, 6))
    wrong[:, 2] = right[:, 2] = mask
    right[:, 5] = wrong[:, 5] = 1e9 if mask < 0 else -1e9  # one class leads in both: top-1 shows nothing
    assert agreement(right, right).passed
    assert not agreement(wrong, right).passed
    assert not agreement(right + 1e-3 * (np.arange(6) == 1), right).passed


def test_most_columns_may_be_masked() -> None:
    draw = np.random.default_rng(1)
    right = np.full((8, 10), -1e9)
    right[:, :2] = draw.normal(size=(8, 2))
    wrong = right.copy()
    wrong[:, 1] += 0.01
    assert agreement(right, right).passed
    assert not agreement(wrong, right).passed


def test_a_constant_output_may_be_off_by_its_last_places_alone() -> None:
    constant = np.full((4, 2), 8.0)
    constant[:, 1] = [1.0, 2.0, 3.0, 4.0]
    for last_places, passes in ((4, True), (40, False)):
        off = constant.copy()
        off[1, 0] += last_places * 8.0 * 2.0**-23
        assert agreement(off, constant).passed is passes


def test_an_output_that_hardly_varies_is_granted_the_rounding_of_its_neighbours() -> None:
    """A hundredth of the median spread: nobody asks for more than float32 gives."""
    reference = np.array([[0.0, 100.0, 200.0], [0.0, 300.0, 100.0], [1e-6, 200.0, 400.0]])
    spread = np.median(reference.astype(np.float32).std(0))
    for share, passes in ((0.9, True), (1.1, False)):
        off = reference.copy()
        off[0, 0] += share * 1e-4 * 1e-2 * spread
        assert agreement(off, reference).passed is passes


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    offsets=st.lists(st.integers(-64, 64), min_size=4, max_size=4),
    powers=st.lists(st.integers(-2, 2), min_size=4, max_size=4),
    error=st.sampled_from([0.0, 3e-5, 3e-4]),
)
def test_units_and_offsets_of_the_outputs_do_not_matter(
    seed: int, offsets: list[int], powers: list[int], error: float
) -> None:
    """Columns shifted and scaled by what float32 does exactly: the verdict on each stays the same."""
    draw = np.random.default_rng(seed)
    reference = np.round(draw.normal(size=(9, 4)) * 1024) / 1024
    candidate = reference + error * reference.std(0) * np.sign(draw.normal(size=(9, 4)))
    unit, shift = 2.0 ** np.array(powers), np.array(offsets, float)
    tolerance = Tolerance(rtol=1e-4, tie=1e9)  # which logit is the highest does change

    def verdict(got: np.ndarray, expected: np.ndarray) -> bool:
        outputs = [Outputs(Probe(NOISE, images(9)), got, expected)]
        return judge(outputs, tolerance)[0][0].passed

    assert (
        verdict(candidate, reference) is verdict(candidate * unit + shift, reference * unit + shift) is (error < 1e-4)
    )


@pytest.mark.parametrize("tolerance", [FLOAT32, Tolerance(rtol=1e9, atol=1e9), Tolerance(rtol=INF, atol=INF)])
@pytest.mark.parametrize(
    ("candidate", "reference"),
    [
        ([[NAN, 1.0]], [[1.0, 1.0]]),
        ([[1.0, 1.0]], [[1.0, NAN]]),
        ([[NAN, 1.0]], [[NAN, 1.0]]),
        ([[1.0, 1.0]], [[-INF, 1.0]]),
        ([[INF, 1.0]], [[-INF, 1.0]]),
        ([[-INF, 1.0]], [[1.0, 1.0]]),
    ],
)
def test_nan_and_other_infinities_never_pass(candidate: object, reference: object, tolerance: Tolerance) -> None:
    found = agreement(candidate, reference, tolerance)
    assert not found.passed
    assert found.complaint


def test_the_same_infinities_agree() -> None:
    logits = [[INF, -INF, 1.0], [INF, -INF, 2.0]]
    assert agreement(logits, logits).passed


def test_where_the_reference_itself_is_nan_on_stressed_images_nothing_is_compared_and_that_is_said() -> None:
    found = agreement([[1.0, 2.0]], [[NAN, 2.0]], kind="noise × 20")
    assert found.passed
    assert "the reference itself returns NaN" in found.skipped


def test_a_tolerance_that_is_nan_passes_nothing() -> None:
    assert not agreement([[1.0, 2.1]], [[1.0, 2.0]], Tolerance(rtol=NAN)).passed
    assert not agreement([[1.0, 2.0]], [[1.0, 2.0]], Tolerance(rtol=1e-4, atol=NAN)).passed


def test_another_class_never_passes_however_wide_the_tolerance() -> None:
    reference = np.array([[3.0, 1.0], [1.0, 3.0], [2.5, 1.0]])
    swapped = reference[:, ::-1]
    found = agreement(swapped, reference, Tolerance(rtol=1e6, atol=1e6))
    assert not found.passed
    assert (found.same_top1, found.ties) == (0, 0)
    assert "another class for 3 of 3 images" in found.complaint


@pytest.mark.parametrize(("lead", "passes"), [(1e-5, True), (1e-3, False)])
def test_a_tie_may_fall_either_way(lead: float, passes: bool) -> None:
    reference = np.array([[1.0 + lead, 1.0], [3.0, 1.0], [-2.0, 0.0]])
    other = reference.copy()
    other[0] = [1.0, 1.0 + lead]
    found = agreement(other, reference, Tolerance(rtol=1e9))
    assert found.passed is passes
    assert (found.same_top1, found.ties) == (2, int(passes))


def test_figures_of_an_agreement_are_those_of_the_logits() -> None:
    found = agreement([[1.0, 2.0, 3.0], [5.0, 0.0, 1.0]], [[1.0, 2.5, 3.0], [0.0, 4.0, 1.0]])
    assert (found.images, found.batch) == (NOISE, 2)
    assert found.max_difference == 5.0
    assert found.mean_difference == pytest.approx(9.5 / 6)
    assert found.scale == 4.0
    assert (found.worst, found.column) == (5.0, 0)
    assert found.spread == 0.5
    assert found.allowed == pytest.approx(1e-4 * 0.5)
    assert found.same_top1 == 1


def test_outputs_that_are_no_logits_have_no_top1() -> None:
    maps = np.random.default_rng(0).normal(size=(3, 2, 4, 4))
    found = agreement(maps, maps)
    assert found.passed
    assert found.same_top1 is None
    off = maps.copy()
    off[1, 0, 2, 3] += 0.01
    assert not agreement(off, maps).passed


class Rounding(Fixed):
    """A reference that knows how far rounding moves it, and counts how often it is asked."""

    def __init__(self, logits: object, distance: float) -> None:
        super().__init__(logits, "reference")
        self.distance = distance
        self.sizes: list[int] = []  # of what it was asked about

    def rounding(self, images: Images, answers: Answers, roundoff: float) -> Iterator[Answers]:
        for share in (0.5, 1.0):
            self.sizes.append(len(images))
            yield (np.full_like(self.logits[: len(images)], share * self.distance),)


@pytest.mark.parametrize(
    ("off", "distance", "passes", "asked"),
    [
        (1e-5, 1.0, True, 0),  # within the spread: nobody asks
        (0.3 * ROUNDING_FACTOR * 1e-3, 1e-3, True, 1),  # explained by the first observation: nobody asks for another
        (2 * ROUNDING_FACTOR * 1e-3, 1e-3, True, 2),
        (4 * ROUNDING_FACTOR * 1e-3, 1e-3, False, 2),  # beyond what is usual among the outputs, too
        (1e-3, 0.0, False, 2),
    ],
)
def test_no_output_is_held_to_less_than_rounding_explains(
    off: float, distance: float, passes: bool, asked: int
) -> None:
    logits = np.array([[5.0, 1.0], [6.0, 2.0], [7.0, 2.5]])
    reference = Rounding(logits, distance)
    candidate = logits.copy()
    candidate[1, 1] += off
    (found,) = compare(Fixed(candidate), reference, [Probe(NOISE, images(3))])
    assert found.passed is passes
    assert len(reference.sizes) == asked
    assert found.explained is (distance > 0 and asked > 0)


def test_rounding_is_observed_on_the_fewest_images_first() -> None:
    several = [Probe(NOISE, images(size)) for size in (1, 5, 2)]
    logits = np.arange(10.0).reshape(5, 2)
    for distance, asked in ((1e-3, [2]), (1.2e-4, [2, 1, 5, 2, 1, 5, 2])):
        reference = Rounding(logits, distance)
        assert all(found.passed for found in compare(Fixed(logits + 2e-3), reference, several))
        assert reference.sizes == asked


@pytest.mark.parametrize(("kind", "times"), [("noise × 20", 1), (NOISE, 1), (GIVEN, 1), (FLAT, 4)])
def test_flat_images_whose_pixels_are_all_rounded_alike_may_be_rounded_further(kind: str, times: int) -> None:
    logits = np.array([[5.0, 1.0], [6.0, 2.0], [7.0, 2.5]])
    for share, passes in ((0.9, True), (1.1, False)):
        candidate = logits.copy()
        candidate[0, 0] += share * times * 3 * ROUNDING_FACTOR * 1e-4 * 7 / 5
        reference = Rounding(logits, 1e-4)
        (found,) = compare(Fixed(candidate), reference, [Probe(kind, images(3))])
        assert found.passed is passes, found


@pytest.mark.parametrize(("kind", "skipped"), [("noise × 20", True), (NOISE, False), (GIVEN, False)])
def test_chaos_on_stressed_images_is_skipped_and_said_and_noise_never_is(kind: str, skipped: bool) -> None:
    logits = np.array([[5.0, 1.0], [6.0, 2.0], [7.0, 2.5]])
    (found,) = compare(
        Fixed(np.add(logits, [[0, 0], [0, 5], [0, 0]])), Rounding(logits, 1e-2), [Probe(kind, images(3))]
    )
    assert found.passed is skipped
    assert ("amplifies rounding" in found.skipped) is skipped
    calm = Rounding(logits, 1e-6)
    assert not compare(Fixed(np.add(logits, [[0, 0], [0, 5], [0, 0]])), calm, [Probe(kind, images(3))])[0].passed


def test_one_given_image_is_judged_by_the_spread_of_the_noise() -> None:
    logits = np.array([[5.0, 1.0], [6.0, 2.0], [7.0, 2.5], [9.0, 4.0]])
    candidate = logits.copy()
    candidate[0, 1] += 5e-5
    probes = [Probe(NOISE, images(4)), Probe(GIVEN, images(1))]
    first, second = compare(Fixed(candidate), Fixed(logits), probes)
    assert first.passed
    assert second.passed
    assert second.allowed == first.allowed


def test_outputs_of_different_shapes_are_refused_with_both_shapes() -> None:
    with pytest.raises(InputError, match=r"small returns shape \(1, 2\), large \(1, 3\)"):
        compare(Fixed([[1.0, 2.0]], "small"), Fixed([[1.0, 2.0, 3.0]], "large"), [Probe(NOISE, images(1))])


def test_every_probe_is_compared_and_reported() -> None:
    seen = Recorded()
    probes = [Probe(NOISE, images(n)) for n in (1, 4, 2)]
    logits = np.ones((4, 1))
    agreements = compare(Fixed(logits), Fixed(logits), probes, listener=seen)
    assert [a.batch for a in agreements] == seen.counts == [1, 4, 2]


def test_nothing_to_compare_is_no_agreement() -> None:
    with pytest.raises(InputError, match="no images"):
        compare(Fixed([[1.0]]), Fixed([[1.0]]), [])


class Counting(Fixed):
    """Sums up each image; takes batches of four alone."""

    def __init__(self) -> None:
        super().__init__([[0.0]], batch=4)

    def run(self, images: Images) -> Images:
        assert len(images) == 4
        return images.sum((1, 2, 3))[:, np.newaxis]


def test_a_fixed_batch_is_filled_up_and_what_fills_it_is_not_compared() -> None:
    probe = Probe(NOISE, np.arange(7 * 12, dtype=np.float32).reshape(7, 3, 2, 2))
    (found,) = compare(Counting(), Counting(), [probe])
    assert found.batch == 7
    assert found.passed


def test_half_precision_is_held_to_its_own_rounding() -> None:
    logits = np.array([[5.0, 1.0], [6.0, 2.0], [7.0, 2.5]])
    for off, passes in ((5e-3, True), (2e-2, False)):
        assert agreement(np.add(logits, [0.0, off]), logits, HALF).passed is passes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an exported sample network beside its checkpoint."""
    folder = tmp_path_factory.mktemp("exported")
    exported_sample(folder / "net.onnx")
    exported_sample(folder / "four.onnx", batch=4, simplify=False)
    source = sample_path(RESNET)
    (folder / source.name).write_bytes(source.read_bytes())
    return folder


@pytest.mark.slow
def test_an_artifact_is_verified_against_the_checkpoint_it_names(folder: Path) -> None:
    result = verify_files(folder / "net.onnx", None, None)
    assert result.reference == sample_path(RESNET).name
    assert [a.batch for a in result.agreements] == [1, 2, 5, 1, 1, 3]
    assert result.passed


@pytest.mark.slow
def test_a_fixed_batch_is_verified_at_that_batch_alone(folder: Path) -> None:
    result = verify_files(folder / "four.onnx", None, None)
    assert [a.batch for a in result.agreements] == [11, 1, 1, 3]
    assert result.passed


@pytest.mark.slow
@pytest.mark.parametrize(("name", "batches"), [("net.onnx", [8] * 6 + [2]), ("four.onnx", [4] * 12)])
def test_verification_runs_on_every_image_of_a_folder(folder: Path, name: str, batches: list[int]) -> None:
    result = verify_files(folder / name, None, SAMPLES / "digits")
    assert [a.batch for a in result.agreements if a.images == GIVEN] == batches
    assert any(a.images == NOISE for a in result.agreements)
    assert result.passed


def hinge(path: Path, at: float, offset: float = 0.0) -> Path:
    """A network of the mean of max(image − at, 0) for each channel; the last has 500 and `offset` more."""
    nodes = [
        helper.make_node("Sub", ["images", "at"], ["moved"]),
        helper.make_node("Relu", ["moved"], ["cut"]),
        helper.make_node("GlobalAveragePool", ["cut"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("Add", ["flat", "offset"], ["logits"]),
    ]
    stored = {"at": np.float32(at), "offset": np.asarray([0.0, 0.0, 500.0 + offset], np.float32)}
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
    # The third logit is the highest by far, so that the offset does not change the answer.
    one = hinge(tmp_path / "one.onnx", -9.0, offset=100.0)
    other = hinge(tmp_path / "other.onnx", -9.0, offset=100.05)
    assert verify_files(one, other, None, rtol=1e-6, atol=atol).passed is passes


def test_the_images_that_were_given_are_those_that_are_compared_on(tmp_path: Path) -> None:
    """Below 1000 both networks give the same; no image that is made for the purpose comes so high."""
    one, other = hinge(tmp_path / "one.onnx", 1000.0), hinge(tmp_path / "other.onnx", 1001.0)
    images = np.zeros((3, 3, 4, 4), np.float32)
    images[:, 1] = np.arange(1, 4).reshape(-1, 1, 1)
    np.save(tmp_path / "low.npy", images)
    np.save(tmp_path / "high.npy", images + 1010 * (images > 0))
    for name, difference in (("low", 0.0), ("high", 1.0)):
        result = verify_files(one, other, tmp_path / f"{name}.npy")
        assert [(a.batch, a.max_difference) for a in result.agreements if a.images == GIVEN] == [(3, difference)]
        assert {a.max_difference for a in result.agreements if a.images != GIVEN} == {0.0}
        assert result.passed is (difference == 0.0)


@pytest.mark.slow
def test_another_network_does_not_pass(folder: Path) -> None:
    result = verify_files(folder / "net.onnx", sample_path(MOBILENET), None)
    assert not result.passed


def test_images_of_another_size_are_refused_with_the_size_that_is_taken(folder: Path) -> None:
    with pytest.raises(InputError, match=r"takes images n×3×64×64 and cannot run on 1×3×32×48: .*: input\.$"):
        verify_files(folder / "net.onnx", None, None, size=(32, 48))


def test_an_artifact_without_its_checkpoint_says_how_to_name_one(folder: Path, tmp_path: Path) -> None:
    alone = tmp_path / "net.onnx"
    alone.write_bytes((folder / "net.onnx").read_bytes())
    with pytest.raises(ArtifactError, match=r"name the checkpoint with `source` \(export\) or `against`"):
        verify_files(alone, None, None)
    (tmp_path / sample_path(RESNET).name).write_bytes(sample_path(MOBILENET).read_bytes())
    with pytest.raises(ArtifactError, match="has changed since"):
        verify_files(alone, None, None)
