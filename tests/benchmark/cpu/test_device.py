"""What the CPU opens of a network, and what its measurements say of themselves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import Any

import pytest

from kdna_deploy.benchmark.cpu.device import Cpu, CpuWatch
from kdna_deploy.benchmark.cpu.findings import CpuFigures
from kdna_deploy.benchmark.device import BenchOptions, Candidate, Group, Variant
from kdna_deploy.benchmark.plan import candidate
from kdna_deploy.benchmark.result import Row
from kdna_deploy.benchmark.statistics import Summary
from kdna_deploy.benchmark.subject import Subject, given
from kdna_deploy.progress import SILENT
from tests.samples import RESNET, exported_sample, sample_path

NOISY = "this machine is noisy: p90 lies more than 25 % above the median for "


def row(name: str, p90: float) -> Row:
    latency = Summary(median=10.0, mean=11.0, p90=p90, p99=40.0, minimum=9.0, runs=120)
    return Row(name, name, "onnxruntime", "fp32", CpuFigures(None, None), parameters=1, macs=1, latency=latency)


@pytest.mark.parametrize(
    ("tails", "said"),
    [
        ([12.5, 11.0, 12.0], ()),
        ([12.6, 11.0, 12.0], (NOISY + "row 0",)),
        ([12.6, 11.0, 13.0], (NOISY + "row 2 and row 0",)),
        ([12.6, 14.0, 13.0, 11.0], (NOISY + "3 of 4 rows, most of all for row 1",)),
    ],
)
def test_noise_is_told_in_one_line_however_many_rows_have_it(tails: list[float], said: tuple[str, ...]) -> None:
    rows = [row(f"row {number}", p90) for number, p90 in enumerate(tails)]
    assert CpuWatch(Cpu(), BenchOptions(Cpu()), cores=(0,)).notes(rows) == said


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory, fused_once: None) -> Subject:
    """An ONNX file, its checkpoint beside it."""
    folder = tmp_path_factory.mktemp("device")
    shutil.copy(sample_path(RESNET), folder)
    return given(exported_sample(folder / "net.onnx", simplify=False).path, folder / "made")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"precision": "int8"}, "computes in int8"),
        ({"precision": "fp16"}, "computes in fp16"),
        ({"weights": "int4"}, "stores its weights in int4"),
    ],
)
def test_a_file_in_fewer_bits_is_not_measured_as_a_float32_file_of_another_runtime(
    net: Subject, made: dict[str, Any], said: str
) -> None:
    assert net.provenance is not None
    reduced = replace(net, provenance=net.provenance.with_options(**made))
    options = BenchOptions(Cpu(), runtimes=("onnxruntime", "pytorch", "pt2"))
    own, trained, other = (candidate(reduced, one, options) for one in options.device.variants(reduced, options))
    assert (own.unavailable, trained.unavailable) == ("", "")  # as it is, and as it was trained
    why = "and what is made of its checkpoint would be in float32; measure it with a runtime that opens it as it is."
    assert (other.variant.runtime, other.unavailable) == ("pt2", f"'net.onnx' {said}, {why}")


def ran_on(runtime: str, name: str, unavailable: str = "") -> Candidate:
    """As far as what is noted of it goes."""
    subject: Any = None
    opener: Any = None if unavailable else object()
    return Candidate(name, subject, Variant(runtime, "fp32", runtime), opener=opener, unavailable=unavailable)


def test_what_has_no_profile_is_named() -> None:
    groups = [
        Group((ran_on("onnxruntime", "plain"), ran_on("onnxruntime", "net.onnx"))),
        Group((ran_on("openvino", "plain, openvino"), ran_on("openvino", "net.xml"))),
        Group((ran_on("mnn", "net.mnn", "MNN is not installed"),)),
    ]

    def noted(of: list[Group], profile: bool = True) -> list[str]:
        watch = CpuWatch(Cpu(profile=profile), BenchOptions(Cpu()), cores=(0,))
        watch.after(of, SILENT)
        return watch.troubles

    assert noted(groups) == ["a profile is ONNX Runtime's own, and is not made of: plain, openvino; net.xml"]
    assert noted(groups[:1]) == noted(groups, profile=False) == []
