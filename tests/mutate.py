"""Plant single-line faults in a copy of the package, run the tests of each module, list the faults that none noticed.

    make mutate                                        150 faults, seed 1, over the whole package
    python -m tests.mutate --faults 40 --seed 7 --only kdna_deploy/benchmark
    python -m tests.mutate --summary build/faults.jsonl
    python -m tests.mutate --again build/faults.jsonl  what survived an earlier run, on the tree as it is now

Faults are drawn at random, as many of each kind (`faults.py`), at most one a line. A process that has imported PyTorch
and ONNX Runtime, but nothing of the package, forks for every run, so that a fault costs seconds.

Tests of a module: the file that mirrors its path; then the files that import it; then those that import a module which
imports it; `--files` of them, the next only while they have taken less than `--budget` seconds, and with `--slow` the
tests marked so after the others. A fault is noticed when a test fails that passes without it, or when a file takes more
than `--limit` seconds of a processor that has been seen to take less. A module without a file that ends in that time is
"untested". What survives a few files may not survive more: `--again`.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import importlib
import io
import json
import os
import py_compile
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.faults import Fault, all_faults, compiles

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "kdna_deploy"
# Heavy, and none of them imports the package.
_PRELOADED = (
    *("numpy", "torch", "torch.export", "onnx", "onnxruntime", "onnxruntime.quantization", "onnxscript", "onnxsim"),
    *("torch.onnx", "PIL.Image", "rich.progress", "typer", "safetensors.torch", "psutil", "pytest", "hypothesis"),
)
_FAST, _SLOW = "not slow and not gpu", "slow and not gpu"
_PASSED, _NO_TESTS = 0, 5  # pytest's exit codes
_WAITING = 20  # times the limit: other work on the machine, and tests that wait


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: "noticed", "survived", or "untested" where no test file belongs to its module."""

    fault: Fault
    outcome: str
    by: str
    seconds: float


@dataclass
class Suite:
    """The tests of a copy of the repository, run in forks of this process. `passing`: that pass without a fault."""

    copy: Path
    limit: int
    passing: dict[tuple[str, ...], bool] = field(default_factory=dict)

    def with_fault(self, fault: Fault, file: str, marked: str) -> tuple[int | None, str]:
        """Exit code of a test file while a fault is planted, None where it took too long, and what failed."""
        with _planted(self.copy, fault):
            code = self._run(file, "-m", marked)
        if code == _PASSED:
            self.passing[file, "-m", marked] = True
        return code, "" if code is None else _failed(self.copy / "pytest.log")

    def passes(self, *arguments: str) -> bool:
        """Whether tests pass without a fault, in time."""
        if arguments not in self.passing:
            self.passing[arguments] = self._run(*arguments) in (_PASSED, _NO_TESTS)
            if not self.passing[arguments]:
                print(f"  without a fault, {' '.join(arguments)} fails: it counts for nothing", flush=True)
        return self.passing[arguments]

    def tells(self, file: str, marked: str, code: int | None, failed: str) -> bool:
        """Whether what a fault has done is not what happens without it."""
        if code is not None and failed:
            return self.passes(failed, *(() if "::" in failed else ("--collect-only",)))
        if code is not None:
            return self.passes(file, "-m", marked)
        # Too long: a file that has never been seen to end in time says nothing, and is not tried again.
        if (file, "-m", marked) not in self.passing:
            print(f"  {file} ({marked}) takes more than {self.limit} s: left out", flush=True)
        return self.passing.setdefault((file, "-m", marked), False)

    def _run(self, *arguments: str) -> int | None:
        """Exit code of pytest; None where it took too long."""
        child = os.fork()
        if child == 0:
            self._become_pytest(list(arguments), self.copy / "pytest.log")
        end = time.monotonic() + _WAITING * self.limit
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                code = os.waitstatus_to_exitcode(status)
                return None if code == -signal.SIGXCPU else code
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None

    def _become_pytest(self, arguments: list[str], written: Path) -> None:
        code = 99
        try:
            os.setsid()
            resource.setrlimit(resource.RLIMIT_CPU, (self.limit, self.limit))
            log = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(log, 1)
            os.dup2(log, 2)
            os.chdir(self.copy)
            here = str(self.copy)
            sys.path[:] = [here, *(entry for entry in sys.path if entry not in ("", str(ROOT)))]
            for name in [name for name in sys.modules if name == "tests" or name.startswith("tests.")]:
                del sys.modules[name]
            # Commands that tests run in processes of their own must take the copy too.
            os.environ |= {"PYTHONPATH": here, "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(self.copy / "tmp")}
            sys.dont_write_bytecode = True
            tempfile.tempdir = None
            import pytest

            importlib.invalidate_caches()
            code = int(pytest.main(["-x", "-n", "0", "-p", "no:cacheprovider", "--tb=line", *arguments]))
            taken = getattr(sys.modules.get(PACKAGE), "__file__", None)
            assert taken is None or taken.startswith(here), f"the tests took {taken}"
        finally:
            os._exit(code)


def main() -> None:
    arguments = _arguments()
    if arguments.summary:
        print(_summary(_read(arguments.summary)))
        return
    heavy_imports()
    with tempfile.TemporaryDirectory(prefix="kdna-mutate-") as folder:
        copy = Path(folder) / "copy"
        _copy(copy)
        suite = Suite(copy, arguments.limit)
        tests = _TestsOf(copy)
        faults = _again(arguments.again) if arguments.again else _drawn(arguments)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        outcomes = _earlier(arguments.output, faults)
        done = {one.fault for one in outcomes}
        with arguments.output.open("a" if outcomes else "w", encoding="utf-8") as output:
            for number, fault in enumerate((fault for fault in faults if fault not in done), start=len(done) + 1):
                outcome = judge(suite, fault, tests.of(fault.path)[: arguments.files], arguments.budget, arguments.slow)
                outcomes.append(outcome)
                output.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
                output.flush()
                print(
                    f"{number}/{len(faults)} {outcome.outcome:8} {outcome.seconds:5.1f} s  {_line(fault)}", flush=True
                )
    print(_summary(outcomes))


def heavy_imports() -> None:
    """What every fork needs and no fault changes."""
    for name in _PRELOADED:
        importlib.import_module(name)
    torch = sys.modules["torch"]
    torch.set_num_threads(1)
    # Each imports much of PyTorch when it is first called.
    images, batch = torch.zeros(2, 3, 8, 8), torch.export.Dim("batch", min=1)
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU()).eval()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        exported = torch.export.export(module, (images,), dynamic_shapes=({0: batch},)).run_decompositions({})
        torch.onnx.export(exported, dynamo=True, verbose=False, optimize=False)
    assert not any(name.split(".")[0] == PACKAGE for name in sys.modules), "a fork would not see the fault"


