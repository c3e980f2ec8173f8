"""Shared, materialised and on-the-fly children: what is stored, what the runtime makes of it, and that all agree."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import onnxsim
import pytest

from kdna_deploy.errors import ExportError
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.export import OnnxOptions, export_fused
from kdna_deploy.targets.onnx.ledger import onnx_storage, optimised_model
from kdna_deploy.targets.onnx.prepare import prepare_onnx
from kdna_deploy.targets.onnx.simplify import simplify
from kdna_deploy.targets.source import FusedSource, Request, open_fused_source
from tests.conftest import SAMPLES
from tests.targets.onnx.passes import applied

SHARED_PARENTS = {"resnet18": 4, "resnet50": 4, "mobilenet_v2": 8, "mobilenet_v2_1d2": 8}
SAMPLE = SAMPLES / "digits_resnet18_quarter.pth.tar"


@pytest.fixture(scope="module")
def shared_sample() -> FusedSource:
    return open_fused_source(SAMPLE, Request(size=(64, 64), children="share"))


def _weight_products(model: onnx.ModelProto) -> list[str]:
    """Products that end in a convolution's weight."""
    products = {node.output[0]: node.name for node in model.graph.node if node.op_type == "Mul"}
    return [products[n.input[1]] for n in model.graph.node if n.op_type.endswith("Conv") and n.input[1] in products]


@pytest.mark.slow
# MobileNetV2 has the 0.5× network's structure, and goes through tests/test_cli_three_lines.py.
@pytest.mark.parametrize("arch", ["resnet18", "resnet50", "mobilenet_v2_1d2"])
def test_three_layouts_agree_with_the_published_code_and_share_keeps_the_papers_size(
    arch: str,
    published: Callable[[str], Path],
    golden: Callable[[str], dict[str, np.ndarray]],
    images: np.ndarray,
    tmp_path: Path,
) -> None:
    shared = open_fused_source(published(arch), Request(children="share"))
    small = export_fused(shared, tmp_path / "shared.onnx", OnnxOptions())
    fly = export_fused(shared, tmp_path / "fly.onnx", OnnxOptions(on_the_fly=True))
    full = export_fused(open_fused_source(published(arch), Request()), tmp_path / "full.onnx", OnnxOptions())
    for result in (small, fly, full):
        plain = OrtSession(result.path).run(images)
        assert np.abs(plain - golden(arch)["logits"]).max() <= 1e-3
        # Verified once more where it is written, and what ONNX Runtime makes of a file is what is in a prepared one.
        prepared = prepare_onnx(result.path, tmp_path / "prepared.onnx")
        assert np.array_equal(OrtSession(prepared.path).run(images), plain)
        assert (prepared.bytes > 1.1 * result.bytes) is (result is small)
    allowed = 4 * shared.provenance.parameters * 1.01 + 200_000
    assert small.bytes <= allowed
    assert fly.bytes <= allowed
    if arch == "resnet18":
        assert small.bytes <= 37.6e6
        assert full.bytes <= 72.5e6
    file, running = small.storage[-2], small.storage[-1]
    assert file.convolutions - file.kernels == full.storage[0].convolutions - full.storage[0].kernels > 0
    assert running.kernels == running.convolutions
    assert fly.storage[-1].kernels < fly.storage[-1].convolutions
    assert not _weight_products(optimised_model(small.path))
    model = onnx.load(small.path)
    assert not {"BatchNormalization", "ReduceMean"} & set(small.nodes)
    consumers = _weight_products(model)
    assert len(consumers) == file.convolutions - file.kernels + SHARED_PARENTS[arch]
    assert small.nodes["Mul"] == len(consumers) + shared.provenance.channel_attentions


def test_on_the_fly_children_stay_products_in_the_runtime_because_the_file_says_so(
    shared_sample: FusedSource, tmp_path: Path
) -> None:
    result = export_fused(shared_sample, tmp_path / "fly.onnx", OnnxOptions(on_the_fly=True))
    assert len(_weight_products(optimised_model(result.path))) == 10
    # Without what the metadata says, ONNX Runtime multiplies them out.
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "naive.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(result.path, options, providers=["CPUExecutionProvider"])
    assert not _weight_products(onnx.load(tmp_path / "naive.onnx"))


def test_constant_folding_of_onnxsim_would_undo_sharing_and_is_dropped(
    shared_sample: FusedSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ir.to_proto(to_onnx(shared_sample.graph))
    unique_bytes = onnx_storage(model, "").unique_bytes
    applied(simplify, model, shared=True)
    assert onnx_storage(model, "").unique_bytes == unique_bytes
    folding = onnxsim.simplify(model)[0]
    assert onnx_storage(folding, "").unique_bytes > 1.5 * onnx_storage(model, "").unique_bytes
    monkeypatch.setattr(onnxsim, "simplify", lambda *_, **__: (folding, True))
    dropped = applied(simplify, model, shared=True)
    assert dropped.changed == 0
    assert onnx_storage(model, "").unique_bytes == unique_bytes
    assert ["undo the sharing" in refusal.reason for refusal in dropped.refused] == [True]


def test_a_simplification_that_changes_the_result_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: onnx.ModelProto, **_: object) -> tuple[onnx.ModelProto, bool]:
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        relu = next(node for node in changed.graph.node if node.op_type == "Relu")
        for node in changed.graph.node:
            node.input[:] = [relu.input[0] if name == relu.output[0] else name for name in node.input]
        changed.graph.node.remove(relu)
        return changed, True

    monkeypatch.setattr(onnxsim, "simplify", wrong)
    opened = open_fused_source(SAMPLE, Request(size=(64, 64)))
    result = export_fused(opened, tmp_path / "net.onnx", OnnxOptions())
    assert all(agreement.passed for agreement in result.agreements)
    assert result.notes[0] == "not simplified: the file departs beyond the tolerance"


def test_a_batchnorm_left_behind_would_make_onnxsim_store_a_second_kernel() -> None:
    """Why BatchNorm goes into the modulation: onnxsim fuses what is left, even without constant folding."""
    weight = np.random.default_rng(0).standard_normal((8, 8, 3, 3)).astype(np.float32)
    vectors = {name: np.ones(8, np.float32) for name in ("scale", "bias", "mean", "variance")}
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Conv", ["x", "w"], ["a"], pads=[1] * 4),
            onnx.helper.make_node("Conv", ["a", "w"], ["b"], pads=[1] * 4),
            onnx.helper.make_node("BatchNormalization", ["b", *vectors], ["y"]),
        ],
        "shared",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 8, 8, 8])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8, 8, 8])],
        [onnx.numpy_helper.from_array(value, name) for name, value in {"w": weight, **vectors}.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
    assert onnx_storage(model, "").kernels == 1
    unique_bytes = onnx_storage(model, "").unique_bytes
    applied(simplify, model, shared=True)
    assert onnx_storage(model, "").unique_bytes == unique_bytes


def test_small_parents_survive_the_folding_of_shapes() -> None:
    opened = open_fused_source(SAMPLES / "digits_mobilenet_v2_1d2.pth.tar", Request(size=(64, 64), children="share"))
    storage = onnx_storage(ir.to_proto(to_onnx(opened.graph)), "")
    assert storage.convolutions - storage.kernels == 10


def test_a_bloated_file_is_refused_and_not_written(tmp_path: Path) -> None:
    opened = open_fused_source(SAMPLE, Request(size=(64, 64)))
    with pytest.raises(ExportError, match="`children='share'`"):
        export_fused(opened, tmp_path / "full.onnx", OnnxOptions(max_bloat=1.5))
    assert not list(tmp_path.iterdir())
