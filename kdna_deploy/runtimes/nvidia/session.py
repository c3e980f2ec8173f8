"""Engines of TensorRT and TensorRT-RTX on the GPU, with buffers and streams through PyTorch.

An engine is opened only where its record fits: library version, GPU, bytes. For each batch size there are as many
*lanes* as streams: an execution context with its shapes set, its own stream, and buffers that stay where they are, so
that the work of a lane can be captured as a CUDA graph. TensorRT's is captured here, once the context has run;
TensorRT-RTX captures by itself (see `create_context`).

    run             host → lane 0 → host, for logits
    time_on_device  many, the lanes taking turns, and the time of each
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure, UsageError
from kdna_deploy.images.batch import Images
from kdna_deploy.images.interface import CLASSES, PLAIN, Interface
from kdna_deploy.runtimes.nvidia.cuda import Lane, Lanes, cause, give_back, torch_cuda
from kdna_deploy.runtimes.nvidia.engine_record import check_engine, check_gpu, check_version, read_record
from kdna_deploy.runtimes.nvidia.gpu import first_gpu
from kdna_deploy.runtimes.nvidia.library import OpenedLibrary, create_context, open_library
from kdna_deploy.runtimes.nvidia.log import Messages, listening
from kdna_deploy.runtimes.nvidia.start import started
from kdna_deploy.runtimes.session import Closing

_KEPT = 4  # batch sizes whose lanes are kept


@dataclass(frozen=True)
class _Lane:
    """A context that runs one batch size on one stream."""

    context: Any
    stream: Any
    input: Any
    outputs: tuple[Any, ...]
    graph: Any

    def enqueue(self) -> Any:
        if self.graph is not None:
            self.graph.replay()
        elif not self.context.execute_async_v3(self.stream.cuda_stream):
            raise RuntimeError("the inference could not be started")
        return self.outputs[0]


class TensorRtSession(Closing):
    """A `Session` over an engine file.

    `streams` is the number of inferences that may be under way at once in `time_on_device`; `cuda_graphs` replays each
    as a captured graph.

    Raises:
        ArtifactError: the engine or its record is missing or damaged, or the engine is not one of images to what the
            record says that it returns.
        RuntimeFailure: the library, the GPU or PyTorch's CUDA is missing, or the engine was built for others.
    """

    def __init__(self, path: Path, name: str | None = None, streams: int = 1, cuda_graphs: bool = False) -> None:
        if streams < 1:
            raise UsageError(f"`streams` must be at least 1, not {streams}.")
        self._record = read_record(path)
        check_engine(path, self._record)
        self._opened = open_library(self._record.library, to_build=False)
        check_version(path, self._record, self._opened.version)
        check_gpu(path, self._record, first_gpu())
        self._torch = torch_cuda()
        give_back()
        self.name = name or path.name
        self.runtime = f"{self._opened.library.title} {self._opened.version}"
        self.batch = self._record.batches.largest if self._record.batches.fixed else None
        self.image_shape: tuple[int, int, int] | None = self._record.image_shape
        made = self._record.provenance
        self.interface = made.interface(path) if made else PLAIN
        self.options: Mapping[str, str | int] = {
            "streams": streams,
            "cuda_graphs": int(cuda_graphs),
            "precision": self._record.precision,
            "tf32": int(self._record.tf32),
        }
        self._streams, self._cuda_graphs = streams, cuda_graphs
        self._lanes: dict[int, tuple[_Lane, ...]] = {}
        self._loaded: Lanes | None = None
        # The runtime must live as long as its engine.
        self._runtime, self._engine = _deserialise(self._opened, path, self._record.rebuild)
        self._input, self._outputs = _bindings(self._opened, self._engine, self.interface, path)

    def run(self, images: Images) -> Images:
        self._check_open()
        taken, axes = self.interface.taken(images), self.interface.shape(self._record.image_shape)
        if taken.shape[1:] != axes:
            takes, got = ("×".join(map(str, shape)) for shape in (axes, taken.shape[1:]))
            raise InputError(f"{self.name} takes images of {takes} and cannot run on {got}.")
        with self._failures() as torch:
            lane = self._prepared(len(taken))[0]
            with torch.cuda.stream(lane.stream):
                lane.input.copy_(torch.from_numpy(np.ascontiguousarray(taken)))
                lane.enqueue()
                outputs = [output.to("cpu") for output in lane.outputs]
            lane.stream.synchronize()
        return self.interface.returned([output.numpy() for output in outputs])[0]

    def load_on_device(self, images: Images) -> None:
        """Copy `images` into the input buffer of every lane of their batch size, and wait until they are there."""
        self._check_open()
        with self._failures():
            lanes = [Lane(lane.stream, lane.input, lane.enqueue) for lane in self._prepared(len(images))]
            self._loaded = Lanes(lanes)
            self._loaded.load(images)

    def time_on_device(self, inferences: int, host_copies: bool = False) -> float:
        """Milliseconds of each of `inferences` on the images that were loaded last."""
        self._check_open()
        if self._loaded is None:
            raise UsageError(f"{self.name} has no images on the device; load them first.")
        with self._failures():
            return self._loaded.time(inferences, host_copies)

    def _release(self) -> None:
        self._torch.cuda.synchronize()
        self._loaded = None
        self._lanes.clear()
        # Contexts before their engine, an engine before its runtime.
        del self._engine
        del self._runtime
        give_back()

    def _prepared(self, batch: int) -> tuple[_Lane, ...]:
        """The lanes of a batch size, made at its first use."""
        self._record.batches.check(batch, self.name)
        if batch not in self._lanes:
            while len(self._lanes) >= _KEPT:  # each context holds memory for its activations
                self._lanes.pop(next(iter(self._lanes)))
            self._lanes[batch] = tuple(self._lane(batch) for _ in range(self._streams))
        return self._lanes[batch]

    def _lane(self, batch: int) -> _Lane:
        torch = self._torch
        stream = torch.cuda.Stream()
        context = create_context(self._opened, self._engine, self._cuda_graphs)
        if context is None:
            raise RuntimeError("no execution context could be made: GPU memory may not suffice")
        # Tensors are made, and must be released, on the stream that uses them.
        with torch.cuda.stream(stream):
            shape = (batch, *self.interface.shape(self._record.image_shape))
            images = torch.zeros(shape, dtype=self._type(self._input), device="cuda")
            context.set_input_shape(self._input, shape)
            outputs = tuple(
                torch.empty(tuple(context.get_tensor_shape(name)), dtype=self._type(name), device="cuda")
                for name in self._outputs
            )
            for name, tensor in zip((self._input, *self._outputs), (images, *outputs), strict=True):
                context.set_tensor_address(name, tensor.data_ptr())
            lane = _Lane(context, stream, images, outputs, None)
            lane.enqueue()  # what is set up at the first run cannot be captured
        stream.synchronize()
        if not self._cuda_graphs or self._opened.library.ahead_of_time:
            return lane
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            lane.enqueue()
        return _Lane(context, stream, images, outputs, graph)

    def _type(self, name: str) -> Any:
        """PyTorch's, of an input or output: both call them float, uint8 and int64."""
        return getattr(self._torch, self._engine.get_tensor_dtype(name).name.lower())

    @contextlib.contextmanager
    def _failures(self) -> Iterator[Any]:
        """Turn what PyTorch and the library report into one sentence; yields `torch`."""
        with listening(self._opened) as (_, messages):
            try:
                yield self._torch
            except RuntimeError as error:  # also the base of torch's errors of CUDA and of memory
                raise RuntimeFailure(f"{self.runtime} cannot run '{self.name}': {_cause(error, messages)}.") from error


