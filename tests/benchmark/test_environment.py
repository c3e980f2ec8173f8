"""What is recorded of the machine, from files as Linux writes them and where there are none."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from kdna_deploy.benchmark import environment as module
from kdna_deploy.benchmark.environment import environment, processor

EPYC = """processor\t: 0
vendor_id\t: AuthenticAMD
model name\t: AMD EPYC 7H12 64-Core Processor
flags\t\t: fpu vme avx2 fma sse4_2 avx f16c

processor\t: 1
model name\t: another
flags\t\t: fpu avx512f
"""
GRAVITON = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm bf16\nCPU part\t: 0xd40\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose files are those of the kernel; none yet."""
    monkeypatch.setattr(module, "_CGROUP", tmp_path)
    monkeypatch.setattr(module, "_GOVERNOR", tmp_path / "scaling_governor")
    monkeypatch.setattr(module, "_CPUINFO", tmp_path / "cpuinfo")
    return tmp_path


def test_the_first_processor_tells_its_name_and_the_flags_that_kernels_are_written_for(machine: Path) -> None:
    (machine / "cpuinfo").write_text(EPYC)
    found = environment()
    assert found.cpu == "AMD EPYC 7H12 64-Core Processor"
    assert found.flags == ("sse4_2", "avx", "f16c", "fma", "avx2")


def test_an_arm_processor_calls_its_flags_features(machine: Path) -> None:
    (machine / "cpuinfo").write_text(GRAVITON)
    found = environment()
    assert found.flags == ("asimd", "asimddp", "i8mm", "bf16")
    assert found.cpu  # from Python, where the kernel gives no name


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (("sse4_2", "avx", "fma", "avx2"), "EPYC (AVX2, no VNNI)"),
        (("avx2", "avx_vnni"), "EPYC (AVX2, VNNI)"),
        (("avx2", "avx512f", "avx512bw"), "EPYC (AVX-512, no VNNI)"),
        (("avx2", "avx_vnni", "avx512f", "avx512_vnni", "amx_int8"), "EPYC (AVX-512, VNNI, AMX)"),
        (("asimd",), "EPYC (NEON, no dot products)"),
        (("asimd", "asimddp", "i8mm", "sve"), "EPYC (SVE, dot products, I8MM)"),
        ((), "EPYC"),
    ],
)
def test_processors_of_one_name_are_told_apart_by_what_they_compute_with(flags: tuple[str, ...], name: str) -> None:
    assert processor("EPYC", flags) == replace(environment(), cpu="EPYC", flags=flags).processor == name


@pytest.mark.parametrize(
    ("text", "cpus"),
    [("150000 100000\n", 1.5), ("200000 100000\n", 2.0), ("50000\n", 0.5), ("max 100000\n", None)],
)
def test_a_limit_of_cpu_time_is_given_in_cpus(machine: Path, text: str, cpus: float | None) -> None:
    (machine / "cpu.max").write_text(text)
    assert environment().cgroup_cpus == cpus


@pytest.mark.parametrize(("text", "gib"), [("4294967296\n", 4.0), ("1610612736\n", 1.5), ("max\n", None)])
def test_a_limit_of_memory_is_given_in_gib(machine: Path, text: str, gib: float | None) -> None:
    (machine / "memory.max").write_text(text)
    assert environment().cgroup_memory_gib == gib


def test_the_governor_of_the_clock_is_recorded(machine: Path) -> None:
    (machine / "scaling_governor").write_text("powersave\n")
    assert environment().governor == "powersave"


def test_what_the_system_does_not_tell_is_none(machine: Path) -> None:
    found = environment()
    assert (found.governor, found.cgroup_cpus, found.cgroup_memory_gib, found.flags) == (None, None, None, ())
    assert found.cpu
    assert found.cores >= 1 and found.memory_gib > 0


def test_this_machine_fits_into_json_as_it_is() -> None:
    record = environment().record
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert {"torch", "onnxruntime", "kdna-deploy", "onnx-ir", "pillow", "safetensors"} <= record["versions"].keys()
    # The libraries are recorded by what they were installed as, whatever they are imported as.
    for imported, name in (("tensorrt_rtx", "tensorrt-rtx"), ("tensorrt", "tensorrt-c"), ("openvino", "openvino")):
        if importlib.util.find_spec(imported) is not None:
            assert any(recorded.startswith(name) for recorded in record["versions"])
