"""Networks of the architecture table, fused once a process for equal weights, images and options.

    module of tests          pytestmark = pytest.mark.usefixtures("fused_once")
    samples                  `tests.samples`
    commands                 the fixture `cli_here`

The commands and benches of many tests begin with the same network, and fusing it is most of what they do. What fusing
makes is tested without this (tests/targets/test_fuse.py, tests/graph); nothing changes what it returns.

Where channel attention is frozen, they are traced once, and fused anew. Does not apply to networks of users, whose
weights do not tell what they compute.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from torch import nn

from kdna_deploy.graph.capture import capture
from kdna_deploy.graph.graph import Graph
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.targets.fuse import Fused, FuseOptions, fuse

_USERS = ("kdna_deploy.targets.source", "kdna_deploy.benchmark.untrained")
_FAMILIES = "kdna_deploy.network.families."
_MOST = 16  # networks that are held
T = TypeVar("T")


class FusedOnce:
    """Stands in for `fuse`."""

    def __init__(self) -> None:
        self._held: dict[Any, Fused] = {}
        self._traced: dict[Any, Graph] = {}

    def __call__(
        self,
        original: nn.Module,
        image_shape: tuple[int, int, int],
        options: FuseOptions | None = None,
        listener: Listener = SILENT,
        trace: Callable[[nn.Module, tuple[int, int, int]], Graph] = capture,
    ) -> Fused:
        options = options or FuseOptions()
        if not type(original).__module__.startswith(_FAMILIES):
            return fuse(original, image_shape, options, listener, trace)
        network = (type(original), digest(original), image_shape)

        def once(module: nn.Module, shape: tuple[int, int, int]) -> Graph:
            return _kept(self._traced, network, lambda: trace(module, shape)).clone()

        def fused() -> Fused:
            return fuse(original, image_shape, replace(options, proof="float64"), listener, once)

        keeps = options.attention.choice == "keep"
        return _kept(self._held, (*network, options.children), fused) if keeps else fused()


def _kept(held: dict[Any, T], key: Any, make: Callable[[], T]) -> T:
    """What is held for `key`, made where nothing is."""
    if key not in held:
        if len(held) >= _MOST:
            held.pop(next(iter(held)))
        held[key] = make()
    return held[key]


def digest(network: nn.Module) -> str:
    """Of names, shapes and values."""
    content = hashlib.sha256()
    for name, value in network.state_dict().items():
        content.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        content.update(value.detach().contiguous().numpy())
    return content.hexdigest()


@contextlib.contextmanager
def fusing_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in _USERS:
            patch.setattr(f"{module}.fuse", _fusions())
        yield


@functools.cache
def _fusions() -> FusedOnce:
    return FusedOnce()


@pytest.fixture(scope="module")
def fused_once() -> Iterator[None]:
    with fusing_once():
        yield


@pytest.fixture(scope="module")
def traced_once() -> Iterator[None]:
    """Networks are traced once for equal weights: for modules that load one network again and again."""
    traced: dict[Any, Graph] = {}

    def once(module: nn.Module, shape: tuple[int, int, int], known: bool = False) -> Graph:
        key = (type(module), digest(module), shape)
        if key not in traced:
            traced[key] = capture(module, shape, known)
        return traced[key].clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kdna_deploy.graph.capture.capture", once)
        yield
