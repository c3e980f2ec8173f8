"""A case: what lies in a folder, the command that is run there, and how the command may end.

    outcome = (exit code, stdout, stderr, folder before and after, memory)

Every outcome is judged by the same rules (`complaints`): a documented exit code, one sentence where it failed, no
traceback, nothing written or executed, memory that does not depend on what a file claims to hold.
"""

from __future__ import annotations

import contextlib
import gc
import io
import os
import re
import resource
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kdna_deploy.cli import app
from tests.hostile_inputs.samples import sample
from tests.steps import without_steps

OK, NO, USAGE, INPUT, RUNTIME = range(5)  # exit codes, as docs/cli.md has them
MEMORY = 400 << 20  # bytes that a case may take, above what the process has already
_ADDRESSES = 4 << 30  # bytes of address space that it may reserve
_LONGEST = 1500  # characters of a sentence, what the user wrote left out
# What PyTorch and ONNX Runtime keep among temporary files, for later runs.
LIBRARIES = ("torchinductor_", ".ses")
_TRACE = re.compile(r"Traceback|File \"|Internal error|Segmentation|terminate called")
_KNOWN_LINE = re.compile(r"(error|Error|note|warning|using|Usage|Try|the image|saved|next|  )")
_SENTENCE = re.compile(r"^(error: |Error: )", re.MULTILINE)


@dataclass(frozen=True)
class Case:
    """A hostile input.

    Attributes:
        family: what kind of input it is; a row of the report.
        name: what is wrong with it.
        arguments: of the command line. A file of `samples` that is named there is put beside the input.
        make: puts the input into a folder.
        codes: exit codes that are right.
        written: what a command that exits with 0 may leave, by name.
    """

    family: str
    name: str
    arguments: Sequence[str]
    make: Callable[[Path], object]
    codes: frozenset[int]
    written: frozenset[str] = frozenset()

    @property
    def id(self) -> str:
        return f"{self.family}: {self.name}"


@dataclass(frozen=True)
class Outcome:
    """How a case ended; `complaints` say what was wrong with that."""

    case: Case
    code: int
    stdout: str
    stderr: str
    seconds: float
    memory: int
    complaints: list[str] = field(default_factory=list)

    @property
    def internal(self) -> bool:
        return "Internal error" in self.stderr or "Traceback" in self.stderr


def run(case: Case, place: Path) -> Outcome:
    """Run a case in a folder below `place`, which is emptied again."""
    folder, temporary = place / "case", place / "temporary"
    for each in (folder, temporary):
        each.mkdir(exist_ok=True)  # kept from case to case: to remove a folder may take a disk milliseconds
    try:
        for name in {part for word in case.arguments for part in word.split("/")[:1]}:
            sample(name, folder)
        case.make(folder)
        before = _contents(folder)
        streams = [io.StringIO(), io.StringIO()]
        start, memory = time.perf_counter(), _Memory()
        with (
            _standing_in(folder, temporary),
            _native_stderr(place / "native") as native,
            _bounded(),
            contextlib.redirect_stdout(streams[0]),
            contextlib.redirect_stderr(streams[1]),
        ):
            code = app.run(list(case.arguments))
        if code > 128:  # the signal was meant for us
            raise KeyboardInterrupt
        seconds = time.perf_counter() - start
        out, err = (stream.getvalue() for stream in streams)
        outcome = Outcome(
            case, code, out, without_steps(err) + native.read_text(errors="replace"), seconds, memory.grown()
        )
        outcome.complaints.extend(_complaints(outcome, before, _contents(folder), _contents(temporary)))
        return outcome
    finally:
        _empty(folder, temporary)
        (place / "native").unlink(missing_ok=True)


State = dict[str, object]


def _complaints(outcome: Outcome, before: State, after: State, temporary: State) -> Iterator[str]:
    if outcome.code not in outcome.case.codes:
        yield f"exit code {outcome.code} instead of {' or '.join(map(str, sorted(outcome.case.codes)))}"
    yield from _of_what_is_said(outcome)
    yield from _of_folders(outcome, before, after, temporary)
    if outcome.memory > MEMORY:
        yield f"took {outcome.memory >> 20} MB"


