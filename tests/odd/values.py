"""Where numbers come from: constants that are no buffers or are made in forward, attributes that cannot be copied."""

from __future__ import annotations

import functools
import math
import threading
import types
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.odd.case import WIDTH, Case, Small, Written, whole, written


def _normalise(m: Written, x: Tensor) -> Tensor:
    return m.end(m.begin((x - m.mean_values) / m.deviations))


def _blur(m: Written, x: Tensor) -> Tensor:
    return F.conv2d(x, m.kernel.expand(WIDTH, 1, 3, 3), padding=1, groups=WIDTH)


def _coordinates(m: Written, x: Tensor) -> Tensor:
    rows = torch.linspace(-1, 1, x.shape[2], device=x.device).view(1, 1, -1, 1).expand(x.shape[0], 1, -1, x.shape[3])
    columns = torch.linspace(-1, 1, x.shape[3], device=x.device).view(1, 1, 1, -1).expand_as(rows)
    return m.mix(torch.cat([x, rows, columns], 1))


def _mesh(m: Written, x: Tensor) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij")
    return x * torch.exp(-((rows - 4.0) ** 2 + (columns - 5.0) ** 2) / 20)


def _positions(m: Written, x: Tensor) -> Tensor:
    tokens = x.flatten(2).transpose(1, 2)
    tokens = tokens + m.table(torch.arange(tokens.shape[1], device=x.device))
    return tokens.transpose(1, 2).reshape(x.shape)


def _causal(m: Written, x: Tensor) -> Tensor:
    scores = x.flatten(2) @ x.flatten(2).transpose(1, 2)
    mask = torch.triu(torch.ones(WIDTH, WIDTH, dtype=torch.bool), 1)
    return (scores.masked_fill(mask, float("-inf")).softmax(-1) @ x.flatten(2)).view_as(x)


def _made(m: Written, x: Tensor) -> Tensor:
    x = torch.einsum("oc,nchw->nohw", torch.eye(WIDTH) + 0.1, x) * torch.arange(12) / 12.0
    x = x + torch.full((1, WIDTH, 1, 1), 0.5) + torch.zeros_like(x) + x.new_ones(1) + x.new_tensor([0.25])
    return x * torch.logspace(0, 1, 12) * torch.hann_window(12) * torch.cos(torch.arange(12) * math.pi / 12)


class NonLeaf(Small):
    """Keeps a tensor that is computed from a parameter, as old `weight_norm` does: deepcopy refuses it."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.rand(1, WIDTH, 1, 1) + 0.5)
        self.doubled = self.scale * 2

    def middle(self, x: Tensor) -> Tensor:
        self.doubled = self.scale * 2
        return x * self.doubled


class Uncopyable(Small):
    def __deepcopy__(self, memo: dict[int, Any]) -> Uncopyable:
        raise TypeError("this network is one of a kind")


class Slotted:
    """An attribute that can be neither copied nor pickled."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def __reduce_ex__(self, protocol: Any) -> str:
        raise TypeError("cannot pickle this")


class Property(Small):
    @property
    def strength(self) -> float:
        return math.sqrt(2) * self.stem.kernel_size[0]

    def middle(self, x: Tensor) -> Tensor:
        return x * self.strength


class Forwarding(Small):
    """Finds its layers through `__getattr__`, as wrappers do."""

    def __init__(self) -> None:
        super().__init__()
        self.wrapped = nn.ModuleDict({"mix": nn.Conv2d(WIDTH, WIDTH, 1)})

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return super().__getattr__("wrapped")[name]

    def middle(self, x: Tensor) -> Tensor:
        return self.mix(x)


class Parent(Small):
    """Knows its owner, in a list so that it is no submodule: a cycle."""

    def __init__(self) -> None:
        super().__init__()
        self.inner.owner = [self]


class Counter(Small):
    """Counts its calls in a buffer, which the result does not depend on."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def middle(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x


class Remembering(Small):
    """Its result depends on the calls before."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("memory", torch.ones(1, WIDTH, 1, 1))

    def middle(self, x: Tensor) -> Tensor:
        self.memory.add_(0.5)
        return x * self.memory


class Feature(Small):
    """Leaves a feature map of the last images behind as a plain attribute."""

    def middle(self, x: Tensor) -> Tensor:
        self.last = x
        return x


class Hooked(Small):
    def __init__(self) -> None:
        super().__init__()
        self.stem.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
        self.norm.register_forward_hook(lambda module, args, out: out + 0.25)


