"""Networks of the architecture table, fused once a process for equal weights, images and options.

    module of tests          pytestmark = pytest.mark.usefixtures("fused_once")
    a warm process           begins with the sample network fused (`tests.warm_process`)

The commands and benches of many tests begin with the same network, and fusing it is most of what they do. What fusing
makes is tested without this (tests/targets/test_fuse.py, tests/graph); nothing changes what it returns.

Does not apply to networks of users, whose weights do not tell what they compute, and where channel attention is frozen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn

from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.targets.fuse import Fused, FuseOptions, fuse

_USERS = ("kdna_deploy.targets.source", "kdna_deploy.benchmark.subject")
_FAMILIES = "kdna_deploy.network.families."
_MOST = 16  # networks that are held


class FusedOnce:
    """Stands in for `fuse`."""

    def __init__(self) -> None:
        self._held: dict[Any, Fused] = {}

    def __call__(
        self,
        original: nn.Module,
        image_shape: tuple[int, int, int],
        options: FuseOptions | None = None,
        listener: Listener = SILENT,
    ) -> Fused:
        options = options or FuseOptions()
        if options.attention.choice != "keep" or not type(original).__module__.startswith(_FAMILIES):
            return fuse(original, image_shape, options, listener)
        key = (type(original), _digest(original), image_shape, options.children)
        if key not in self._held:
            if len(self._held) >= _MOST:
                self._held.pop(next(iter(self._held)))
            self._held[key] = fuse(original, image_shape, options, listener)
        return self._held[key]


def _digest(network: nn.Module) -> str:
    """Of names, shapes and values."""
    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().contiguous().numpy())
    return digest.hexdigest()


def stand_in(patch: pytest.MonkeyPatch, once: FusedOnce) -> None:
    for module in _USERS:
        patch.setattr(f"{module}.fuse", once)


@pytest.fixture(scope="session")
def fusions() -> FusedOnce:
    return FusedOnce()


@pytest.fixture(scope="module")
def fused_once(fusions: FusedOnce) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        stand_in(patch, fusions)
        yield
