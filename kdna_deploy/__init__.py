"""kdna-deploy: trained KernelDNA networks from checkpoint to deployment.

    source = open_fused_source(Path("ckpt.pt"), Request())
    result = export_fused(source, Path("ckpt.onnx"), OnnxOptions())

The names below are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kdna_deploy.version import VERSION as __version__

_HOME = {
    "load_checkpoint": "kdna_deploy.network.checkpoint",
    "Checkpoint": "kdna_deploy.network.checkpoint",
    "load_network": "kdna_deploy.network.load",
    "Network": "kdna_deploy.network.load",
    "fuse": "kdna_deploy.export.fuse",
    "Fused": "kdna_deploy.export.fuse",
    "save_fused": "kdna_deploy.graph.file",
    "load_fused": "kdna_deploy.graph.file",
    "provenance_of": "kdna_deploy.graph.provenance",
    "export_fused": "kdna_deploy.export.onnx.export",
    "export_onnx": "kdna_deploy.export.onnx.export",
    "FuseOptions": "kdna_deploy.export.fuse",
    "Request": "kdna_deploy.export.source",
    "open_fused_source": "kdna_deploy.export.source",
    "OnnxOptions": "kdna_deploy.export.onnx.export",
    "compare": "kdna_deploy.evaluation.compare",
    "open_session": "kdna_deploy.runtimes.open",
    "bench": "kdna_deploy.bench.run",
    "BenchOptions": "kdna_deploy.bench.plan",
    "KdnaError": "kdna_deploy.errors",
}

__all__ = [
    "__version__",
    "BenchOptions",
    "Checkpoint",
    "FuseOptions",
    "Fused",
    "KdnaError",
    "Network",
    "OnnxOptions",
    "Request",
    "bench",
    "compare",
    "export_fused",
    "export_onnx",
    "fuse",
    "load_checkpoint",
    "load_fused",
    "load_network",
    "open_fused_source",
    "open_session",
    "provenance_of",
    "save_fused",
]

if TYPE_CHECKING:
    from kdna_deploy.bench.plan import BenchOptions
    from kdna_deploy.bench.run import bench
    from kdna_deploy.errors import KdnaError
    from kdna_deploy.evaluation.compare import compare
    from kdna_deploy.export.fuse import Fused, FuseOptions, fuse
    from kdna_deploy.export.onnx.export import OnnxOptions, export_fused, export_onnx
    from kdna_deploy.export.source import Request, open_fused_source
    from kdna_deploy.graph.file import load_fused, save_fused
    from kdna_deploy.graph.provenance import provenance_of
    from kdna_deploy.network.checkpoint import Checkpoint, load_checkpoint
    from kdna_deploy.network.load import Network, load_network
    from kdna_deploy.runtimes.open import open_session


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kdna_deploy' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
