"""kdna-deploy: trained KernelDNA networks from checkpoint to deployment, in thirteen verbs, and a list.

    import kdna_deploy as kd

    network = kd.load("ckpt.pt")
    fused = kd.fuse(network, children="share")
    file = kd.export(fused, "net.onnx", precision="int8", calibration="images/", max_drop=0.5)
    kd.prepare(file)
    kd.verify(file)
    kd.run(file, "photo.jpg")
    kd.evaluate(file, data="val/")
    kd.bench(file, cpu_threads=1)
    kd.inspect(file)                          # what a file was made of, takes, returns and stores
    kd.sweep("ckpt.pt", "val/", calibration="images/")     # which of all files to ship
    kd.report("ckpt.pt", file, output="report.html")
    kd.ship("ckpt.pt", "cpu,triton", "release")            # a release in one folder; kd.verify("release") proves it
    kd.list()                                 # the architectures that there are

Each returns a frozen result that prints as the command's tables, in a terminal and in a notebook. A verb is imported
when it is first used, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kdna_deploy.errors import (
    AccuracyError,
    ArchitectureError,
    ArtifactError,
    CaptureError,
    CheckpointError,
    ExportError,
    InputError,
    KdnaError,
    ParityError,
    RuntimeFailure,
    ThresholdError,
    UsageError,
)
from kdna_deploy.progress import Listener
from kdna_deploy.version import VERSION as __version__

# ONNX Runtime's packages report each session over the network (from 1.29 on), under a name of this machine, from a
# thread of their own and a database in ~/.cache: nobody has asked for that, and it runs beside what is measured. It is
# decided once in a process, when ONNX Runtime is first used. What a user has set stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from kdna_deploy.verbs.bench import bench
    from kdna_deploy.verbs.evaluate import evaluate
    from kdna_deploy.verbs.export import export
    from kdna_deploy.verbs.fuse import fuse
    from kdna_deploy.verbs.inspect import inspect
    from kdna_deploy.verbs.list import list
    from kdna_deploy.verbs.load import load
    from kdna_deploy.verbs.package import package
    from kdna_deploy.verbs.prepare import prepare
    from kdna_deploy.verbs.report import report
    from kdna_deploy.verbs.run import run
    from kdna_deploy.verbs.ship import ship
    from kdna_deploy.verbs.sweep import sweep
    from kdna_deploy.verbs.verify import verify

_VERBS = (
    *("load", "inspect", "fuse", "export", "prepare", "verify", "run", "evaluate"),
    *("bench", "sweep", "report", "package", "ship", "list"),
)

__all__ = [
    "__version__",
    "bench",
    "evaluate",
    "export",
    "fuse",
    "inspect",
    "list",
    "load",
    "package",
    "prepare",
    "report",
    "run",
    "ship",
    "sweep",
    "verify",
    "AccuracyError",
    "ArchitectureError",
    "ArtifactError",
    "CaptureError",
    "CheckpointError",
    "ExportError",
    "InputError",
    "KdnaError",
    "Listener",
    "ParityError",
    "RuntimeFailure",
    "ThresholdError",
    "UsageError",
]


def __getattr__(name: str) -> Any:
    if name not in _VERBS:
        raise AttributeError(f"module 'kdna_deploy' has no attribute '{name}'")
    return getattr(importlib.import_module(f"kdna_deploy.verbs.{name}"), name)


def __dir__() -> Iterable[str]:
    return sorted(__all__)