def judge(suite: Suite, fault: Fault, tests: list[str], budget: float, slow: bool) -> Outcome:
    """Plant a fault and run the tests of its module, a file after the other, until one fails."""
    begin, ran = time.monotonic(), False
    for marked in (_FAST, _SLOW) if slow else (_FAST,):
        for file in tests:
            if ran and time.monotonic() - begin > budget:
                break
            if suite.passing.get((file, "-m", marked)) is False:
                continue  # it takes too long, or fails, without any fault
            code, failed = suite.with_fault(fault, file, marked)
            if code in (_PASSED, _NO_TESTS):
                ran = ran or code == _PASSED
            elif suite.tells(file, marked, code, failed):
                by = failed or f"{file}, by its {'time' if code is None else 'crash'}"
                return Outcome(fault, "noticed", by, time.monotonic() - begin)
    return Outcome(fault, "survived" if ran else "untested", "", time.monotonic() - begin)


@contextlib.contextmanager
def _planted(copy: Path, fault: Fault) -> Iterator[None]:
    path = copy / fault.path
    source = path.read_text(encoding="utf-8")
    wrong = fault.planted(source)
    assert wrong is not None
    path.write_text(wrong, encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(source, encoding="utf-8")


class _TestsOf:
    """Module → its test files, the nearest first."""

    def __init__(self, copy: Path) -> None:
        self._copy = copy
        self._imports = {file: _imported(copy / file) for file in self._files("tests", "test_*.py")}
        self._importers: dict[str, set[str]] = {}
        for file in self._files(PACKAGE, "*.py"):
            for module in _imported(copy / file):
                self._importers.setdefault(module, set()).add(_module(file))

    def of(self, path: str) -> list[str]:
        own = Path("tests", *Path(path).parts[1:-1], f"test_{Path(path).name}")
        module = _module(path)
        near = self._importing({module})
        # The commands are run by name, not imported.
        commands = [file for file in self._imports if file.startswith("tests/cli/")] if "/cli/" in path else []
        further = self._importing(self._importers.get(module, set()))
        return list(dict.fromkeys([*([str(own)] if str(own) in self._imports else []), *near, *commands, *further]))

    def _importing(self, modules: set[str]) -> list[str]:
        found = [file for file, imported in self._imports.items() if modules & imported]
        return sorted(found, key=lambda file: (self._copy / file).stat().st_size)

    def _files(self, folder: str, pattern: str) -> list[str]:
        return sorted(str(path.relative_to(self._copy)) for path in (self._copy / folder).rglob(pattern))


def _imported(path: Path) -> set[str]:
    """Modules of the package that a file names in its imports, wherever they stand."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name.split(".")[0] == PACKAGE}


def _module(path: str) -> str:
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _copy(target: Path) -> None:
    """The files that git knows or would add, as they are now, compiled so that a changed source is always noticed."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / "tmp").mkdir()
    mode = py_compile.PycInvalidationMode.CHECKED_HASH
    compileall.compile_dir(target / PACKAGE, quiet=2, invalidation_mode=mode)


def _drawn(arguments: argparse.Namespace) -> list[Fault]:
    """`--faults` faults at random, the kinds in turn, no two in a line."""
    rest = [fault for fault in all_faults(ROOT, PACKAGE) if fault.path.startswith(arguments.only)]
    random.Random(arguments.seed).shuffle(rest)
    print(f"{len(rest)} faults can be planted", flush=True)
    kinds: dict[str, list[Fault]] = {}
    for fault in rest:
        kinds.setdefault(fault.kind, []).append(fault)
    chosen: list[Fault] = []
    lines: set[tuple[str, int]] = set()
    while len(chosen) < arguments.faults and any(kinds.values()):
        for kind in sorted(kinds):
            while kinds[kind]:
                fault = kinds[kind].pop()
                source = (ROOT / fault.path).read_text(encoding="utf-8")
                if (fault.path, fault.line) not in lines and compiles(fault.planted(source) or ""):
                    lines.add((fault.path, fault.line))
                    chosen.append(fault)
                    break
    return chosen[: arguments.faults]


def _earlier(path: Path, faults: list[Fault]) -> list[Outcome]:
    """What a run of the same faults that was interrupted has found."""
    found = _read(path) if path.is_file() else []
    return found if {one.fault for one in found} <= set(faults) else []


def _read(path: Path) -> list[Outcome]:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Outcome(**{**record, "fault": Fault(**record["fault"])}) for record in records]


