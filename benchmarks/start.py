"""How long commands take to start, and what the core package takes on a disk.

Fresh processes of `--python`, in random order, round by round: the interpreter alone, ONNX Runtime's import, commands
on the sample network. Processor time (user and system, of all threads) is what other work on the machine changes least;
wall time is what one waits for. Sizes are those of the files that pip installed for the core and its dependencies;
the bytecode that it compiles of them, or Python does at the first start, is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from table import write_table

import kdna_deploy as kd

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_checkpoints"
PROGRAMS = {
    "python -c pass": ["-c", "pass"],
    "import numpy": ["-c", "import numpy"],
    "import onnxruntime": ["-c", "import onnxruntime"],
    "kdna-deploy --version": ["-m", "kdna_deploy", "--version"],
    "kdna-deploy run --help": ["-m", "kdna_deploy", "run", "--help"],
    "kdna-deploy inspect net.onnx": ["-m", "kdna_deploy", "inspect", "net.onnx"],
    "kdna-deploy run net.onnx 7.png": ["-m", "kdna_deploy", "run", "net.onnx", "7.png"],
}
ALONE, RUNTIME = "python -c pass", "import onnxruntime"
_OTHERWISE = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")  # another package; sources compiled at every start
# What is installed for the core: its requirements and theirs, without extras.
SIZES = r"""
import importlib.metadata, json, re
found, left, compiled = {}, ["kdna-deploy"], 0
while left:
    name = left.pop()
    key = re.sub(r"[-_.]+", "-", name).lower()
    if key in found:
        continue
    try:
        dist = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:  # for another system
        continue
    sizes = {str(f): f.locate().stat().st_size for f in dist.files or () if f.locate().is_file()}
    bytecode = sum(size for file, size in sizes.items() if file.endswith(".pyc"))
    found[key], compiled = sum(sizes.values()) - bytecode, compiled + bytecode
    left += [re.match(r"[\w.-]+", one)[0] for one in dist.requires or () if "extra ==" not in one]
print(json.dumps([found, compiled]))
"""


def times(python: Path, words: list[str], folder: Path) -> tuple[float, float]:
    """Processor time and wall time of a process, in milliseconds."""
    kept = {name: value for name, value in os.environ.items() if name not in _OTHERWISE}
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run([python, *words], cwd=folder, capture_output=True, text=True, env=kept)
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stderr)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1e3 * used, 1e3 * wall


def measure(python: Path, rounds: int, folder: Path) -> dict[str, list[tuple[float, float]]]:
    """Program → what each of its processes took; a first one of each, which writes bytecode, is left out."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for number in range(rounds + 1):
        for name in random.sample(list(PROGRAMS), len(PROGRAMS)):
            found = times(python, PROGRAMS[name], folder)
            taken[name] += [found] if number else []
    return taken


def row(name: str, taken: dict[str, list[tuple[float, float]]]) -> list[str]:
    """Medians, and the processor time as a multiple of others' in the same rounds."""
    used, wall = (statistics.median(values) for values in zip(*taken[name], strict=True))
    ratios = [
        statistics.median(own / other for (own, _), (other, _) in zip(taken[name], taken[beside], strict=True))
        for beside in (ALONE, RUNTIME)
    ]
    return [f"`{name}`", f"{used:.0f} ms", f"{wall:.0f} ms", *(f"{ratio:.2f}" for ratio in ratios)]


def sizes(python: Path, folder: Path) -> str:
    """``188 MB: onnxruntime 64.5, …; 47 MB of bytecode beside them``."""
    done = subprocess.run([python, "-c", SIZES], cwd=folder, capture_output=True, text=True, check=True)
    told: tuple[dict[str, int], int] = json.loads(done.stdout)
    found, compiled = told
    largest = sorted(found.items(), key=lambda one: -one[1])
    each = ", ".join(f"{name} {size / 1e6:.1f}" for name, size in largest)
    return f"{sum(found.values()) / 1e6:.0f} MB: {each}; {compiled / 1e6:.0f} MB of bytecode beside them"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="interpreter of an environment with the core package"
    )
    parser.add_argument("--rounds", type=int, default=15, help="processes of each program")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "start.md")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = SAMPLES / "digits_resnet18_quarter.pth.tar"
        kd.export(checkpoint, folder / "net.onnx", input_size=64)
        shutil.copy(SAMPLES / "digits" / "7" / "173.png", folder / "7.png")
        busy = psutil.cpu_percent(interval=2.0)
        taken = measure(options.python.absolute(), options.rounds, folder)
        installed = sizes(options.python.absolute(), folder)
    write_table(
        options.out,
        "Start and size of the core package",
        f"Medians of {options.rounds} fresh processes each, in turn; multiples are of processor time, round by round. "
        "`--python` named an interpreter with the core package alone. "
        f"The network is the sample at 64×64. Other work took {busy:.0f} % of the machine's cores right before.\n\n"
        f"Installed beside Python: {installed}.",
        ["process", "processor time", "wall time", f"× `{ALONE}`", f"× `{RUNTIME}`"],
        [row(name, taken) for name in PROGRAMS],
    )


if __name__ == "__main__":
    main()
