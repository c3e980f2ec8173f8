"""Forms of the channel attention in an ONNX file, and what each costs on ONNX Runtime: the tries behind `--target cpu`.

Every form computes the same function, but for the last two, which leave parts of it out to show what those parts cost.
Each is measured beside the plain backbone, interleaved; "overhead" is the ratio of latencies over the ratio of MACs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common
from table import write_table

from kdna_deploy.benchmark.cpu.affinity import pinned
from kdna_deploy.benchmark.cpu.latency import measure_latency
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.benchmark.statistics import Ratio, noise_floor, paired_ratio
from kdna_deploy.graph.graph import Graph
from kdna_deploy.network.cost import count
from kdna_deploy.network.families import ARCHITECTURES, Architecture
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.fuse import fuse
from kdna_deploy.targets.onnx.convert import to_onnx
from kdna_deploy.targets.onnx.cpu_layout import fill_hidden_channels, widen_gates

ROOT = Path(__file__).resolve().parent.parent
SHAPE = (3, 224, 224)
NAMES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2")


def portable(graph: Graph) -> ir.Model:
    return to_onnx(graph)


def portable_batch_1(graph: Graph) -> ir.Model:
    return to_onnx(graph, batch=1)


def matrix_products(graph: Graph) -> ir.Model:
    """The two layers of a gate as Gemm on [n, c] instead of convolutions on [n, c, 1, 1]."""
    return with_matrix_products(to_onnx(graph))


def widened(graph: Graph) -> ir.Model:
    model = to_onnx(graph)
    widen_gates(model)
    return model


def widened_matrix_products(graph: Graph) -> ir.Model:
    return with_matrix_products(widened(graph))


def filled(graph: Graph) -> ir.Model:
    model = to_onnx(graph)
    fill_hidden_channels(model)
    return model


def for_cpu(graph: Graph) -> ir.Model:
    return to_onnx(graph, target="cpu")


def for_cpu_batch_1(graph: Graph) -> ir.Model:
    return to_onnx(graph, target="cpu", batch=1)


def without_layers(graph: Graph) -> ir.Model:
    """The pooled value itself repeated and multiplied: pooling, repeating and the product alone."""
    model = to_onnx(graph, target="cpu")
    for node in model.graph:
        if node.op_type == "Resize":
            node.replace_input_with(0, pool_before(node).outputs[0])
    common.RemoveUnusedNodesPass()(model)
    return model


def without_attention(graph: Graph) -> ir.Model:
    model = to_onnx(graph, target="cpu")
    for node in list(model.graph):
        if node.op_type == "Mul":
            wide = next(i for i, value in enumerate(node.inputs) if value and value.producer().op_type == "Resize")
            ir.convenience.replace_all_uses_with(node.outputs[0], node.inputs[1 - wide])
    common.RemoveUnusedNodesPass()(model)
    return model


FORMS: dict[str, Callable[[Graph], ir.Model]] = {
    "as translated (`--target any`)": portable,
    "… with the batch fixed to 1": portable_batch_1,
    "… layers as matrix products": matrix_products,
    "… hidden channels filled": filled,
    "… gate widened": widened,
    "… gate widened, layers as matrix products": widened_matrix_products,
    "gate widened, hidden channels filled (`--target cpu`)": for_cpu,
    "… the same with the batch fixed to 1": for_cpu_batch_1,
    "not the same function: without the gate's two layers": without_layers,
    "not the same function: without channel attention": without_attention,
}


def pool_before(node: ir.Node) -> ir.Node:
    while node.op_type != "GlobalAveragePool":
        node = node.inputs[0].producer()
    return node


def with_matrix_products(model: ir.Model) -> ir.Model:
    """Flatten → Gemm → Relu → Gemm → Sigmoid → Unsqueeze for every gate of `model`."""
    graph = model.graph
    for sigmoid in [node for node in graph if node.op_type == "Sigmoid"]:
        second = sigmoid.inputs[0].producer()
        relu = second.inputs[0].producer()
        first = relu.inputs[0].producer()
        flat = ir.node("Flatten", [first.inputs[0]], {"axis": 1})
        flat.outputs[0].name = f"{first.name}_flat"
        graph.insert_before(first, flat)
        value = flat.outputs[0]
        for node in (first, relu, second, sigmoid):
            new = as_matrix_product(graph, node, value) if node.op_type == "Conv" else ir.node(node.op_type, [value])
            new.outputs[0].name = f"{node.name}_matrix"
            graph.insert_before(node, new)
            value = new.outputs[0]
        axes = constant(graph, f"{sigmoid.name}_axes", np.array([2, 3], np.int64))
        back = ir.node("Unsqueeze", [value, axes])
        back.outputs[0].name = f"{sigmoid.name}_back"
        back.outputs[0].shape, back.outputs[0].type = sigmoid.outputs[0].shape, sigmoid.outputs[0].type
        graph.insert_before(sigmoid, back)
        ir.convenience.replace_all_uses_with(sigmoid.outputs[0], back.outputs[0])
    common.RemoveUnusedNodesPass()(model)
    return model


def as_matrix_product(graph: ir.Graph, node: ir.Node, value: ir.Value) -> ir.Node:
    weight = node.inputs[1].const_value.numpy()
    matrix = np.ascontiguousarray(weight.reshape(len(weight), -1).T)
    return ir.node("Gemm", [value, constant(graph, f"{node.name}_matrix_weight", matrix), *node.inputs[2:]])


def constant(graph: ir.Graph, name: str, array: np.ndarray) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    graph.register_initializer(value)
    return value


def fused(architecture: Architecture) -> tuple[Graph, int]:
    """The fused graph of an untrained network, and its multiply-accumulates."""
    module = architecture.build().eval().requires_grad_(False)
    return fuse(module, SHAPE).graph, count(module, SHAPE).macs


def measure(name: str, folder: Path, settings: Settings) -> tuple[dict[str, Ratio], float, float | None]:
    """Form → ratio to the plain backbone; the ratio of MACs; the noise floor."""
    plain, plain_macs = fused(ARCHITECTURES[name].plain)
    graph, macs = fused(ARCHITECTURES[name])
    paths = [folder / f"{name}-{number}.onnx" for number in range(len(FORMS) + 1)]
    for path, model in zip(paths, [to_onnx(plain), *(form(graph) for form in FORMS.values())], strict=True):
        ir.save(model, path)
    images = np.random.default_rng(0).standard_normal((1, *SHAPE), dtype=np.float32)
    with pinned(1):
        openers = [partial(OrtSession, path, 1) for path in (*paths, paths[0])]
        samples = measure_latency(openers, [images] * len(openers), settings).samples
    baseline, *forms, twin = samples
    floor = noise_floor(paired_ratio(twin, baseline)) or 0.0
    ratios = [paired_ratio(form, baseline, floor) for form in forms]
    return dict(zip(FORMS, ratios, strict=True)), macs / plain_macs, floor


def cell(ratio: Ratio, macs: float) -> str:
    low, high = ratio.interval or (ratio.value, ratio.value)
    return f"{ratio.value / macs:.3f} ({low / macs:.3f}–{high / macs:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--min-time", type=float, default=20.0, help="seconds of measuring per architecture")
    parser.add_argument("--arch", choices=NAMES, action="append", help="leave out the others")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "prescale_forms.md")
    options = parser.parse_args()
    names = options.arch or list(NAMES)
    columns: dict[str, list[str]] = {form: [] for form in FORMS}
    floors, macs_ratios = [], []
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            print(f"{name} …", file=sys.stderr)
            ratios, macs, floor = measure(name, Path(folder), Settings(100, options.min_time))
            floors.append(f"{floor:.1%}")
            macs_ratios.append(f"{macs:.4f}")
            for form, ratio in ratios.items():
                columns[form].append(cell(ratio, macs))
    rows = [[form, *cells] for form, cells in columns.items()]
    rows += [["noise floor", *floors], ["ratio of MACs", *macs_ratios]]
    write_table(
        options.out,
        "Forms of channel attention on ONNX Runtime",
        "Overhead: ratio of latency to the plain backbone, divided by the ratio of MACs; 95 % interval, noise floor "
        "included. One thread, batch 1, 224×224, untrained weights.",
        ["form", *names],
        rows,
    )


if __name__ == "__main__":
    main()
