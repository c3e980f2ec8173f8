"""What happens to real processes: killed at any moment, told to end, on a full disk, two at once.

Processes are warm (`tests.warm_process`), so that each costs a command alone. A moment is the n-th
time that Python is about to change something in the file system, of which `sys.addaudithook` tells.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile_inputs.case import LIBRARIES
from tests.hostile_inputs.samples import CHECKPOINT, FUSED, MODEL, ONNX, SIZE, sound
from tests.steps import without_steps
from tests.warm_process import context

_PLACE = re.compile(r"out[.\w]*$|\.partial")
_CHANGES = {"os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree", "tempfile.mkdtemp", "open"}
PATIENCE = 120  # seconds


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code (negative for a signal), what it said, what is in its folders afterwards."""

    code: int
    stderr: str
    files: frozenset[str]
    temporary: frozenset[str]


def _as_it_is() -> None:
    pass


def command(name: str) -> list[str]:
    """A command that writes ``out…`` into the current folder, with its inputs from the samples."""
    read = {"fuse": CHECKPOINT, "export": FUSED, "external": FUSED}[name]
    words = {
        "fuse": ["fuse", str(sound(read)), *MODEL, "--input-size", SIZE, "-o", "out.fused.pt2"],
        "export": ["export", str(sound(read)), *MODEL, "-o", "out.onnx"],
        "external": ["export", str(sound(read)), *MODEL, "--external-data", "-o", "out.onnx"],
    }
    return words[name]


def run(folder: Path, arguments: list[str], around: Callable[[], Any] = _as_it_is, meddle: Any = None) -> Ended:
    """Run a command line in a process of its own, in `folder`, after `around` there; `meddle` goes on here."""
    process = start(folder, arguments, around)
    if meddle is not None:
        meddle(process, _began(folder, process.pid))
    return ended(folder, process)


def start(folder: Path, arguments: list[str], around: Callable[[], Any] = _as_it_is) -> Any:
    _temporary(folder).mkdir(parents=True, exist_ok=True)
    process = context().Process(target=_inside, args=(str(folder), arguments, around))
    process.start()
    return process


def ended(folder: Path, process: Any) -> Ended:
    process.join(PATIENCE)
    assert process.exitcode is not None, "the process does not end"
    told = _said(folder, process.pid)
    said = told.read_text(errors="replace") if told.exists() else ""  # there is none where it ended before it began
    files = frozenset(path.name for path in folder.iterdir())
    left = frozenset(path.name for path in _temporary(folder).iterdir() if not path.name.startswith(LIBRARIES))
    return Ended(process.exitcode, without_steps(said), files, left)


def _temporary(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-temporary")


def _said(folder: Path, number: int | None) -> Path:
    return folder.with_name(f"{folder.name}-{number}.stderr")


def _began(folder: Path, number: int | None) -> Path:
    """Is there once the command has begun."""
    return folder.with_name(f"{folder.name}-{number}.began")


def _inside(place: str, arguments: list[str], around: Callable[[], Any]) -> None:
    """In the new process."""
    folder = Path(place)
    os.chdir(folder)
    tempfile.tempdir = os.environ["TMPDIR"] = str(_temporary(folder))
    signal.signal(signal.SIGINT, signal.default_int_handler)
    stream = os.open(_said(folder, os.getpid()), os.O_CREAT | os.O_WRONLY)
    os.dup2(stream, 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115
    around()
    from kdna_deploy.cli import app

    _began(folder, os.getpid()).touch()
    code = app.run(arguments)
    sys.stderr.flush()
    os._exit(code)


class At:
    """Sends this process `number`, a signal, at its `moment`-th change of the output's place."""

    def __init__(self, moment: int, number: int) -> None:
        self._left, self._number = moment, number

    def __call__(self) -> None:
        sys.addaudithook(self._seen)

    def _seen(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in _CHANGES or not any(
            isinstance(a, (str, os.PathLike)) and _PLACE.search(str(a)) for a in arguments
        ):
            return
        self._left -= 1
        if self._left == 0:
            os.kill(os.getpid(), self._number)


class Full:
    """A disk that takes files of up to `size` bytes."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __call__(self) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._size))


class After:
    """Sends a process a signal, a time after its command has begun."""

    def __init__(self, seconds: float, number: int) -> None:
        self._seconds, self._number = seconds, number

    def __call__(self, process: Any, began: Path) -> None:
        while process.is_alive() and not began.exists():
            time.sleep(0.005)
        process.join(self._seconds)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, self._number)


__all__ = ["After", "At", "Ended", "Full", "ONNX", "command", "ended", "run", "start"]
