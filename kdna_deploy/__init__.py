"""kdna-deploy: trained KernelDNA networks from checkpoint to deployment.

    source = open_fused_source(Path("ckpt.pt"), Request())
    result = export_fused(source, Path("ckpt.onnx"), OnnxOptions())

The names below are imported on first use, so that importing the package costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "load_checkpoint": "kdna_deploy.checkpoint",
    "Checkpoint": "kdna_deploy.checkpoint",
    "load_network": "kdna_deploy.network",
    "Network": "kdna_deploy.network",
    "fuse": "kdna_deploy.fusion",
    "Fused": "kdna_deploy.fusion",
    "save_fused": "kdna_deploy.fused_file",
    "load_fused": "kdna_deploy.fused_file",
    "provenance_of": "kdna_deploy.provenance",
    "export_fused": "kdna_deploy.onnx_export",
    "export_onnx": "kdna_deploy.onnx_export",
    "FuseOptions": "kdna_deploy.fusion",
    "Request": "kdna_deploy.fused_source",
    "open_fused_source": "kdna_deploy.fused_source",
    "OnnxOptions": "kdna_deploy.onnx_export",
    "compare": "kdna_deploy.verification",
    "open_session": "kdna_deploy.runtimes.open",
    "bench": "kdna_deploy.benchmark.run",
    "BenchOptions": "kdna_deploy.benchmark.plan",
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
    from kdna_deploy.benchmark.plan import BenchOptions
    from kdna_deploy.benchmark.run import bench
    from kdna_deploy.checkpoint import Checkpoint, load_checkpoint
    from kdna_deploy.errors import KdnaError
    from kdna_deploy.fused_file import load_fused, save_fused
    from kdna_deploy.fused_source import Request, open_fused_source
    from kdna_deploy.fusion import Fused, FuseOptions, fuse
    from kdna_deploy.network import Network, load_network
    from kdna_deploy.onnx_export import OnnxOptions, export_fused, export_onnx
    from kdna_deploy.provenance import provenance_of
    from kdna_deploy.runtimes.open import open_session
    from kdna_deploy.verification import compare


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'kdna_deploy' has no attribute '{name}'")
    return getattr(importlib.import_module(_HOME[name]), name)
