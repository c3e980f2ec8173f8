"""FDConv's modulation of frequency bands in front of a convolution.

    x_j = lowpass_j(x), x_0 = x                                   |frequency| below 1/4, up to 1/8, up to 1/16
    out = x_3 + Σ_{j=1..3} 2σ(conv_j x) ⊙ (x_{j−1} − x_j)         one gate for all channels, [n, 1, h, w]

The published code transforms, masks and transforms back. A mask that is a product of one over rows and one over columns
makes that a product with constant matrices, which every runtime knows and fusing folds:

    lowpass(x) = Re(A) x Rᵀ + Im(A) x Qᵀ                          A = F⁻¹ diag(a) F [h, h]; R, Q [w, w] real
    R = irfft diag(b) rfft, Q = irfft diag(ib) rfft

Im(A) is not zero where the mask loses its symmetry: it is one for 64 positions, resized to others by the nearest.

Does not apply: images of another size than the one that was traced.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

_MASK_SIDE = 64
_CUTS = (2, 4, 8)


class BandModulation(nn.Module):
    """x [n, c, h, w] → the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.freq_weight_conv_list = nn.ModuleList(nn.Conv2d(channels, 1, 3, padding=1) for _ in _CUTS)

    def forward(self, x: Tensor) -> Tensor:
        above, bands = x, []
        for cut, conv in zip(_CUTS, self.freq_weight_conv_list, strict=True):
            below = _lowpass(x, cut)
            bands.append(2 * torch.sigmoid(conv(x)) * (above - below))
            above = below
        return torch.stack([*bands, above]).sum(0)


def _lowpass(x: Tensor, cut: int) -> Tensor:
    """`x` [n, c, h, w] without frequencies from 0.5 / `cut` on."""
    h, w = x.shape[2:]
    rows, columns = _kept(h, cut, half=False), _kept(w, cut, half=True)
    along_rows = np.fft.ifft(rows[:, None] * np.fft.fft(np.eye(h), axis=0), axis=0)
    spectrum = columns[:, None] * np.fft.rfft(np.eye(w), axis=0)
    pairs = [(along_rows.real, np.fft.irfft(spectrum, n=w, axis=0))]
    if np.abs(along_rows.imag).max() > 1e-12:
        pairs.append((along_rows.imag, np.fft.irfft(1j * spectrum, n=w, axis=0)))
    terms = [_constant(left, x) @ x @ _constant(right.T, x) for left, right in pairs]
    return sum(terms[1:], terms[0])


def _kept(side: int, cut: int, half: bool) -> np.ndarray:
    """The mask along one axis of `side` positions, resized by the nearest.

    In float32, as the code does both: 0.25 + 1e-8 is 0.25 there, 0.125 + 1e-8 is not 0.125.
    """
    frequencies = np.fft.rfftfreq(_MASK_SIDE) if half else np.fft.fftfreq(_MASK_SIDE)
    mask = np.abs(frequencies).astype(np.float32) < np.float32(0.5 / cut + 1e-8)
    target = side // 2 + 1 if half else side
    scale = np.float32(len(mask)) / np.float32(target)
    nearest = np.floor(np.arange(target, dtype=np.float32) * scale).astype(int)
    return mask[np.minimum(nearest, len(mask) - 1)].astype(float)


def _constant(matrix: np.ndarray, like: Tensor) -> Tensor:
    return like.new_tensor(matrix.tolist())
