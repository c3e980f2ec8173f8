"""`bench` on real files: which rows there are, beside what, what an interruption leaves, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest

from kdna_deploy.benchmark.cpu.affinity import pinned
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions, Group
from kdna_deploy.benchmark.plan import plan
from kdna_deploy.benchmark.protocol import RUNS, Settings
from kdna_deploy.benchmark.result import BenchResult, Row
from kdna_deploy.benchmark.run import bench, measure
from kdna_deploy.benchmark.saved import SavedRun, read_run
from kdna_deploy.benchmark.statistics import FEWEST_ROUNDS, noise_floor, paired_ratio
from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure, UsageError
from kdna_deploy.graph.provenance import KEY
from kdna_deploy.network.cost import count
from kdna_deploy.reports.bench_data import bench_data
from kdna_deploy.runtimes import table
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.cost import count_onnx
from tests.benchmark.heard import Heard, InterruptAt
from tests.samples import RESNET, exported_sample, fused_sample, sample_path

pytestmark = pytest.mark.usefixtures("fused_once", "short_bench")
SHORT = Settings(iterations=6, min_time=0.0)
ROUNDS = SHORT.blocks * SHORT.rounds
ENOUGH = Settings(iterations=FEWEST_ROUNDS * RUNS, min_time=0.0)
PLAIN, SMALL_PLAIN = "resnet18_plain 64×64", "resnet18_plain 32×32"


def with_metadata(source: Path, target: Path, value: str | None) -> Path:
    """A copy of an ONNX file with other provenance, or with none."""
    model = onnx.load(source)
    del model.metadata_props[:]
    if value is not None:
        entry = model.metadata_props.add()
        entry.key, entry.value = KEY, value
    onnx.save_model(model, target)
    return target


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample network; its checkpoint lies beside it."""
    path = tmp_path_factory.mktemp("bench") / "net.onnx"
    exported_sample(path, simplify=False)
    shutil.copy(sample_path(RESNET), path.parent)
    return path


@pytest.fixture(scope="module")
def other(net: Path) -> Path:
    """The same network, of unknown origin."""
    return with_metadata(net, net.with_name("other.onnx"), None)


@pytest.fixture(scope="module")
def groups(net: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Group, ...]:
    """The sample network, and the same one exported for smaller images, with their plain backbones."""
    smaller = replace(fused_sample(RESNET).provenance, image_shape=(3, 32, 32)).with_options(opset=18, simplify=False)
    small = with_metadata(net, net.with_name("small.onnx"), smaller.to_json())
    return plan([net, small], BenchOptions(Cpu(), settings=SHORT), tmp_path_factory.mktemp("plain"))


@pytest.fixture(scope="module")
def beside_plain(groups: tuple[Group, ...]) -> BenchResult:
    return measure(groups, BenchOptions(Cpu(), settings=SHORT))


@pytest.fixture(scope="module")
def beside_other(net: Path, other: Path) -> BenchResult:
    """Measured long enough for intervals."""
    return bench([net], BenchOptions(Cpu(), baseline=other, settings=ENOUGH))


def names_and_baselines(result: BenchResult) -> list[tuple[str, str | None]]:
    return [(row.name, row.baseline) for row in result.rows]


def rounds(row: Row) -> int:
    return row.samples.rounds if row.samples else 0


def turns(row: Row) -> np.ndarray:
    """Median of each turn."""
    assert row.samples is not None
    return np.median(row.samples.values, axis=1)


@pytest.mark.slow
def test_every_model_stands_beside_a_plain_backbone_for_its_image_size(beside_plain: BenchResult) -> None:
    assert names_and_baselines(beside_plain) == [
        (PLAIN, None),
        ("net.onnx", PLAIN),
        (SMALL_PLAIN, None),
        ("small.onnx", SMALL_PLAIN),
    ]
    assert not beside_plain.partial


