"""Faults planted in each stage: `verify` catches every one, and `bisect` names its layer, parent and stage."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
import torch

from kdna_deploy.errors import UsageError
from kdna_deploy.evaluation import agreement
from kdna_deploy.evaluation.verify import verify_files
from kdna_deploy.graph.file import save_fused
from kdna_deploy.images.interface import Interface
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.runtimes.nvidia.engine_record import record_path
from kdna_deploy.targets.bisect import Bisection
from kdna_deploy.targets.bisect_file import bisect_file
from kdna_deploy.targets.onnx import cpu_layout
from kdna_deploy.targets.onnx import export as onnx_export
from kdna_deploy.targets.onnx import simplify as simplification
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.half.audit import HalfAudit
from kdna_deploy.targets.onnx.half.export import export_half
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.prepare import prepare_onnx
from kdna_deploy.targets.source import FusedSource, Request, open_fused_source
from tests.planted_network import FACTORY, SHAPE, write_checkpoint
from tests.runtimes.nvidia.test_engine_record import CONTENT, RECORD

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("traced_once")]

Patch = Callable[[pytest.MonkeyPatch], None]

# The modules: the package gives these names to the passes in them.
fold_batchnorm = importlib.import_module("kdna_deploy.graph.passes.fold_batchnorm")
fold_static_attention = importlib.import_module("kdna_deploy.graph.passes.fold_static_attention")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("planted") / "net.pt")


@contextlib.contextmanager
def unguarded() -> Iterator[None]:
    """Every check of fuse and export itself says yes, so that a wrong artifact comes to be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(agreement, "worst_of", lambda agreements: None)
        yield


def opened(checkpoint: Path) -> FusedSource:
    return open_fused_source(checkpoint, Request(factory=FACTORY, size=SHAPE[1:]))


def bisected(artifact: Path, checkpoint: Path) -> Bisection:
    assert not verify_files(artifact, checkpoint, None, factory=FACTORY).passed
    return bisect_file(artifact, checkpoint, FACTORY)


def wrong_epsilon(patch: pytest.MonkeyPatch) -> None:
    right = fold_batchnorm._affine

    def affine(norm: Any) -> Any:
        norm.args = (*norm.args[:6], 10 * norm.args[6])
        return right(norm)

    patch.setattr(fold_batchnorm, "_affine", affine)


def swapped_children(patch: pytest.MonkeyPatch) -> None:
    """The second child gets the modulation of the first."""
    right = fold_static_attention.analyse
    kept: list[Any] = []

    def analyse(weight: Any) -> Any:
        found = right(weight)
        if found.modulation is None:
            return found
        kept.append(found.modulation)
        return found if len(kept) % 2 else replace(found, modulation=kept[-2])

    patch.setattr(fold_static_attention, "analyse", analyse)


def transposed_attention(patch: pytest.MonkeyPatch) -> None:
    right = fold_static_attention.analyse

    def analyse(weight: Any) -> Any:
        found = right(weight)
        m = found.modulation
        return found if m is None else replace(found, modulation=m.transpose(-1, -2).contiguous())

    patch.setattr(fold_static_attention, "analyse", analyse)


def dropping_simplifier(patch: pytest.MonkeyPatch) -> None:
    """onnxsim leaves out the first activation."""

    def drop(model: ir.Model, *_: Any, **__: Any) -> simplification.Simplified:
        relu = next(node for node in model.graph if node.op_type == "Relu")
        read = relu.inputs[0]
        assert read is not None
        relu.outputs[0].replace_all_uses_with(read)
        model.graph.remove(relu, safe=True)
        return simplification.Simplified(1, note="removed a node")

    for module in (onnx_export, importlib.import_module("kdna_deploy.targets.bisect")):
        patch.setattr(module, "simplify", drop)


def wrong_filling(patch: pytest.MonkeyPatch) -> None:
    """The hidden channels of a gate and the weights that read them are filled up at different ends."""
    right = cpu_layout._extend

    def extend(graph: Any, node: Any, position: int, axis: int, missing: int) -> None:
        right(graph, node, position, axis, missing)
        if axis == 1:
            tensor = node.inputs[position].const_value
            moved = np.roll(tensor.numpy(), missing, axis=1)
            node.inputs[position].const_value = ir.tensor(moved, name=tensor.name)

    patch.setattr(cpu_layout, "_extend", extend)


