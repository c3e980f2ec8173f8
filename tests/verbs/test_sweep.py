"""A real sweep of a sample: stopped and gone on with, nothing done twice, and commands that make the files again.

Of all candidates four are looked at, one for each way in which files are made; `tests/selection` has the rest.
"""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kdna_deploy as kd
from kdna_deploy.benchmark.cpu import cold_start
from kdna_deploy.benchmark.environment import environment
from kdna_deploy.errors import InputError, RuntimeFailure
from kdna_deploy.files import file_sha256
from kdna_deploy.selection.candidate import REFERENCE, Candidate
from kdna_deploy.selection.saved import read_sweep
from kdna_deploy.verbs import search
from kdna_deploy.verbs.sweep import Swept
from kdna_deploy.verbs.sweep_files import Files
from tests.cli.handed import invoke
from tests.conftest import SAMPLES
from tests.recorded import Recorded
from tests.samples import RESNET, SIZE, sample_path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fused_once", "short_bench", "few")]

FROZEN = Candidate("int8", "fp32", "share", "freeze", "onnxruntime")
SHARED = Candidate("fp32", "int8", "share", "keep", "onnxruntime")
PREPARED = replace(REFERENCE, prepared=True)
GRID = (REFERENCE, SHARED, FROZEN, PREPARED, replace(PREPARED, children="share"))  # the last one cannot win
BRIEF: dict[str, Any] = {"input_size": 64, "iterations": 3, "min_time": 0}
IMAGES = {"data": "some 'digits'", "calibration": "some 'digits'"}


