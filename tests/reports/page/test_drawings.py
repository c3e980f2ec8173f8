"""What a page draws of its evidence: each file with its own accuracy, beside what it was compared with."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from kdna_deploy.benchmark.environment import environment
from kdna_deploy.benchmark.result import BenchResult
from kdna_deploy.benchmark.statistics import Ratio
from kdna_deploy.evaluation.accuracy import ClassResult, Evaluation
from kdna_deploy.evaluation.evaluate import FileEvaluation
from kdna_deploy.figures.drawing import svg
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.reports.page.drawings import drawings_of
from kdna_deploy.reports.page.evidence import HERE, Evidence, FileEvidence
from tests.benchmark.test_saved import measured, result_of

RATIO = Ratio(1.2, 1.1, 1.3)


def judged(path: str, top1: float) -> FileEvidence:
    result = Evaluation(100, top1, None, (ClassResult(0, 100, round(100 * top1), ()),))
    done = FileEvaluation(
        *(Path(path).name, None, "val", "", (), 100, None, None, {}, result, (3, 8, 8), False, Preprocessing(), 2)
    )
    return FileEvidence(Path(path), "0" * 64, 1, evaluation=done)


def beside(*names: str, plain: Sequence[str] = ("plain",)) -> BenchResult:
    """Rows of these names, each with a baseline in turn."""
    rows = [measured(name, 12.0, baseline=plain[i % len(plain)], ratio=RATIO) for i, name in enumerate(names)]
    return result_of(*map(measured, plain), *rows)


def fronts(place: str, run: BenchResult, *files: FileEvidence) -> list[str]:
    """Captions and pictures of accuracy over latency."""
    found = drawings_of(Evidence(environment(), artifacts=files, runs=((place, run),)))
    return [one.caption + svg(one) for one in found.get("front", ())]


def test_files_of_one_name_have_their_own_accuracies() -> None:
    files = judged("v1/net.onnx", 0.5), judged("v2/net.onnx", 0.75)
    (drawn,) = fronts(HERE, beside("net.onnx", "v2/net.onnx"), *files)
    assert "of 2 files" in drawn and "The baseline, plain, takes" in drawn
    assert re.search(r">net\.onnx: \S+ ms, 50\.00 %", drawn) and re.search(r"v2/net\.onnx: \S+ ms, 75\.00 %", drawn)


def test_a_saved_run_tells_names_alone_and_nothing_of_files_that_share_theirs() -> None:
    run = beside("net.onnx", "other.onnx")
    alike = judged("a/net.onnx", 0.5), judged("b/net.onnx", 0.6)
    (drawn,) = fronts("in run.json", run, *alike, judged("other.onnx", 0.7))
    assert "of 1 file;" in drawn and re.search(r"other\.onnx: \S+ ms, 70\.00 %", drawn)
    assert not fronts("in run.json", run, *alike)


def test_files_with_baselines_of_their_own_have_none_in_common() -> None:
    files = judged("a.onnx", 0.5), judged("b.onnx", 0.75)
    (drawn,) = fronts(HERE, beside("a.onnx", "b.onnx", plain=("plain", "other")), *files)
    assert "of 2 files" in drawn and "baseline" not in drawn
