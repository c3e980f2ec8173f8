"""Layers and operators beside plain convolutions, and weights that are computed."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, prune

from tests.odd.case import WIDTH, Case, Small, Written, with_middle, written


def _conv(**options: Any) -> nn.Module:
    return nn.Conv2d(WIDTH, WIDTH, 3, **options)


class Squeeze(nn.Module):
    """SE with linear layers, behind a convolution."""

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.layers = nn.Sequential(nn.Linear(WIDTH, 4), nn.ReLU(), nn.Linear(4, WIDTH), gate)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return x * self.layers(x.mean((2, 3)))[:, :, None, None]


class Efficient(nn.Module):
    """ECA: a convolution along the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.conv(F.adaptive_avg_pool2d(x, 1).squeeze(-1).transpose(-1, -2))
        return x * gate.transpose(-1, -2).unsqueeze(-1).sigmoid()


class Spatial(nn.Module):
    """The spatial half of CBAM."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.conv(torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)).sigmoid()


class Dynamic(nn.Module):
    """A kernel for each image, mixed from four, by grouped convolution over the batch."""

    def __init__(self, padding: str | int = 1) -> None:
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(4, WIDTH, WIDTH, 3, 3) / 9)
        self.router = nn.Linear(WIDTH, 4)
        self.padding = padding

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mixture = self.router(x.mean((2, 3))).softmax(1)
        kernels = torch.einsum("nk,kocij->nocij", mixture, self.kernels).reshape(n * c, c, 3, 3)
        return F.conv2d(x.reshape(1, n * c, h, w), kernels, padding=self.padding, groups=n).reshape(n, c, h, w)


class DynamicSum(Dynamic):
    """The same as a sum of four convolutions, which every runtime has."""

    def forward(self, x: Tensor) -> Tensor:
        mixture = self.router(x.mean((2, 3))).softmax(1)
        maps = torch.stack([F.conv2d(x, kernel, padding=1) for kernel in self.kernels], 1)
        return (mixture[:, :, None, None, None] * maps).sum(1)


class Mixed(nn.Module):
    """A kernel mixed from four by constants."""

    def __init__(self) -> None:
        super().__init__()
        self.kernels = nn.Parameter(torch.randn(4, WIDTH, WIDTH, 3, 3) / 9)
        self.mixture = nn.Parameter(torch.rand(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, torch.einsum("k,kocij->ocij", self.mixture.softmax(0), self.kernels), padding=1)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / (w.std((1, 2, 3), keepdim=True) + 1e-5)
        return F.conv2d(x, w, self.bias, self.stride, self.padding, self.dilation, self.groups)


class Children(nn.Module):
    """A parent and its children: modulated, permuted, flipped, low-rank updated, of a slice."""

    def __init__(self) -> None:
        super().__init__()
        self.parent = nn.Parameter(torch.randn(WIDTH, WIDTH, 3, 3) / 6)
        self.filters, self.positions = nn.Parameter(torch.rand(WIDTH, 1, 1, 1)), nn.Parameter(torch.rand(1, 1, 3, 3))
        self.left, self.right = nn.Parameter(torch.randn(WIDTH, 2) / 4), nn.Parameter(torch.randn(2, WIDTH * 9) / 4)
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        update = (self.left @ self.right).view_as(self.parent)
        kernels = (
            self.parent,
            self.parent * (1 + self.filters) * (1 + self.positions),
            self.parent.flip(-1),
            self.parent[torch.tensor([1, 0, 3, 2, 5, 4, 7, 6])],
            self.parent + update,
        )
        for norm, kernel in zip(self.norms, kernels, strict=True):
            x = x + F.relu(norm(F.conv2d(x, kernel, padding=1)))
        return F.conv2d(x, self.parent[:, :, 1:2, 1:2])


class Recursive(nn.Module):
    """One convolution, called by a function that calls itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 3, padding=1)
        self.norm = nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor, depth: int = 3) -> Tensor:
        return x if depth == 0 else self.forward(F.relu(self.norm(self.conv(x))), depth - 1)


class Looped(nn.Module):
    """A list of modules in which one occurs three times."""

    def __init__(self) -> None:
        super().__init__()
        block = nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU())
        self.blocks = nn.ModuleList([block, nn.Conv2d(WIDTH, WIDTH, 1), block, block])

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x


