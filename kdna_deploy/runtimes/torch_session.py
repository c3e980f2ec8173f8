"""PyTorch: the original module, or a fused graph, run eagerly.

The number of threads is one setting of the whole process: whoever measures sets it (`torch.set_num_threads`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from kdna_deploy.errors import InputError
from kdna_deploy.runtimes.session import Images


class TorchSession:
    """A `Session` over anything that maps an image tensor to logits."""

    def __init__(
        self, module: Callable[[Tensor], Tensor], name: str, image_shape: tuple[int, int, int] | None = None
    ) -> None:
        self._module = module
        self.name = name
        self.runtime = f"PyTorch {torch.__version__}"
        self.batch: int | None = None
        self.image_shape = image_shape
        self.options: Mapping[str, str | int] = {"num_threads": torch.get_num_threads()}

    def run(self, images: Images) -> Images:
        try:
            with torch.no_grad():
                return self._module(torch.from_numpy(images)).numpy()
        except Exception as error:  # a network may raise anything
            cause = next(iter(str(error).splitlines()), type(error).__name__)
            raise InputError(f"The network cannot run on images of shape {images.shape}: {cause}.") from error
