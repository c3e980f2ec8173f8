"""Networks with fresh weights: the plain backbone beside a user's network (`baseline`), and those of a suite.

Latency does not depend on the values of weights, so an untrained network is as good as a trained one to measure.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from kdna_deploy.benchmark.subject import Shape, Subject, suffix_of
from kdna_deploy.graph.file import save_fused
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.network.architecture import Architecture
from kdna_deploy.network.cost import Cost, count
from kdna_deploy.network.load import network_of
from kdna_deploy.network.record import configuration_of, to_record
from kdna_deploy.runtimes.table import Artifact, Source
from kdna_deploy.targets.converted import export_converted
from kdna_deploy.targets.fuse import Fused, FuseOptions, fuse
from kdna_deploy.targets.onnx.export import export_onnx
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import FusedSource


class Untrained:
    """Files of an architecture with fresh weights for images of `shape` (c, h, w), made in `folder`.

    The network is built anew for each of them: a suite has dozens, of which none stays in memory.
    """

    def __init__(self, architecture: Architecture, shape: Shape, options: OnnxOptions, folder: Path):
        self._architecture = architecture
        self.shape = shape
        self.options = options
        self._folder = folder
        self._costs: dict[Shape, Cost] = {}

    @property
    def name(self) -> str:
        """Of the architecture."""
        return self._architecture.name

    def source(self, kind: Artifact) -> Source:
        suffix = ".pt" if kind == "checkpoint" else suffix_of(kind)
        path = self._folder / f"{self._architecture.name}{suffix}"
        if not path.exists():
            self._folder.mkdir(exist_ok=True)
            self.make(kind, path)
        return Source(path, configuration_of(self._architecture) if kind == "checkpoint" else None)

    def cost_of(self, shape: Shape) -> Cost:
        """Of an image of `shape` (c, h, w)."""
        if shape not in self._costs:
            with torch.device("meta"):
                self._costs[shape] = count(self._architecture.build().eval(), shape)
        return self._costs[shape]

    def _built(self) -> nn.Module:
        """The same weights each time."""
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return self._architecture.build().eval().requires_grad_(False)

    def _provenance(self, fused: Fused) -> Provenance:
        cost = self.cost_of(self.shape)
        return Provenance(
            source="",
            source_sha256="",
            architecture=to_record(self._architecture),
            factory=None,
            ema=False,
            image_shape=self.shape,
            parameters=cost.parameters,
            macs=cost.macs,
            channel_attentions=fused.channel_attentions,
        )

    def make(self, kind: Artifact, path: Path) -> None:
        """Write the file of a `kind` to `path`."""
        module = self._built()
        if kind == "checkpoint":
            torch.save({"state_dict": module.state_dict(), "arch": self._architecture.name}, path)
            return
        fused = fuse(module, self.shape, FuseOptions(proof="file" if kind != "fused" else "float32"))
        if kind == "fused":
            save_fused(fused.graph, self._provenance(fused), path)
        elif kind == "onnx":
            assert fused.reference is not None
            export_onnx(fused.graph, fused.reference, self._provenance(fused), path, self.options, fused=fused)
        else:
            made = self._provenance(fused)
            export_converted(FusedSource(fused.graph, network_of(module), made, fused), path, self.options)


def untrained(files: Untrained, name: str, shape: Shape | None = None) -> Subject:
    """A network with fresh weights, measured on images of `shape` (c, h, w), those that it is made for by default."""
    cost, shape = files.cost_of(shape or files.shape), shape or files.shape
    return Subject(name, cost.parameters, cost.macs, shape, "onnx", files, files.options.batch)
