"""What was said of a sweep → its document: candidates that may win are made, measured and compared."""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kdna_deploy.benchmark.cpu.affinity import allowed_cores, check_cores
from kdna_deploy.benchmark.environment import Environment, environment
from kdna_deploy.benchmark.protocol import Settings
from kdna_deploy.evaluation.evaluate import DataRequest
from kdna_deploy.evaluation.workers.opened import Workers
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import package_versions
from kdna_deploy.images.folder import ImageSource
from kdna_deploy.images.record import images_sha256
from kdna_deploy.images.split import require_enough
from kdna_deploy.kinds import stem
from kdna_deploy.network.configuration import Configuration
from kdna_deploy.network.input_size import choose_size
from kdna_deploy.network.load import Network, load_network
from kdna_deploy.network.record import to_record
from kdna_deploy.progress import Listener, Part
from kdna_deploy.selection.candidate import Candidate, command_line, grid
from kdna_deploy.selection.measuring import Measuring
from kdna_deploy.selection.outcome import outcome
from kdna_deploy.selection.pace import Pace
from kdna_deploy.selection.result import Limits, Minimize, Sweep, SweptImages, SweptNetwork
from kdna_deploy.selection.rules import Facts, ruled_out
from kdna_deploy.selection.run import Going
from kdna_deploy.selection.store import Store
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.load import LoadedNetwork
from kdna_deploy.verbs.sweep_files import Files

_FACTS = "network.json"
_BASELINE = "baseline"
_OPENVINO_MISSING = "OpenVINO is not installed; run: pip install 'kdna-deploy[openvino]'"


@dataclass(frozen=True)
class Search:
    """What was said.

    Attributes:
        checkpoint: with how it is loaded: `arch`, `factory`, `ema`, and `size` (h, w) of its images.
        data, ground_truth, synsets: labelled images.
        images: that calibrate, and how image files become input, those of `data` too.
        minutes: after which no further file is begun; None for no limit.
        root: folder of what is kept.
        threads, iterations, min_time: of the latencies; None for the bench's own.
        workers, ray: who evaluates.
    """

    checkpoint: Path
    arch: Configuration
    factory: str | None
    ema: bool
    size: tuple[int, int] | None
    data: Path
    ground_truth: Path | None
    synsets: Path | None
    images: ImageWords
    limits: Limits
    minimize: Minimize
    minutes: float | None
    root: Path
    threads: int
    iterations: int | None
    min_time: float | None
    workers: int | None = None
    ray: str | None = None

    @property
    def settings(self) -> Settings:
        # 0 and 0.0 are one wish, and two texts in the digest that figures are kept by.
        seconds = None if self.min_time is None else float(self.min_time)
        said = {"iterations": self.iterations, "min_time": seconds}
        return Settings(**{name: value for name, value in said.items() if value is not None})  # type: ignore[arg-type]

    @property
    def evaluators(self) -> Workers:
        return Workers(self.workers, self.ray)

    @property
    def calibration(self) -> dict[str, Any]:
        """What was said of the calibration images, as `export` takes it; nothing where there are none.

        How image files become input is then said of those of `data` alone where these are arrays.
        """
        images = self.images
        if images.path is None:
            return {}
        if not images.path.is_dir():
            return {"calibration": images.path}
        said = {"calibration": images.path, "mean": images.mean, "std": images.std, "resize": images.resize}
        said |= {"crop": _written(images.asked().crop), "color": images.color}
        return {name: value for name, value in said.items() if value is not None}

    @property
    def loading(self) -> dict[str, Any]:
        """How the checkpoint is loaded, as `export` takes it."""
        said = {**asdict(self.arch), "model": self.factory, "ema": self.ema or None, "input_size": _written(self.size)}
        return {name: value for name, value in said.items() if value is not None}


