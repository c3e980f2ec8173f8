"""PyTorch on the GPU: a fused graph run eagerly, captured as a CUDA graph, or compiled.

    fp32   products in float32                  tf32   their operands rounded to 11 bits of mantissa (TF32)
    fp16   weights and images in float16, logits cast to float32

Images and kernels lie channels-last, the layout of tensor cores; cuDNN tries its algorithms on the shapes at hand.

`torch.compile` is used in its default mode: convolutions stay cuDNN's, and what lies between them (pre-scale, ReLU,
residual sum) is fused into generated kernels within a minute. ``max-autotune`` would time convolutions of its own for
many minutes for each network, batch and precision, and ``reduce-overhead`` would capture CUDA graphs on streams and
buffers of its own, where here lanes have theirs.

The rounding of float32 is a setting of the whole process: it is set around every run, and put back.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdna_deploy.errors import InputError
from kdna_deploy.images.batch import Images
from kdna_deploy.precision import FloatPrecision
from kdna_deploy.runtimes.nvidia.cuda import Lane, Lanes, failures, give_back, torch_cuda
from kdna_deploy.runtimes.session import Closing

_WARM_UP = 3  # before a graph is captured: libraries allocate, cuDNN chooses, Inductor compiles


@dataclass(frozen=True)
class Program:
    """A network made ready to run: its module, or what the compiler made of it."""

    call: Callable[[Tensor], Tensor]
    precision: FloatPrecision
    compiled: bool

    def fresh(self) -> Program:
        """With weights that lie elsewhere in memory; what is compiled stays as it is, for compiling takes long."""
        return self if self.compiled else Program(copy.deepcopy(self.call), self.precision, False)


def program(module: nn.Module, precision: FloatPrecision, device: str = "cuda", compiled: bool = False) -> Program:
    """A copy of `module` on `device`, channels-last, in half precision for fp16."""
    made = copy.deepcopy(module).to(device=device, dtype=_dtype(precision))
    made = made.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Program(torch.compile(made) if compiled else made, precision, compiled)


@contextlib.contextmanager
def arithmetic(precision: FloatPrecision) -> Iterator[None]:
    """Have PyTorch round the operands of float32 products to TF32, or not, within the block."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark
    # These setters keep the older and the newer settings of PyTorch in step; its newer ones would not.
    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    try:
        with torch.no_grad():
            yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        torch.backends.cudnn.allow_tf32, torch.backends.cudnn.benchmark = before[1:]


class TorchCudaSession(Closing):
    """A `DeviceSession` over a program on the GPU, for `batch` images of `image_shape`.

    Raises:
        RuntimeFailure: PyTorch cannot use the GPU, or the program fails on it.
    """

    def __init__(
        self,
        made: Program,
        name: str,
        image_shape: tuple[int, int, int],
        batch: int,
        streams: int = 1,
        cuda_graphs: bool = False,
    ) -> None:
        torch_cuda()
        self.name = name
        self.batch: int | None = batch
        self.image_shape: tuple[int, int, int] | None = image_shape
        self.runtime = f"PyTorch {torch.__version__}"
        self.options: Mapping[str, str | int] = {
            "streams": streams,
            "cuda_graphs": int(cuda_graphs),
            "precision": made.precision,
            "tf32": int(made.precision == "tf32"),
            "memory_format": "channels_last",
            "compile_mode": "default" if made.compiled else "none",
        }
        self._program, self._cuda_graphs = made, cuda_graphs
        self._shape = (batch, *image_shape)
        with self._running():
            self._lanes = Lanes([self._lane() for _ in range(streams)])

    def run(self, images: Images) -> Images:
        self.load_on_device(images)
        with self._running():
            return self._lanes.run()

    def load_on_device(self, images: Images) -> None:
        self._check_open()
        if images.shape != self._shape:
            takes, got = ("×".join(map(str, shape)) for shape in (self._shape, images.shape))
            raise InputError(f"{self.name} was opened for images {takes} and cannot run on {got}.")
        with self._running():
            self._lanes.load(images)

    def time_on_device(self, inferences: int, host_copies: bool = False) -> float:
        self._check_open()
        with self._running():
            return self._lanes.time(inferences, host_copies)

    def _release(self) -> None:
        self._lanes.close()
        del self._program
        give_back()

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        with failures(self.runtime, self.name), arithmetic(self._program.precision):
            yield

    def _lane(self) -> Lane:
        stream = torch.cuda.Stream()
        # Tensors are made, and must be released, on the stream that uses them.
        with torch.cuda.stream(stream):
            images = torch.zeros(self._shape, dtype=_dtype(self._program.precision), device="cuda")
            images = images.contiguous(memory_format=torch.channels_last)
            for _ in range(_WARM_UP):
                self._call(images)
        stream.synchronize()
        if not self._cuda_graphs:
            return Lane(stream, images, lambda: self._call(images))
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            logits = self._call(images)

        def replay() -> Tensor:
            graph.replay()
            return logits

        return Lane(stream, images, replay)

    def _call(self, images: Tensor) -> Tensor:
        return self._program.call(images).float()


def _dtype(precision: FloatPrecision) -> torch.dtype:
    return torch.float16 if precision == "fp16" else torch.float32
