"""A²D²C and A²D²C+: a reconstruction, for no code was published and the paper's descriptions disagree.

    variant B (routing by the output, A²D²C+, eq. 8):  F_i = K_i * x, z_i = wᵀ mean_p F_i(p) + b
    variant A (routing by the input):                  z_i = wᵀ mean_p x(p) + b
    π = softmax(z), y = conv(x, Σ_i π_i K_i)                      w shared by the k base kernels, temperature 1

The means are over positions p: over M of them for each base kernel, which the checkpoint holds (`points`, in [0, 1) of
height and width, the cell that they fall into), or over all. Positions that are drawn anew for each image make no
function of an image, and are refused.

B is linear up to the softmax, so no F_i is computed: Σ π_i F_i is one convolution, and mean_p F_i(p) a product of the
kernel with the mean of the patches that these positions see,

    z_i = ⟨v_i, m_i⟩ + b,  v_i = wᵀK_i [c, k, k] static,  m_i = mean_p patch(x, p) [c, k, k] = x S_i

with S_i [h·w, k²] a constant matrix of how often each position is seen, a product of one over rows and one over columns
where all are. A with all positions has z_1 = … = z_k: it is
the static convolution with the mean of the base kernels, and with positions drawn at random it is that in expectation.

    <conv>.weight [k, c', c/g, kh, kw], .router.{weight [1, c'] (A: [1, c]), bias [1]}, .points [k, M, 2] (optional)

Does not apply: images of another size than the one that was traced.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.network.backbone import Backbone, Shapes
from kdna_deploy.network.families.per_image import convolve_all, convolve_each, fresh_bank, mixed
from kdna_deploy.network.method import Method, Place, places, replace_layers

Routing = Literal["output", "input"]


class A2D2C(nn.Module):
    """x [n, c, h, w] → [n, c', h', w'], with a bank of `kernels`, routed by `points` positions each, or by all (0)."""

    points: Tensor | None

    def __init__(self, place: Place, kernels: int = 4, routing: Routing = "output", points: int = 0) -> None:
        super().__init__()
        self.place, self.routing = place, routing
        self.weight = fresh_bank(kernels, place)
        self.router = nn.Linear(place.c_out if routing == "output" else place.c_in, 1)
        self.register_buffer("points", torch.rand(kernels, points, 2) if points else None)

    def forward(self, x: Tensor) -> Tensor:
        if self.routing == "input" and self.points is None:
            return convolve_all(x, self.weight.mean(0), self.place)
        mixture = F.softmax(self._logits(x), dim=1)
        return convolve_each(x, mixed(mixture, self.weight), self.place)

    def _logits(self, x: Tensor) -> Tensor:
        """z [n, k]."""
        filters = self.router.weight.t()[:, None] if self.routing == "input" else self._filters()
        return (self._means(x) * filters).sum((1, 3)) + self.router.bias

    def _filters(self) -> Tensor:
        """v_i = wᵀK_i, [c, k, kh·kw]: of an input channel, the sum over the outputs of its group."""
        kernels = self.weight.flatten(3).unflatten(1, (self.place.groups, -1))  # [k, g, c'/g, c/g, kh·kw]
        outputs = self.router.weight[0].unflatten(0, (self.place.groups, -1))
        return (kernels * outputs[None, :, :, None, None]).sum(2).flatten(1, 2).transpose(0, 1)

    def _means(self, x: Tensor) -> Tensor:
        """Mean patches [n, c, k, kh·kw] (routing by the input: mean pixels [n, c, k, 1]; all positions: k is 1)."""
        rows, columns = (self._along(axis, x.shape[2 + axis]) for axis in (0, 1))
        if self.points is None:
            return (rows.mean(0).to(x.dtype) @ x @ columns.mean(0).t().to(x.dtype)).flatten(2)[:, :, None]
        seen = torch.einsum("kmay,kmbx->yxkab", rows, columns) / rows.shape[1]
        return (x.flatten(2) @ seen.flatten(2).flatten(0, 1).to(x.dtype)).unflatten(2, (rows.shape[0], -1))

    def _along(self, axis: int, side: int) -> Tensor:
        """Which pixels of `side` each tap of each position sees, as ones: [k, M, taps, side], or [all, taps, side]."""
        place = self.place
        taps, stride, padding = place.kernel[axis], place.stride[axis], place.padding[axis]
        if self.routing == "input":
            taps, stride, padding = 1, 1, 0
        outputs = (side + 2 * padding - taps) // stride + 1
        device = self.weight.device
        pixels = torch.arange(side, device=device)
        offsets = torch.arange(taps, device=device)[:, None] - padding
        if self.points is not None:
            chosen = (self.points[..., axis].double() * outputs).floor()  # in float64 no product rounds up
            return (chosen[..., None, None] * stride + offsets == pixels).double()
        return (torch.arange(outputs, device=device)[:, None, None] * stride + offsets == pixels).double()


@dataclass(frozen=True)
class A2D2Convolutions(Method):
    """A²D²C where the paper's text puts it: the first 3×3 of each block from the second stage on, depthwise ones.

    Routing by the output or by the input is told by the routers' widths. Where all of these layers have as many inputs
    as outputs, in ResNet-50 and MobileNetV2, the checkpoint records it beside its state dict, {"system": "a2d2c",
    "variant": "output"}, or the architecture's name says it.
    """

    routing: Routing = "output"
    kernels: int = 4
    points: int = 0
    kind: ClassVar[str] = "A²D²C"
    told: ClassVar[tuple[str, ...]] = ("kernels", "points")

    @property
    def recorded(self) -> str:
        return f"a2d2c {self.routing}"

    def recognises(self, shapes: Shapes) -> bool:
        return any(name.endswith(".router.weight") for name in shapes)

    def fitted(self, backbone: Backbone, shapes: Shapes) -> A2D2Convolutions:
        layer = next(name for name in shapes if name.endswith(".router.weight")).removesuffix("router.weight")
        points = shapes.get(f"{layer}points", (0, 0))[1]
        return replace(self, kernels=shapes[f"{layer}weight"][0], points=points)

    def installed(self, network: nn.Module, backbone: Backbone) -> nn.Module:
        chosen = {place.name.rpartition(".")[0]: place for place in reversed(places(network)) if _is_routed(place)}
        layers = {place.name: A2D2C(place, self.kernels, self.routing, self.points) for place in chosen.values()}
        replace_layers(network, layers)
        return network


def _is_routed(place: Place) -> bool:
    return place.depthwise or (place.kernel == (3, 3) and place.name.startswith(("layer2", "layer3", "layer4")))
