"""OpenVINO is imported without a word to its makers."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("openvino")

_IMPORTS = """
import sys
import kdna_deploy.targets.openvino.export, kdna_deploy.runtimes.openvino, kdna_deploy.benchmark.cpu.fresh_process
import openvino
assert openvino.get_version()
print([name for name in sys.modules if name.startswith("openvino_telemetry")])
"""


@pytest.mark.slow
def test_what_reports_who_uses_openvino_is_not_imported() -> None:
    assert subprocess.run([sys.executable, "-c", _IMPORTS], check=True, capture_output=True).stdout == b"[]\n"