class Replaced(Small):
    """The forward of one layer is replaced on the instance."""

    def __init__(self) -> None:
        super().__init__()
        self.stem.forward = types.MethodType(
            lambda stem, x: stem._conv_forward(x, stem.weight.tanh(), stem.bias), self.stem
        )


def _generator() -> Iterator[int]:
    yield 1


TABLE = {
    "plain_tensors": whole(
        _normalise,
        mean_values=lambda: torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1),
        deviations=lambda: torch.tensor([0.2, 0.3, 0.4]).view(1, 3, 1, 1),
    ),
    "numpy_mean": whole(
        lambda m, x: m.end(m.begin(x - torch.from_numpy(m.mean_values))),
        mean_values=lambda: np.array([0.4, 0.5, 0.6], np.float32).reshape(1, 3, 1, 1),
    ),
    "numpy_kernel": written(
        lambda m, x: F.conv2d(x, torch.from_numpy(m.kernel), padding=1, groups=WIDTH),
        kernel=lambda: np.linspace(0, 1, WIDTH * 9, dtype=np.float32).reshape(WIDTH, 1, 3, 3),
    ),
    "numpy_scalar": written(lambda m, x: x * np.float32(1.5) + np.float64(0.5)),
    "plain_kernel": written(_blur, kernel=lambda: torch.full((1, 1, 3, 3), 1 / 9)),
    "list_of_tensors": written(
        lambda m, x: x * m.pair[0] + m.pair[1], pair=lambda: [torch.linspace(1, 2, WIDTH).view(-1, 1, 1), torch.ones(1)]
    ),
    "literal_in_forward": written(lambda m, x: x * torch.tensor([1.0, -1.0] * 4).view(1, -1, 1, 1)),
    "linspace": written(_coordinates, mix=lambda: nn.Conv2d(WIDTH + 2, WIDTH, 1)),
    "meshgrid": written(_mesh),
    "position_embedding": written(_positions, table=lambda: nn.Embedding(120, WIDTH)),
    "causal_mask": written(_causal),
    "made_in_forward": written(_made),
    "index_list": written(lambda m, x: x[:, m.order], order=lambda: [3, 1, 0, 2, 7, 6, 5, 4]),
    "index_tensor": written(
        lambda m, x: x.index_select(1, m.order), order=lambda: torch.randperm(WIDTH).sort()[0].flip(0)
    ),
    "non_persistent_buffer": Case(lambda: _with_buffer()),
    "zero_d_parameter": written(lambda m, x: x / m.temperature, temperature=lambda: nn.Parameter(torch.tensor(0.7))),
    "parameter_as_number": written(
        lambda m, x: x * float(m.scale), "depends on the values", scale=lambda: nn.Parameter(torch.tensor(1.5))
    ),
    "parameter_item": written(
        lambda m, x: x * m.scale.item(), "depends on the values", scale=lambda: nn.Parameter(torch.tensor(1.5))
    ),
    "empty_parameter": written(lambda m, x: x + m.nothing.sum(), nothing=lambda: nn.Parameter(torch.empty(0))),
    "non_leaf": Case(NonLeaf),
    "uncopyable": Case(Uncopyable),
    "uncopyable_attributes": written(
        lambda m, x: x,
        lock=threading.Lock,
        stream=_generator,
        source=torch.Generator,
        thing=Slotted,
        log=lambda: open(__file__),  # noqa: PTH123, SIM115
        local=threading.local,
        functions=lambda: F,
        owner=lambda: weakref.ref(Case),
    ),
    "lambda_attribute": written(lambda m, x: m.activate(x), activate=lambda: lambda x: F.silu(x)),
    "partial_attribute": written(
        lambda m, x: m.activate(x), activate=lambda: functools.partial(F.leaky_relu, negative_slope=0.3)
    ),
    "property": Case(Property),
    "getattr": Case(Forwarding),
    "cycle": Case(Parent),
    "call_counter": Case(Counter),
    "remembering": Case(Remembering, refusal="changes its own state"),
    "last_feature": Case(Feature),
    "hooks": Case(Hooked),
    "replaced_forward": Case(Replaced),
}


def _with_buffer() -> nn.Module:
    network = Written(lambda m, x: x * m.window)
    network.register_buffer("window", torch.linspace(0, 1, 12), persistent=False)
    return network


def __getattr__(name: str) -> Any:
    """The factory of a case, by its name."""
    if name not in TABLE:
        raise AttributeError(name)
    return TABLE[name].build
