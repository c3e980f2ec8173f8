"""The suite `table1` on the GPU: every architecture beside its plain backbone and beside the paper's throughput.

Does not apply to the other suites: the layouts of Table 3 have no checkpoints that other files could be made from, and
all runtimes are what `bench --gpu` measures anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.bench.gpu.files import GpuFiles, Reports
from kdna_deploy.bench.gpu.plan import GpuGroup, GpuOptions, GpuSubject, candidate, chosen_runtimes
from kdna_deploy.bench.paper import TABLE1, Printed
from kdna_deploy.bench.subject import untrained
from kdna_deploy.bench.suites import SHAPE
from kdna_deploy.export.onnx.export import OnnxOptions
from kdna_deploy.network.families import ARCHITECTURES, Architecture
from kdna_deploy.runtimes.gpu_catalogue import Precision

_PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16")


@dataclass(frozen=True)
class GpuSuite:
    """Networks ready to be measured. `printed` has the paper's row of each, none for other image sizes or batches."""

    name: str
    groups: tuple[GpuGroup, ...]
    printed: dict[str, Printed]
    options: GpuOptions


def build_table1(options: GpuOptions, folder: Path, reports: Reports) -> GpuSuite:
    """Build the networks of Table 1 in `folder`."""
    pairs = [(entry.plain, entry) for entry in ARCHITECTURES.values() if entry.sharing]
    subjects = [tuple(_subject(one, options, folder) for one in pair) for pair in pairs]
    groups = tuple(
        GpuGroup(tuple(candidate(subject, runtime, precision, options, reports) for subject in pair))
        for pair in subjects
        for runtime in chosen_runtimes(options)
        for precision in options.precisions or _PRECISIONS
    )
    shape = subjects[0][0].network.image_shape
    return GpuSuite("table1", groups, TABLE1 if shape == SHAPE else {}, options)


def _subject(architecture: Architecture, options: GpuOptions, folder: Path) -> GpuSubject:
    shape = (SHAPE[0], *options.size) if options.size else SHAPE
    place = folder / architecture.name
    network = untrained(architecture, shape, OnnxOptions(target="tensorrt"), place, architecture.name)
    return GpuSubject(network, GpuFiles(network, options.batch, place))