def search(request: Search, listener: Listener) -> tuple[Sweep, bool]:
    """Sweep; false where the user interrupted.

    Raises:
        UsageError: there are fewer cores than `threads`, or the folder cannot be used.
        InputError: something cannot be loaded or read.
        RuntimeFailure: there is no Ray cluster at `ray`.
        ParityError: the float32 file, which all others are compared with, departs from the network.
    """
    check_cores(request.threads, allowed_cores())
    request.evaluators.check()
    machine, pace = environment(), Pace(listener, request.minutes)
    listener.step("load")
    network = load_network(request.checkpoint, request.arch, request.factory, request.ema)
    for note in network.checkpoint.notes:
        listener.note(note)
    _check_calibration(request, network)
    calibration = images_sha256(request.images.path) if request.images.path else ""
    store = Store.opened(request.root, _inputs(request, network, calibration, machine))
    files = Files(LoadedNetwork(network, request.size), request.calibration, request.workers, request.ray)
    going = Going(stem(request.checkpoint), store, files, _measuring(request, store), listener, pace)
    with store.claimed():
        known = _facts(files, store, listener)
        dropped = {one: reason for one in grid() if (reason := ruled_out(one, known))}
        complete = going.go([one for one in grid() if one not in dropped])

    def command(one: Candidate, file: Path) -> str:
        written = going.path(one.portable) if one.prepared else file
        words = {**request.loading, **one.all_words(request.calibration)}
        return command_line(request.checkpoint, written, words)

    parameters = sum(one.numel() for one in network.module.parameters())
    found = outcome(
        going,
        dropped,
        SweptNetwork(network.name, str(request.checkpoint), network.checkpoint.sha256, parameters),
        SweptImages(str(request.images.path or ""), calibration, str(request.data)),
        machine,
        request.limits,
        request.minimize,
        command,
    )
    return found, complete


def _check_calibration(request: Search, network: Network) -> None:
    """Nothing but these images judges int8 weights here: too few of them would end the sweep in its midst."""
    if request.images.path is not None:
        size = choose_size(request.size, network.checkpoint.training, network.only_size).size
        require_enough(ImageSource(request.images.path, network.image_shape(size)))


def _measuring(request: Search, store: Store) -> Measuring:
    return Measuring(
        checkpoint=request.checkpoint,
        arch=request.arch,
        factory=request.factory,
        ema=request.ema,
        size=request.size,
        data=DataRequest(request.data, request.ground_truth, request.synsets),
        preprocessing=request.images.asked(),
        threads=request.threads,
        settings=request.settings,
        workers=request.evaluators,
        baseline_folder=store.folder / _BASELINE,
    )


def _written(size: tuple[int, int] | None) -> str | None:
    return None if size is None else f"{size[0]}x{size[1]}"


def _inputs(request: Search, network: Network, calibration: str, machine: Environment) -> Mapping[str, Any]:
    """What the bytes of the files depend on. Names are in their provenance, and so is the way to the checkpoint.

    Another processor may round otherwise while it calibrates, and is not what a prepared file is for.
    """
    base = network.checkpoint.base
    code = inspect.getsourcefile(type(network.module)) if request.factory else None
    images = request.images.path
    return {
        "checkpoint": network.checkpoint.sha256,
        "base": base.sha256 if base else "",
        "place": os.path.relpath(request.checkpoint.resolve(), request.root.resolve()),
        "architecture": to_record(network.architecture) if network.architecture else None,
        "said": request.loading,
        "code": file_sha256(Path(code)) if code else "",
        "calibration": (images.name, calibration) if images else None,
        "preprocessing": asdict(request.images.asked()),
        "processor": (machine.cpu, machine.flags),
        "versions": {**package_versions(), **package_versions(("openvino",))},
    }


def _facts(files: Files, store: Store, listener: Listener) -> Facts:
    """What the rules ask: told by fusing, once."""
    path = store.path(_FACTS)
    try:
        told = json.loads(path.read_bytes())
        shares, freezes = bool(told["shares"]), bool(told["freezes"])
    except (OSError, ValueError, TypeError, KeyError):
        listener.step("see what can be shared and frozen")
        part = Part(listener)
        shares, freezes = files.shares(part), files.freezes(part)
        store.write_json(path, {"shares": shares, "freezes": freezes})
    there = importlib.util.find_spec("openvino") is not None
    return Facts(shares, freezes, bool(files.calibration), "" if there else _OPENVINO_MISSING)
