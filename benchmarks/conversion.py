"""Where the time of each conversion goes, in multiples of what `import torch` takes on the same machine.

    inspect, fuse and export from the checkpoint, each in a fresh process, beside `torch.onnx.export` of the network
    as it was published (neither folded nor verified) and `import torch` alone

Rounds are interleaved: what slows the machine down for a while slows all of them. Figures are medians over rounds, each
divided by the `import torch` of its round. Weights are random (`make_random.py`): no figure depends on their values.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parent.parent
ARCHITECTURES = ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v2_1d2")
COMMANDS = ("import torch", "inspect", "fuse", "export", "torch.onnx.export")
# What the columns sum up; a step that is none of them (reading the sharing ledger, say) is in the last.
PARTS = {
    "load": ("load",),
    "capture": ("capture",),
    "fold": ("fold", "find parents and children"),
    "compare": ("compare with the original", "verify"),
    "translate": ("translate to ONNX", "simplify"),
    "write": ("write",),
}


def run_once(command: str, checkpoint: Path, folder: Path) -> dict[str, float]:
    """Seconds of the whole process, of its steps, and its peak memory in MB."""
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, __file__, "--once", command, str(checkpoint), str(folder)],
        check=True,
        capture_output=True,
        text=True,
    )
    return {**json.loads(done.stdout.splitlines()[-1]), "whole": time.perf_counter() - began}


def convert(command: str, checkpoint: Path, folder: Path) -> dict[str, float]:
    """What a fresh process does: the command, its steps timed."""
    steps: list[tuple[str, float]] = [("start", psutil.Process().create_time())]

    def note(name: str) -> None:
        steps.append((name, time.time()))

    from kdna_deploy.cli.waiting import wait_asleep

    wait_asleep()  # as the command line does
    import torch

    note("published")
    if command == "torch.onnx.export":
        _export_as_published(checkpoint, folder)
    elif command != "import torch":
        _run_verb(command, checkpoint, folder, note)
    note("")
    seconds: dict[str, float] = {}
    for (name, start), (_, end) in itertools.pairwise(steps):
        seconds[name] = seconds.get(name, 0.0) + end - start
    del torch
    return {**seconds, "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def _run_verb(command: str, checkpoint: Path, folder: Path, note: object) -> None:
    import kdna_deploy as kd
    from kdna_deploy.progress import Listener

    class Timed(Listener):
        def step(self, name: str) -> None:
            note(name)  # type: ignore[operator]

    if command == "inspect":
        listener = Timed()
        str(kd.load(checkpoint, listener=listener).inspect(listener))
    elif command == "fuse":
        kd.fuse(checkpoint, folder / "made.fused.pt2", listener=Timed())
    else:
        kd.export(checkpoint, folder / "made.onnx", listener=Timed())


def _export_as_published(checkpoint: Path, folder: Path) -> None:
    import torch

    from kdna_deploy.network.load import load_network

    network = load_network(checkpoint).module.eval()
    batch = {0: torch.export.Dim("batch", min=1)}
    torch.onnx.export(
        network, (torch.zeros(2, 3, 224, 224),), folder / "published.onnx", dynamo=True, dynamic_shapes=(batch,)
    )


def table_row(arch: str, command: str, rounds: list[dict[str, dict[str, float]]]) -> list[str]:
    """Medians over rounds, as multiples of that round's `import torch`."""

    def multiple(*names: str) -> float:
        return statistics.median(
            sum(one[command].get(name, 0.0) for name in names) / one["import torch"]["whole"] for one in rounds
        )

    known = {name for names in PARTS.values() for name in names} | {"start", "whole", "memory"}
    others = tuple(sorted({name for one in rounds for name in one[command]} - known))
    parts = [*(multiple(*names) for names in PARTS.values()), multiple(*others)]
    seconds = statistics.median(one[command]["whole"] for one in rounds)
    memory = statistics.median(one[command]["memory"] for one in rounds)
    return [
        *(arch, command, f"{seconds:.1f} s", f"{multiple('whole'):.1f} ×"),
        *("" if part < 0.005 else f"{part:.2f}" for part in parts),
        f"{memory:.0f} MB",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=ARCHITECTURES, action="append", help="these networks alone")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "benchmarks" / "conversion.md")
    parser.add_argument("--once", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        command, checkpoint, folder = options.once
        print(json.dumps(convert(command, Path(checkpoint), Path(folder))))
        return
    from table import write_table  # here, for the processes that are measured import no more than they need

    rows, torch_seconds = [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for arch in options.only or ARCHITECTURES:
            checkpoint = folder / f"{arch}.pth.tar"
            script = ROOT / "sample_checkpoints" / "make_random.py"
            subprocess.run([sys.executable, script, "--arch", arch, "--out", checkpoint], check=True, cwd=ROOT)
            rounds = []
            for number in range(options.rounds):
                print(f"{arch}, round {number + 1} of {options.rounds} …", file=sys.stderr)
                order = random.Random(number).sample(COMMANDS, len(COMMANDS))
                rounds.append({command: run_once(command, checkpoint, folder) for command in order})
            rows += [table_row(arch, command, rounds) for command in COMMANDS[1:]]
            torch_seconds += [one["import torch"]["whole"] for one in rounds]
    write_table(
        options.out,
        "Conversion: where the time goes",
        f"Fresh processes, 224×224, medians of interleaved rounds ({options.rounds}). Multiples of a process that "
        f"imports PyTorch and ends, which took {statistics.median(torch_seconds):.2f} s. `load` includes the imports "
        "of this package. `torch.onnx.export` is of the network as it was published, neither folded nor verified.",
        ["network", "command", "time", "in all", *PARTS, "rest", "peak memory"],
        rows,
    )


if __name__ == "__main__":
    main()
