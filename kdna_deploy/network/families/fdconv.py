"""FDConv: frequency dynamic convolution (Chen et al. 2025; names of github.com/Linwei-Chen/FDConv).

    z    = StarReLU(BN(fc GAP(x)))                                hidden = max(⌊c/16⌋, 16); s·ReLU(·)² + b
    W(x) = 2σ(spatial_fc z) ⊙ 2σ(L(x)) ⊙ Σ_i π_i K_i              π = 2σ(kernel_fc z) / K; L dense, [n, c', c, k, k]
    y    = 2σ(filter_fc z) ⊙ conv(2σ(channel_fc z) ⊙ FBM(x), W(x))
    K_i  = irfft2(α·dft_weight ⊙ band_i)                          the i-th of K equal parts of the frequencies, by size

The published code mixes frequencies and transforms back for each image; that transform is linear, so here each band is
transformed back once: parameters alone, which folding turns into a constant bank. α = K·⌊min(c, c')/2⌋. FBM has its
equation in `fdconv_bands`.

A bank takes K times the room of the kernels. K is 4 by the code's default, and 64 in its configuration for detectors,
whose bank would be 2.9 GB for ResNet-18: above 8 frequencies are mixed and transformed for each image, as published.

A convolution is of this kind where it is 1×1 or 3×3 and has more than 16 channels on both sides; 3×3 ones modulate
bands in front. ResNet-18 has 12.28 M parameters (K = 64: 12.30 M; 3×3 ones alone 12.26 M): the 11.75 M that the
KernelDNA paper prints are not reproduced.

    <conv>.dft_weight [1, c'·k, c·k/2 + 1, 2]
    <conv>.KSM_Global.{fc.weight, bn.*, relu.{scale,bias}, {channel,filter,spatial,kernel}_fc.{weight,bias}}
    <conv>.KSM_Local.{conv.weight [c'·k², 1, l], norm.{weight,bias}}
    <conv>.FBM.freq_weight_conv_list.{0,1,2}.{weight [1, c, 3, 3], bias [1]}

Does not apply: groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.errors import UsageError
from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.families.fdconv_bands import BandModulation
from kdna_deploy.network.families.per_image import behind_stem, convolve_each, fresh_kernel, mixed, pooled
from kdna_deploy.network.method import Method, Place

_REDUCTION, _LEAST_HIDDEN = 16, 16
_FEW_CHANNELS = 16
_LARGEST_BANK = 8
_MIXTURE = ".KSM_Global.kernel_fc.weight"


class _StarReLU(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.relu(x) ** 2 + self.bias


class GlobalModulation(nn.Module):
    """What the means of the maps give: hidden features [n, hidden, 1, 1], and layers behind them."""

    def __init__(self, place: Place, kernels: int) -> None:
        super().__init__()
        c_in, area = place.c_in, math.prod(place.kernel)
        hidden = max(c_in // _REDUCTION, _LEAST_HIDDEN)
        self.fc = nn.Conv2d(c_in, hidden, 1, bias=False)
        self.bn = nn.BatchNorm2d(hidden)
        self.relu = _StarReLU()
        self.channel_fc = nn.Conv2d(hidden, c_in, 1)
        self.filter_fc = nn.Conv2d(hidden, place.c_out, 1)
        self.spatial_fc = nn.Conv2d(hidden, area, 1) if area > 1 else None
        self.kernel_fc = nn.Conv2d(hidden, kernels, 1)

    def forward(self, means: Tensor) -> Tensor:
        return self.relu(self.bn(self.fc(means)))


class LocalModulation(nn.Module):
    """Logits [n, c', c, k, k] of a gate on every entry of a kernel, from the means [n, c, 1, 1]."""

    def __init__(self, place: Place) -> None:
        super().__init__()
        self.place, rows = place, place.c_out * math.prod(place.kernel)
        length = round(math.log2(place.c_in) / 2 + 0.5) // 2 * 2 + 1
        self.conv = nn.Conv1d(1, rows, length, padding=length // 2, bias=False)
        self.norm = nn.LayerNorm(place.c_in)

    def forward(self, means: Tensor) -> Tensor:
        place, area = self.place, math.prod(self.place.kernel)
        logits = self.conv(self.norm(means.flatten(1)[:, None])).reshape(-1, place.c_out, area, place.c_in)
        return logits.transpose(2, 3).reshape(-1, place.c_out, place.c_in, *place.kernel)


class FDConv(nn.Module):
    """x [n, c, h, w] → [n, c', h', w']."""

    bands: Tensor

    def __init__(self, place: Place, kernels: int) -> None:
        super().__init__()
        self.place, self.kernels = place, kernels
        self.height, self.width = place.c_out * place.kernel[0], place.c_in * place.kernel[1]
        self.unit = min(place.c_in, place.c_out) // 2
        flat = fresh_kernel(place).transpose(1, 2).reshape(self.height, self.width)
        self.dft_weight = nn.Parameter(torch.view_as_real(torch.fft.rfft2(flat))[None] / self.unit)
        self.KSM_Global = GlobalModulation(place, kernels)
        self.KSM_Local = LocalModulation(place)
        self.FBM = None if place.pointwise else BandModulation(place.c_in)
        empty = torch.empty(self.height, self.width // 2 + 1, dtype=torch.int16)
        self.register_buffer("bands", empty if empty.is_meta else self._ordered(), persistent=False)

    def _load_from_state_dict(self, *arguments: Any, **options: Any) -> None:
        """No checkpoint holds the bands; a network without memory, of which only shapes are asked, does without."""
        super()._load_from_state_dict(*arguments, **options)
        self.bands = self._ordered()

    def _ordered(self) -> Tensor:
        return _bands(self.height, self.width, self.kernels)

    def bank(self) -> Tensor:
        """The kernel [c', c, k, k] of each band, [K, c', c, k, k]."""
        (rows, columns), place = self.place.kernel, self.place
        spectrum = self.dft_weight[0] * (self.unit * self.kernels)
        # Both parts at once and then made complex: a mask times complex numbers would be one operator more to know.
        masks = torch.arange(self.kernels, device=self.bands.device)[:, None, None] == self.bands
        banded = torch.view_as_complex(spectrum * masks[..., None].to(spectrum.dtype))
        spatial = torch.fft.irfft2(banded, s=(self.height, self.width))
        return spatial.reshape(self.kernels, place.c_out, rows, place.c_in, columns).transpose(2, 3)

    def _transformed(self, mixture: Tensor) -> Tensor:
        """The kernels [n, c', c, k, k] for `mixture` [n, K], mixed as frequencies and transformed for each image."""
        (rows, columns), place = self.place.kernel, self.place
        share = mixture[:, self.bands.flatten().long()].unflatten(1, self.bands.shape)
        spectrum = torch.view_as_complex(self.dft_weight[0] * (self.unit * self.kernels) * share[..., None])
        spatial = torch.fft.irfft2(spectrum, s=(self.height, self.width))
        return spatial.reshape(-1, place.c_out, rows, place.c_in, columns).transpose(2, 3)

    def forward(self, x: Tensor) -> Tensor:
        means = pooled(x)
        gates, z = self.KSM_Global, self.KSM_Global(means)
        mixture = torch.sigmoid(gates.kernel_fc(z)).flatten(1) * (2 / self.kernels)
        banked = self.kernels <= _LARGEST_BANK
        kernels = mixed(mixture, self.bank()) if banked else self._transformed(mixture)
        kernels = kernels * (2 * torch.sigmoid(self.KSM_Local(means)))
        if gates.spatial_fc is not None:
            kernels = kernels * (2 * torch.sigmoid(gates.spatial_fc(z))).reshape(-1, 1, 1, *self.place.kernel)
        x = x if self.FBM is None else self.FBM(x)
        out = convolve_each(x * (2 * torch.sigmoid(gates.channel_fc(z))), kernels, self.place)
        return out * (2 * torch.sigmoid(gates.filter_fc(z)))


def _bands(height: int, width: int, kernels: int) -> Tensor:
    """Which of `kernels` equal parts each frequency of an image [height, width] is in, [height, width/2 + 1].

    On the CPU and in float32 whatever is asked for, for equal sizes are ordered as the published code orders them.
    """
    count = height * (width // 2 + 1)
    if count % kernels:
        raise UsageError(f"{count} frequencies make no {kernels} equal parts; leave `scale` out.")
    with torch.device("cpu"):
        sizes = torch.fft.fftfreq(height, dtype=torch.float32), torch.fft.rfftfreq(width, dtype=torch.float32)
        grid = torch.stack(torch.meshgrid(*sizes, indexing="ij"), dim=-1)
        order = torch.sort(torch.norm(grid, dim=-1).flatten()).indices
        bands = torch.empty(count, dtype=torch.int16)
        bands[order] = (torch.arange(count) // (count // kernels)).to(torch.int16)
        return bands.reshape(height, width // 2 + 1)


@dataclass(frozen=True)
class FDConvolutions(Method):
    """FDConv wherever its code puts it: in 3×3 convolutions, and where `pointwise` is 1 in 1×1 ones."""

    kernels: int = 4
    pointwise: int = 1
    kind: ClassVar[str] = "FDConv"
    told: ClassVar[tuple[str, ...]] = ("kernels", "pointwise")

    def recognises(self, shapes: Shapes) -> bool:
        return any(name.endswith(".dft_weight") for name in shapes)

    def fitted(self, backbone: Backbone, shapes: Shapes) -> FDConvolutions:
        mixtures = {name.removesuffix(_MIXTURE): shape[0] for name, shape in shapes.items() if name.endswith(_MIXTURE)}
        pointwise = any(f"{layer}.KSM_Global.spatial_fc.weight" not in shapes for layer in mixtures)
        return replace(self, kernels=max(mixtures.values()), pointwise=int(pointwise))

    def convolution(self, place: Place) -> nn.Module | None:
        dynamic = behind_stem(place) and min(place.c_in, place.c_out) > _FEW_CHANNELS
        return FDConv(place, self.kernels) if dynamic and (self.pointwise or not place.pointwise) else None
