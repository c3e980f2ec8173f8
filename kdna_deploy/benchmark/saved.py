"""A saved run: what ``bench --save FILE.json`` wrote, read back as a baseline or for a comparison.

Latencies of two runs say something about the models only when machine, options and size of images were the same.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdna_deploy.benchmark.statistics import Samples
from kdna_deploy.errors import ArtifactError, UsageError
from kdna_deploy.json_schema import anything, integer, list_of, mapping, text
from kdna_deploy.json_schema import record as object_of

SCHEMA_VERSION = 2
# What must be equal for latencies to be comparable.
_MACHINE = ("cpu", "flags", "cores", "governor", "cgroup_cpus", "gpu", "gpu_driver", "gpu_power_limit_w")
_ENVIRONMENT = object_of({}, {"versions": mapping(text(), text())}, anything)
_CHOICES = object_of({}, {}, anything)
_SHAPE = list_of(integer(1))
_OPTIONS = ("threads", "batch", "protocol", "device", "streams", "cuda_graphs", "host_copies")


@dataclass(frozen=True)
class SavedRatio:
    """A ratio to `baseline` with its 95 % interval, None after too few rounds. `paired`: both of the same run."""

    baseline: str
    value: float
    low: float | None
    high: float | None
    paired: bool


@dataclass(frozen=True)
class SavedRow:
    """A model of an earlier run; `samples` is None where it could not be measured, `ratio` for a baseline.

    A model on a runtime is what is found again: `name` depends on what else was measured. On the GPU the precision
    belongs to `runtime`. `image_shape` (c, h, w) is of the images that it was measured on; empty in runs that were
    saved before they told it.
    """

    name: str
    model: str
    runtime: str
    samples: Samples | None
    ratio: SavedRatio | None
    image_shape: tuple[int, ...] = ()


@dataclass(frozen=True)
class SavedRun:
    """An earlier run.

    Attributes:
        floors: the noise floors that it found; None where it had too few rounds.
        peak_gflops: of the core then; None where it was not measured.
    """

    path: Path
    rows: tuple[SavedRow, ...]
    options: dict[str, Any]
    machine: dict[str, Any]
    floors: tuple[float | None, ...]
    peak_gflops: float | None

    def row(self, model: str, runtime: str, image_shape: tuple[int, ...] = ()) -> SavedRow:
        """The row of a model, to be compared with one on images of `image_shape`, where that is known.

        Raises:
            UsageError: the run has none, did not measure it, or did on images of another shape.
        """
        found = [row for row in self.rows if (row.model, row.runtime) == (model, runtime) and row.samples]
        if not found:
            measured = ", ".join(row.name for row in self.rows if row.samples)
            raise UsageError(f"'{self.path}' did not measure {model} on {runtime}; it has {measured}.")
        row = found[0]
        if other_images(row.image_shape, image_shape):
            then, now = shown_shape(row.image_shape), shown_shape(image_shape)
            raise UsageError(
                f"'{self.path}' measured {model} on images of {then}, and not of {now}; choose that size with "
                "`input_size`, or measure that run again."
            )
        return row


def read_run(path: Path) -> SavedRun:
    """Read a saved run.

    Raises:
        ArtifactError: it is missing, none of ours, damaged, or of another schema.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        kind, version = data["kind"], data["schema_version"]
    except (ValueError, KeyError, TypeError, RecursionError):
        kind = version = None
    if kind != "bench":
        raise ArtifactError(f"'{path}' is not a run that `bench(save=...)` wrote.")
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"'{path}' has schema {version}, and this kdna-deploy reads {SCHEMA_VERSION}; measure it again."
        )
    try:
        return _run(path, data)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise ArtifactError(f"'{path}' is damaged; measure it again.") from error


def _run(path: Path, data: dict[str, Any]) -> SavedRun:
    floors = tuple(_optional(floor["value"]) for floor in data["noise_floors"])
    peak = float(data["peak"]["best"]["gflops"]) if data["peak"] else None
    rows = tuple(_row(record) for record in data["rows"])
    return SavedRun(path, rows, _CHOICES(data["options"]), _ENVIRONMENT(data["environment"]), floors, peak)


def differences(one: dict[str, Any], other: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """What differs between two records, a phrase each."""
    return [f"{name} ({one.get(name)} against {other.get(name)})" for name in names if one.get(name) != other.get(name)]


def other_images(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two image shapes differ, of which neither is unknown."""
    return bool(one and other) and one != other


def shown_shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


def incomparable(run: SavedRun, machine: dict[str, Any], options: dict[str, Any]) -> list[str]:
    """Why latencies of `run` must not be compared with ones measured on `machine` with `options`; empty if they may."""
    return differences(run.machine, machine, _MACHINE) + differences(run.options, options, _OPTIONS)


def check_comparable(run: SavedRun, machine: dict[str, Any], options: dict[str, Any]) -> None:
    """Refuse a saved run as a baseline.

    Raises:
        UsageError: it was measured on another machine, or with other options.
    """
    found = incomparable(run, machine, options)
    if found:
        raise UsageError(
            f"'{run.path}' cannot be the baseline, for it differs from this measurement in: {'; '.join(found)}."
        )


def _row(record: dict[str, Any]) -> SavedRow:
    samples = _samples(record["samples_ms"], record["blocks"]) if record["samples_ms"] else None
    ratio = _ratio(record["ratio"], record["baseline"]) if record["ratio"] else None
    runtime = str(record["runtime"])
    if "precision" in record:  # of a run on the GPU, which measures a runtime in several
        runtime = f"{runtime}, {record['precision']}"
    shape = tuple(_SHAPE(record.get("image_shape", [])))
    return SavedRow(str(record["name"]), str(record["model"]), runtime, samples, ratio, shape)


def _samples(values_ms: Any, blocks: Any) -> Samples:
    values, numbers = np.asarray(values_ms, np.float64), np.asarray(blocks, np.int64)
    if values.ndim != 2 or not values.size or numbers.shape != values.shape[:1]:
        raise ValueError("samples and blocks do not fit")
    if not (np.isfinite(values).all() and (values > 0).all()):
        raise ValueError("a latency is not positive")
    return Samples(values, numbers)


def _ratio(record: dict[str, Any], baseline: Any) -> SavedRatio:
    value = _optional(record["value"]) or 0.0
    low, high = _optional(record["low"]), _optional(record["high"])
    if not all(part > 0 and math.isfinite(part) for part in (value, low or 1.0, high or 1.0)):
        raise ValueError("a ratio is not positive")
    return SavedRatio(str(baseline), value, low, high, paired=record["verdict"] != "other run")


def _optional(value: Any) -> float | None:
    """A number or None; text is neither, though it may look like one."""
    if value is not None and not isinstance(value, (int, float)):
        raise ValueError(f"{value!r} is no number")
    return None if value is None else float(value)
