"""MNN on the CPU, from its own file. Optional: ``pip install 'kdna-deploy[mnn]'``.

It is asked for its high precision, which is float32: with less it computes in half precision, or bfloat16, on
processors that have instructions for it. And it is held to the smaller of its Winograd kernels: with the larger ones,
which it takes by itself, the logits of a ResNet-18 are a hundred times as far from the network's (3.8e-3 in place of
2e-5), and no sooner there.

Does not apply to files that do not record which images they take, and by which names they take and return them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.network.stages import LOGITS
from kdna_deploy.runtimes.mnn_file import read_mnn
from kdna_deploy.runtimes.session import Closing, logits_of, require_shape

try:
    from kdna_deploy.runtimes.mnn_library import MNN, WINOGRAD, quiet
except ImportError as error:
    raise RuntimeFailure("MNN is not installed; run: pip install 'kdna-deploy[mnn]'.") from error

_INPUT = "input"  # as in the ONNX file that it was converted from


class MnnSession(Closing):
    """A `Session` over an MNN file of ours.

    Raises:
        ArtifactError: MNN cannot open the file, or it does not record which images it takes.
    """

    def __init__(self, path: Path, threads: int | None = None, name: str | None = None) -> None:
        made = read_mnn(path, whole=False).provenance
        if made is None:
            raise ArtifactError(f"'{path}' does not record which images it takes; write one with `export`.")
        self.stage_names = made.stage_names
        config: dict[str, str | int] = {"backend": "CPU", "precision": "high", "numThread": threads or 1}
        self.options: Mapping[str, str | int] = {**config, "WINOGRAD_MEMORY_LEVEL": WINOGRAD[1]}
        outputs = list(self.stage_names or (LOGITS,))
        try:
            with quiet():
                self._manager = MNN.nn.create_runtime_manager((config,))
                self._manager.set_hint(*WINOGRAD)
                self._module = MNN.nn.load_module_from_file(str(path), [_INPUT], outputs, runtime_manager=self._manager)
        except SystemError as error:  # of Python, since MNN returns nothing
            raise ArtifactError(f"'{path}' is no MNN file, or a damaged one; export it again.") from error
        self.name = name or path.name
        self.runtime = f"MNN {MNN.version()}"
        batch = made.options.get("batch")
        self.batch = batch if isinstance(batch, int) else None
        self.image_shape: tuple[int, int, int] | None = made.image_shape

    def run(self, images: Images) -> Images:
        return logits_of(self, images)

    def run_all(self, images: Images) -> Answers:
        self._check_open()
        require_shape(self, images)
        given = np.ascontiguousarray(images, np.float32)
        taken = MNN.expr.const(given, list(given.shape), MNN.expr.NCHW)
        found = self._module.forward([taken])
        if len(found) != (len(self.stage_names) or 1):
            raise InputError(f"{self.name} cannot run on {images.shape}: MNN fails.")
        # Copied: the next run overwrites them.
        return tuple(np.array(MNN.expr.convert(one, MNN.expr.NCHW).read()) for one in found)

    def _release(self) -> None:
        del self._module, self._manager
