"""PyTorch: the original module, or a fused graph, run eagerly.

The number of threads is one setting of the whole process: whoever measures sets it (`torch.set_num_threads`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from kdna_deploy.graph.graph import Graph
from kdna_deploy.images.batch import Images
from kdna_deploy.network.forward import forward
from kdna_deploy.runtimes.rounding import NoFloat64, in_float64, module_rounding, perturbed
from kdna_deploy.runtimes.session import Closing


class TorchSession(Closing):
    """A `Session` over anything that maps an image tensor to logits."""

    def __init__(
        self, module: Callable[[Tensor], Tensor], name: str, image_shape: tuple[int, int, int] | None = None
    ) -> None:
        self._module = module
        # The first observation mostly does, for images of every kind.
        self._moved = functools.lru_cache(maxsize=1)(perturbed)
        self.name = name
        self.runtime = f"PyTorch {torch.__version__}"
        self.batch: int | None = None
        self.image_shape = image_shape
        self.options: Mapping[str, str | int] = {"num_threads": torch.get_num_threads()}

    def run(self, images: Images) -> Images:
        self._check_open()
        return forward(self._module, torch.from_numpy(images)).numpy()

    def rounding(self, images: Images, outputs: Images, roundoff: float) -> Iterator[Images]:
        """How far rounding to `roundoff` moves the `outputs` for `images`, a few times over (`runtimes.rounding`)."""
        self._check_open()
        return module_rounding(self._layers, images, outputs, roundoff, self._moved)

    def in_float64(self, images: Images) -> Images | None:
        """Logits computed in float64; None where the network cannot run in it."""
        self._check_open()
        try:
            return in_float64(self._layers, torch.from_numpy(images)).numpy()
        except NoFloat64:
            return None

    @property
    def _layers(self) -> nn.Module:
        module = self._module.module if isinstance(self._module, Graph) else self._module
        assert isinstance(module, nn.Module)
        return module

    def _release(self) -> None:
        del self._module, self._moved