class Tied(nn.Module):
    """Two convolutions and a linear layer with one weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(WIDTH, WIDTH, 1, bias=False) for _ in range(2))
        self.third = nn.Linear(WIDTH, WIDTH, bias=False)
        self.second.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.second(F.relu(self.first(x)))
        return x + F.linear(x.movedim(1, -1), self.first.weight[:, :, 0, 0]).movedim(-1, 1) + self.third.weight.mean()


class TwoNorms(nn.Module):
    """One convolution behind two BatchNorms, and one BatchNorm behind two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = _conv(padding=1), _conv(padding=1)
        self.a, self.b = nn.BatchNorm2d(WIDTH), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(x)
        return self.b(self.two(self.a(y) + self.b(y)))


class Deep(nn.Module):
    """Twelve residual layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(12))
        self.norms = nn.ModuleList(nn.BatchNorm2d(WIDTH) for _ in range(12))

    def forward(self, x: Tensor) -> Tensor:
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = x + F.relu(norm(layer(x)))
        return x


class Tokens(nn.Module):
    """A map as tokens, through a layer of [n, t, c]."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        out = self.layer(tokens)
        out = out[0] if isinstance(out, tuple) else out
        return out.transpose(1, 2).reshape(x.shape[0], -1, x.shape[2], x.shape[3])


class SelfAttention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.attention(x, x, x, need_weights=False)[0]


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(x).reshape(n, t, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, t, WIDTH)


class Orthogonal(nn.Module):
    """A parametrization of one's own."""

    def forward(self, w: Tensor) -> Tensor:
        return w - w.mean((1, 2, 3), keepdim=True)


def _registered() -> nn.Module:
    conv = _conv(padding=1)
    parametrize.register_parametrization(conv, "weight", Orthogonal())
    return conv


def _expanded() -> nn.Module:
    conv = _conv(padding=1)
    conv.weight = nn.Parameter(
        torch.randn(WIDTH, 1, 3, 3).permute(0, 1, 3, 2).contiguous().permute(0, 1, 3, 2).repeat(1, 8, 1, 1)
    )
    return conv


def _channels_last() -> nn.Module:
    return _conv(padding=1).to(memory_format=torch.channels_last)


def _strided() -> nn.Module:
    conv = nn.Conv2d(WIDTH, WIDTH, 1)
    conv.weight = nn.Parameter(torch.randn(1, 1, WIDTH, WIDTH).permute(2, 3, 0, 1))
    return conv


def _warp(m: Written, x: Tensor) -> Tensor:
    theta = m.locate(x.mean((2, 3))).view(-1, 2, 3) * 0.1 + torch.tensor([[1.0, 0, 0], [0, 1.0, 0]])
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)


def _arcface(m: Written, x: Tensor) -> Tensor:
    return F.linear(F.normalize(x.movedim(1, -1), dim=-1), F.normalize(m.centres)).movedim(-1, 1)


def _frequencies(m: Written, x: Tensor) -> Tensor:
    return torch.fft.rfft2(x).abs()


