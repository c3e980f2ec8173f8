"""The layers of other methods compute their equations, image by image, whatever sizes, strides and groups they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdna_deploy.graph.capture import export_program, program_graph
from kdna_deploy.graph.functional import functionalise
from kdna_deploy.network.families.a2d2c import A2D2C
from kdna_deploy.network.families.cbam import CBAM
from kdna_deploy.network.families.cgc import CGC
from kdna_deploy.network.families.condconv import CondConv, CondLinear
from kdna_deploy.network.families.dcd import DCD, DCDClassifier
from kdna_deploy.network.families.dyconv import DYConv
from kdna_deploy.network.families.eca import ECA
from kdna_deploy.network.families.fdconv import FDConv
from kdna_deploy.network.families.fdconv_bands import BandModulation
from kdna_deploy.network.families.odconv import ODConv
from kdna_deploy.network.families.se import SE
from kdna_deploy.network.method import Place

State = dict[str, Tensor]
PLAIN = Place("plain", 6, 4, (3, 3), (1, 1), (1, 1))
STRIDED = Place("strided", 6, 9, (3, 3), (2, 2), (1, 1), groups=3)
DEPTHWISE = Place("depthwise", 6, 6, (3, 3), (2, 2), (1, 1), groups=6)
POINTWISE = Place("pointwise", 5, 8)
WIDE = Place("wide", 3, 7, (5, 1), (2, 1), (2, 0))
PLACES = [PLAIN, STRIDED, DEPTHWISE, POINTWISE, WIDE]


def trained(layer: nn.Module) -> nn.Module:
    """In float64, with statistics and gates that are not those of a fresh layer."""
    generator = torch.Generator().manual_seed(7)
    layer = layer.double().eval()
    for name, value in layer.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 1.5, generator=generator)
        elif value.is_floating_point() and not name.endswith("points"):
            value.normal_(0, 0.6, generator=generator)
    return layer


def images(channels: int, size: tuple[int, int] = (11, 7)) -> Tensor:
    return torch.randn(3, channels, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def close(got: Tensor, expected: Tensor) -> bool:
    return got.shape == expected.shape and bool((got - expected).abs().max() <= 1e-11 * expected.abs().max())


def norm(x: Tensor, state: State, name: str) -> Tensor:
    """BatchNorm, over axis 0 of `x`, an image or a vector."""
    names = ("weight", "bias", "running_mean", "running_var")
    weight, bias, mean, var = (state[f"{name}.{entry}"].reshape(-1, *[1] * (x.dim() - 1)) for entry in names)
    return (x - mean) / (var + 1e-5).sqrt() * weight + bias


def dense(x: Tensor, state: State, name: str) -> Tensor:
    """A linear layer, or a 1×1 convolution, of a vector."""
    bias = state.get(f"{name}.bias")
    product = state[f"{name}.weight"].flatten(1) @ x
    return product if bias is None else product + bias


def convolved(x: Tensor, kernel: Tensor, place: Place) -> Tensor:
    return F.conv2d(x[None], kernel, None, place.stride, place.padding, 1, place.groups)[0]


def odconv(x: Tensor, state: State, place: Place) -> Tensor:
    z = norm(dense(x.mean((1, 2)), state, "attention.fc"), state, "attention.bn").relu()
    kernels = state["weight"]
    mixture = torch.ones(1, dtype=torch.float64)
    if "attention.kernel_fc.weight" in state:
        mixture = dense(z, state, "attention.kernel_fc").softmax(0)
    kernel = sum(share * one for share, one in zip(mixture, kernels, strict=True))
    if "attention.spatial_fc.weight" in state:
        kernel = kernel * dense(z, state, "attention.spatial_fc").sigmoid().reshape(place.kernel)
    out = convolved(x * dense(z, state, "attention.channel_fc").sigmoid()[:, None, None], kernel, place)
    if "attention.filter_fc.weight" in state:
        out = out * dense(z, state, "attention.filter_fc").sigmoid()[:, None, None]
    return out


@pytest.mark.parametrize("kernels", [1, 4])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_odconv(place: Place, kernels: int) -> None:
    layer, x = trained(ODConv(place, kernels)), images(place.c_in)
    assert ("attention.filter_fc.weight" in layer.state_dict()) == (place is not DEPTHWISE)
    assert ("attention.spatial_fc.weight" in layer.state_dict()) == (place is not POINTWISE)
    assert close(layer(x), torch.stack([odconv(one, layer.state_dict(), place) for one in x]))


@pytest.mark.parametrize("temperature", [1, 34])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_dyconv(place: Place, temperature: float) -> None:
    layer, x = trained(DYConv(place, 3, temperature)), images(place.c_in)
    state, expected = layer.state_dict(), []
    for one in x:
        logits = dense(dense(one.mean((1, 2)), state, "attention.fc1").relu(), state, "attention.fc2")
        mixture = (logits / temperature).softmax(0)
        expected.append(convolved(one, torch.einsum("k,koihw->oihw", mixture, state["weight"]), place))
    assert close(layer(x), torch.stack(expected))


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_condconv(place: Place) -> None:
    layer, x = trained(CondConv(place, 3)), images(place.c_in)
    coefficients = torch.rand(3, 3, dtype=torch.float64)
    bank = layer.state_dict()["weight"].reshape(3, place.c_out, -1, *place.kernel)
    kernels = torch.einsum("nk,koihw->noihw", coefficients, bank)
    expected = torch.stack([convolved(one, kernel, place) for one, kernel in zip(x, kernels, strict=True)])
    assert close(layer(x, coefficients), expected)


def test_condconvs_classifier() -> None:
    layer, x = trained(CondLinear(Place("fc", 6, 5, bias=True, linear=True), 3)), images(6).mean((2, 3))
    state, expected = layer.state_dict(), []
    for one in x:
        share = dense(one, state, "routing_fn").sigmoid()
        weight = torch.einsum("k,kf->f", share, state["weight"]).reshape(5, 6)
        expected.append(weight @ one + share @ state["bias"])
    assert close(layer(x), torch.stack(expected))


def test_se() -> None:
    layer, x = trained(SE(6, 2)), images(6)
    state = layer.state_dict()
    gates = [dense(dense(one.mean((1, 2)), state, "fc.0").relu(), state, "fc.2").sigmoid() for one in x]
    assert close(layer(x), x * torch.stack(gates)[:, :, None, None])


@pytest.mark.parametrize("length", [3, 5])
def test_eca(length: int) -> None:
    layer, x = trained(ECA(length)), images(6)
    (weight,) = (tensor.flatten().tolist() for tensor in layer.state_dict().values())
    means = np.pad(x.mean((2, 3)).numpy(), ((0, 0), (length // 2, length // 2)))
    logits = sum(w * means[:, i : i + 6] for i, w in enumerate(weight))
    assert close(layer(x), x * torch.sigmoid(torch.from_numpy(logits))[:, :, None, None])


def test_cbam() -> None:
    layer, x = trained(CBAM(6, 2)), images(6)
    state, expected = layer.state_dict(), []
    for one in x:
        squeezed = (one.mean((1, 2)), one.amax((1, 2)))
        layers = ("ChannelGate.mlp.1", "ChannelGate.mlp.3")
        gates = [dense(dense(means, state, layers[0]).relu(), state, layers[1]) for means in squeezed]
        one = one * (gates[0] + gates[1]).sigmoid()[:, None, None]
        maps = torch.stack((one.amax(0), one.mean(0)))
        logits = F.conv2d(maps[None], state["SpatialGate.spatial.conv.weight"], padding=3)[0]
        expected.append(one * norm(logits, state, "SpatialGate.spatial.bn").sigmoid())
    assert close(layer(x), torch.stack(expected))


@pytest.mark.parametrize(
    "place", [Place("stem", 3, 8, (7, 7), (2, 2), (3, 3)), Place("groups", 32, 24, (3, 3), (2, 2), (1, 1))]
)
def test_cgc(place: Place) -> None:
    layer, x = trained(CGC(place)), images(place.c_in)
    state, expected = layer.state_dict(), []
    group = min(place.c_in, 16)
    for one in x:
        code = F.adaptive_avg_pool2d(one[None], place.kernel)[0].flatten(1) @ state["ce.weight"].T
        inputs = norm(code, state, "ce_bn").relu() @ state["gd.weight"].T
        parts = norm(code, state, "ci_bn2").relu().split(group)
        mixed = torch.cat([state["ci.weight"] @ part for part in parts])
        outputs = norm(mixed, state, "ci_bn").relu() @ state["gd2.weight"].T
        gate = (inputs[None] + outputs[:, None]).sigmoid().reshape(state["weight"].shape)
        expected.append(convolved(one, gate * state["weight"], place))
    assert close(layer(x), torch.stack(expected))


def hard(x: Tensor) -> Tensor:
    return (x + 3).clamp(0, 6) / 3


@pytest.mark.parametrize("pool", [1, 2])
def test_dcd(pool: int) -> None:
    place = Place("", 6, 9, (3, 3), (2, 2), (1, 1))
    layer, x = trained(DCD(place, pool)), images(6)
    state, expected = layer.state_dict(), []
    for one in x:
        u = dense(F.adaptive_avg_pool2d(one[None], pool).flatten(), state, "fc.0")
        z = u * hard(dense(u, state, "fc.1.fc.0"))
        reduced = norm(convolved(one, state["q.weight"], replace(place, padding=(0, 0))), state, "bn1")
        phi = dense(z, state, "fc_phi").reshape(2 * pool, 2 * pool)
        latent = norm((phi @ reduced.flatten(1)).reshape(reduced.shape), state, "bn2") + reduced
        scaled = convolved(one, state["conv.weight"], place) * hard(dense(z, state, "fc_scale"))[:, None, None]
        expected.append(scaled + torch.einsum("od,dhw->ohw", state["p.weight"].flatten(1), latent))
    assert close(layer(x), torch.stack(expected))


def test_dcds_classifier() -> None:
    layer, x = trained(DCDClassifier(Place("fc", 6, 5, bias=True, linear=True))), images(6).mean((2, 3))
    state, expected = layer.state_dict(), []
    for one in x:
        u = dense(one, state, "fc.0")
        z = u * hard(dense(u, state, "fc.1.fc.0"))
        reduced = norm(dense(one, state, "cls_q"), state, "bn1")
        latent = norm(dense(z, state, "fc_phi").reshape(32, 32) @ reduced, state, "bn2") + reduced
        expected.append(hard(dense(z, state, "fc_scale")) * dense(one, state, "cls") + dense(latent, state, "cls_p"))
    assert close(layer(x), torch.stack(expected))


def as_published(x: Tensor, state: State) -> Tensor:
    """FDConv's band modulation by transforms and masks, as its code has it."""
    grid = torch.meshgrid(torch.fft.fftfreq(64), torch.fft.rfftfreq(64), indexing="ij")
    size = torch.stack(grid).abs().amax(0)
    parts, above = [], x
    for number, cut in enumerate((2, 4, 8)):
        mask = (size < 0.5 / cut + 1e-8).float()[None, None]
        mask = F.interpolate(mask, size=(x.shape[2], x.shape[3] // 2 + 1), mode="nearest")[0, 0].double()
        below = torch.fft.irfft2(torch.fft.rfft2(x) * mask, s=x.shape[2:])
        names = (f"freq_weight_conv_list.{number}.weight", f"freq_weight_conv_list.{number}.bias")
        gate = 2 * F.conv2d(x, *(state[name] for name in names), padding=1).sigmoid()
        parts.append(gate * (above - below))
        above = below
    return sum(parts, above)


@pytest.mark.parametrize("size", [(7, 7), (14, 14), (28, 28), (56, 56), (64, 64), (25, 38)], ids=str)
def test_band_modulation(size: tuple[int, int]) -> None:
    layer, x = trained(BandModulation(2)), images(2, size)
    assert close(layer(x), as_published(x, layer.state_dict()))


@pytest.mark.parametrize("kernels", [4, 10])  # as a bank, and transformed for each image
@pytest.mark.parametrize("kernel", [1, 3])
def test_fdconv(kernel: int, kernels: int) -> None:
    place = Place("", 18, 20, (kernel, kernel), (2, 2), (kernel // 2, kernel // 2))
    layer, x = trained(FDConv(place, kernels)), images(18)
    state, expected = layer.state_dict(), []
    for one in x:
        means = one.mean((1, 2))
        z = norm(dense(means, state, "KSM_Global.fc"), state, "KSM_Global.bn").relu() ** 2
        z = state["KSM_Global.relu.scale"] * z + state["KSM_Global.relu.bias"]
        gates = {
            name: 2 * dense(z, state, f"KSM_Global.{name}_fc").sigmoid() for name in ("channel", "filter", "kernel")
        }
        share = (gates["kernel"] / kernels)[layer.bands.long()]
        spectrum = torch.view_as_complex(state["dft_weight"][0]) * share * (9 * kernels)
        flat = torch.fft.irfft2(spectrum).reshape(20, kernel, 18, kernel)
        around = F.layer_norm(means, (18,), state["KSM_Local.norm.weight"], state["KSM_Local.norm.bias"])
        local = F.conv1d(around[None, None], state["KSM_Local.conv.weight"], padding=1)[0].reshape(
            20, kernel, kernel, 18
        )
        weight = flat.permute(0, 2, 1, 3) * 2 * local.permute(0, 3, 1, 2).sigmoid()
        if kernel > 1:
            weight = weight * 2 * dense(z, state, "KSM_Global.spatial_fc").sigmoid().reshape(kernel, kernel)
            fbm = {name.removeprefix("FBM."): value for name, value in state.items() if name.startswith("FBM.")}
            one = as_published(one[None], fbm)[0]
        out = convolved(one * gates["channel"][:, None, None], weight, place)
        expected.append(out * gates["filter"][:, None, None])
    assert close(layer(x), torch.stack(expected))


def test_fdconvs_bands_are_equal_parts_of_the_frequencies_by_their_size() -> None:
    bands = FDConv(Place("", 32, 24, (3, 3)), 4).bands
    assert bands.shape == (72, 49)
    assert [int((bands == i).sum()) for i in range(4)] == [72 * 49 // 4] * 4
    rows, columns = np.meshgrid(np.fft.fftfreq(72), np.fft.rfftfreq(96), indexing="ij")
    size = np.hypot(rows, columns)
    for i in range(3):
        assert size[bands.numpy() == i].max() <= size[bands.numpy() == i + 1].min() + 1e-6


def seen_at(x: Tensor, place: Place, points: Tensor | None, i: int, outputs: tuple[int, int]) -> list[tuple[int, int]]:
    """The positions of base kernel `i`, of a map of `outputs`."""
    if points is None:
        return [(y, z) for y in range(outputs[0]) for z in range(outputs[1])]
    return [(int(y * outputs[0]), int(z * outputs[1])) for y, z in points[i].tolist()]


def by_output(x: Tensor, state: State, place: Place, i: int) -> Tensor:
    """p̄_i of the feature map of base kernel `i`, computed in full."""
    feature = convolved(x, state["weight"][i], place)
    positions = seen_at(x, place, state.get("points"), i, (feature.shape[1], feature.shape[2]))
    return torch.stack([feature[:, y, z] for y, z in positions]).mean(0)


def by_input(x: Tensor, state: State, place: Place, i: int) -> Tensor:
    positions = seen_at(x, place, state.get("points"), i, (x.shape[1], x.shape[2]))
    return torch.stack([x[:, y, z] for y, z in positions]).mean(0)


@pytest.mark.parametrize("points", [0, 10])
@pytest.mark.parametrize(("routing", "mean"), [("output", by_output), ("input", by_input)])
@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_a2d2c(place: Place, routing: str, mean: Callable[..., Tensor], points: int) -> None:
    layer, x = trained(A2D2C(place, 3, routing, points)), images(place.c_in)  # type: ignore[arg-type]
    state, expected = layer.state_dict(), []
    for one in x:
        logits = torch.cat([dense(mean(one, state, place, i), state, "router") for i in range(3)])
        features = torch.stack([convolved(one, kernel, place) for kernel in state["weight"]])
        expected.append(torch.einsum("k,kohw->ohw", logits.softmax(0), features))  # eq. 8, literally
    assert close(layer(x), torch.stack(expected))


def test_a2d2c_routed_by_all_of_the_input_is_a_static_convolution() -> None:
    layer, x = trained(A2D2C(PLAIN, 4, "input")), images(PLAIN.c_in)
    assert close(layer(x), F.conv2d(x, layer.state_dict()["weight"].mean(0), padding=1))


class Answering(nn.Module):
    """A layer, and the means of its maps as logits."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).mean((2, 3))


STRIDED_BY_TWO = Place("conv", 32, 32, (3, 3), (2, 2), (1, 1))
CAPTURED = {
    "ODConv": ODConv(STRIDED_BY_TWO, 4),
    "ODConv with one kernel": ODConv(STRIDED_BY_TWO, 1),
    "DY-Conv": DYConv(STRIDED_BY_TWO),
    "SE": SE(32, 16),
    "CBAM": CBAM(32, 16),
    "ECA": ECA(3),
    "CGC": CGC(STRIDED_BY_TWO),
    "DCD": DCD(STRIDED_BY_TWO, 2),
    "FDConv": FDConv(STRIDED_BY_TWO, 4),
    "A2D2C": A2D2C(STRIDED_BY_TWO),
    "A2D2C at points": A2D2C(STRIDED_BY_TWO, points=5),
}


@pytest.mark.parametrize("name", CAPTURED)
def test_a_layer_is_captured_for_any_number_of_images_in_one_go(name: str) -> None:
    network = Answering(CAPTURED[name]).eval()
    graph = program_graph(export_program(network, (32, 9, 7)), (32, 9, 7))
    assert functionalise(graph.module)  # without a trace more, which takes four times as long
    for batch in (1, 2, 5):
        x = torch.randn(batch, 32, 9, 7)
        with torch.no_grad():
            torch.testing.assert_close(graph(x), network(x), rtol=1e-4, atol=1e-5)
