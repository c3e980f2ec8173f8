"""A network whose adapters are merged, under the base network's own names, for those who go on with that.

    base + adapters → safetensors file of float32 weights, which the plain backbone loads

Merged in float64 and rounded once. The plain backbone with these weights is compared with the network as it was trained
before the file gets its name.

Does not apply: networks that are not their plain backbone with other weights.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from kdna_deploy.errors import UsageError
from kdna_deploy.evaluation.agreement import require_agreement
from kdna_deploy.evaluation.compare import compare
from kdna_deploy.files import atomic_output
from kdna_deploy.images.probes import few_probes
from kdna_deploy.network.load import Network
from kdna_deploy.network.module_copy import twin
from kdna_deploy.runtimes.pytorch import TorchSession
from kdna_deploy.runtimes.remembered import Remembered
from kdna_deploy.targets.fused_rounding import ROUNDING_ONLY


def merged_weights(network: Network) -> dict[str, Tensor]:
    """The weights of the plain backbone that computes what `network` does, float32.

    Raises:
        UsageError: it is not that backbone with adapters.
    """
    method = network.architecture.method if network.architecture else None
    merged = method and method.merged(twin(network.module).double())
    if not merged:
        raise UsageError(f"{network.name} has no adapters to merge; leave `save_merged` out.")
    return {name: value.detach().float().contiguous() for name, value in merged.items()}


def save_merged(network: Network, size: tuple[int, int], path: Path, inputs: tuple[Path, ...] = ()) -> str:
    """Write what `merged_weights` gives, compared on images of `size` (h, w); return what is to be said of the file.

    Raises:
        UsageError: as `merged_weights`, or `path` cannot be written.
        ParityError: the merged network computes something else.
    """
    from safetensors.torch import save_file

    weights, architecture = merged_weights(network), network.architecture
    assert architecture is not None
    with torch.device("meta"):
        plain = architecture.plain.build()
    plain.load_state_dict(weights, assign=True)
    reference = Remembered(TorchSession(network.module, "original network"))
    merged = Remembered(TorchSession(plain.eval(), "merged network"))
    agreements = compare(merged, reference, few_probes(network.image_shape(size)), ROUNDING_ONLY)
    require_agreement(agreements, "The merged network differs from the original", "please report this with the model.")
    with atomic_output(path, inputs, "save_merged") as temporary:
        save_file(weights, temporary, {"format": "pt"})
    return f"{path} holds the merged network in float32, under the names of {architecture.plain.name}"
