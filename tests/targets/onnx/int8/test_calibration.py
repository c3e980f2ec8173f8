"""Ranges of activations are those that ONNX Runtime's own calibrators find, by the method that was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

from kdna_deploy.errors import InputError
from kdna_deploy.targets.onnx.int8.calibration import Method, activation_sizes, calibrate
from tests.recorded import Recorded
from tests.targets.onnx.int8.quantised import chain, images

METHODS: dict[Method, CalibrationMethod] = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
CHANNELS = 8
CHUNK = 4  # batches that a calibrator is given at once


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions."""
    random = np.random.default_rng(0)
    kernels = {name: random.standard_normal((CHANNELS, CHANNELS, 1, 1)).astype(np.float32) for name in "ab"}
    path = tmp_path_factory.mktemp("calibrated") / "float.onnx"
    onnx.save_model(chain(kernels), path)
    return path


def batches() -> list[np.ndarray]:
    """More than 100,000 values, so that the outermost hundred-thousandth is one of them: a far one.

    It comes in the second chunk: of a single one, ONNX Runtime's histogram has as many bins as there are codes, and
    entropy has nothing to choose.
    """
    found = [images(CHANNELS, seed, 80) for seed in range(CHUNK + 1)]
    found[-1][7, 0, 0, 0] = 100.0
    return found


class Reader(CalibrationDataReader):
    def __init__(self, chunk: list[np.ndarray]) -> None:
        self._feeds = iter([{"x": batch} for batch in chunk])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._feeds, None)


def own(model: Path, method: Method, folder: Path) -> dict[str, tuple[float, float]]:
    calibrator = create_calibrator(
        model,
        ["Conv"],
        augmented_model_path=str(folder / "augmented.onnx"),
        calibrate_method=METHODS[method],
        extra_options={"percentile": 99.999} if method == "percentile" else {},
    )
    for chunk in (batches()[:CHUNK], batches()[CHUNK:]):
        calibrator.collect_data(Reader(chunk))
    return ends(calibrator.compute_data())


def ends(ranges: TensorsData) -> dict[str, tuple[float, float]]:
    """Name of each activation → its lowest and its highest value."""
    names = list(ranges.keys())
    return {name: tuple(float(np.ravel(end)[0]) for end in ranges[name].range_value) for name in names}


@pytest.fixture(scope="module")
def found(model: Path) -> dict[Method, dict[str, tuple[float, float]]]:
    return {method: ends(calibrate(model, batches(), method)) for method in METHODS}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_ranges_are_those_of_onnx_runtimes_calibrator(
    model: Path, tmp_path: Path, found: dict[Method, dict[str, tuple[float, float]]], method: Method
) -> None:
    expected = own(model, method, tmp_path)
    assert found[method].keys() == expected.keys() >= {"x", "a.y", "b.y"}
    for name, range_ in expected.items():
        assert found[method][name] == pytest.approx(range_, rel=1e-6), name


@pytest.mark.slow
def test_only_minmax_reaches_as_far_as_the_farthest_value(found: dict[Method, dict[str, tuple[float, float]]]) -> None:
    assert found["minmax"]["x"][1] == 100.0
    assert found["percentile"]["x"][1] < 50
    assert found["entropy"]["x"][1] < 50
    assert found["percentile"]["x"] != found["entropy"]["x"]


def test_images_are_counted_as_they_are_calibrated_with(model: Path) -> None:
    heard = Recorded()
    calibrate(model, [images(CHANNELS, seed, 3) for seed in range(5)], "minmax", heard)
    assert heard.counts == [12, 3]  # four batches make a chunk


@pytest.mark.parametrize(("count", "enough"), [(7, False), (8, True)])
def test_eight_images_are_the_fewest(model: Path, count: int, enough: bool) -> None:
    if enough:
        calibrate(model, [images(CHANNELS, 0, count)], "minmax")
        return
    with pytest.raises(InputError, match="7 calibration images are too few; give at least 8"):
        calibrate(model, [images(CHANNELS, 0, count)], "minmax")


def test_one_image_that_differs_is_enough(model: Path) -> None:
    same = np.repeat(images(CHANNELS, 0, 1), 9, axis=0)
    with pytest.raises(InputError, match="All 9 calibration images are equal"):
        calibrate(model, [same[:5], same[5:]], "minmax")
    calibrate(model, [same[:8], images(CHANNELS, 1, 1)], "minmax")


def test_sizes_of_activations_are_their_largest_absolute_values(model: Path) -> None:
    sizes = activation_sizes(model, batches())
    assert sizes["x"] == 100.0
    assert activation_sizes(model, [-batch for batch in batches()])["x"] == 100.0
