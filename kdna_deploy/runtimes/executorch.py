"""ExecuTorch on the CPU, from its own file (``.pte``). Optional: ``pip install 'kdna-deploy[executorch]'``.

A program takes one image at a time. The package computes on PyTorch's tensors, so that PyTorch is there as well. The
number of threads is one setting of the process, that of the session that was opened last.

Does not apply to files that do not record which images they take.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.images.interface import PLAIN
from kdna_deploy.runtimes.executorch_file import read_executorch
from kdna_deploy.runtimes.native_messages import without_native_messages
from kdna_deploy.runtimes.session import Closing, logits_of, require_shape

try:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime
except ImportError as error:
    raise RuntimeFailure("ExecuTorch is not installed; run: pip install 'kdna-deploy[executorch]'.") from error


class ExecuTorchSession(Closing):
    """A `Session` over an ExecuTorch file of ours.

    Raises:
        ArtifactError: ExecuTorch cannot open the file, or it does not record which images it takes.
    """

    interface = PLAIN

    def __init__(self, path: Path, threads: int | None = None, name: str | None = None) -> None:
        made = read_executorch(path, whole=False)
        if made is None:
            raise ArtifactError(f"'{path}' does not record which images it takes; write one with `export`.")
        self.options: Mapping[str, str | int] = {"threads": threads or torch.get_num_threads()}
        try:
            with without_native_messages():  # of what it reads about the processor
                portable_lib._unsafe_reset_threadpool(self.options["threads"])
                self._method = Runtime.get().load_program(path).load_method("forward")
        except RuntimeError as error:
            raise ArtifactError(f"ExecuTorch cannot open '{path}': {_cause(error)}; export it again.") from error
        self.stage_names = made.stage_names
        self.name = name or path.name
        self.runtime = f"ExecuTorch {importlib.metadata.version('executorch')}"
        self.batch: int | None = None
        self.image_shape: tuple[int, int, int] | None = made.image_shape

    def run(self, images: Images) -> Images:
        return logits_of(self, images)

    def run_all(self, images: Images) -> Answers:
        self._check_open()
        require_shape(self, images)
        given = torch.from_numpy(np.ascontiguousarray(images, np.float32))
        try:
            # Copied: the next run overwrites them.
            answers = [[one.numpy().copy() for one in self._method.execute([image[None]])] for image in given]
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{self.name} cannot run on {images.shape}: {_cause(error)}.") from error
        return tuple(np.concatenate(one) for one in zip(*answers, strict=True))

    def _release(self) -> None:
        del self._method


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:200]