def _of_what_is_said(outcome: Outcome) -> Iterator[str]:
    err = outcome.stderr
    trace = _TRACE.search(outcome.stdout + err)
    if trace:
        yield f"'{trace[0]}' is shown"
    elif outcome.code != OK:
        yield from _of_sentence(outcome)
    elif _SENTENCE.search(err):
        yield "an error is told, and the exit code is 0"
    unknown = [line for line in err.splitlines() if line and not _KNOWN_LINE.match(line)]
    if unknown:
        yield f"stderr has '{unknown[0][:80]}'"
    control = [c for c in outcome.stdout + err if ord(c) < 32 and c not in "\n\t"]
    if control:
        yield f"control characters reach the terminal: {control[0]!r}"


def _of_sentence(outcome: Outcome) -> Iterator[str]:
    found = list(_SENTENCE.finditer(outcome.stderr))
    if len(found) != 1:
        yield f"{len(found)} sentences"
        return
    told = outcome.stderr[found[0].end() :]
    if told.strip().count("\n"):
        yield "the sentence does not end the output"
    if "too little memory" in told:
        yield "memory ran out"
    for word in outcome.case.arguments:
        told = told.replace(word, "") if len(word) > 1 else told
    if len(told) > _LONGEST:
        yield f"a sentence of {len(told)} characters"


def _of_folders(outcome: Outcome, before: State, after: State, temporary: State) -> Iterator[str]:
    compiled = {name for name in after if name.startswith("__pycache__")}  # a factory's module, by Python itself
    written = {name for name in after if after[name] != before.get(name)} - compiled
    if written - (outcome.case.written if outcome.code == OK else frozenset()):
        yield f"wrote {sorted(written)}"
    if gone := set(before) - set(after):
        yield f"removed {sorted(gone)}"
    if left := sorted(name for name in temporary if not name.startswith(LIBRARIES)):
        yield f"left {left} among temporary files"


def _contents(folder: Path) -> State:
    """Everything below `folder`, by name: its kind, size and time of change; folders by kind alone."""
    found: State = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        kind = stat.S_IFMT(state.st_mode)
        found[str(path.relative_to(folder))] = kind if path.is_dir() else (kind, state.st_size, state.st_mtime_ns)
    return found


@contextlib.contextmanager
def _standing_in(folder: Path, temporary: Path) -> Iterator[None]:
    """With `folder` as the current one, and temporary files in `temporary`."""
    here, default, named = Path.cwd(), tempfile.tempdir, os.environ.get("TMPDIR")
    os.chdir(folder)
    tempfile.tempdir = os.environ["TMPDIR"] = str(temporary)
    try:
        yield
    finally:
        os.chdir(here)
        tempfile.tempdir = default
        if named is None:
            del os.environ["TMPDIR"]
        else:
            os.environ["TMPDIR"] = named


@contextlib.contextmanager
def _native_stderr(path: Path) -> Iterator[Path]:
    """What libraries write past Python goes to `path`."""
    sys.stderr.flush()
    kept = os.dup(2)
    with path.open("wb") as stream:
        os.dup2(stream.fileno(), 2)
        try:
            yield path
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def _bounded() -> Iterator[None]:
    """With little address space to reserve: what allocates as much as a file claims to hold fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _ADDRESSES, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


class _Memory:
    """Resident memory from here on, at its peak."""

    def __init__(self) -> None:
        gc.collect(0)
        with contextlib.suppress(OSError):  # without it, growth beyond any earlier peak is what is seen
            Path("/proc/self/clear_refs").write_text("5")
        self._before = self._peak()

    def grown(self) -> int:
        return self._peak() - self._before

    @staticmethod
    def _peak() -> int:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
        assert found
        return int(found[1]) << 10


def _empty(*folders: Path) -> None:
    for folder in folders:
        folder.chmod(0o700)
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                for inner in (path, *path.rglob("*")):
                    if inner.is_dir() and not inner.is_symlink():
                        inner.chmod(0o700)
                shutil.rmtree(path)
            else:
                path.unlink()
