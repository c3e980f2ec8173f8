"""LiteRT on the CPU, from its own file (``.tflite``). Optional: ``pip install 'kdna-deploy[litert]'``.

Computes with XNNPACK's kernels, to which its interpreter hands all that they can do; float32 in float32.

Another batch size than the last lays out its memory anew, and packs its weights again. Does not apply to inferences at
once: a session does one after another.
"""

from __future__ import annotations

import importlib.metadata
import threading
from collections.abc import Mapping
from pathlib import Path

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.images.interface import PLAIN
from kdna_deploy.network.stages import are_stages
from kdna_deploy.runtimes.litert_file import read_litert
from kdna_deploy.runtimes.native_messages import without_native_messages
from kdna_deploy.runtimes.session import Closing, logits_of

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError as error:
    raise RuntimeFailure("LiteRT is not installed; run: pip install 'kdna-deploy[litert]'.") from error

_AXES = 4


class LiteRtSession(Closing):
    """A `Session` over a LiteRT file.

    Raises:
        ArtifactError: LiteRT cannot read the file.
    """

    def __init__(self, path: Path, threads: int | None = None, name: str | None = None) -> None:
        made = read_litert(path, whole=False).provenance
        try:
            with without_native_messages():  # a line when a process opens a file for the first time
                self._interpreter = Interpreter(str(path), num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ArtifactError(f"LiteRT cannot open '{path}': {_cause(error)}; export it again.") from error
        self.interface = made.interface(path) if made else PLAIN
        taken, returned = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        names = tuple(output["name"] for output in returned)
        self.stage_names = names if are_stages(names) else ()
        several = len(returned) != (len(self.stage_names) or self.interface.outputs)
        if len(taken) != 1 or several or len(taken[0]["shape"]) != _AXES:
            raise ArtifactError(f"'{path}' does not map one image batch [n, c, h, w] to one output.")
        self._takes, self._returns = taken[0], [output["index"] for output in returned]
        self._laid_out: tuple[int, ...] = tuple(map(int, self._takes["shape"]))
        self._alone = threading.Lock()
        self.name = name or path.name
        self.runtime = f"LiteRT {importlib.metadata.version('ai-edge-litert')}"
        self.options: Mapping[str, str | int] = {"num_threads": threads or 1}
        batch, first, second, last = map(int, self._takes["shape_signature"])
        self.batch = batch if batch > 0 else None
        self.image_shape = self.interface.image_shape((first, second, last)) if min(first, second, last) > 0 else None

    def run(self, images: Images) -> Images:
        return logits_of(self, images)

    def run_all(self, images: Images) -> Answers:
        self._check_open()
        given = self.interface.taken(images)
        if self._misfits(given.shape) or given.dtype != self._takes["dtype"]:
            raise InputError(f"{self.name} cannot run on {images.shape}: it takes {self._sizes()}.")
        with self._alone:
            try:
                self._lay_out(given.shape)
                self._interpreter.set_tensor(self._takes["index"], given)
                self._interpreter.invoke()
                return self.interface.returned([self._interpreter.get_tensor(index) for index in self._returns])
            except (RuntimeError, ValueError) as error:
                raise InputError(f"{self.name} cannot run on {images.shape}: {_cause(error)}.") from error

    def _lay_out(self, shape: tuple[int, ...]) -> None:
        """Give every map its memory; where that fails, none has any, not even for the shape before."""
        if shape == self._laid_out:
            return
        self._laid_out = ()
        self._interpreter.resize_tensor_input(self._takes["index"], shape)
        self._interpreter.allocate_tensors()
        self._laid_out = shape

    def _misfits(self, shape: tuple[int, ...]) -> bool:
        """Whether a batch is not of the file's sizes; LiteRT itself would compute with another."""
        signature = self._takes["shape_signature"]
        sizes = zip(shape, signature, strict=False)
        return len(shape) != _AXES or 0 in shape or any(size != own for size, own in sizes if own > 0)

    def _sizes(self) -> str:
        return str([int(size) if size > 0 else "n" for size in self._takes["shape_signature"]]).replace("'", "")

    def _release(self) -> None:
        del self._interpreter


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")[:200]