FAULTS: dict[str, tuple[Patch, str, str | None, str]] = {
    # fault → how it is planted, layer, parent, stage
    "wrong epsilon": (wrong_epsilon, "parent", "parent", "fold batchnorm"),
    "swapped children": (swapped_children, "bns.1", "parent", "fold static attention"),
    "transposed attention": (transposed_attention, "bns.0", "parent", "fold static attention"),
    "simplifier drops a node": (dropping_simplifier, "parent", "parent", "simplify"),
    "gate padded wrongly": (wrong_filling, "gates.0.fc2", None, "spell for cpu"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_caught_and_located(fault: str, checkpoint: Path, tmp_path: Path) -> None:
    plant, layer, parent, stage = FAULTS[fault]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        with unguarded():
            export_fused(opened(checkpoint), tmp_path / "net.onnx", OnnxOptions())
        found = bisected(tmp_path / "net.onnx", checkpoint)
    assert (found.layer, found.stage) == (layer, stage)
    assert (found.parent or "").removesuffix(".weight") == (parent or "")
    assert [row.departs for row in found.stages] == [False] * (len(found.stages) - 1) + [True]


def test_a_half_precision_overflow_is_located(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the audit, a product of 1e5 becomes infinite; BatchNorm takes the factor out again only afterwards."""
    checkpoint = write_checkpoint(tmp_path / "net.pt")
    state = torch.load(checkpoint)
    state["state_dict"]["stem.weight"] *= 1e6
    state["state_dict"]["stem.bias"] *= 1e6
    state["state_dict"]["bns.2.running_var"] *= 1e12
    torch.save(state, checkpoint)
    monkeypatch.setattr("kdna_deploy.targets.onnx.half.export.audit_half", lambda *_: HalfAudit((), {}))
    with unguarded():
        export_half(opened(checkpoint), tmp_path / "net.onnx", OnnxOptions(target="any"))
    found = bisected(tmp_path / "net.onnx", checkpoint)
    assert (found.layer, found.stage) == ("stem", "cast to half precision")


def test_a_fused_graph_is_bisected_as_well(checkpoint: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        wrong_epsilon(patch)
        with unguarded():
            source = opened(checkpoint)
        save_fused(source.graph, source.provenance, tmp_path / "net.fused.pt2")
        found = bisected(tmp_path / "net.fused.pt2", checkpoint)
    assert (found.layer, found.role, found.stage) == ("parent", "own layer", "fold batchnorm")


def change_kernel(model: onnx.ModelProto) -> None:
    kernel = next(t for t in model.graph.initializer if t.name == "fc.weight")
    kernel.CopyFrom(onnx.numpy_helper.from_array(1.01 * onnx.numpy_helper.to_array(kernel), "fc.weight"))


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("right") / "net.onnx"
    export_fused(opened(checkpoint), path, OnnxOptions())
    return path


def test_a_right_file_departs_nowhere(exported: Path, checkpoint: Path) -> None:
    found = bisect_file(exported, checkpoint, FACTORY)
    assert found.layer is None
    assert found.missing == ()
    assert found.layers == 9  # eight layers and the output


def test_a_file_that_takes_pixels_and_names_classes_is_looked_into_as_well(checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    interface = Interface("nhwc", Preprocessing((0.4, 0.5, 0.6), (0.2,)), softmax=True, top=2, classes=5)
    export_fused(opened(checkpoint), path, OnnxOptions(interface=interface))
    found = bisect_file(path, checkpoint, FACTORY)
    assert (found.layer, found.missing, found.layers) == (None, (), 9)
    model = onnx.load(path)
    change_kernel(model)
    onnx.save(model, path)
    assert bisected(path, checkpoint).layer == "fc"


def test_a_file_that_was_changed_afterwards_is_blamed_itself(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    model = onnx.load(exported)
    change_kernel(model)
    onnx.save(model, tmp_path / "net.onnx")
    found = bisected(tmp_path / "net.onnx", checkpoint)
    assert found.layer == "fc"
    assert found.stage.startswith("the file")
    assert not any(row.departs for row in found.stages[:-1])


def test_an_engine_is_at_fault_where_its_onnx_file_is_not(exported: Path, checkpoint: Path, tmp_path: Path) -> None:
    """What runs inside one cannot be looked at; no GPU is needed to look at the file that it was built from."""
    (tmp_path / "net.onnx").write_bytes(exported.read_bytes())
    engine = tmp_path / "net.rtx.engine"
    engine.write_bytes(CONTENT)
    record_path(engine).write_text(RECORD.to_json())
    found = bisect_file(engine, checkpoint, FACTORY)
    assert (found.layer, found.stage) == ("(output)", "the engine (every layer of net.onnx agrees)")


def test_a_prepared_file_is_at_fault_where_the_portable_one_is_not(
    exported: Path, checkpoint: Path, tmp_path: Path
) -> None:
    """Its layers have other names: the portable file's are compared."""
    portable, path = tmp_path / "net.onnx", tmp_path / "net.prepared.onnx"
    portable.write_bytes(exported.read_bytes())
    prepare_onnx(portable, path)
    assert bisect_file(path, checkpoint, FACTORY).layer is None
    model = onnx.load(path)
    kernel = next(t for t in model.graph.initializer if t.name == "fc.weight")
    kernel.CopyFrom(onnx.numpy_helper.from_array(1.01 * onnx.numpy_helper.to_array(kernel), "fc.weight"))
    onnx.save(model, path)
    found = bisect_file(path, checkpoint, FACTORY)
    assert (found.layer, found.stage) == ("(output)", "the prepared file (every layer of net.onnx agrees)")


def test_only_a_checkpoint_has_layers_to_compare_with(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no checkpoint"):
        bisect_file(exported, exported, FACTORY)


def test_the_command_prints_the_departure_and_keeps_the_image(
    exported: Path,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from typer.testing import CliRunner

    from kdna_deploy.cli.app import app

    monkeypatch.chdir(tmp_path)
    arguments = ["verify", str(exported), "--against", str(checkpoint), "--model", FACTORY]
    done = CliRunner().invoke(app, [*arguments, "--bisect", "--save-worst", "worst.npy"])
    assert done.exit_code == 0, done.output
    assert "nowhere: all 9 layers agree" in done.output
    worst = np.load(tmp_path / "worst.npy")
    assert worst.shape == (1, *SHAPE)
    again = CliRunner().invoke(app, [*arguments, "--inputs", "worst.npy"])
    assert again.exit_code == 0, again.output
    assert "given" in again.output
    refused = CliRunner().invoke(app, [*arguments, "--save-worst", "worst.png"])
    assert refused.exit_code != 0
