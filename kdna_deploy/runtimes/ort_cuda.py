"""ONNX Runtime's CUDA provider, with images and logits bound to buffers on the GPU.

Every node must run on the GPU: a session that would leave some to the CPU is refused, for its figures would be those of
copies. A lane is a session of its own, since the stream is set when a session is opened. With CUDA graphs ONNX Runtime
captures the first run of each and replays it.

Does not apply to int8 files: the provider has no int8 convolutions, and would compute them in float32 between
conversions.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure
from kdna_deploy.images.batch import Images
from kdna_deploy.precision import FloatPrecision
from kdna_deploy.runtimes.nvidia.cuda import Lane, Lanes, failures, give_back, torch_cuda
from kdna_deploy.runtimes.ort import session_needs
from kdna_deploy.runtimes.prepared import require_portable
from kdna_deploy.runtimes.session import Closing

try:
    import onnxruntime
except ImportError as error:
    raise RuntimeFailure("ONNX Runtime is not installed; run: pip install onnxruntime-gpu.") from error

PROVIDER = "CUDAExecutionProvider"
# Both packages are imported as `onnxruntime`, and the CPU's hides the GPU's.
INSTALL = "pip uninstall -y onnxruntime && pip install onnxruntime-gpu"
_TYPES = {
    "tensor(float)": ("float32", np.float32),
    "tensor(float16)": ("float16", np.float16),
    "tensor(uint8)": ("uint8", np.uint8),
    "tensor(int64)": ("int64", np.int64),
}


class OrtCudaSession(Closing):
    """A `DeviceSession` over an ONNX file, for batches of `batch`. A float16 file is run in float16 as it is.

    Raises:
        ArtifactError: the file cannot be opened, or is not one of images to logits of known size.
        RuntimeFailure: ONNX Runtime has no CUDA provider, or it does not take every node.
    """

    def __init__(
        self, path: Path, batch: int, precision: FloatPrecision = "fp32", streams: int = 1, cuda_graphs: bool = False
    ) -> None:
        if not path.is_file():
            raise ArtifactError(f"There is no file '{path}'.")
        require_portable(path, "CUDA takes")
        if missing := no_cuda_provider():
            raise RuntimeFailure(missing)
        self._torch = torch_cuda()
        self.name, self._batch = path.name, batch
        self.batch: int | None = batch
        self.runtime = f"ONNX Runtime CUDA {onnxruntime.__version__}"
        self.options: Mapping[str, str | int] = {
            "streams": streams,
            "cuda_graphs": int(cuda_graphs),
            "precision": precision,
            "tf32": int(precision == "tf32"),
        }
        self._path, self.interface = path, session_needs(path).interface
        self._opened: list[tuple[Any, Any, Any, list[Any]]] = []  # sessions and bindings must outlive their lanes
        give_back()
        with failures(self.runtime, self.name):
            self._lanes = Lanes([self._lane() for _ in range(streams)])
        self.image_shape: tuple[int, int, int] | None = self._shape

    def run(self, images: Images) -> Images:
        self.load_on_device(images)
        with failures(self.runtime, self.name):
            self._lanes.run()
            outputs = self._opened[0][-1]  # of the lane that has run
            return self.interface.returned([output.cpu().numpy() for output in outputs])[0]

    def load_on_device(self, images: Images) -> None:
        self._check_open()
        images, axes = self.interface.taken(images), (self._batch, *self.interface.shape(self._shape))
        if images.shape != axes:
            takes, got = ("×".join(map(str, shape)) for shape in (axes, images.shape))
            raise InputError(f"{self.name} was opened for images {takes} and cannot run on {got}.")
        with failures(self.runtime, self.name):
            self._lanes.load(images)

    def time_on_device(self, inferences: int, host_copies: bool = False) -> float:
        self._check_open()
        with failures(self.runtime, self.name):
            return self._lanes.time(inferences, host_copies)

    def _release(self) -> None:
        self._lanes.close()
        self._opened.clear()
        give_back()

    def _lane(self) -> Lane:
        torch = self._torch
        stream = torch.cuda.Stream()
        session = self._session(stream)
        source, target = session.get_inputs(), session.get_outputs()
        kinds = [_TYPES.get(value.type) for value in (*source, *target)]
        sizes = [size for value in (*source, *target) for size in value.shape[1:]]
        open_sizes = not all(isinstance(size, int) for size in sizes)
        if len(source) != 1 or len(target) != self.interface.outputs or None in kinds or open_sizes:
            raise ArtifactError(f"'{self._path}' does not map images of one size to logits; export it again.")
        first, second, last = source[0].shape[1:]
        self._shape = self.interface.image_shape((first, second, last))
        with torch.cuda.stream(stream):
            images = _tensor(torch, (self._batch, first, second, last), source[0].type)
            outputs = [_tensor(torch, (self._batch, *value.shape[1:]), value.type) for value in target]
        stream.synchronize()
        binding = session.io_binding()
        bound = [(binding.bind_output, value, tensor) for value, tensor in zip(target, outputs, strict=True)]
        for bind, value, tensor in ((binding.bind_input, source[0], images), *bound):
            bind(value.name, "cuda", tensor.device.index, _TYPES[value.type][1], tuple(tensor.shape), tensor.data_ptr())
        options = onnxruntime.RunOptions()
        # Otherwise every run would wait for the GPU.
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        self._opened.append((session, binding, images, outputs))

        def enqueue() -> Any:
            session.run_with_iobinding(binding, options)
            return outputs[0]

        enqueue()  # allocates, and captures the graph
        stream.synchronize()
        return Lane(stream, images, enqueue)

    def _session(self, stream: Any) -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors alone: they come back as exceptions
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        provider = {
            "device_id": "0",
            "user_compute_stream": str(stream.cuda_stream),
            "use_tf32": str(self.options["tf32"]),
            "enable_cuda_graph": str(self.options["cuda_graphs"]),
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            # Convolutions are timed with as much scratch memory as they like.
            "cudnn_conv_use_max_workspace": "1",
        }
        session = onnxruntime.InferenceSession(self._path, options, providers=[(PROVIDER, provider)])
        session.disable_fallback()
        if session.get_providers()[0] != PROVIDER:  # its libraries could not be loaded
            raise RuntimeFailure(
                f"ONNX Runtime {onnxruntime.__version__} cannot load its CUDA provider and would run on the CPU; "
                "install the CUDA and cuDNN versions that it names at https://onnxruntime.ai/docs/execution-providers/"
                "CUDA-ExecutionProvider.html."
            )
        return session


def no_cuda_provider() -> str | None:
    """A sentence on how to get the provider; None where ONNX Runtime has it."""
    if PROVIDER in onnxruntime.get_available_providers():
        return None
    return f"ONNX Runtime {onnxruntime.__version__} has no CUDA provider; run: {INSTALL}"


def _tensor(torch: Any, shape: tuple[int, ...], kind: str) -> Any:
    return torch.zeros(shape, dtype=getattr(torch, _TYPES[kind][0]), device="cuda")