@pytest.mark.slow
def test_models_with_the_same_plain_backbone_share_it(net: Path, tmp_path: Path) -> None:
    made = fused_sample(RESNET).provenance.with_options(opset=18, simplify=False)
    twin = with_metadata(net, tmp_path / "twin.onnx", made.to_json())
    (group,) = plan([twin, twin], BenchOptions(Cpu(), settings=SHORT), tmp_path)
    assert [candidate.name for candidate in group.candidates] == [PLAIN, "twin.onnx", str(twin)]


def test_the_ratio_is_taken_round_by_round(beside_plain: BenchResult) -> None:
    plain, model, *_ = beside_plain.rows
    assert plain.ratio is None
    assert model.ratio is not None
    assert model.ratio.value == pytest.approx(np.median(turns(model) / turns(plain)))
    assert model.ratio.paired


def test_too_few_rounds_give_no_interval_and_no_noise_floor_and_say_so(beside_plain: BenchResult) -> None:
    assert [row.ratio.interval for row in beside_plain.rows if row.ratio] == [None, None]
    assert [(floor.baseline, floor.value) for floor in beside_plain.floors] == [(PLAIN, None), (SMALL_PLAIN, None)]
    assert any("fewer than 10 rounds" in note for note in beside_plain.notes)


@pytest.mark.slow
def test_a_baseline_is_measured_against_a_second_session_of_itself(beside_other: BenchResult) -> None:
    (floor,) = beside_other.floors
    baseline, model = beside_other.rows
    assert floor.baseline == "other.onnx"
    assert floor.value is not None and floor.value == noise_floor(floor.ratio) >= 0
    # A second session has samples of its own: compared with itself, nothing would ever differ.
    assert floor.ratio.low is not None and floor.ratio.high is not None and floor.ratio.low < floor.ratio.high
    assert model.ratio is not None and model.ratio.floor == floor.value
    assert model.samples is not None and baseline.samples is not None
    assert model.ratio == paired_ratio(model.samples, baseline.samples, floor.value)
    assert not any("rounds" in note for note in beside_other.notes)


@pytest.mark.slow
def test_the_papers_protocol_compares_means(net: Path, other: Path) -> None:
    result = bench([net], BenchOptions(Cpu(), baseline=other, settings=ENOUGH, protocol="paper"))
    baseline, model = result.rows
    assert model.ratio is not None and model.latency is not None and baseline.latency is not None
    assert model.ratio.value == pytest.approx(model.latency.mean / baseline.latency.mean)


@pytest.mark.slow
def test_rows_give_trained_parameters_macs_and_the_size_of_the_file(net: Path, beside_plain: BenchResult) -> None:
    plain, model, smaller_plain, _ = beside_plain.rows
    network = fused_sample(RESNET).network
    assert model.parameters == sum(p.numel() for p in network.module.parameters())
    assert model.macs == count_onnx(net).macs == fused_sample(RESNET).provenance.macs
    assert model.file_bytes == net.stat().st_size
    assert network.architecture is not None
    backbone = network.architecture.plain.build()
    assert plain.parameters == sum(p.numel() for p in backbone.parameters())
    assert plain.macs == count(backbone, (3, 64, 64)).macs
    assert smaller_plain.macs == count(backbone, (3, 32, 32)).macs


def test_rows_say_what_ran_them_and_how(beside_plain: BenchResult) -> None:
    for row in beside_plain.rows:
        assert (row.runtime, row.model) == ("onnxruntime", row.name)
        assert row.runtime_version.startswith("ONNX Runtime ")
        assert row.runtime_options["intra_op_num_threads"] == 1
        assert (row.figures.cold, row.unavailable) == (None, "")
    assert beside_plain.findings.profiles == beside_plain.findings.explanations == ()


@pytest.mark.slow
def test_the_share_of_the_peak_counts_every_image_of_the_batch(net: Path, other: Path) -> None:
    result = bench([net], BenchOptions(Cpu(), batch=3, baseline=other, settings=SHORT))
    assert result.findings.peak is not None
    for row in result.rows:
        assert row.latency is not None
        assert row.macs == count_onnx(net).macs  # of one image
        assert row.figures.share == pytest.approx(
            2 * 3 * row.macs / (result.findings.peak.best.gflops * 1e6 * row.latency.median)
        )


