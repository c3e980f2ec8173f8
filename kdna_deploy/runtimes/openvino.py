"""OpenVINO on the CPU, from its own file (IR) or an ONNX file. Optional: ``pip install 'kdna-deploy[openvino]'``.

The precision is a hint: bfloat16 is used where the processor has instructions for it, and rounds to 8 bits of mantissa.

Its threading library notes the cores of a thread that enters it and puts those back when it leaves, which may be after
somebody has pinned that thread, and an inference moves the thread that calls it to the cores that the library saw when
it was first used. Opening, running and closing a session therefore leave the calling thread's cores as they were.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue
from typing import ClassVar, Literal

import numpy as np

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.images.interface import PLAIN
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.network.stages import are_stages
from kdna_deploy.runtimes.onnx_metadata import metadata, provenance_in_metadata
from kdna_deploy.runtimes.openvino_file import read_openvino
from kdna_deploy.runtimes.prepared import require_portable
from kdna_deploy.runtimes.session import Closing, logits_of

try:
    from kdna_deploy.runtimes.openvino_library import model_of_batch, openvino
except ImportError as error:
    raise RuntimeFailure("OpenVINO is not installed; run: pip install 'kdna-deploy[openvino]'.") from error

InferencePrecision = Literal["f32", "bf16"]  # as OpenVINO spells its hint


class OpenVinoSession(Closing):
    """A `Session` over an OpenVINO file or an ONNX file.

    `cache` is a folder in which OpenVINO keeps what it compiles, so that the next session opens several times faster;
    it tells by itself where a file, its own version or the processor has changed. With `streams`, so many threads may
    `run` at once, on as many threads of OpenVINO's in all as `threads` says: it is then asked for throughput. With
    `batch`, a file of any batch is compiled for that one alone, which is faster: maps then get their memory once.

    Raises:
        ArtifactError: OpenVINO cannot read or compile the file.
    """

    def __init__(
        self,
        path: Path,
        threads: int | None = None,
        name: str | None = None,
        precision: InferencePrecision = "f32",
        cache: Path | None = None,
        streams: int | None = None,
        batch: int | None = None,
    ) -> None:
        if not path.is_file():
            raise ArtifactError(f"There is no file '{path}'.")
        if named_kind(path) is Kind.openvino:
            made = read_openvino(path, weights=False).provenance
        else:
            require_portable(path, "OpenVINO opens")
            made = provenance_in_metadata(metadata(path), path)
        hints: dict[str, str | int] = {
            "PERFORMANCE_HINT": "LATENCY" if streams is None else "THROUGHPUT",
            "INFERENCE_PRECISION_HINT": precision,
            # The measuring process is pinned already; without this OpenVINO would choose cores of its own.
            "ENABLE_CPU_PINNING": "NO",
        }
        if threads is not None:
            hints["INFERENCE_NUM_THREADS"] = threads
        if streams is not None:
            hints["NUM_STREAMS"] = streams
        if cache is not None:
            hints["CACHE_DIR"] = str(cache)
        try:
            with _same_cores():
                core = openvino.Core()
                read = str(path) if batch is None else model_of_batch(core, str(path), batch)
                compiled = core.compile_model(read, "CPU", hints)
        except Exception as error:  # a RuntimeError of many kinds
            raise ArtifactError(f"OpenVINO cannot open '{path}': {_cause(error)}.") from error
        finally:
            _drop_signal_stack()
        self.interface = made.interface(path) if made else PLAIN
        names = tuple(min(output.get_names(), default="") for output in compiled.outputs)
        self.stage_names = names if are_stages(names) else ()
        several = len(compiled.outputs) != (len(self.stage_names) or self.interface.outputs)
        if len(compiled.inputs) != 1 or several or len(compiled.inputs[0].partial_shape) != 4:
            raise ArtifactError(f"'{path}' does not map one image batch [n, c, h, w] to one output.")
        # Two threads that hand over the first array of a process at once wait for each other forever.
        openvino.Tensor(np.zeros(1, np.float32))
        self._free: SimpleQueue[openvino.InferRequest] = SimpleQueue()
        for _ in range(streams or 1):
            self._free.put(compiled.create_infer_request())
        self.name = name or path.name
        self.runtime = f"OpenVINO {openvino.__version__.partition('-')[0]}"
        self.options: Mapping[str, str | int] = hints if batch is None else {**hints, "batch": batch}
        images, *image = compiled.inputs[0].partial_shape
        self.batch = images.get_length() if images.is_static else None
        first, second, last = (size.get_length() if size.is_static else None for size in image)
        self.image_shape = self.interface.image_shape((first, second, last)) if first and second and last else None

    def run(self, images: Images) -> Images:
        return logits_of(self, images)

    def run_all(self, images: Images) -> Answers:
        self._check_open()
        request, cores = self._free.get(), _cores()
        try:
            # The input is not copied, as ONNX Runtime does not either; the output is, for the next run overwrites it.
            found = request.infer([self.interface.taken(images)], share_inputs=True)
            return self.interface.returned(list(map(np.asarray, found.values())))
        except Exception as error:  # see above
            raise InputError(f"{self.name} cannot run on {images.shape}: {_cause(error)}.") from error
        finally:
            _put_back(cores)
            self._free.put(request)

    def _release(self) -> None:
        with _same_cores():
            del self._free  # and with them the model, which nothing else holds


@contextlib.contextmanager
def _same_cores() -> Iterator[None]:
    """Leave the calling thread on the cores that it is on, whatever the block does to them."""
    before = _cores()
    try:
        yield
    finally:
        _put_back(before)


def _cores() -> set[int]:
    """Those of the calling thread; none where the system does not tell."""
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _put_back(cores: set[int]) -> None:
    if cores and os.sched_getaffinity(0) != cores:
        os.sched_setaffinity(0, cores)


class _SignalStack(ctypes.Structure):
    """The kernel's ``stack_t``."""

    _fields_: ClassVar = [("sp", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t)]


def _drop_signal_stack() -> None:
    """Handle signals on the ordinary stack again.

    Compiling a model leaves the thread with an alternate signal stack of a few kilobytes, on which Python's handler for
    Ctrl-C does not always fit: the process would crash where the user wanted to interrupt it.
    """
    if not sys.platform.startswith("linux"):
        return
    disabled = 2  # SS_DISABLE
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).sigaltstack(ctypes.byref(_SignalStack(None, disabled, 0)), None)


def _cause(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__).rstrip(".")[:200]
