"""KARST (Zhu et al. 2025): Kronecker adapters with re-scaling in a frozen ViT or Swin.

    W' = W + Σ_g C_g ⊗ (A_gᵀ B_gᵀ) · multiplier² · α/r        C_g [m, m], A_g [r, c'/m], B_g [c/m, r];  of qkv three A_g
    in front of proj x ← s_x ⊙ x + t_x,  behind it y ← s_p ⊙ y + t_p,  behind fc2 y ← s_h ⊙ y + t_h

Names are those that the published code writes once it runs (docs/architectures.md). The re-scaling is one number each
in that code, one for each channel in the paper; a checkpoint may have either, or none. The multiplier is in none: 1
unless it is said. All of it is linear, so that folding leaves the base network (`fuse`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, TypeVar, cast

import torch
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.families.transformer import Adaptable, SelfAttention
from kdna_deploy.network.method import Method

CHANNELS = 1 << 16  # as many numbers as there are channels
T = TypeVar("T")

# Layer → name of its adapter; places → names of their re-scaling.
_ATTENTION = {"qkv": "attention_ka", "proj": "proj_ka"}
_MLP = {"fc1": "fc1_ka", "fc2": "fc2_ka"}
_ATTENTION_SCALES = {"x": ("st_x_s", "st_x_b"), "proj": ("st_proj_s", "st_proj_b")}
_MLP_SCALES = {"h": ("st_h_s", "st_h_b")}

_ADAPTER = re.compile(r"\.(attention|proj|fc1|fc2)_(?:kar|karst)\.")
_OF_ADAPTERS = re.compile(r"\.(?:(?:attention|proj|fc1|fc2)_ka\.|st_(?:x|proj|h)_[sb]$)")
_ADAPTERS_OWN = re.compile(r".*\.(?:attention|proj|fc1|fc2)_ka(?=\.)")


def canonical(named: Mapping[str, T]) -> dict[str, T]:
    """Entries by the names that they have here: published scripts also write ``fc2_kar`` and ``_karst``."""
    return {_ADAPTER.sub(r".\1_ka.", name): value for name, value in named.items()}


def adapters(named: Iterable[str]) -> list[str]:
    """The adapters of a checkpoint, by its canonical names."""
    return list(dict.fromkeys(match[0] for name in named if (match := _ADAPTERS_OWN.match(name))))


class KroneckerAdapter(nn.Module):
    """What is added to a weight [parts · c', c]: Σ C_g ⊗ (A_gᵀ B_gᵀ), scaled; `parts` of the rows have an A_g each."""

    def __init__(self, rows: int, columns: int, parts: int, rank: int, method: Karst) -> None:
        super().__init__()
        m, groups = method.factor, range(method.groups)
        self.scale = method.multiplier**2 / rank
        self.register_buffer("alpha", torch.tensor(1))
        self.w1_group = nn.ParameterList(nn.Parameter(torch.randn(m, m)) for _ in groups)
        self.w2_group_b = nn.ParameterList(nn.Parameter(torch.zeros(columns // m, rank)) for _ in groups)

        def first() -> nn.Parameter:
            return nn.Parameter(torch.randn(rank, rows // parts // m))

        self.w2_group_a: nn.Module = (
            nn.ParameterList(first() for _ in groups)
            if parts == 1
            else nn.ModuleList(nn.ParameterList(first() for _ in range(parts)) for _ in groups)
        )

    def forward(self) -> Tensor:
        groups: Any = (self.w1_group, self.w2_group_a, self.w2_group_b)
        alpha: Any = self.alpha
        total: Any = sum(_kronecker(c, a, b) for c, a, b in zip(*groups, strict=True))
        return cast(Tensor, total * alpha * self.scale)


def _kronecker(c: Tensor, a: Tensor | nn.ParameterList, b: Tensor) -> Tensor:
    """C ⊗ (Aᵀ Bᵀ); of several A one below the other."""
    factors = [a] if isinstance(a, Tensor) else list(a)
    return torch.cat([torch.kron(c, one.t() @ b.t()) for one in factors])


@dataclass(frozen=True)
class Karst(Method):
    """Adapters beside the linear layers of a ViT or Swin.

    Attributes:
        ranks: of the adapters, one for each width of the network.
        factor: m, the size of C.
        groups: how many Kronecker products are summed.
        rescaling: how many numbers each s and t has at a width of c: 0 of none, 1, or c (`CHANNELS`).
        multiplier: of the adapters; in no checkpoint.
    """

    ranks: tuple[int, ...] = (8,)
    factor: int = 8
    groups: int = 2
    rescaling: int = 1
    multiplier: float = 1.0
    kind: ClassVar[str] = "KARST"
    told: ClassVar[tuple[str, ...]] = ("ranks", "factor", "groups", "rescaling", "multiplier")

    def recognises(self, shapes: Shapes) -> bool:
        return bool(adapters(shapes))

    def fitted(self, backbone: Backbone, shapes: Shapes) -> Karst:
        """As `Method.fitted`; what the first block of each width has."""
        places = (
            ("blocks.0",) if backbone.kind == "vit" else [f"layers.{i}.blocks.0" for i in range(len(backbone.widths))]
        )
        adapters = [f"{place}.mlp.fc1_ka" for place in places]
        scale = shapes.get(f"{places[0]}.mlp.st_h_s", (0,))
        return replace(
            self,
            ranks=tuple(shapes[f"{adapter}.w2_group_b.0"][1] for adapter in adapters),
            factor=shapes[f"{adapters[0]}.w1_group.0"][0],
            groups=sum(name.startswith(f"{adapters[0]}.w1_group.") for name in shapes),
            rescaling=scale[0] if scale[0] in (0, 1) else CHANNELS,
        )

    def installed(self, network: nn.Module, backbone: Backbone) -> nn.Module:
        ranks = dict(zip(backbone.widths, self.ranks, strict=True))
        for part in [part for part in network.modules() if isinstance(part, Adaptable)]:
            is_attention = isinstance(part, SelfAttention)
            part.adapters = _ATTENTION if is_attention else _MLP
            width, _ = _shape(part, "proj" if is_attention else "fc2")
            for layer, name in part.adapters.items():
                rows, columns = _shape(part, layer)
                adapter = KroneckerAdapter(rows, columns, 3 if layer == "qkv" else 1, ranks[width], self)
                part.add_module(name, adapter)
            if self.rescaling:
                part.scales = _ATTENTION_SCALES if is_attention else _MLP_SCALES
                size = min(self.rescaling, width)
                for scale, shift in part.scales.values():
                    part.register_parameter(scale, nn.Parameter(torch.ones(size)))
                    part.register_parameter(shift, nn.Parameter(torch.zeros(size)))
        return network

    def merged(self, network: nn.Module) -> dict[str, Tensor]:
        state = network.state_dict()
        for path, part in network.named_modules():
            if isinstance(part, Adaptable):
                state.update({f"{path}.{name}": value for name, value in _merged(part).items()})
        return {name: value for name, value in state.items() if not _OF_ADAPTERS.search(name)}


def _merged(part: Adaptable) -> dict[str, Tensor]:
    """Weights and biases of a part's layers with adapters and re-scaling in them."""
    found: dict[str, Tensor] = {}
    for layer, adapter in part.adapters.items():
        linear: Any = part.get_submodule(layer)
        weight, bias = linear.weight + part.get_submodule(adapter)(), linear.bias
        if layer == "proj" and "x" in part.scales:
            scale, shift = (getattr(part, name) for name in part.scales["x"])
            bias = bias + weight @ shift.expand(weight.shape[1])
            weight = weight * scale
        behind = part.scales.get({"proj": "proj", "fc2": "h"}.get(layer, ""))
        if behind is not None:
            scale, shift = (getattr(part, name) for name in behind)
            weight, bias = scale[:, None] * weight, scale * bias + shift
        found |= {f"{layer}.weight": weight, f"{layer}.bias": bias}
    return found


def _shape(part: nn.Module, layer: str) -> tuple[int, int]:
    linear = part.get_submodule(layer)
    assert isinstance(linear, nn.Linear)
    return linear.out_features, linear.in_features
