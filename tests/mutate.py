"""Plant single-line faults in a copy of the package, run the tests of each module, list the faults that none noticed.

    make mutate                                        150 faults, seed 1, over the whole package
    python -m tests.mutate --faults 40 --seed 7 --only kdna_deploy/benchmark
    python -m tests.mutate --again build/faults.jsonl  what survived an earlier run, on the tree as it is now

Faults are drawn at random, as many of each kind (`faults.py`), at most one a line. A process that has imported PyTorch
and ONNX Runtime, but nothing of the package, forks for every run, so that a fault costs seconds.

Tests of a module: the file that mirrors its path; then the files that import it; then those that import a module which
imports it; `--files` of them, as many as take `--budget` seconds without a fault, and with `--slow` the tests marked so
after the others. A fault is noticed when a test fails, or when the tests take three times as long as without it and
half a minute more. A test file that fails, or takes longer than the budget, without any fault is left out, and named:
what it says with one counts for nothing.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import importlib
import json
import os
import py_compile
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
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


@dataclass(frozen=True)
class Outcome:
    """What became of a fault: "noticed", "survived", or "untested" where no test file belongs to its module."""

    fault: Fault
    outcome: str
    by: str
    seconds: float


@dataclass
class Suite:
    """The tests of a copy of the repository, run in forks of this process."""

    copy: Path
    times: dict[tuple[str, str], float | None] = field(default_factory=dict)

    def with_fault(self, fault: Fault, file: str, marked: str, budget: float) -> tuple[int | None, float]:
        """Exit code of a test file while a fault is planted, None where it took far too long, and its seconds."""
        usual = self.times.get((file, marked))
        begin = time.monotonic()
        with _planted(self.copy, fault):
            code = self.run(file, marked, 2 * budget if usual is None else 3 * usual + 30, "fault.log")
        return code, time.monotonic() - begin

    def run(self, file: str, marked: str, timeout: float, log: str) -> int | None:
        """Exit code of pytest; None past `timeout`."""
        child = os.fork()
        if child == 0:
            self._become_pytest([file, "-m", marked], self.copy / log)
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                return os.waitstatus_to_exitcode(status)
            time.sleep(0.02)
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
        return None

    def time_of(self, file: str, marked: str, limit: float) -> float | None:
        """Seconds that a file takes without a fault; None where it fails, takes longer, or has no such tests."""
        key = (file, marked)
        if key not in self.times:
            begin = time.monotonic()
            code = self.run(file, marked, limit, "usual.log")
            self.times[key] = time.monotonic() - begin if code == _PASSED else None
            if code not in (_PASSED, _NO_TESTS):
                told = f"takes more than {limit:.0f} s" if code is None else f"ends with {code}"
                print(f"  without a fault, {file} ({marked}) {told}: left out", flush=True)
        return self.times[key]

    def _become_pytest(self, arguments: list[str], written: Path) -> None:
        code = 99
        try:
            os.setsid()
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
    heavy_imports()
    with tempfile.TemporaryDirectory(prefix="kdna-mutate-") as folder:
        copy = Path(folder) / "copy"
        _copy(copy)
        suite = Suite(copy)
        tests = _TestsOf(copy)
        faults = _again(arguments.again) if arguments.again else _drawn(arguments)
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        outcomes = []
        with arguments.output.open("w", encoding="utf-8") as output:
            for number, fault in enumerate(faults, start=1):
                outcome = judge(suite, fault, tests.of(fault.path)[: arguments.files], arguments.budget, arguments.slow)
                outcomes.append(outcome)
                output.write(json.dumps(asdict(outcome), ensure_ascii=False) + "\n")
                output.flush()
                print(f"{number}/{len(faults)} {outcome.outcome:8} {outcome.seconds:5.1f} s  {_line(fault)}", flush=True)
    print(_summary(outcomes))


def heavy_imports() -> None:
    """What every fork needs and no fault changes."""
    for name in _PRELOADED:
        importlib.import_module(name)
    assert not any(name.split(".")[0] == PACKAGE for name in sys.modules), "a fork would not see the fault"
    sys.modules["torch"].set_num_threads(1)


def judge(suite: Suite, fault: Fault, tests: list[str], budget: float, slow: bool) -> Outcome:
    """Plant a fault and run the tests of its module, a file after the other, until one fails."""
    begin, taken, ran = time.monotonic(), 0.0, False
    for marked in (_FAST, _SLOW) if slow else (_FAST,):
        for file in tests:
            if taken > budget:
                break
            code, seconds = suite.with_fault(fault, file, marked, budget)
            taken += seconds
            # A failure says something only where the file passes without the fault.
            if code in (_PASSED, _NO_TESTS):
                ran = ran or code == _PASSED
            elif suite.time_of(file, marked, budget) is not None:
                by = f"{file}, by its time" if code is None else _failed(suite.copy / "fault.log")
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
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
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


def _again(path: Path) -> list[Fault]:
    """What survived a run and can still be planted."""
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    faults = [Fault(**record["fault"]) for record in records if record["outcome"] != "noticed"]
    found = [
        fault
        for fault in faults
        if (ROOT / fault.path).is_file() and fault.planted((ROOT / fault.path).read_text(encoding="utf-8"))
    ]
    print(f"{len(found)} of {len(faults)} survivors can still be planted", flush=True)
    return found


def _failed(log: Path) -> str:
    """The test that failed, as pytest's summary names it."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    named = [line.split()[1] for line in lines if line.startswith(("FAILED ", "ERROR ")) and len(line.split()) > 1]
    return named[0] if named else "a crash"


def _line(fault: Fault) -> str:
    return f"{fault.path}:{fault.line} [{fault.kind}] {fault.before.strip()}  →  {fault.after.strip()}"


def _summary(outcomes: list[Outcome]) -> str:
    def counted(of: list[Outcome]) -> str:
        found = Counter(one.outcome for one in of)
        return f"| {len(of)} | {found['noticed']} | {found['survived']} | {found['untested']} |"

    kinds = sorted({one.fault.kind for one in outcomes})
    rows = [f"| {kind} {counted([one for one in outcomes if one.fault.kind == kind])}" for kind in kinds]
    table = ["| kind | faults | noticed | survived | untested |", "|---|---|---|---|---|", *rows, f"| all {counted(outcomes)}"]
    alive = [f"- {_line(one.fault)}" for one in outcomes if one.outcome != "noticed"]
    return "\n".join([*table, "", *alive])


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Which faults in the package does no test notice?")
    parser.add_argument("--faults", type=int, default=150, help="how many to plant (150)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="beginning of the paths to plant them in")
    parser.add_argument("--files", type=int, default=4, help="of tests for a fault, at most (4)")
    parser.add_argument("--budget", type=float, default=60.0, help="seconds of tests for a fault, without it (60)")
    parser.add_argument("--slow", action="store_true", help="tests marked slow as well")
    parser.add_argument("--again", type=Path, help="results of an earlier run: try its survivors again")
    parser.add_argument("--output", type=Path, default=Path("build/faults.jsonl"), help="results, a line a fault")
    return parser.parse_args()


if __name__ == "__main__":
    main()
