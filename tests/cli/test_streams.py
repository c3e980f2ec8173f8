"""Standard streams that are closed, full, or broken off by their reader: the work is done, and its exit code holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a POSIX shell")
SMALL = f"'{sys.executable}' -m tests.cli.small_command small"
MANY = "--rows 20000"  # more than a pipe holds


def shell(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    paths = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths}
    command = ["bash", "-o", "pipefail", "-c", line]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "stderr"),
    [
        (">&-", "said\n"),
        ("2>&-", ""),
        (">&- 2>&-", ""),
        ("<&- >&- 2>&-", ""),
        (f"{MANY} | head -1", "said\n"),
        (f"--json {MANY} | head -1", "said\n"),
        ("--json | true", "said\n"),
        ("2>/dev/full", ""),
        ("2> >(true)", ""),
    ],
)
def test_a_stream_that_nobody_reads_changes_nothing(tmp_path: Path, redirection: str, stderr: str) -> None:
    done = shell(tmp_path, f"{SMALL} {redirection}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == stderr
    assert (tmp_path / "small.out").read_text() == "complete"
    assert [path.name for path in tmp_path.iterdir()] == ["small.out"]


@pytest.mark.slow
@pytest.mark.parametrize("rows", ["--rows 1", MANY])
@pytest.mark.parametrize("form", ["", "--json"])
def test_a_result_that_does_not_fit_is_an_error_after_the_work_is_done(tmp_path: Path, form: str, rows: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full")
    done = shell(tmp_path, f"{SMALL} {form} {rows} >/dev/full")
    assert done.returncode == 1
    assert done.stderr == (
        "said\nerror: The result could not be written to stdout: No space left on device; make room there, or write "
        "it elsewhere.\n"
    )
    assert (tmp_path / "small.out").read_text() == "complete"


@pytest.mark.slow
def test_a_help_page_that_nobody_reads_is_no_traceback(tmp_path: Path) -> None:
    for redirection in (">&-", "| true", "2>&- >&-"):
        done = shell(tmp_path, f"{SMALL} --help {redirection}")
        assert done.stderr == ""
    for redirection in (">&-", "2>&-", ">/dev/full"):
        assert shell(tmp_path, f"{SMALL} --nonsense --json {redirection}").returncode == 2


def test_no_file_is_ever_opened_in_the_place_of_a_closed_stream(tmp_path: Path) -> None:
    """Else what a library prints would end up in a model."""
    script = (
        "import os\n"
        "from kdna_deploy.cli.streams import open_standard_streams\n"
        "open_standard_streams()\n"
        "assert os.open('file', os.O_CREAT | os.O_WRONLY) > 2\n"
        "os.write(1, b'printed by a library'); os.write(2, b'likewise'); print('and by Python')\n"
    )
    (tmp_path / "script.py").write_text(script)
    done = shell(tmp_path, f"'{sys.executable}' script.py <&- >&- 2>&-")
    assert done.returncode == 0
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.slow
@pytest.mark.parametrize("form", ["", "--json"])
def test_what_the_networks_code_prints_goes_to_stderr(tmp_path: Path, form: str) -> None:
    done = shell(tmp_path, f"{SMALL} --prints {form}")
    assert done.returncode == 0
    assert done.stderr == "a line of the network\nsaid\n"
    assert json.loads(done.stdout) == {"rows": ["a row of the table"]} if form else "network" not in done.stdout


@pytest.mark.slow
def test_code_that_exits_ends_in_a_sentence(tmp_path: Path) -> None:
    done = shell(tmp_path, f"{SMALL} --exits --json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"]["code"] == 3
    assert done.stderr == (
        "error: The network's code ended the process (SystemExit: 0); it must return what the network computes.\n"
    )
    assert list(tmp_path.iterdir()) == []
