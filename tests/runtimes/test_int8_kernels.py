"""Which processors get the session entry for exact int8, and that all that opens sessions asks the same function."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.benchmark.cpu.cold_start import ColdRequest, measure_cold_starts
from kdna_deploy.runtimes import int8_kernels as module
from kdna_deploy.runtimes.int8_kernels import EXACT_INT8, Int8Kernels, int8_kernels
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.processor import first_processor, instruction_sets
from kdna_deploy.runtimes.table import Source
from kdna_deploy.targets.onnx.int8 import export as int8_export

SSE = {"sse2", "ssse3", "sse4_1", "sse4_2"}
AVX2 = SSE | {"avx", "f16c", "avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512bw", "avx512dq", "avx512vl"}
ENTRY = dict([EXACT_INT8])


@pytest.mark.parametrize(
    ("processor", "flags", "entries"),
    [
        ("Zen 4, Cascade Lake", AVX512 | {"avx512_vnni"}, {}),
        ("Sapphire Rapids", AVX512 | {"avx512_vnni", "avx_vnni", "amx_tile", "amx_int8"}, {}),
        ("Alder Lake", AVX2 | {"avx_vnni"}, {}),
        ("Arrow Lake", AVX2 | {"avx_vnni", "avx_vnni_int8"}, {}),
        ("Skylake-X", AVX512, ENTRY),
        ("Zen 2, Haswell", AVX2, ENTRY),
        ("Nehalem", SSE, ENTRY),
        ("VNNI hidden, AVX-512 not", AVX512 | {"avx_vnni"}, ENTRY),  # the AVX-512 kernel is taken, without VNNI
        ("AVX-512 hidden but for VNNI", AVX2 | {"avx512_vnni"}, ENTRY),  # nor are there kernels for that alone
        ("no AVX2", SSE | {"avx_vnni"}, ENTRY),
    ],
)
@pytest.mark.parametrize("machine", ["x86_64", "AMD64"])
def test_x86_without_vnni_needs_the_entry(
    processor: str, flags: set[str], entries: dict[str, str], machine: str
) -> None:
    found = int8_kernels(flags, machine)
    assert found.entries == entries
    assert bool(found.note) == bool(entries)


@pytest.mark.parametrize("machine", ["aarch64", "arm64", "ARM64", "riscv64", "ppc64le"])
@pytest.mark.parametrize("flags", [{"asimd", "asimddp", "i8mm"}, {"asimd"}, None])
def test_other_machines_need_nothing(machine: str, flags: set[str] | None) -> None:
    assert int8_kernels(flags, machine) == Int8Kernels({}, None)


@pytest.mark.parametrize("machine", ["x86_64", "AMD64", "i686"])
def test_flags_that_the_system_does_not_tell_are_a_guess_and_called_one(machine: str) -> None:
    found = int8_kernels(None, machine)
    assert found.entries == ENTRY
    assert found.note is not None and "does not tell" in found.note and "=".join(EXACT_INT8) in found.note


def test_flags_are_read_from_the_first_processor(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    assert instruction_sets(first_processor(cpuinfo)) is None
    cpuinfo.write_text("processor\t: 0\nflags\t\t: fma avx2\n\nprocessor\t: 1\nflags\t\t: avx_vnni\n")
    assert instruction_sets(first_processor(cpuinfo)) == {"fma", "avx2"}
    cpuinfo.write_text("processor\t: 0\nFeatures\t: asimd\n")
    assert instruction_sets(first_processor(cpuinfo)) == {"asimd"}
    cpuinfo.write_text("hart\t: 0\nisa\t: rv64imafdc\n")
    assert instruction_sets(first_processor(cpuinfo)) is None


@pytest.fixture(scope="module")
def saturating(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A convolution [16, 8, 3, 3] in 8 bits whose products are as large as they get."""
    rng = np.random.default_rng(0)
    one, zero = np.float32(1), np.uint8(0)
    stored = {
        "one": one,
        "zero": zero,
        "w": rng.choice(np.array([-127, 127, 120], np.int8), (16, 8, 3, 3)),
        "ones": np.ones(16, np.float32),
        "zeros": np.zeros(16, np.int8),
        "far": np.float32(8 * 9 * 255 * 127 / 127),  # of the sums, so that they fit into 8 bits
        "middle": np.uint8(128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "one", "zero"], ["q"]),
        helper.make_node(
            "QLinearConv", ["q", "one", "zero", "w", "ones", "zeros", "far", "middle"], ["sums"], pads=[1] * 4
        ),
        helper.make_node("DequantizeLinear", ["sums", "far", "middle"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "saturating",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 8, 9, 9])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in stored.items()],
    )
    path = tmp_path_factory.mktemp("int8") / "saturating.onnx"
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_sums_of_the_largest_products_are_exact_on_the_processor_at_hand(saturating: Path) -> None:
    """Sums of two products in 16 bits would end at 32,767, those of the sessions here must not."""
    images = np.full((1, 8, 9, 9), 255, np.float32)
    model = onnx.load(saturating)
    weight = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == "w").astype(np.int64)
    inner = 255 * weight.sum((1, 2, 3))  # away from the border
    step = 8 * 9 * 255
    assert np.abs(inner).max() > 32_767
    got = OrtSession(saturating, threads=1).run(images)[0, :, 4, 4] / step
    assert np.array_equal(got, np.rint(inner / step).clip(-128, 127))


@pytest.fixture(params=[ENTRY, {}], ids=["without VNNI", "with VNNI"])
def processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The entries that sessions need on a processor that says it is of this kind."""
    flags = AVX2 if request.param else AVX2 | {"avx_vnni"}
    monkeypatch.setattr(module, "first_processor", lambda: {"flags": " ".join(flags)})
    monkeypatch.setattr(module.platform, "machine", lambda: "x86_64")
    return request.param


def test_sessions_take_what_the_processor_needs(saturating: Path, processor: dict[str, str]) -> None:
    options = OrtSession(saturating, threads=1).options
    assert {key: value for key, value in options.items() if key in ENTRY} == processor


def test_cold_starts_take_what_the_processor_needs(
    saturating: Path, processor: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[dict[str, Any]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append(json.loads(command[-1]))
        times = {"import_ms": 1, "load_ms": 1, "first_ms": 1, "resident_bytes": 1, "peak_bytes": 1}
        return subprocess.CompletedProcess(command, 0, json.dumps(times), "")

    monkeypatch.setattr(subprocess, "run", run)
    measure_cold_starts([ColdRequest("net", "onnxruntime", Source(saturating), 1, (1, 8, 9, 9))])
    assert [request["session_config"] for request in asked] == [processor] * len(asked)


def test_an_export_for_cpus_says_what_sessions_here_need(processor: dict[str, str]) -> None:
    notes = int8_export._processor_notes("cpu")
    assert [EXACT_INT8[0] in note for note in notes] == [True] * len(processor)
    assert int8_export._processor_notes("tensorrt") == ()
