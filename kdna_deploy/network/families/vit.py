"""ViT (Dosovitskiy et al. 2021), with the state-dict names of timm's `vit_base_patch16_224`.

    tokens = [class token, patches] + position
    x ← x + attention(norm x);  x ← x + mlp(norm x)        logits = head(norm(class token))

Depth, width, patch size, perceptron and the number of positions are told from a checkpoint's shapes; heads have 64
channels, as those of the published sizes up to Large. It takes images of the size that its positions are of, no other.

Does not apply: networks without a class token, with normalised queries, layer scale or two class tokens (DeiT).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, KernelDNA, Shapes
from kdna_deploy.network.families.row import numbered
from kdna_deploy.network.families.transformer import Mlp, SelfAttention

_EPSILON = 1e-6
_HEAD_WIDTH = 64


class PatchEmbedding(nn.Module):
    """Images [n, c, h, w] → a token for each patch, [n, h/p, w/p, width]; `normalised`, as in Swin."""

    def __init__(self, in_channels: int, width: int, patch: int, normalised: bool = False) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, width, patch, stride=patch)
        self.norm = nn.LayerNorm(width) if normalised else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).permute(0, 2, 3, 1))


class Block(nn.Module):
    """A block of tokens [n, length, c]."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=_EPSILON)
        self.attn = SelfAttention(width, max(width // _HEAD_WIDTH, 1))
        self.norm2 = nn.LayerNorm(width, eps=_EPSILON)
        self.mlp = Mlp(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """Input [n, c, h, w], output logits [n, classes]."""

    def __init__(self, spec: ViTSpec, num_classes: int) -> None:
        super().__init__()
        (width,) = spec.widths
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.randn(1, spec.positions, width) * 0.02)
        self.patch_embed = PatchEmbedding(spec.in_channels, width, spec.patch)
        self.blocks = nn.ModuleList(Block(width, spec.hidden) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(width, eps=_EPSILON)
        self.head = nn.Linear(width, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        patches = self.patch_embed(x).flatten(1, 2)
        # The class token with its position is one constant, and so is what is added to the patches.
        first = (self.cls_token + self.pos_embed[:, :1]).expand(x.shape[0], -1, -1)
        x = torch.cat((first, patches + self.pos_embed[:, 1:]), 1)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


@dataclass(frozen=True)
class ViTSpec(Backbone):
    """Sizes of a ViT: one width; `positions` counts the class token's."""

    widths: tuple[int, ...] = (768,)
    in_channels: int = 3
    depth: int = 12
    hidden: int = 3072
    patch: int = 16
    positions: int = 197
    kind: ClassVar[str] = "vit"
    classifier: ClassVar[str] = "head.weight"

    @property
    def sizes(self) -> dict[str, int]:
        return {"depth": self.depth, "hidden": self.hidden, "patch": self.patch, "positions": self.positions}

    def with_sizes(self, sizes: Mapping[str, int]) -> ViTSpec:
        return replace(self, **sizes)  # type: ignore[arg-type]

    @property
    def image_size(self) -> tuple[int, int] | None:
        side = math.isqrt(self.positions - 1)
        return (side * self.patch, side * self.patch) if side * side == self.positions - 1 else None

    def scaled(self, factor: float) -> ViTSpec:
        scaled = super().scaled(factor)
        return replace(scaled, hidden=max(round(self.hidden * factor), 1))

    def build(self, sharing: KernelDNA | None, num_classes: int) -> nn.Module:
        return VisionTransformer(self, num_classes)

    def fitted(self, shapes: Shapes) -> ViTSpec:
        width, in_channels, patch, _ = shapes["patch_embed.proj.weight"]
        return ViTSpec(
            (width,),
            in_channels,
            depth=numbered(shapes, "blocks"),
            hidden=shapes["blocks.0.mlp.fc1.weight"][0],
            patch=patch,
            positions=shapes["pos_embed"][1],
        )