@pytest.fixture(scope="module")
def few() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "grid", lambda: GRID)
        patch.setattr(cold_start, "_ROLLUP", "/none/{}")  # several processes at once are not asked for
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder, whose names a shell would take apart."""
    place = tmp_path_factory.mktemp("my nets")
    shutil.copy(sample_path(RESNET), place / "a net.pth.tar")
    (place / IMAGES["data"]).symlink_to(SAMPLES / "digits")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


def swept(**words: Any) -> Swept:
    return kd.sweep("a net.pth.tar", **{**IMAGES, **BRIEF, **words})


@pytest.fixture(scope="module")
def calls(folder: Path) -> tuple[Swept, Swept, Swept]:
    """Stopped while the second file is made; again; and once more, with a document."""
    make, made = Files.make, []

    def stopping(self: Files, *arguments: Any) -> Any:
        if made:
            raise KeyboardInterrupt
        made.append(True)
        return make(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Files, "make", stopping)
        first = swept()
    return first, swept(), swept(save="sweep.json", minimize="size")


def test_what_was_stopped_goes_on_and_nothing_is_done_twice(calls: tuple[Swept, Swept, Swept]) -> None:
    stopped, done, again = (one.sweep for one in calls)
    assert calls[0].interrupted and stopped.partial and not calls[1].interrupted and not done.partial
    assert vars(stopped.work) == {"made": 1, "evaluated": 1, "timed": 0}
    assert vars(done.work) == {"made": 3, "evaluated": 2, "timed": 4}  # a prepared file has its portable one's accuracy
    assert vars(again.work) == {"made": 0, "evaluated": 0, "timed": 0}
    assert again.candidates == done.candidates
    assert [one.state for one in stopped.candidates] == ["missing"] * 4 + ["ruled out"]
    assert calls[0].complaint == "Nothing was measured to its end." and calls[0].path is None


def test_every_candidate_has_its_figures_and_what_cannot_win_its_reason(calls: tuple[Swept, Swept, Swept]) -> None:
    done = calls[1].sweep
    assert [one.state for one in done.candidates] == ["measured"] * 4 + ["ruled out"]
    assert "hold every child multiplied out" in done.candidates[-1].reason
    by_name = {one.name: one.figures for one in done.measured}
    plain, shared, frozen, prepared = (by_name[one.name] for one in GRID[:-1])
    assert plain and shared and frozen and prepared
    assert (plain.top1, plain.drop, plain.agreement) == (done.network.top1, 0.0, 1.0) and done.images.count == 50
    assert plain.bytes > 3 * frozen.bytes > 3 * shared.bytes
    assert prepared.top1 == plain.top1 and prepared.opening_ms and plain.opening_ms
    assert prepared.private_bytes and plain.private_bytes and prepared.private_bytes < plain.private_bytes
    for one in done.measured:
        assert one.figures and one.figures.ratio.low is None  # of one round, too few for an interval
        assert one.figures.latency_ms > 0 and one.figures.ratio.median > 0
        assert one.judged.startswith(("agrees with the", "judged on 10 images"))
        assert file_sha256(Path(one.file)) == one.sha256
    assert done.baseline and done.baseline.name == "resnet18_plain 64×64"


def test_the_choice_is_what_the_figures_say(calls: tuple[Swept, Swept, Swept]) -> None:
    fast, small = calls[1].sweep, calls[2].sweep
    assert small.recommended == min(small.measured, key=lambda one: one.figures.bytes).name == SHARED.name  # type: ignore[union-attr]
    least = min(one.figures.ratio.median for one in fast.measured if one.figures and one.fits)
    assert fast.chosen and fast.chosen.figures and fast.chosen.figures.ratio.median == least
    assert calls[2].path == Path(small.chosen.file)  # type: ignore[union-attr]
    assert read_sweep(Path("sweep.json")) == small
    assert f"{SHARED.name} ←" in str(calls[2])


def test_other_limits_measure_nothing_and_what_fits_none_says_the_nearest(
    calls: tuple[Swept, Swept, Swept], capsys: pytest.CaptureFixture[str]
) -> None:
    within = swept(max_size="1kB")
    assert vars(within.sweep.work) == {"made": 0, "evaluated": 0, "timed": 0}
    assert within.complaint.startswith(f"No file fits: the nearest, {SHARED.name}, misses `max_size`, by 0.")
    words = (f"--data={IMAGES['data']}", f"--calibration={IMAGES['calibration']}", "--input-size", "64")
    brief = ("--iterations", "3", "--min-time", "0")
    assert invoke("sweep", "a net.pth.tar", *words, *brief, "--max-size", "1kB", "--json") == 1
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["recommended"] is None and set(document["work"].values()) == {0}
    assert f"error: No file fits: the nearest, {SHARED.name}, misses --max-size, by " in printed.err
    assert "made by: " not in printed.err
    assert invoke("sweep", "a net.pth.tar", *words, *brief) == 0
    assert f"made by: {calls[1].sweep.command}" in capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("candidate", [FROZEN, PREPARED], ids=lambda one: one.name)
def test_its_command_makes_a_file_alone_to_the_byte(calls: tuple[Swept, Swept, Swept], candidate: Candidate) -> None:
    (one,) = (each for each in calls[1].sweep.candidates if each.name == candidate.name)
    beside = sorted(path for path in Path(one.file).parent.glob(f"{Path(one.file).name}*") if path.suffix != ".json")
    before = {path: file_sha256(path) for path in beside}
    for path in beside:
        path.unlink()
    program, *words = shlex.split(one.command)
    assert program == "kdna-deploy" and invoke(*words) == 0
    assert {path: file_sha256(path) for path in before} == before
    assert file_sha256(Path(one.file)) == one.sha256


def test_when_the_time_is_up_no_file_is_begun_and_another_processor_has_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = swept(to="elsewhere", limit=1e-9, calibration=None)
    assert not done.interrupted and done.partial
    assert {one.state for one in done.sweep.candidates} == {"missing", "ruled out"}
    assert "3 of 3 candidates were not measured to the end; the same command goes on" in done.sweep.notes
    other = replace(environment(), cpu="another")
    monkeypatch.setattr(search, "environment", lambda: other)
    assert swept(to="elsewhere", limit=1e-9, calibration=None).sweep.folder != done.sweep.folder


def test_a_cluster_that_is_not_there_is_told_before_any_work(folder: Path) -> None:
    heard = Recorded()
    with pytest.raises(RuntimeFailure, match=r"Ray"):
        swept(to="nowhere", ray="127.0.0.1:1", listener=heard)
    assert heard.steps == [] and not Path("nowhere").exists()


def test_too_few_images_to_calibrate_and_judge_by_are_told_before_any_work(folder: Path) -> None:
    np.save("nine.npy", np.zeros((9, 3, *SIZE), np.float32))
    with pytest.raises(InputError, match=r"'nine.npy' holds 9 images, too few .* give at least 10\.$"):
        swept(calibration="nine.npy", to="unmade")
    assert not Path("unmade").exists()
