"""What a run on a GPU has of its own to print: throughput, what is kept of the baseline's, the GPU's state."""

from __future__ import annotations

from collections.abc import Iterator

from kdna_deploy.benchmark.gpu.device import Gpu, GpuFigures, GpuFindings
from kdna_deploy.benchmark.gpu.state import GpuMachine, GpuState
from kdna_deploy.benchmark.result import BenchResult, Row
from kdna_deploy.benchmark.statistics import Estimate
from kdna_deploy.reports.cells import Cells, Fact
from kdna_deploy.reports.quantities import between


class GpuTables:
    """Of a result on a GPU."""

    def __init__(self, result: BenchResult) -> None:
        assert isinstance(result.findings, GpuFindings)
        assert isinstance(result.options.device, Gpu)
        self._result, self._found, self._device = result, result.findings, result.options.device

    def suite(self) -> list[Cells]:
        suite = self._result.suite
        if suite is None:
            return []
        printed = {entry.name: entry.printed.gpu_fps for entry in suite.entries if entry.printed}
        models = {row.name: row.model for row in self._result.rows}
        cells = []
        for row in self._result.rows:
            own, plain = printed.get(row.model), printed.get(models.get(row.baseline or "", ""))
            cells.append(
                (
                    *_names(row),
                    f"{throughput:.0f}" if (throughput := _own(row).throughput) else "–",
                    f"{own:.0f}" if own else "–",
                    _percent(_own(row).kept) if row.baseline else "",
                    f"{100 * own / plain:.1f}" if own and plain else "",
                )
            )
        headings = ("network", "runtime", "precision", "images/s", "paper", "kept %", "paper")
        return [Cells("Table 1: throughput, and what is kept of the plain backbone's", headings, tuple(cells), left=3)]

    def compared(self) -> Cells:
        headings = ("network", "runtime", "precision", "images/s", "kept %", "interval")
        title = "Throughput, and what is kept of the baseline's with its 95 % interval"
        return Cells(title, headings, tuple(_compared(row) for row in self._result.rows), left=3)

    def started(self) -> tuple[tuple[str, ...], dict[str, tuple[str, ...]]]:
        return (), {}

    def details(self) -> list[Cells]:
        return []

    def machine(self) -> str:
        machine, state = self._found.machine, self._found.state
        said = [f"{machine.name}, compute capability {machine.compute_capability}"]
        said += [f"driver {machine.driver}"] if machine.driver else []
        said += [f"CUDA {machine.cuda}"] if machine.cuda else []
        return ", ".join([*said, *told(machine, state)] if state else said)

    def protocol(self) -> str:
        device = self._device
        runs = max((row.samples.values.size for row in self._result.rows if row.samples), default=0)
        copies = "copies from and to the host included" if device.host_copies else "images on the device"
        streams = "1 stream" if device.streams == 1 else f"{device.streams} streams"
        graphs = "CUDA graphs" if device.cuda_graphs else "no CUDA graphs"
        batch = self._result.options.batch
        return f"batch {batch}, {copies}, {streams}, {graphs}, {runs} spans each, interleaved, by CUDA events"

    def facts(self) -> list[Fact]:
        suite = self._result.suite
        if suite and any(entry.printed for entry in suite.entries):
            return [("the paper", "RTX 4090, batch 128; it names neither runtime nor precision")]
        return []


def told(machine: GpuMachine, state: GpuState) -> Iterator[str]:
    """What the GPU tells of its state."""
    if state.sm_mhz is not None:
        low, middle, high = state.sm_mhz
        yield f"clock {middle} MHz ({low} to {high})"
    if state.memory_mhz is not None:
        yield f"memory {state.memory_mhz} MHz"
    if state.power_w is not None:
        limit = f" of {machine.power_limit_w:.0f}" if machine.power_limit_w else ""
        yield f"{state.power_w[0]:.0f} W{limit}, at most {state.power_w[1]:.0f}"
    if state.temperature_c is not None:
        yield f"{state.temperature_c} °C"


def _own(row: Row) -> GpuFigures:
    assert isinstance(row.figures, GpuFigures)
    return row.figures


def _names(row: Row) -> tuple[str, str, str]:
    return row.model, row.runtime, row.precision


def _compared(row: Row) -> tuple[str, ...]:
    own = _own(row)
    if own.throughput is None:
        return (*_names(row), "–", "–", "no figures")
    if row.baseline is None:
        return (*_names(row), f"{own.throughput:.0f}", "100", "baseline")
    low, high = (own.kept.low, own.kept.high) if own.kept else (None, None)
    return (*_names(row), f"{own.throughput:.0f}", _percent(own.kept), between(low, high, scale=100, digits=1))


def _percent(kept: Estimate | None) -> str:
    return f"{100 * kept.value:.1f}" if kept else "–"
