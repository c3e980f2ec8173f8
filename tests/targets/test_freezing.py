"""Frozen networks are right against networks whose gates are constants, or a line says why a gate was not frozen."""

from __future__ import annotations

import copy
import functools
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console, RenderableType
from torch import Tensor, fx, nn

from kdna_deploy.errors import InputError, ParityError
from kdna_deploy.evaluation.output_change import measure_change
from kdna_deploy.graph.freezing import AttentionOptions, ConstantGates, plan_freezing
from kdna_deploy.graph.gates import channel_attentions
from kdna_deploy.graph.graph import Graph, cast_floats
from kdna_deploy.graph.ledger import graph_storage
from kdna_deploy.graph.passes import Children, Pass, PassResult
from kdna_deploy.graph.passes.freeze_attention import freeze_attention
from kdna_deploy.progress import SILENT
from kdna_deploy.reports.attention import attention_data, attention_parts
from kdna_deploy.reports.fuse import fuse_report
from kdna_deploy.reports.report import Report
from kdna_deploy.reports.terminal import rendered
from kdna_deploy.targets import fuse as fusion
from kdna_deploy.targets.fuse import Fused, FuseOptions, fuse
from kdna_deploy.targets.source import FusedSource, Request, fuse_checkpoint
from tests.attentions import KINDS, SHAPE, Network
from tests.attentions import fused as fused_kind
from tests.gated import Gated, folded
from tests.samples import fused_sample

# Single-precision rounding in a dozen layers, of the largest difference between the logits of two images.
ROUNDING = 3e-5


def images(count: int, seed: int = 0) -> Tensor:
    """Images of different brightness and contrast, so that gates move."""
    generator = torch.Generator().manual_seed(seed)
    contrast, brightness = torch.rand(2, count, 1, 1, 1, generator=generator)
    return torch.randn(count, *SHAPE, generator=generator) * (0.5 + contrast) + 2 * brightness


def options(choice: str, pictures: Tensor | None = None) -> FuseOptions:
    batches = None if pictures is None else lambda: [pictures[:5].numpy(), pictures[5:].numpy()]
    return FuseOptions(attention=AttentionOptions(choice, batches))  # type: ignore[arg-type]


@functools.cache
def frozen(name: str) -> Fused:
    """A kind of network with its gates frozen to their means over twelve images."""
    return fused_kind(name, options("freeze", images(12)))


def with_constants(name: str, constants: list[Tensor | None]) -> Network:
    network = KINDS[name].network()
    network.constants = constants
    return network.double()


def departure(fused: Fused, expected: nn.Module) -> float:
    """Largest difference between the logits, relative to how far they move from image to image."""
    pictures = images(6, seed=1)
    with torch.no_grad():
        logits = expected(pictures.double())
    return float((fused.graph(pictures) - logits).abs().max() / (logits.max(0).values - logits.min(0).values).max())


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_gate_is_frozen_right_or_a_line_says_why_not(name: str) -> None:
    fused, expected = frozen(name), KINDS[name].frozen
    reasons = [reason for reason in expected if reason is not True]
    assert len(fused.freezing.gates) == len(expected) - len(reasons)
    assert [reason in refusal.reason for reason, refusal in zip(reasons, fused.freezing.refused, strict=True)] == [
        True
    ] * len(reasons)
    product = KINDS[name].product
    assert [product in left.reason for left in fused.freezing.unfolded] == [True] * (product is not None)
    means = iter(fused.freezing.gates.values())
    constants = [next(means) if kept is True else None for kept in expected]
    assert departure(fused, with_constants(name, constants)) <= ROUNDING
    assert fused.freezing.done == ("freeze" if True in expected else "keep")
    assert (fused.change is not None) == (True in expected)


