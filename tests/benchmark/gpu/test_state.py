"""What samples of the GPU's state say; on a GPU, that they can be taken."""

from __future__ import annotations

import importlib.util
import json

import pytest

from kdna_deploy.benchmark.gpu.nvml import Monitor, answers, state
from kdna_deploy.benchmark.gpu.state import SLOWDOWNS, GpuMachine, Sample, interpret
from kdna_deploy.reports.bench_gpu import told as printed
from kdna_deploy.runtimes.nvidia.gpu import Gpu, first_gpu


def sample(sm: int = 2500, power: float = 300.0, temperature: int = 60, reasons: int = 0) -> Sample:
    return Sample(sm, 10_500, power, temperature, reasons)


def test_clocks_power_and_temperature_are_summarised() -> None:
    rest = sample(210, 20.0, 35, reasons=0x01)
    found = interpret([sample(2490, 290.0, 61), sample(2500, 310.0, 66), sample(2520, 300.0, 64)], rest, rest)
    assert found is not None
    assert (found.sm_mhz, found.memory_mhz) == ((2490, 2500, 2520), 10_500)
    assert (found.power_w, found.temperature_c) == ((300.0, 310.0), 66)
    assert (found.samples, found.throttled, found.warnings) == (3, {}, ())
    assert found.before is found.after is rest
    assert json.loads(json.dumps(found.record))["sm_mhz"] == [2490, 2500, 2520]


@pytest.mark.parametrize("bit", SLOWDOWNS)
def test_every_slowdown_is_named_with_the_share_of_its_samples(bit: int) -> None:
    found = interpret([sample(), sample(reasons=bit), sample(reasons=bit | 0x02), sample()])
    assert found is not None
    assert found.throttled == {SLOWDOWNS[bit]: 0.5}
    (warning,) = found.warnings
    assert f"throttled by {SLOWDOWNS[bit]} in 50% of the samples" in warning


@pytest.mark.parametrize("reasons", [0x00, 0x01, 0x02, 0x10, 0x100])
def test_idling_and_clocks_that_someone_set_are_no_throttling(reasons: int) -> None:
    found = interpret([sample(reasons=reasons)] * 3)
    assert found is not None and found.throttled == {} and found.warnings == ()


def test_samples_of_an_idle_gpu_between_blocks_do_not_count() -> None:
    found = interpret([sample(), sample(210, 25.0, 50, reasons=0x01), sample()])
    assert found is not None and found.samples == 2
    assert found.sm_mhz == (2500, 2500, 2500) and found.warnings == ()


def test_a_rare_slowdown_is_recorded_and_not_warned_of() -> None:
    found = interpret([sample()] * 99 + [sample(reasons=0x04)])
    assert found is not None
    assert found.throttled == {"its power limit": 0.01} and found.warnings == ()


def test_a_clock_that_falls_without_a_reason_is_warned_of() -> None:
    found = interpret([sample(2500)] * 5 + [sample(2000)])
    assert found is not None
    assert found.warnings == ("the GPU's clock fell from 2500 to 2000 MHz meanwhile: expect more spread",)


def test_a_gpu_that_tells_a_part_is_taken_at_that() -> None:
    """A Jetson knows no power, a laptop's driver names no reasons."""

    def unknown() -> int:
        raise RuntimeError("Not Supported")

    told = answers({"sm_mhz": lambda: 900, "memory_mhz": unknown, "power_w": unknown, "temperature_c": lambda: 50})
    assert told == {"sm_mhz": 900, "memory_mhz": None, "power_w": None, "temperature_c": 50}
    found = interpret([Sample(**told, reasons=None), Sample(1000, None, None, 52, None)])
    assert found is not None
    assert (found.sm_mhz, found.memory_mhz, found.power_w, found.temperature_c) == ((900, 950, 1000), None, None, 52)
    assert found.throttled == {}
    assert json.loads(json.dumps(found.record))["power_w"] is None
    silent = interpret([Sample(None, None, None, None, 0x04)])
    assert silent is not None and silent.sm_mhz is None and len(silent.warnings) == 1
    assert list(printed(GpuMachine("A GPU", "8.7"), silent)) == []
    assert list(printed(GpuMachine("A GPU", "8.7"), found)) == ["clock 950 MHz (900 to 1000)", "52 °C"]


def test_without_samples_nothing_is_said() -> None:
    assert interpret([]) is None
    assert state([], None, None) is None
    after = sample(1800)
    found = state([], None, after)
    assert found is not None and found.sm_mhz == (1800, 1800, 1800)


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is not None, reason="nvidia-ml-py is installed")
def test_without_the_package_a_note_says_how_to_get_it_and_nothing_fails() -> None:
    monitor = Monitor(Gpu("A GPU", "8.9"))
    assert monitor.note is not None and monitor.note.endswith("run: pip install 'kdna-deploy[gpu]'")
    assert monitor.sample() is None
    with monitor.watching() as samples:
        pass
    assert samples == []
    assert (monitor.machine.name, monitor.machine.driver) == ("A GPU", None)


@pytest.mark.gpu
def test_a_gpu_is_sampled_while_it_works() -> None:
    pytest.importorskip("pynvml")
    import torch

    monitor = Monitor(first_gpu())
    assert monitor.note is None
    numbers = torch.randn(4096, 4096, device="cuda")
    with monitor.watching() as samples:
        for _ in range(200):
            numbers = torch.nn.functional.normalize(numbers @ numbers)
            torch.cuda.synchronize()
        torch.cuda._sleep(2_000_000_000)
        torch.cuda.synchronize()
    found = state(samples, None, monitor.sample())
    assert found is not None and found.samples >= 1
    assert found.sm_mhz[2] > 0 and found.power_w[0] > 0 and 0 < found.temperature_c < 120
    assert monitor.machine.driver
