"""A process that is told to end: nothing left behind, one sentence, and the exit code of the signal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from kdna_deploy.cli.failure import failure_of
from kdna_deploy.cli.signals import Ended, Received, ending_signals
from tests.conftest import REPOSITORY
from tests.samples import RESNET, sample_path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
SENTENCES = {signal.SIGINT: "interrupted.", signal.SIGTERM: "ended by SIGTERM.", signal.SIGHUP: "ended by SIGHUP."}


def started(
    folder: Path, *arguments: str, module: str = "tests.cli.small_command", first: Path = REPOSITORY
) -> subprocess.Popen[str]:
    """The command, `first` being where modules are looked for first."""
    (folder / "tmp").mkdir()
    paths = os.pathsep.join([str(first), str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "TMPDIR": str(folder / "tmp"), "OMP_NUM_THREADS": "1"},
        preexec_fn=_as_in_a_terminal,
    )


def _as_in_a_terminal() -> None:
    """Where the tests run in the background or below ``nohup``, ignored signals would be inherited."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def left(folder: Path) -> list[str]:
    """What is in `folder`; runtimes may leave files of their own in the temporary one."""
    return sorted(str(path.relative_to(folder)) for path in (*folder.iterdir(), *folder.glob("tmp/kdna-*")))


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("number", SENTENCES)
def test_every_signal_that_ends_a_process_is_treated_alike(tmp_path: Path, number: int, as_json: bool) -> None:
    process = started(tmp_path, "small", "--wait", *["--json"] * as_json)
    assert process.stderr is not None and process.stderr.readline() == "ready\n"
    assert len(left(tmp_path)) == 3  # the folder in which the output is written, and the scratch folder
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert stderr == f"error: {SENTENCES[signal.Signals(number)]}\n"
    assert left(tmp_path) == ["tmp"]
    told = {"kind": "Interrupted", "code": 128 + number, "message": SENTENCES[signal.Signals(number)]}
    assert (json.loads(stdout)["error"] if as_json else stdout) == (told if as_json else "")


@pytest.mark.slow
def test_a_signal_that_comes_twice_ends_the_process_once(tmp_path: Path) -> None:
    """As ``timeout`` sends it, to the process and then to its group."""
    process = started(tmp_path, "small", "--wait")
    assert process.stderr is not None and process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGHUP)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode in (143, 129) and stderr.startswith("error: ended by SIG") and stderr.count("\n") == 1
    assert left(tmp_path) == ["tmp"]


@pytest.mark.slow
@pytest.mark.parametrize("as_json", [False, True])
def test_an_interruption_is_a_sentence_before_the_commands_are_imported(tmp_path: Path, as_json: bool) -> None:
    (tmp_path / "typer.py").write_text("import time\nprint('importing', flush=True)\ntime.sleep(60)\n")
    process = started(tmp_path, "list", *["--json"] * as_json, module="kdna_deploy", first=tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "importing\n"
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (130, "error: interrupted.\n")
    document = json.dumps(failure_of(KeyboardInterrupt(), Received()).document(), indent=2)
    assert stdout == (f"{document}\n" if as_json else "")


def test_what_was_ignored_from_the_start_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``nohup`` asks."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with ending_signals() as received:
            signal.raise_signal(signal.SIGHUP)
        assert received.number is None
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_handlers_are_there_for_as_long_as_the_command_runs() -> None:
    before = signal.getsignal(signal.SIGTERM)
    cleaned = False
    with pytest.raises(Ended), ending_signals() as received:
        try:
            signal.raise_signal(signal.SIGTERM)
            time.sleep(1)
        finally:
            signal.raise_signal(signal.SIGHUP)  # a second one must not stop the cleaning up
            time.sleep(0.01)
            cleaned = True
    assert cleaned
    assert (received.number, received.exit_code) == (signal.SIGTERM, 143)
    assert signal.getsignal(signal.SIGTERM) is before


def test_ctrl_c_is_remembered_whatever_becomes_of_its_exception() -> None:
    """A library that is interrupted while it is imported may raise something else."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(ImportError) as caught, ending_signals() as received:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt as error:
                raise ImportError("a part of it") from error
        assert failure_of(caught.value, received) == failure_of(KeyboardInterrupt(), Received())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


FRESH = "kdna_deploy.benchmark.cpu.fresh_process"


def words_of(process: psutil.Process) -> list[str]:
    """Of its command line; none of one that has ended."""
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.slow
def test_a_bench_that_is_told_to_end_ends_its_processes_too(tmp_path: Path) -> None:
    shutil.copy(sample_path(RESNET), tmp_path / "net.pt")
    options = ("--input-size", "64", "--runtime", "pytorch", "--baseline", "pytorch", "--iterations", "3", "--json")
    brief = "tests.cli.brief_command"
    process = started(tmp_path, "bench", "net.pt", *options, "--min-time", "0", module=brief)
    watched, children, end = psutil.Process(process.pid), [], time.monotonic() + 200
    while process.poll() is None and time.monotonic() < end and not children:
        children = [child for child in watched.children() if FRESH in words_of(child)]
        time.sleep(0.1)  # looking goes through all processes
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 143, stderr
    assert "Traceback" not in stderr
    assert json.loads(stdout)["partial"] is True  # what was measured is kept
    assert children and not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in children)
    assert left(tmp_path) == ["net.pt", "tmp"]