def test_every_round_leaves_the_samples_of_a_turn_for_every_row(beside_plain: BenchResult) -> None:
    for row in beside_plain.rows:
        assert row.samples is not None and row.latency is not None
        assert row.samples.values.shape == (ROUNDS, RUNS)
        assert row.samples.blocks.tolist() == [0, 1]
        assert row.latency.median == np.median(row.samples.values)
        assert row.samples.values.min() > 0


def test_the_json_document_holds_samples_and_environment(beside_plain: BenchResult) -> None:
    document = json.loads(json.dumps(bench_data(beside_plain), allow_nan=False))
    assert (document["schema_version"], document["kind"], document["partial"]) == (2, "bench", False)
    assert [np.shape(row["samples_ms"]) for row in document["rows"]] == [(ROUNDS, RUNS)] * 4
    assert document["rows"][0]["ratio"] is None
    assert document["rows"][1]["ratio"].keys() >= {"value", "low", "high", "noise_floor", "verdict"}
    assert document["options"]["iterations"] == SHORT.iterations
    assert document["environment"]["versions"]["onnxruntime"]
    assert document["cores"] == list(beside_plain.findings.cores)
    assert document["peak"]["best"]["gflops"] > 0
    assert [floor["baseline"] for floor in document["noise_floors"]] == [PLAIN, SMALL_PLAIN]


@pytest.mark.slow
def test_a_named_baseline_takes_the_place_of_the_plain_backbone(net: Path, other: Path) -> None:
    heard = Heard()
    result = bench([net], BenchOptions(Cpu(), baseline=other, settings=SHORT), heard)
    steps = heard.steps
    assert names_and_baselines(result) == [("other.onnx", None), ("net.onnx", "other.onnx")]
    assert not any("resnet18_plain" in step for step in steps)  # nothing was exported for it
    assert steps[-1] == "measure net.onnx beside other.onnx"


@pytest.mark.slow
def test_a_foreign_file_needs_a_baseline_and_is_measured_with_one(net: Path, other: Path) -> None:
    with pytest.raises(UsageError, match=r"other\.onnx' was not exported by kdna-deploy; .*`baseline='FILE'`"):
        bench([other], BenchOptions(Cpu(), settings=SHORT))
    result = bench([other], BenchOptions(Cpu(), baseline=net, settings=SHORT))
    assert result.rows[1].parameters == count_onnx(other).stored
    assert result.rows[1].ratio is not None


def test_the_plain_backbone_of_a_users_own_model_is_not_guessed(net: Path, tmp_path: Path) -> None:
    own = replace(fused_sample(RESNET).provenance, architecture=None, factory="mine:build")
    path = with_metadata(net, tmp_path / "own.onnx", own.to_json())
    with pytest.raises(UsageError, match=r"plain backbone of mine:build is not known; .*`baseline='FILE'`"):
        bench([path], BenchOptions(Cpu(), settings=SHORT))


@pytest.mark.slow
def test_a_file_measured_against_itself_has_a_row_each_time(net: Path) -> None:
    result = bench([net, net], BenchOptions(Cpu(), baseline=net, settings=SHORT))
    assert names_and_baselines(result) == [
        ("net.onnx", None),
        (str(net), "net.onnx"),
        (f"{net} #2", "net.onnx"),
    ]


@pytest.mark.slow
def test_a_fixed_batch_must_be_asked_for_and_is_measured_when_it_is(tmp_path: Path) -> None:
    path = tmp_path / "four.onnx"
    exported_sample(path, batch=4, simplify=False)
    with pytest.raises(UsageError, match="takes batches of 4 alone; add `batch_size=4`"):
        bench([path], BenchOptions(Cpu(), settings=SHORT))
    result = bench([path], BenchOptions(Cpu(), batch=4, settings=SHORT))
    assert [row.name for row in result.rows] == [PLAIN, "four.onnx"]
    assert result.rows[1].macs == fused_sample(RESNET).provenance.macs  # of one image


