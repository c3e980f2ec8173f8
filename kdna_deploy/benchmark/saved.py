"""A saved run: what ``bench --save FILE.json`` wrote, read back as a baseline or for a comparison.

Latencies of two runs say something about the models only when the machine and the options were the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdna_deploy.benchmark.statistics import Samples
from kdna_deploy.errors import ArtifactError, UsageError

SCHEMA_VERSION = 2
# What must be equal for latencies to be comparable.
_MACHINE = ("cpu", "flags", "cores", "governor", "cgroup_cpus")
_OPTIONS = ("threads", "batch", "protocol")


@dataclass(frozen=True)
class SavedRow:
    """A measured model of an earlier run; `samples` is None where it could not be measured."""

    name: str
    runtime: str
    samples: Samples | None
    record: dict[str, Any]


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

    def row(self, name: str, runtime: str) -> SavedRow:
        """The row of a model.

        Raises:
            UsageError: the run has none, or did not measure it.
        """
        found = [row for row in self.rows if (row.name, row.runtime) == (name, runtime) and row.samples]
        if not found:
            measured = ", ".join(row.name for row in self.rows)
            raise UsageError(f"'{self.path}' did not measure {name} on {runtime}; it has {measured}.")
        return found[0]


def read_run(path: Path) -> SavedRun:
    """Read a saved run.

    Raises:
        ArtifactError: it is missing, none of ours, damaged, or of another schema.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        version = data["schema_version"] if data["kind"] == "bench" else None
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"'{path}' is not a run that kdna-deploy bench --save wrote.") from error
    if version != SCHEMA_VERSION:
        raise ArtifactError(
            f"'{path}' has schema {version}, and this kdna-deploy reads {SCHEMA_VERSION}; measure it again."
        )
    try:
        rows = tuple(_row(record) for record in data["rows"])
        floors = tuple(floor["value"] for floor in data["noise_floors"])
        peak = data["peak"]["best"]["gflops"] if data["peak"] else None
        return SavedRun(path, rows, data["options"], data["environment"], floors, peak)
    except (KeyError, TypeError, ValueError) as error:
        raise ArtifactError(f"'{path}' is damaged; measure it again.") from error


def differences(one: dict[str, Any], other: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    """What differs between two records, a phrase each."""
    return [f"{name} ({one.get(name)} against {other.get(name)})" for name in names if one.get(name) != other.get(name)]


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
    samples = None
    if record["samples_ms"]:
        values, blocks = np.asarray(record["samples_ms"], np.float64), np.asarray(record["blocks"], np.int64)
        if values.ndim != 2 or blocks.shape != values.shape[:1]:
            raise ValueError("samples and blocks do not fit")
        samples = Samples(values, blocks)
    return SavedRow(record["name"], record["runtime"], samples, record)
