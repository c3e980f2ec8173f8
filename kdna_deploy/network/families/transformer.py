"""What vision transformers are made of: self-attention and the perceptron of two layers, by timm's names.

    y = softmax(q·kᵀ/√d + bias)·v        q, k, v = qkv(x), for each head        then proj
    y = fc2 GELU(fc1 x)

Both are `Adaptable`: an adapter may add to the weight of a layer, and scale and shift what stands beside it (`karst`).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Adaptable(nn.Module):
    """A module of linear layers.

    Attributes:
        adapters: layer → the module of what is added to its weight.
        scales: place → the parameters s and t of x ← s ⊙ x + t there.
    """

    def __init__(self) -> None:
        super().__init__()
        self.adapters: dict[str, str] = {}
        self.scales: dict[str, tuple[str, str]] = {}

    def linear(self, layer: str, x: Tensor) -> Tensor:
        own = self.get_submodule(layer)
        weight = own.weight
        if layer in self.adapters:
            weight = weight + self.get_submodule(self.adapters[layer])()
        return F.linear(x, weight, own.bias)  # type: ignore[arg-type]

    def scaled(self, place: str, x: Tensor) -> Tensor:
        if place not in self.scales:
            return x
        scale, shift = (getattr(self, name) for name in self.scales[place])
        return x * scale + shift


class SelfAttention(Adaptable):
    """Attention of tokens [n, …, length, c] to each other; `bias` is added to scores [n, …, heads, length, length]."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None) -> Tensor:
        rest = x.shape[1:-1]
        query, key, value = (self._by_head(part) for part in self.linear("qkv", x).chunk(3, -1))
        out = F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        joined = out.transpose(-2, -3).reshape(-1, *rest, x.shape[-1])
        return self.scaled("proj", self.linear("proj", self.scaled("x", joined)))

    def _by_head(self, x: Tensor) -> Tensor:
        """[n, …, length, c] → [n, …, heads, length, c/heads]."""
        return x.reshape(-1, *x.shape[1:-1], self.heads, x.shape[-1] // self.heads).transpose(-2, -3)


class Mlp(Adaptable):
    """Two linear layers with a GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.scaled("h", self.linear("fc2", F.gelu(self.linear("fc1", x))))