def _again(path: Path) -> list[Fault]:
    """What survived a run and can still be planted."""
    faults = [one.fault for one in _read(path) if one.outcome != "noticed"]
    found = [
        fault
        for fault in faults
        if (ROOT / fault.path).is_file() and fault.planted((ROOT / fault.path).read_text(encoding="utf-8"))
    ]
    print(f"{len(found)} of {len(faults)} survivors can still be planted", flush=True)
    return found


def _failed(log: Path) -> str:
    """The test that failed, or the file that could not be imported, as pytest's summary names it; empty for none."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    named = [line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR ")) and len(line.split()) > 1]
    return named[0] if named else ""


def _line(fault: Fault) -> str:
    return f"{fault.path}:{fault.line} [{fault.kind}] {fault.before.strip()}  →  {fault.after.strip()}"


def _summary(outcomes: list[Outcome]) -> str:
    def counted(of: list[Outcome]) -> str:
        found = Counter(one.outcome for one in of)
        return f"| {len(of)} | {found['noticed']} | {found['survived']} | {found['untested']} |"

    kinds = sorted({one.fault.kind for one in outcomes})
    rows = [f"| {kind} {counted([one for one in outcomes if one.fault.kind == kind])}" for kind in kinds]
    table = [
        "| kind | faults | noticed | survived | untested |",
        "|---|---|---|---|---|",
        *rows,
        f"| all {counted(outcomes)}",
    ]
    alive = [f"- {_line(one.fault)}" for one in outcomes if one.outcome != "noticed"]
    return "\n".join([*table, "", *alive])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Which faults in the package does no test notice?")
    parser.add_argument("--faults", type=int, default=150, help="how many to plant (150)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="beginning of the paths to plant them in")
    parser.add_argument("--files", type=int, default=4, help="of tests for a fault, at most (4)")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests for a fault (60)")
    parser.add_argument("--limit", type=int, default=60, help="seconds of a processor for a test file (60)")
    parser.add_argument("--slow", action="store_true", help="tests marked slow as well")
    parser.add_argument("--again", type=Path, help="results of an earlier run: try its survivors again")
    parser.add_argument("--summary", type=Path, help="results to show, running nothing")
    parser.add_argument(
        "--output", type=Path, default=Path("build/faults.jsonl"), help="results, a line a fault; taken up again"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
