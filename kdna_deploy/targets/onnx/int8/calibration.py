"""Ranges of the activations of a float ONNX file over calibration images, by `onnxruntime.quantization`.

    minmax        the extremes
    percentile    leaves out the outermost hundred-thousandth
    entropy       the range whose quantised histogram tells most of the original

Does not apply to weights, whose ranges are their own.
"""

from __future__ import annotations

import errno
import itertools
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
from google.protobuf.message import DecodeError
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator

from kdna_deploy.errors import InputError
from kdna_deploy.files import scratch_folder
from kdna_deploy.images.batch import Images
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import read_model

Method = Literal["minmax", "percentile", "entropy"]

# What has a quantised kernel on the CPU.
CALIBRATED = ("Conv", "Gemm", "Add", "Mul", "MaxPool", "GlobalAveragePool", "Reshape", "Relu", "Clip")
FEWEST_IMAGES = 8
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
_PERCENTILE = 99.999
_CHUNK = 4  # batches; a histogram calibrator holds every activation of a chunk in memory


class _Reader(CalibrationDataReader):
    """Feeds batches to a calibrator."""

    def __init__(self, name: str, batches: Iterable[Images]) -> None:
        self._feeds = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, Images]:
        return next(self._feeds, None)  # type: ignore[arg-type]  # None at the end, which its annotation forgets


def calibrate(path: Path, batches: Iterable[Images], method: Method, listener: Listener = SILENT) -> TensorsData:
    """Ranges of the activations of the float model at `path` over `batches`.

    Raises:
        InputError: fewer than `FEWEST_IMAGES` images, or all of them equal.
    """
    return _ranges(path, batches, method, [*CALIBRATED], listener)


def activation_sizes(path: Path, batches: Iterable[Images], listener: Listener = SILENT) -> dict[str, float]:
    """Name of every activation of the float model at `path` → its largest absolute value over `batches`.

    Raises:
        InputError: as `calibrate`.
    """
    found = _ranges(path, batches, "minmax", None, listener)
    return {name: float(np.abs(found[name].range_value).max()) for name in found.keys()}  # noqa: SIM118


def _ranges(
    path: Path,
    batches: Iterable[Images],
    method: Method,
    operators: list[str] | None,
    listener: Listener,
) -> TensorsData:
    """Ranges of what `operators` read and make; of every activation where they are None."""
    with scratch_folder("calibration") as folder, quiet():
        try:
            calibrator = create_calibrator(
                path,
                operators,
                augmented_model_path=str(folder / "augmented.onnx"),
                calibrate_method=_METHODS[method],
                extra_options={"percentile": _PERCENTILE} if method == "percentile" else {},
            )
        except DecodeError as error:  # onnx infers shapes from file to file, and does not tell when a disk is full
            raise OSError(errno.ENOSPC, "a file was cut short") from error
        name = read_model(path, weights=False).graph.input[0].name
        seen = _Seen()
        for chunk in _chunks(batches):
            calibrator.collect_data(_Reader(name, map(seen.look, chunk)))
            listener.advance(sum(len(batch) for batch in chunk))
        seen.check()
        return calibrator.compute_data()


def _chunks(batches: Iterable[Images]) -> Iterator[list[Images]]:
    """Batches of one size each: the histogram calibrators stack the activations of a chunk."""
    for _, equal in itertools.groupby(batches, len):
        while chunk := list(itertools.islice(equal, _CHUNK)):
            yield chunk


class _Seen:
    """Counts images, and notices when all are equal: ranges of one image are ranges of nothing else."""

    def __init__(self) -> None:
        self.images = 0
        self._first: Images | None = None
        self._varied = False

    def look(self, batch: Images) -> Images:
        self.images += len(batch)
        self._first = batch[0] if self._first is None else self._first
        self._varied = self._varied or bool((batch != self._first).any())
        return batch

    def check(self) -> None:
        if self.images < FEWEST_IMAGES:
            raise InputError(f"{self.images} calibration images are too few; give at least {FEWEST_IMAGES}.")
        if not self._varied:
            raise InputError(
                f"All {self.images} calibration images are equal; give images as the network will see them."
            )


@contextmanager
def quiet() -> Iterator[None]:
    """onnxruntime.quantization warns through the root logger of what is meant to be."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