@pytest.mark.slow
def test_a_fixed_batch_is_refused_by_the_name_that_the_user_gave(net: Path, tmp_path: Path) -> None:
    path = tmp_path / "four.onnx"
    exported_sample(path, batch=4, simplify=False)
    with pytest.raises(UsageError, match=r"four\.onnx' takes batches of 4 alone"):
        bench([path], BenchOptions(Cpu(), settings=SHORT))


@pytest.mark.parametrize(("name", "content"), [("missing.onnx", None), ("text.onnx", b"text"), ("text.pt2", b"text")])
def test_what_is_no_artifact_is_refused(tmp_path: Path, name: str, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        bench([tmp_path / name], BenchOptions(Cpu(), settings=SHORT))


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(b"")
    with pytest.raises(InputError, match=r"net\.pt"):
        bench([tmp_path / "net.pt"], BenchOptions(Cpu(), settings=SHORT))


@pytest.mark.slow
def test_a_runtime_as_the_baseline_compares_each_model_with_itself(net: Path, other: Path) -> None:
    options = BenchOptions(Cpu(), baseline="onnxruntime", runtimes=("pytorch",), settings=SHORT)
    result = bench([net, other], options)
    assert names_and_baselines(result) == [
        ("net.onnx, onnxruntime", None),
        ("net.onnx, pytorch", "net.onnx, onnxruntime"),
        ("other.onnx, onnxruntime", None),
        ("other.onnx, pytorch", "other.onnx, onnxruntime"),
    ]
    first, second, _, unknown = result.rows
    assert first.model == second.model == "net.onnx"
    assert second.runtime_version.startswith("PyTorch ")
    assert second.file_bytes == sample_path(RESNET).stat().st_size
    assert second.ratio is not None
    assert unknown.latency is None and "does not say which checkpoint" in unknown.unavailable
    assert (unknown.ratio, unknown.figures.share, unknown.file_bytes) == (None, None, 0)


@pytest.mark.parametrize(
    "options", [BenchOptions(Cpu(), runtimes=("tensorrt",)), BenchOptions(Cpu(), baseline="tensorrt")]
)
def test_an_unknown_runtime_is_refused_before_any_file_is_opened(tmp_path: Path, options: BenchOptions) -> None:
    with pytest.raises(UsageError, match="There is no runtime 'tensorrt'; choose from pytorch, "):
        bench([tmp_path / "missing.onnx"], options)


def without(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine on which `package` is not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        table.importlib.util, "find_spec", lambda name, *rest: None if name == package else find(name, *rest)
    )


@pytest.mark.slow
def test_a_runtime_that_is_not_installed_is_a_row_that_says_how_to_get_it(
    net: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("openvino", monkeypatch)
    options = BenchOptions(Cpu(), runtimes=("onnxruntime", "openvino"), baseline=other, settings=SHORT)
    result = bench([net], options)
    measured = [(row.name, row.runtime, rounds(row)) for row in result.rows]
    assert measured == [
        ("other.onnx, onnxruntime", "onnxruntime", ROUNDS),
        ("net.onnx, onnxruntime", "onnxruntime", ROUNDS),
        ("other.onnx, openvino", "openvino", 0),
        ("net.onnx, openvino", "openvino", 0),
    ]
    reason = "OpenVINO is not installed; run: pip install 'kdna-deploy[openvino]'"
    assert [row.unavailable for row in result.rows] == ["", "", reason, reason]
    assert f"net.onnx, openvino: {reason}" in result.notes
    assert not result.partial
    assert all("OpenVINO" not in kernel.name for kernel in result.findings.peak.tried)  # type: ignore[union-attr]


def test_nothing_but_a_runtime_that_is_not_installed_is_a_failure(
    net: Path, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("openvino", monkeypatch)
    with pytest.raises(RuntimeFailure, match="OpenVINO is not installed; run: pip install"):
        bench([net], BenchOptions(Cpu(), runtimes=("openvino",), baseline=other, settings=SHORT))


@pytest.mark.slow
def test_a_model_whose_checkpoint_is_gone_is_a_row_with_the_reason(net: Path, tmp_path: Path) -> None:
    lost = replace(fused_sample(RESNET).provenance, source="lost.pth.tar", source_path="")
    path = with_metadata(net, tmp_path / "alone.onnx", lost.to_json())
    result = bench([path], BenchOptions(Cpu(), runtimes=("onnxruntime",), baseline="pytorch", settings=SHORT))
    original, deployed = result.rows
    assert original.runtime == "pytorch"
    assert original.latency is None and "'lost.pth.tar', from which" in original.unavailable
    assert deployed.latency is not None
    assert (deployed.baseline, deployed.ratio) == (original.name, None)
    assert any(note.startswith("alone.onnx, pytorch: 'lost.pth.tar'") for note in result.notes)


def saved(result: BenchResult, path: Path) -> SavedRun:
    path.write_text(json.dumps(bench_data(result)), encoding="utf-8")
    return read_run(path)


@pytest.mark.slow
def test_a_saved_run_is_a_baseline_without_a_verdict(net: Path, beside_other: BenchResult, tmp_path: Path) -> None:
    earlier = saved(beside_other, tmp_path / "earlier.json")
    result = bench([net], BenchOptions(Cpu(), baseline=earlier, settings=ENOUGH))
    (row,) = result.rows
    assert (row.name, row.baseline) == ("net.onnx", "net.onnx in earlier.json")
    assert row.ratio is not None and row.latency is not None
    then = earlier.row("net.onnx", "onnxruntime").samples
    assert then is not None
    assert row.ratio.value == pytest.approx(row.latency.median / np.median(then.values))
    assert (row.ratio.paired, row.ratio.verdict) == (False, "other run")
    assert [floor.baseline for floor in result.floors] == ["net.onnx"]
    assert any(note.startswith("a ratio to a saved run holds the machine's drift") for note in result.notes)
    assert any("the core's peak differs by" in note for note in result.notes)


def test_a_saved_run_of_another_batch_is_refused(net: Path, beside_other: BenchResult, tmp_path: Path) -> None:
    earlier = saved(beside_other, tmp_path / "earlier.json")
    with pytest.raises(UsageError, match=r"earlier\.json' cannot be the baseline, .*batch \(1 against 2\)"):
        bench([net], BenchOptions(Cpu(), batch=2, baseline=earlier, settings=SHORT))


def test_a_saved_run_on_images_of_another_size_is_refused(net: Path, beside_other: BenchResult, tmp_path: Path) -> None:
    earlier = saved(beside_other, tmp_path / "earlier.json")
    assert {row.image_shape for row in earlier.rows} == {(3, 64, 64)}
    smaller = replace(earlier, rows=tuple(replace(row, image_shape=(3, 32, 32)) for row in earlier.rows))
    with pytest.raises(UsageError, match=r"earlier\.json' measured net\.onnx on images of 3×32×32, and not of 3×64×64"):
        plan([net], BenchOptions(Cpu(), baseline=smaller), tmp_path)  # before anything is measured


def test_a_saved_run_without_the_model_is_refused(beside_other: BenchResult, net: Path, tmp_path: Path) -> None:
    earlier = saved(beside_other, tmp_path / "earlier.json")
    unknown = with_metadata(net, tmp_path / "unknown.onnx", None)
    with pytest.raises(
        UsageError, match=r"did not measure unknown\.onnx on onnxruntime; it has other\.onnx, net\.onnx"
    ):
        bench([unknown], BenchOptions(Cpu(), baseline=earlier, settings=SHORT))


@pytest.mark.slow
def test_an_interruption_in_a_round_keeps_every_round_before_it(
    groups: tuple[Group, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls_left: list[int] = []
    run = OrtSession.run_all

    def interrupted(session: OrtSession, images: Any) -> Any:
        if calls_left:
            calls_left[0] -= 1
            if calls_left[0] == 0:
                raise KeyboardInterrupt
        return run(session, images)

    def at(done: float) -> None:
        # The second round of the second group begins; it has three turns.
        if heard.steps[-1].startswith("measure small.onnx") and done >= 0.5 and not calls_left:
            calls_left.append(RUNS + 3)

    heard = Heard(at)
    monkeypatch.setattr(OrtSession, "run_all", interrupted)
    options = BenchOptions(Cpu(cold_start=True, profile=True), settings=SHORT)
    result = measure(groups, options, listener=heard)
    assert result.partial
    assert result.notes[0] == "interrupted: these figures are partial"
    assert [(row.name, rounds(row)) for row in result.rows] == [
        (PLAIN, ROUNDS),
        ("net.onnx", ROUNDS),
        (SMALL_PLAIN, ROUNDS - 1),
        ("small.onnx", ROUNDS - 1),
    ]
    assert [row.ratio is not None for row in result.rows] == [False, True, False, True]
    assert heard.steps[-1] == "interrupted"  # neither cold starts nor profiles
    assert result.findings.profiles == ()
    assert json.loads(json.dumps(bench_data(result)))["partial"] is True


@pytest.mark.slow
def test_models_that_an_interruption_left_out_say_so(groups: tuple[Group, ...]) -> None:
    result = measure(groups, BenchOptions(Cpu(), settings=SHORT), listener=InterruptAt("measure small.onnx"))
    assert result.partial
    assert [rounds(row) for row in result.rows] == [ROUNDS, ROUNDS, 0, 0]
    assert [row.unavailable for row in result.rows] == ["", "", *["not measured: interrupted"] * 2]
    assert result.rows[3].baseline == SMALL_PLAIN and result.rows[3].ratio is None
    assert [floor.baseline for floor in result.floors] == [PLAIN]


def test_an_interruption_before_anything_was_measured_leaves_rows_without_figures(groups: tuple[Group, ...]) -> None:
    result = measure(groups, BenchOptions(Cpu(), settings=SHORT), listener=InterruptAt("measure the core's peak"))
    assert result.partial and result.findings.peak is None and result.floors == ()
    assert {row.unavailable for row in result.rows} == {"not measured: interrupted"}
    assert {row.figures.share for row in result.rows} == {None}


@pytest.mark.slow
def test_an_interruption_of_the_cold_starts_keeps_all_latencies(groups: tuple[Group, ...]) -> None:
    options = BenchOptions(Cpu(cold_start=True), settings=SHORT)
    result = measure(groups[:1], options, listener=InterruptAt("measure cold starts"))
    assert result.partial
    assert [(rounds(row), row.figures.cold) for row in result.rows] == [(ROUNDS, None)] * 2


@pytest.mark.slow
def test_one_plain_backbone_on_two_runtimes_has_two_names(net: Path, tmp_path: Path) -> None:
    made = fused_sample(RESNET).provenance.with_options(opset=18, target="cpu")
    path = with_metadata(net, tmp_path / "net.onnx", made.to_json())
    result = bench([path, sample_path(RESNET)], BenchOptions(Cpu(), size=(64, 64), settings=SHORT))
    assert [row.runtime for row in result.rows] == ["onnxruntime", "onnxruntime", "pytorch", "pytorch"]
    assert result.rows[0].runtime_version.startswith("ONNX Runtime ")
    assert len({row.name for row in result.rows}) == 4


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="no pinning on this system")
def test_pinning_takes_as_many_cores_as_threads_and_gives_them_back() -> None:
    process = psutil.Process()
    before = process.cpu_affinity()
    with pinned(1) as cores:
        assert len(cores) == 1
        assert process.cpu_affinity() == list(cores)
    assert process.cpu_affinity() == before


@pytest.mark.skipif(not hasattr(psutil.Process, "cpu_affinity"), reason="no pinning on this system")
def test_more_threads_than_cores_are_refused() -> None:
    cores = len(psutil.Process().cpu_affinity())
    with pytest.raises(UsageError, match=f"`cpu_threads={cores + 1}` asks for more"), pinned(cores + 1):
        pass
