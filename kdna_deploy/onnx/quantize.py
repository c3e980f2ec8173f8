"""Float ONNX → int8 ONNX with QDQ nodes, for ONNX Runtime on a CPU, through `onnxruntime.quantization`.

    activations  u8 = round(x / s) + z         one scale and zero point a tensor, from calibration
    weights      s8 = round(w / s_f)           one scale a filter f, symmetric, from the weights themselves
    biases       s32, scale s · s_f

Calibration takes the range of each activation over images: ``minmax`` its extremes; ``percentile`` leaves out the
outermost hundred-thousandth; ``entropy`` chooses the range whose quantised histogram tells most of the original.

The gate β(x) of a channel attention stays in float32: its two layers work on one pixel, so there is nothing to gain,
and its product with the feature map is quantised, so that the map never leaves 8 bits.

Does not apply to shared children: each child's filters have scales of their own, which the parent's codes cannot
express in general (docs/int8-sharing.md); the graph must be materialised.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType
from onnxruntime.quantization.calibrate import TensorsData, create_calibrator
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from kdna_deploy.errors import InputError
from kdna_deploy.onnx.gates import gate_nodes
from kdna_deploy.runtimes.session import Images

Method = Literal["minmax", "percentile", "entropy"]

# What has a quantised kernel on the CPU. The pre-scale is the only product in a fused graph.
_OPERATORS = ["Conv", "Gemm", "Add", "Mul", "MaxPool", "GlobalAveragePool", "Reshape", "Relu", "Clip"]
_ROUNDING = {"Conv", "Gemm", "Add", "Mul", "GlobalAveragePool"}
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "percentile": CalibrationMethod.Percentile,
    "entropy": CalibrationMethod.Entropy,
}
_PERCENTILE = 99.999
FEWEST_IMAGES = 8
_CHUNK = 4  # batches; a histogram calibrator holds every activation of a chunk in memory


class _Reader(CalibrationDataReader):
    """Feeds batches to a calibrator."""

    def __init__(self, name: str, batches: Iterable[Images]) -> None:
        self._feeds = iter([{name: batch} for batch in batches])

    def get_next(self) -> dict[str, Images]:
        return next(self._feeds, None)  # type: ignore[arg-type]  # None at the end, which its annotation forgets


def calibrate(
    path: Path, batches: Iterable[Images], method: Method, on_images: Callable[[int], None] = lambda _: None
) -> TensorsData:
    """Ranges of the activations of the float model at `path` over `batches`.

    Raises:
        InputError: fewer than `FEWEST_IMAGES` images, or all of them equal.
    """
    with tempfile.TemporaryDirectory(prefix="kdna-calibration-") as folder, _quiet():
        calibrator = create_calibrator(
            path,
            _OPERATORS,
            augmented_model_path=str(Path(folder) / "augmented.onnx"),
            calibrate_method=_METHODS[method],
            extra_options={"percentile": _PERCENTILE} if method == "percentile" else {},
        )
        name = onnx.load(path, load_external_data=False).graph.input[0].name
        seen = _Seen()
        stream = iter(batches)
        while chunk := list(itertools.islice(stream, _CHUNK)):
            calibrator.collect_data(_Reader(name, map(seen.look, chunk)))
            on_images(sum(len(batch) for batch in chunk))
        seen.check()
        return calibrator.compute_data()


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


def quantise(path: Path, ranges: TensorsData, keep_float: Iterable[str] = ()) -> onnx.ModelProto:
    """The model at `path` with QDQ nodes; the nodes named in `keep_float`, and gates, stay in float32."""
    model = onnx.load(path)
    kept = [*gate_nodes(model.graph), *keep_float]
    with _quiet():
        quantizer = QDQQuantizer(
            onnx.shape_inference.infer_shapes(model),
            per_channel=True,
            reduce_range=False,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=ranges,
            nodes_to_quantize=[],
            nodes_to_exclude=kept,
            op_types_to_quantize=_OPERATORS,
            extra_options={},
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    return quantizer.model.model


def quantisable(path: Path) -> list[str]:
    """Names of the nodes that `quantise` rounds at, in the order of the graph: layers, sums, pre-scales, pools.

    Without those that keep the scale of their input, which are in 8 bits where that is.
    """
    graph = onnx.load(path, load_external_data=False).graph
    gates = gate_nodes(graph)
    return [node.name for node in graph.node if node.op_type in _ROUNDING and node.name not in gates]


@contextmanager
def _quiet() -> Iterator[None]:
    """onnxruntime.quantization warns through the root logger of what is meant to be."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
