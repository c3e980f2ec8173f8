"""What is told of a release: every file a row, also one that was not run, within 80 columns."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from kdna_deploy.evaluation.recorded import NETWORK, Answered
from kdna_deploy.reports.release import proof_report, ship_report
from kdna_deploy.reports.terminal import rendered
from kdna_deploy.targets.release.proof import ModelProof, Proof
from kdna_deploy.targets.release.shipped_files import FileProof
from tests.reports.test_width import printed
from tests.targets.release.test_manifest import MANIFEST

DIGEST = "ab" * 32


def test_a_release_is_told_file_by_file() -> None:
    text = printed(rendered(ship_report(Path("out"), MANIFEST, DIGEST)), 80)
    assert max(map(len, text.splitlines())) <= 80
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith(" net.")}
    assert rows == {
        "net.onnx": ["ONNX", "Runtime", "0.00", "8", "50.0%"],
        "net.xml": ["–", "0.00", "–", "–", "not", "run"],
    }
    assert "licence   not known" in text and DIGEST in text


def test_what_was_found_of_one_is_told_and_is_json_whatever_it_is() -> None:
    first, second = MANIFEST.models
    files = (FileProof("net.onnx", "as shipped"), FileProof("net.bin", "missing"))
    models = (
        ModelProof(first, "ONNX Runtime 2", Answered(NETWORK, 8, float("inf"), "output 0 is NaN")),
        ModelProof(second, obstacle="its files are not as shipped.", failed=True),
    )
    found = Proof(Path("out"), MANIFEST, DIGEST, files, models, ("extra",))
    report = proof_report(found)
    text = printed(rendered(report), 80)
    assert "bytes     1 as shipped, 1 missing" in text and text.count("FAIL") == 2
    document = json.loads(json.dumps(report.data, allow_nan=False))
    assert document["models"][0]["answers"]["used"] is None and document["passed"] is False
    # What has changed has a sentence of its own; a model that misses it needs none.
    assert document["complaints"] == [
        "'net.bin' is missing; copy it again.",
        "'net.onnx' does not answer as the trained network does: output 0 is NaN; do not use it on this machine.",
    ]
    assert report.notes == (
        "net.onnx was shipped with ONNX Runtime, and ONNX Runtime 2 runs it here",
        "not of the release, and not looked at: extra",
    )
    assert not replace(found, files=(), models=()).complaints
    many = replace(found, unknown=tuple(f"extra.{n}" for n in range(300)))
    assert many.notes[-1].endswith(": extra.0, extra.1, extra.2, extra.3, extra.4 and 295 more")
    assert len(proof_report(many).data["unknown"]) == 300
    unread = replace(found, files=(FileProof("net.bin", "not readable", "permission denied"),))
    assert "bytes     1 not readable" in printed(rendered(proof_report(unread)), 80)