@pytest.mark.parametrize("name", ["in front", "shared", "one number", "linear layers", "seen twice"])
def test_the_constant_is_the_mean_of_the_gate(name: str) -> None:
    network, seen = KINDS[name].network(), []
    layer = network.wide if name == "linear layers" else network.squeezes[0]
    layer.register_forward_hook(lambda _, __, out: seen.append(out.sigmoid() if layer is network.wide else out))
    network(images(12))
    for gate in frozen(name).freezing.gates.values():
        assert gate is not None
        torch.testing.assert_close(gate.flatten(), seen[0].flatten(1).double().mean(0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["behind", "behind ReLU, negative", "read twice", "shared", "one number"])
def test_dropping_puts_one_wherever_the_gate_is_told(name: str) -> None:
    """Even where a mean could not be folded: a factor of one goes nowhere."""
    fused = fused_kind(name, options("drop"))
    assert fused.freezing.refused == ()
    assert fused.channel_attentions == 0
    ones: list[Tensor | None] = [torch.ones(1), torch.ones(1)]
    assert departure(fused, with_constants(name, ones)) <= ROUNDING


def test_a_gate_that_cannot_be_told_is_neither_frozen_nor_dropped() -> None:
    fused = fused_kind("two features", options("drop"))
    assert fused.freezing.done == "keep"
    assert "neither operand is bounded" in fused.freezing.refused[0].reason
    assert departure(fused, KINDS["two features"].network().double()) <= ROUNDING


@pytest.mark.slow
def test_a_parent_stays_shared_when_a_gate_behind_a_child_is_frozen() -> None:
    class Behind(Gated):
        def forward(self, x: Tensor) -> Tensor:
            x = nn.functional.relu(self.stem(x))
            weight = self.parent.weight * (1 + self.filter[0])
            y = self.bns[0](nn.functional.conv2d(x, weight, self.bias, **self.options))
            return self.fc((self.bns[2](self.parent(x)) + y * self.gates[0](y)).mean((2, 3)))

    torch.manual_seed(0)
    choice = FuseOptions("share", AttentionOptions("freeze", lambda: [images(6).numpy()]))
    fused = fuse(Behind().eval(), SHAPE, choice)
    assert fused.freezing.done == "freeze"
    storage = graph_storage(fused.graph.module, "")
    assert (storage.kernels, storage.convolutions) == (2, 3), "the stem's, and one that two convolutions use"


@pytest.mark.slow
def test_a_network_in_training_mode_is_neither_run_in_it_nor_changed() -> None:
    """BatchNorm in training would take the batch's own statistics, and move its running ones."""
    network = KINDS["behind"].network()
    expected = frozen("behind").change
    network.train()
    before = copy.deepcopy(network.state_dict())
    fused = fuse(network, SHAPE, options("freeze", images(12)))
    assert fused.change == expected
    assert measure_change(fused.graph, network, [images(5).numpy(), images(7, 1).numpy()], SILENT) is not None
    assert network.training
    assert all(value.equal(before[name]) for name, value in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("factor", [1.001, -1.0])
def test_a_gate_that_is_folded_wrongly_is_caught(factor: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is verified against the frozen graph: were that wrong, nobody else would notice."""
    finishing = fusion.finishing

    def with_a_bug(children: Children, gates: Mapping[str, Tensor | None]) -> tuple[tuple[str, Pass], ...]:
        wrong = {name: gate if gate is None else gate * factor for name, gate in gates.items()}
        return finishing(children, wrong)

    monkeypatch.setattr(fusion, "finishing", with_a_bug)
    with pytest.raises(ParityError, match="frozen gates differs from one with constant gates"):
        fused_kind("in front", options("freeze", images(12)))


@pytest.mark.slow
def test_the_comparison_multiplies_by_the_constants_and_leaves_the_graph_as_it_is() -> None:
    graph = folded(KINDS["in front"].network())
    cast_floats(graph.module, torch.float32)
    (attention,) = channel_attentions(graph.module)
    constants: Mapping[str, Tensor | None] = {attention.name: torch.rand(8, 1, 1)}
    held = ConstantGates(graph, constants)
    expected = with_constants("in front", [constants[attention.name]])
    pictures = images(3)
    assert (held(pictures) - expected(pictures.double())).abs().max() < 1e-5
    assert (copy.deepcopy(held).double()(pictures.double()) - expected(pictures.double())).abs().max() < 1e-6
    assert len(channel_attentions(graph.module)) == 1


def test_a_second_freezing_changes_nothing() -> None:
    graph = folded(KINDS["only together"].network())
    gates = {a.name: torch.rand(8) for a in channel_attentions(graph.module)}
    assert freeze_attention(graph.module, gates).changed == 2
    assert freeze_attention(graph.module, gates) == PassResult(0)


def test_a_gate_is_frozen_beside_one_that_stays() -> None:
    """What the other reads keeps the first from being folded."""
    graph = folded(KINDS["only together"].network())
    first, second = channel_attentions(graph.module)
    result = freeze_attention(graph.module, {first.name: torch.rand(8)})
    assert result.changed == 1
    assert "something else reads the map in front of it" in result.refused[0].reason
    assert [left.name for left in channel_attentions(graph.module)] == [second.name]


def opened(name: str, folder: Path, choice: str = "freeze") -> FusedSource:
    """A user's checkpoint, fused as a command does it."""
    checkpoint = folder / "mine.pth"
    torch.save(KINDS[name].network().state_dict(), checkpoint)
    attention = AttentionOptions(choice, lambda: [images(12).numpy()], record={"images": "mine"})  # type: ignore[arg-type]
    factory = f"tests.attentions:{name.replace(' ', '_')}"
    return fuse_checkpoint(checkpoint, Request(factory=factory, size=SHAPE[1:], attention=lambda *_: attention))


def text(report: RenderableType) -> str:
    console = Console(width=200, file=io.StringIO())
    console.print(report)
    return console.file.getvalue()  # type: ignore[attr-defined]


def told(fused: Fused) -> str:
    """What `fuse` prints of it; where it comes from does not matter."""
    sample = fused_sample()
    return text(rendered(fuse_report(FusedSource(fused.graph, sample.network, sample.provenance, fused), None)))


REASON = (
    "both operands are of a size and neither operand is bounded as a gate is, so that the gate cannot be told from "
    "the map"
)


@pytest.mark.slow
def test_where_nothing_could_be_frozen_everything_says_so(tmp_path: Path) -> None:
    source = opened("two features", tmp_path)
    assert source.fused is not None
    made = source.provenance.options
    assert made["channel_attention"] == "keep"
    assert not {"gates_kept", "calibration"} & set(made), "the provenance of a network whose attention is kept"
    (refusal,) = source.fused.freezing.refused
    assert source.reference.name == "original network"
    for report in (fuse_report(source, None), Report(attention_parts(source.fused), {})):
        lines = [" ".join(line.split()) for line in text(rendered(report)).splitlines()]
        assert [line for line in lines if line.startswith("not frozen")] == [f"not frozen {refusal.site}: {REASON}"]
        assert any(line.startswith("nothing frozen") for line in lines)
        assert not any("NOT equivalent" in line for line in lines)
    data = attention_data(source.fused)
    assert (data["channel_attention"], data["channel_attention_asked"], data["equivalent"]) == ("keep", "freeze", True)
    assert data["gates"] == []
    assert [gate["reason"] for gate in data["gates_kept"]] == [REASON]


@pytest.mark.slow
def test_what_was_frozen_and_what_was_not_are_told_apart(tmp_path: Path) -> None:
    source = opened("one that can be told", tmp_path)
    assert source.fused is not None
    made = source.provenance.options
    assert made["channel_attention"] == "freeze"
    assert [gate["reason"] for gate in made["gates_kept"]] == [source.fused.freezing.refused[0].reason]
    assert made["calibration"]["count"] == 12
    assert source.provenance.channel_attentions == 0
    assert source.reference.name == "fused graph with attention frozen"
    report = text(rendered(Report(attention_parts(source.fused), {})))
    assert report.count("not frozen") == 1
    assert "NOT equivalent" in report
    assert [gate["frozen"] for gate in attention_data(source.fused)["gates"]] == [True]


def test_a_network_without_gates_is_told_so() -> None:
    fused = fused_kind("activation", options("drop"))
    assert "no gate or kernel depends on the image; the network is as it was trained" in told(fused)
    assert "no gate or kernel depends on the image" in text(rendered(Report(attention_parts(fused), {})))


def test_gates_that_move_too_much_are_told_so() -> None:
    attention = AttentionOptions("freeze", lambda: [images(12).numpy()], below=1e-30)
    fused = fused_kind("in front", FuseOptions(attention=attention))
    assert fused.freezing.done == "keep"
    assert "every gate varies more than was allowed" in told(fused)


class _Matrix(nn.Module):
    """A map that a matrix multiplies which is made for each image, as in DCD."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.phi = nn.Conv2d(3, 4, 1), nn.Linear(4, 16)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        matrix = self.phi(y.mean((2, 3))).unflatten(1, (4, 4))
        return (matrix @ y.flatten(2)).mean(2)


def test_a_matrix_that_is_made_for_each_image_is_told() -> None:
    graph = folded(_Matrix())
    cast_floats(graph.module, torch.float32)
    planned = plan_freezing(graph, AttentionOptions("freeze", lambda: [images(4).numpy()]), SILENT)
    assert [one.reason.partition(",")[0] for one in planned.refused] == [
        "a matrix that is made for each image multiplies"
    ]


def test_of_random_images_no_class_is_told() -> None:
    fused = fused_kind("in front", options("drop"))
    assert fused.change is not None and (fused.change.images, fused.change.same_top1) == (8, None)
    report = " ".join(text(rendered(Report(attention_parts(fused), {}))).split())
    assert "over 8 random images" in report and "top-1 is the same" not in report


class _Overflowing(nn.Module):
    """A gate that is infinite where the image is bright, while the logits stay finite."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = (1e30 * x.mean((2, 3), keepdim=True)) ** 2
        return self.conv(x * gate).mean((2, 3)).clamp(-1, 1).nan_to_num()


@pytest.mark.slow
def test_gates_and_logits_that_are_not_finite_are_one_sentence() -> None:
    graph = folded(_Overflowing())
    cast_floats(graph.module, torch.float32)
    with pytest.raises(InputError, match=r"The gate of .* is NaN or infinite for the calibration images"):
        _plan(graph, images(4).numpy())
    small = folded(KINDS["in front"].network())
    cast_floats(small.module, torch.float32)
    with pytest.raises(InputError, match="make the network return NaN"):
        _plan(small, np.full((2, *SHAPE), np.nan, np.float32))
    with pytest.raises(InputError, match=r"cannot run on calibration images of shape \(2, 4, 9, 9\)"):
        _plan(small, np.zeros((2, 4, 9, 9), np.float32))


def _plan(graph: Graph, batch: np.ndarray) -> None:
    plan_freezing(graph, AttentionOptions("freeze", lambda: [batch]), SILENT)


def test_infinite_logits_are_equal_where_both_are() -> None:
    """As of a column that masks a class."""

    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = KINDS["in front"].network()

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat((self.network(x), torch.full_like(x[:, :1, 0, 0], -torch.inf)), 1)

    change = measure_change(Graph(fx.symbolic_trace(Masked()), SHAPE), Masked(), [images(4).numpy()], SILENT)
    assert (change.max_difference, change.same_top1) == (0.0, 4)
    assert np.isfinite(change.scale)


def test_what_nobody_asks_for_is_not_computed_in_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion.Remembered, "in_float64", lambda *_: pytest.fail("in float64"))
    choice = options("freeze", images(12))
    assert fused_kind("behind", FuseOptions(attention=choice.attention, proof="float32")).freezing.done == "freeze"