def _shuffle(m: Written, x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


def _activations() -> nn.Module:
    return nn.Sequential(
        *(nn.PReLU(WIDTH), nn.GELU(), nn.SiLU(), nn.Hardswish(), nn.Mish(), nn.ELU(), nn.SELU(), nn.CELU(0.7)),
        *(
            nn.Softplus(),
            nn.Softsign(),
            nn.Hardsigmoid(),
            nn.LogSigmoid(),
            nn.ReLU6(),
            nn.Tanhshrink(),
            nn.Softshrink(),
        ),
        *(nn.Threshold(0.1, 0.2), nn.Hardtanh(-1, 2), nn.Softmax2d(), nn.GELU("tanh"), nn.LeakyReLU(0.3), nn.Tanh()),
    )


class Beside(nn.Module):
    """The sum of what several layers make of a map, its means taken."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return sum(layer(x).mean((2, 3), keepdim=True) for layer in self.layers)  # type: ignore[return-value]


TABLE = {
    "activations": with_middle(lambda: Beside(*_activations())),
    "rrelu": Case(lambda: Small(3, nn.RReLU()), refusal="ONNX has no translation", code=1),
    "paddings": with_middle(
        lambda: Beside(
            *(_conv(padding=1, padding_mode=mode) for mode in ("reflect", "circular", "replicate")),
            nn.Conv2d(WIDTH, WIDTH, (3, 2), padding="same"),
            nn.Sequential(nn.ConstantPad2d((1, 0, 2, 1), 0.5), _conv()),
        )
    ),
    "grouped": with_middle(lambda: _conv(groups=2, padding=1)),
    "depthwise": with_middle(
        lambda: nn.Sequential(_conv(groups=WIDTH), nn.BatchNorm2d(WIDTH), nn.Conv2d(WIDTH, WIDTH, 1))
    ),
    "dilated": with_middle(lambda: _conv(dilation=2, padding=2)),
    "transposed": with_middle(
        lambda: nn.Sequential(nn.ConvTranspose2d(WIDTH, WIDTH, 3, 2, 1, 1), nn.BatchNorm2d(WIDTH))
    ),
    "transposed_grouped": with_middle(lambda: nn.ConvTranspose2d(WIDTH, WIDTH, 2, groups=4)),
    "pools": with_middle(
        lambda: Beside(
            *(
                nn.AdaptiveAvgPool2d((5, 4)),
                nn.AdaptiveMaxPool2d(1),
                nn.LPPool2d(2, 2),
                nn.MaxPool2d(3, 2, 1, ceil_mode=True),
            ),
            nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        )
    ),
    "adaptive_average_uneven": Case(lambda: Small(3, nn.AdaptiveAvgPool2d((3, 5)))),
    "upsampling": with_middle(
        lambda: Beside(
            *(
                nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), _conv())
                for mode in ("nearest", "bilinear", "bicubic")
            ),
            nn.Sequential(nn.Upsample(size=(17, 15), mode="bilinear", align_corners=True), _conv()),
        )
    ),
    "shuffles": with_middle(
        lambda: nn.Sequential(
            nn.PixelUnshuffle(2), nn.PixelShuffle(2), nn.ChannelShuffle(2), nn.Conv2d(WIDTH, WIDTH, 3)
        )
    ),
    "channel_shuffle_by_hand": written(_shuffle),
    "other_norms": with_middle(
        lambda: Beside(
            *(
                nn.Sequential(nn.GroupNorm(2, WIDTH), nn.Softplus()),
                nn.Sequential(nn.LayerNorm([WIDTH, 10, 12]), _conv()),
            ),
            *(Tokens(nn.LayerNorm(WIDTH)), Tokens(nn.RMSNorm(WIDTH, eps=1e-6)), nn.LocalResponseNorm(3)),
        )
    ),
    "instance_norms": with_middle(
        lambda: nn.Sequential(
            *(nn.InstanceNorm2d(WIDTH), nn.ReLU(), _conv()),
            nn.InstanceNorm2d(WIDTH, affine=True, track_running_stats=True),
        )
    ),
    "batch_norms": with_middle(
        lambda: nn.Sequential(
            *(_conv(), nn.BatchNorm2d(WIDTH, affine=False), _conv(), nn.BatchNorm2d(WIDTH, momentum=None), nn.ReLU()),
            *(nn.BatchNorm2d(WIDTH), _conv(), nn.BatchNorm2d(WIDTH).eval().requires_grad_(False)),
        )
    ),
    "batch_norm_1d": with_middle(
        lambda: Tokens(nn.Sequential(nn.Flatten(), nn.Linear(960, 960), nn.BatchNorm1d(960), nn.Unflatten(1, (120, 8))))
    ),
    "batch_norm_first": Case(lambda: nn.Sequential(nn.BatchNorm2d(3), Small())),
    "two_norms": with_middle(TwoNorms),
    "softmax": written(lambda m, x: x.softmax(1)),
    "self_attention": with_middle(lambda: Tokens(SelfAttention())),
    "scaled_dot_product": with_middle(lambda: Tokens(Scaled())),
    "transformer_layer": with_middle(lambda: Tokens(nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True))),
    "lstm": with_middle(lambda: Tokens(nn.LSTM(WIDTH, WIDTH, batch_first=True)), shape=(3, 4, 3)),
    "bilinear_layer": written(
        lambda m, x: m.pair(x.movedim(1, -1), x.movedim(1, -1)).movedim(-1, 1),
        pair=lambda: nn.Bilinear(WIDTH, WIDTH, WIDTH),
    ),
    "einsum": written(
        lambda m, x: torch.einsum("nchw,oc->nohw", x, m.mix), mix=lambda: nn.Parameter(torch.randn(WIDTH, WIDTH))
    ),
    "chunk_split_cat": written(lambda m, x: torch.cat([*x.chunk(2, 1)[::-1], *x.split([3, 5], 1)], 1)[:, 4:12]),
    "fold": written(lambda m, x: F.fold(F.unfold(x, 2, stride=2), (10, 12), 2, stride=2)),
    "grid_sample": written(_warp, locate=lambda: nn.Linear(WIDTH, 6)),
    "choices": written(
        lambda m, x: F.normalize(torch.where(x > 0.5, x, x * 0.1).masked_fill(x > 1, 1.0).roll((2, -1), (2, 3)), dim=1)
    ),
    "sorted_and_summed": written(lambda m, x: x.sort(1).values + x.cumsum(2)),
    "masked_assignment": written(lambda m, x: _assign(x)),
    "top_k_channels": written(
        lambda m, x: x * (x.mean((2, 3), keepdim=True) >= x.mean((2, 3), keepdim=True).topk(3, 1).values[:, -1:])
    ),
    "cosine_classifier": written(_arcface, centres=lambda: nn.Parameter(torch.randn(WIDTH, WIDTH))),
    "complex_inside": written(_frequencies),
    "squeeze_excite": with_middle(lambda: nn.Sequential(Squeeze(nn.Sigmoid()), Squeeze(nn.Hardsigmoid()), _conv())),
    "efficient_attention": with_middle(lambda: nn.Sequential(Efficient(), _conv())),
    "spatial_attention": with_middle(lambda: nn.Sequential(Spatial(), _conv())),
    "dynamic_kernels": with_middle(Dynamic),
    "kernels_of_a_hypernetwork": written(
        lambda m, x: F.conv2d(
            x.reshape(1, -1, *x.shape[2:]),
            m.make(x.amax((2, 3))).tanh().reshape(-1, WIDTH, 1, 1),
            groups=x.shape[0],
        ).reshape(x.shape),
        make=lambda: nn.Linear(WIDTH, WIDTH * WIDTH),
    ),
    "dynamic_kernels_padded_by_a_word": Case(
        lambda: Small(3, Dynamic("same")), refusal="a kernel for each image, with padding 'same'", code=1
    ),
    "dynamic_sum": with_middle(DynamicSum),
    "mixed_kernels": with_middle(Mixed),
    "standardised": with_middle(lambda: Standardised(WIDTH, WIDTH, 3)),
    "children": with_middle(Children),
    "recursive": with_middle(Recursive),
    "looped": with_middle(Looped),
    "tied": with_middle(Tied),
    "old_weight_norm": with_middle(lambda: torch.nn.utils.weight_norm(_conv())),
    "weight_norm": with_middle(lambda: parametrizations.weight_norm(_conv())),
    "old_spectral_norm": with_middle(lambda: torch.nn.utils.spectral_norm(_conv())),
    "spectral_norm": with_middle(lambda: parametrizations.spectral_norm(_conv())),
    "orthogonal": written(
        lambda m, x: m.mix(x.movedim(1, -1)).movedim(-1, 1),
        mix=lambda: parametrizations.orthogonal(nn.Linear(WIDTH, WIDTH)),
    ),
    "own_parametrization": with_middle(_registered),
    "pruned": with_middle(lambda: _pruned()),
    "expanded_weight": with_middle(_expanded),
    "strided_weight": with_middle(_strided),
    "channels_last": with_middle(_channels_last),
    "double_weights": Case(lambda: Small().double()),
    "half_weights": Case(lambda: Small().half()),
    "brain_weights": Case(lambda: Small().bfloat16()),
    "deep": with_middle(Deep),
    "conv1d_inside": written(
        lambda m, x: m.mix(x.flatten(2)).view_as(x),
        mix=lambda: nn.Sequential(nn.Conv1d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm1d(WIDTH)),
    ),
    "conv3d_inside": written(
        lambda m, x: m.mix(x.unsqueeze(1)).flatten(1, 2),
        mix=lambda: nn.Sequential(nn.Conv3d(1, 1, 3, padding=1), nn.BatchNorm3d(1)),
    ),
    "fractional_pool": Case(lambda: Small(3, nn.FractionalMaxPool2d(2, 5)), refusal="random"),
    "max_unpool": written(lambda m, x: F.max_unpool2d(*F.max_pool2d(x, 2, return_indices=True), 2)),
}


def _assign(x: Tensor) -> Tensor:
    y = x.clone()
    y[y > 1] = 1.0
    return y


def _pruned() -> nn.Module:
    conv = _conv()
    prune.l1_unstructured(conv, "weight", amount=0.3)
    return conv


def __getattr__(name: str) -> Any:
    """The factory of a case, by its name."""
    if name not in TABLE:
        raise AttributeError(name)
    return TABLE[name].build