def _cause(error: RuntimeError, messages: Messages) -> str:
    """What the library logged says more than the exception that follows."""
    if messages.errors:
        return messages.cause()
    return cause(error)


def _deserialise(opened: OpenedLibrary, path: Path, rebuild: str) -> tuple[Any, Any]:
    """A runtime and its engine."""
    with listening(opened) as (logger, messages):
        runtime = started(opened, "Runtime", logger, messages)
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
    if engine is None:
        raise RuntimeFailure(
            f"{opened.library.title} {opened.version} cannot open '{path}': {messages.cause()}; build it "
            f"again: {rebuild}"
        )
    return runtime, engine


def _bindings(opened: OpenedLibrary, engine: Any, interface: Interface, path: Path) -> tuple[str, tuple[str, ...]]:
    """Names of the one input, float32 or pixels, and of the outputs: one in float32, and the classes where some are."""
    trt = opened.trt
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    inputs = [name for name in names if engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
    outputs = sorted((name for name in names if name not in inputs), key=lambda name: name == CLASSES)
    kinds = [engine.get_tensor_dtype(name) for name in (*inputs, *outputs)]
    expected = [trt.uint8 if interface.layout else trt.float32, trt.float32, *([trt.int64] if interface.top else [])]
    if kinds != expected:
        takes = "uint8 pixels" if interface.layout else "one float32 image batch"
        raise ArtifactError(f"'{path}' does not map {takes} to what its record says that it returns.")
    return inputs[0], tuple(outputs)
