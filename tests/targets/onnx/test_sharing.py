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
from kdna_deploy.graph.graph import Graph
from kdna_deploy.precision import Codes
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.codes.store import store_codes
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.int8.compact import compact
from kdna_deploy.targets.onnx.ledger import onnx_storage, optimised_model
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.prepare import prepare_onnx
from kdna_deploy.targets.onnx.simplify import simplify
from tests.samples import export_sample, fused_sample, fused_small, narrow
from tests.targets.onnx.passes import applied

ASKED = "kdna_deploy.targets.onnx.simplify.is_settled"  # where it is, onnxsim is not asked

# mobilenet_v2 has the structure of its half, `mobilenet_v2_1d2`.
SHARED_PARENTS = {"resnet18": 4, "resnet50": 4, "mobilenet_v2_1d2": 8}
NARROW = ("resnet50",)  # of a quarter of its widths, where the graph takes a part of the file


def _weight_products(model: onnx.ModelProto) -> list[str]:
    """Products that end in a convolution's weight."""
    products = {node.output[0]: node.name for node in model.graph.node if node.op_type == "Mul"}
    return [products[n.input[1]] for n in model.graph.node if n.op_type.endswith("Conv") and n.input[1] in products]


ARCHS = pytest.mark.parametrize("arch", SHARED_PARENTS)


@pytest.mark.slow
@ARCHS
def test_a_shared_file_keeps_the_papers_size_and_the_runtime_every_kernel(
    arch: str, published: Callable[[str], Path], tmp_path: Path
) -> None:
    """That it agrees with the original is what exporting it verifies."""
    shared = fused_small(narrow(arch) if arch in NARROW else published(arch), "share")
    small = export_fused(shared, tmp_path / "shared.onnx", OnnxOptions())
    assert small.bytes <= 4 * shared.provenance.parameters * 1.01 + 200_000
    trained, file, running = small.storage[0], small.storage[-2], small.storage[-1]
    assert file.convolutions - file.kernels == trained.convolutions - trained.kernels > 0
    assert running.kernels == running.convolutions
    assert not _weight_products(optimised_model(small.path))
    consumers = _weight_products(onnx.load(small.path))
    assert not {"BatchNormalization", "ReduceMean"} & set(small.nodes)
    assert len(consumers) == file.convolutions - file.kernels + SHARED_PARENTS[arch]
    assert small.nodes["Mul"] == len(consumers) + shared.provenance.channel_attentions
    # Prepared, it holds every child; that it computes what the portable file computes is verified there.
    prepared = prepare_onnx(small.path, tmp_path / "prepared.onnx")
    assert prepared.bytes > 1.05 * small.bytes and "multiplied out" in prepared.notes[1]
    assert len(prepared.agreements) == 6 and all(agreement.worst == 0 for agreement in prepared.agreements)
    # In codes it takes a part of the trained parameters, and the runtime folds it to the same operators.
    executed = sorted(node.op_type for node in optimised_model(small.path).graph.node)
    limits: tuple[tuple[Codes, float], ...] = (("int8", 0.27), ("int4", 0.162 if "mobilenet" in arch else 0.146))
    for codes, most in limits:
        coded = in_codes(small.path, codes, tmp_path / f"{codes}.onnx")
        assert sorted(node.op_type for node in optimised_model(coded).graph.node) == executed
        assert coded.stat().st_size <= most * 4 * shared.provenance.parameters + (100_000 if arch in NARROW else 0)


def in_codes(path: Path, codes: Codes, output: Path) -> Path:
    """What `export_codes` makes of the float32 file at `path`, but for a line of provenance."""
    model = ir.load(path)
    store_codes(model, codes)
    compact(model)
    ir.save(model, output)
    return output


@pytest.mark.slow
@ARCHS
def test_a_shared_file_agrees_with_the_published_code(
    arch: str,
    published: Callable[[str], Path],
    golden: Callable[[str], dict[str, np.ndarray]],
    images: np.ndarray,
    tmp_path: Path,
) -> None:
    """Fused for small images and written for those of the published code, as a ``.pt2`` may be exported.

    Children of their own go through tests/cli/test_three_lines.py.
    """
    graph = Graph(fused_small(published(arch), "share").graph.module, images.shape[1:])
    ir.save(to_onnx(graph, target="cpu"), tmp_path / "net.onnx")
    assert np.abs(OrtSession(tmp_path / "net.onnx").run(images) - golden(arch)["logits"]).max() <= 1e-3


@pytest.mark.slow
def test_the_sizes_of_resnet_18_in_every_layout(published: Callable[[str], Path], tmp_path: Path) -> None:
    shared, own = (fused_small(published("resnet18"), children) for children in ("share", None))
    fly = export_fused(shared, tmp_path / "fly.onnx", OnnxOptions(on_the_fly=True))
    full = export_fused(own, tmp_path / "full.onnx", OnnxOptions())
    assert fly.bytes <= 37.6e6
    assert fly.storage[-1].kernels < fly.storage[-1].convolutions
    assert full.bytes <= 72.5e6


@pytest.mark.slow
def test_on_the_fly_children_stay_products_in_the_runtime_because_the_file_says_so(
    tmp_path: Path,
) -> None:
    result = export_sample(tmp_path / "fly.onnx", children="share", on_the_fly=True)
    assert len(_weight_products(optimised_model(result.path))) == 10
    # Without what the metadata says, ONNX Runtime multiplies them out.
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "naive.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(result.path, options, providers=["CPUExecutionProvider"])
    assert not _weight_products(onnx.load(tmp_path / "naive.onnx"))


@pytest.mark.slow
def test_constant_folding_of_onnxsim_would_undo_sharing_and_is_dropped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = ir.to_proto(to_onnx(fused_sample(children="share").graph))
    unique_bytes = onnx_storage(model, "").unique_bytes
    applied(simplify, model, shared=True)
    assert onnx_storage(model, "").unique_bytes == unique_bytes
    folding = onnxsim.simplify(model)[0]
    assert onnx_storage(folding, "").unique_bytes > 1.5 * onnx_storage(model, "").unique_bytes
    monkeypatch.setattr(onnxsim, "simplify", lambda *_, **__: (folding, True))
    monkeypatch.setattr(ASKED, lambda *_: False)
    dropped = applied(simplify, model, shared=True)
    assert dropped.changed == 0
    assert onnx_storage(model, "").unique_bytes == unique_bytes
    assert ["undo the sharing" in refusal.reason for refusal in dropped.refused] == [True]


@pytest.mark.slow
def test_a_simplification_that_changes_the_result_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(model: onnx.ModelProto, **_: object) -> tuple[onnx.ModelProto, bool]:
        changed = onnx.ModelProto.FromString(model.SerializeToString())
        relu = next(node for node in changed.graph.node if node.op_type == "Relu")
        for node in changed.graph.node:
            node.input[:] = [relu.input[0] if name == relu.output[0] else name for name in node.input]
        changed.graph.node.remove(relu)
        return changed, True

    monkeypatch.setattr(onnxsim, "simplify", wrong)
    monkeypatch.setattr(ASKED, lambda *_: False)
    result = export_sample(tmp_path / "net.onnx")
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


def test_a_bloated_file_is_refused_and_not_written(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="`children='share'`"):
        export_sample(tmp_path / "full.onnx", max_bloat=1.5)
    assert not list(tmp_path.iterdir())
