"""The baseline of every comparison: the plain backbone of a KernelDNA network, exported in the same way.

Same widths, class count, input shape, batch and opset as the artifact that it stands beside, and the same folding
and simplification. Its weights are untrained: latency does not depend on their values.

Does not apply to a user's own model: its plain form is not known; give ``--baseline FILE``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from kdna_deploy.cost import count
from kdna_deploy.errors import UsageError
from kdna_deploy.fusion import fuse
from kdna_deploy.models.record import to_record
from kdna_deploy.onnx_export import OnnxOptions, export_onnx
from kdna_deploy.provenance import Provenance


@dataclass(frozen=True)
class PlainBackbone:
    """An exported plain backbone."""

    name: str
    path: Path
    parameters: int
    macs: int


def export_plain_backbone(provenance: Provenance, folder: Path) -> PlainBackbone:
    """Export the plain backbone of the network that an artifact with `provenance` holds, into `folder`.

    Raises:
        UsageError: the artifact holds a user's own model.
    """
    architecture = provenance.restored_architecture()
    if architecture is None:
        raise UsageError(
            f"The plain backbone of {provenance.name} is not known; name what to compare with by --baseline FILE."
        )
    plain = architecture.plain
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = plain.build().eval().requires_grad_(False)
    fused = fuse(module, provenance.image_shape)
    cost = count(module, provenance.image_shape)
    made_from = Provenance(
        source="",
        source_sha256="",
        architecture=to_record(plain),
        factory=None,
        ema=False,
        image_shape=provenance.image_shape,
        parameters=cost.parameters,
        macs=cost.macs,
        channel_attentions=0,
    )
    path = folder / f"{plain.name}.onnx"
    export_onnx(fused.graph, module, made_from, path, _same_options(provenance))
    return PlainBackbone(plain.name, path, cost.parameters, cost.macs)


def plain_identity(provenance: Provenance) -> str:
    """Equal for artifacts whose plain backbones are the same file: children and attention make no difference."""
    architecture = provenance.restored_architecture()
    plain = to_record(architecture.plain) if architecture else provenance.factory
    return repr((plain, provenance.image_shape, _same_options(provenance)))


def _same_options(provenance: Provenance) -> OnnxOptions:
    recorded = provenance.options
    batch = recorded.get("batch")
    return OnnxOptions(
        opset=recorded.get("opset", OnnxOptions.opset),
        batch=batch if isinstance(batch, int) else None,
        simplify=recorded.get("simplify", True),
        target=recorded.get("target", "any"),
    )
