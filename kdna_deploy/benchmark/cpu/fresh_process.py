"""What a process of its own measures: import, load, first inference, memory. Run as a module, with one JSON argument.

Asked to be held, it stays as it is after the first inference until its input ends.

Imports only what a deployment of the runtime would import, and that inside the functions: everything counts.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[], object]


def _axes(request: dict[str, Any], taken: list[Any]) -> list[int]:
    """Of the images: those that the file has, but for what it leaves open."""
    return [size if isinstance(size, int) else asked for size, asked in zip(taken, request["shape"], strict=True)]


def _load_onnxruntime(request: dict[str, Any], lap: Callable[[str], None]) -> Run:
    import numpy
    import onnxruntime

    lap("import_ms")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = request["threads"]
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    if request["optimised"]:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    for key, value in request["session_config"].items():
        options.add_session_config_entry(key, value)
    session = onnxruntime.InferenceSession(
        request["path"],
        options,
        providers=["CPUExecutionProvider"],
        disabled_optimizers=request["disabled_optimizers"],
    )
    taken = session.get_inputs()[0]
    kinds = {"tensor(float16)": numpy.float16, "tensor(uint8)": numpy.uint8}
    images = numpy.zeros(_axes(request, taken.shape), kinds.get(taken.type, numpy.float32))
    return lambda: session.run(None, {taken.name: images})


def _load_openvino(request: dict[str, Any], lap: Callable[[str], None], precision: str = "f32") -> Run:
    import numpy

    from kdna_deploy.runtimes.openvino_library import model_of_batch, openvino

    lap("import_ms")
    hints = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": precision,
        "INFERENCE_NUM_THREADS": request["threads"],
        "ENABLE_CPU_PINNING": "NO",
    }
    core = openvino.Core()
    model = core.compile_model(model_of_batch(core, request["path"], request["shape"][0]), "CPU", hints)
    infer, taken = model.create_infer_request(), model.inputs[0]
    sizes = [size.get_length() if size.is_static else None for size in taken.partial_shape]
    images = numpy.zeros(_axes(request, sizes), taken.element_type.to_dtype())
    return lambda: infer.infer([images], share_inputs=True)


def _load_openvino_bf16(request: dict[str, Any], lap: Callable[[str], None]) -> Run:
    return _load_openvino(request, lap, "bf16")


def _load_ncnn(request: dict[str, Any], lap: Callable[[str], None]) -> Run:
    import numpy

    from kdna_deploy.runtimes.ncnn_library import extracted, float32_alone, ncnn

    lap("import_ms")
    net = ncnn.Net()
    net.opt.num_threads = request["threads"]
    float32_alone(net.opt)
    net.load_param(request["path"])
    net.load_model(str(Path(request["path"]).with_suffix(".bin")))
    image = numpy.zeros(request["shape"][1:], numpy.float32)

    def run() -> object:
        for _ in range(request["shape"][0]):
            answers = [numpy.array(made) for _, made in extracted(net, image, request["outputs"])]
        return answers

    return run


def _load_mnn(request: dict[str, Any], lap: Callable[[str], None]) -> Run:
    import numpy

    from kdna_deploy.runtimes.mnn_library import MNN, WINOGRAD, quiet

    lap("import_ms")
    config = {"backend": "CPU", "numThread": request["threads"], "precision": "high"}
    with quiet():
        manager = MNN.nn.create_runtime_manager((config,))
        manager.set_hint(*WINOGRAD)
        module = MNN.nn.load_module_from_file(request["path"], [], [], runtime_manager=manager)
    images = numpy.zeros(request["shape"], numpy.float32)
    return lambda: module.forward([MNN.expr.const(images, list(images.shape), MNN.expr.NCHW)])[0].read()


def _load_litert(request: dict[str, Any], lap: Callable[[str], None]) -> Run:
    import numpy
    from ai_edge_litert.interpreter import Interpreter

    lap("import_ms")
    interpreter = Interpreter(request["path"], num_threads=request["threads"])
    taken = interpreter.get_input_details()[0]
    shape = _axes(request, [int(size) if size > 0 else None for size in taken["shape_signature"]])
    interpreter.resize_tensor_input(taken["index"], shape)
    interpreter.allocate_tensors()
    images = numpy.zeros(shape, taken["dtype"])

    def run() -> object:
        interpreter.set_tensor(taken["index"], images)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])

    return run


def _load_executorch(request: dict[str, Any], lap: Callable[[str], None]) -> Run:
    import torch
    from executorch.extension.pybindings import portable_lib
    from executorch.runtime import Runtime

    lap("import_ms")
    portable_lib._unsafe_reset_threadpool(request["threads"])
    method = Runtime.get().load_program(request["path"]).load_method("forward")
    image = torch.zeros(1, *request["shape"][1:])
    return lambda: [method.execute([image]) for _ in range(request["shape"][0])]


def _load_pt2(request: dict[str, Any], lap: Callable[[str], None]) -> Run:
    import torch

    lap("import_ms")
    torch.set_num_threads(request["threads"])
    network = torch.export.load(request["path"]).module()
    images = torch.zeros(request["shape"])

    def run() -> object:
        with torch.no_grad():
            return network(images)

    return run


def _load_pytorch(request: dict[str, Any], lap: Callable[[str], None]) -> Run:
    import torch

    from kdna_deploy.network.configuration import configured
    from kdna_deploy.network.load import load_network

    lap("import_ms")
    torch.set_num_threads(request["threads"])
    source = request["source"]
    arch = configured(None, source["arch"])
    network = load_network(Path(request["path"]), arch, source["factory"], source["ema"]).module
    images = torch.zeros(request["shape"])

    def run() -> object:
        with torch.no_grad():
            return network(images)

    return run


_LOADERS = {
    "onnxruntime": _load_onnxruntime,
    "openvino": _load_openvino,
    "openvino-bf16": _load_openvino_bf16,
    "ncnn": _load_ncnn,
    "mnn": _load_mnn,
    "litert": _load_litert,
    "executorch": _load_executorch,
    "pt2": _load_pt2,
    "pytorch": _load_pytorch,
}


def _memory() -> dict[str, int | None]:
    """On Linux read from the process's own counters: `getrusage` would count the parent's memory before the exec."""
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        resident, peak, private = (int(lines[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM", "RssAnon"))
        return {
            "resident_bytes": resident,
            "peak_bytes": peak,
            "private_bytes": private,
            "shared_bytes": resident - private,
        }
    import psutil

    memory = psutil.Process().memory_info()
    peak = getattr(memory, "peak_wset", memory.rss)
    return {"resident_bytes": memory.rss, "peak_bytes": peak, "private_bytes": None, "shared_bytes": None}


def main() -> None:
    """Measure, and print one JSON object."""
    request = json.loads(sys.argv[1])
    laps: dict[str, float] = {}
    before = time.perf_counter()

    def lap(name: str) -> None:
        nonlocal before
        now = time.perf_counter()
        laps[name] = (now - before) * 1e3
        before = now

    run = _LOADERS[request["runtime"]](request, lap)
    lap("load_ms")
    run()
    lap("first_ms")
    print(json.dumps({**laps, **_memory()}), flush=True)  # noqa: T201 (read by the parent)
    if request["held"]:
        sys.stdin.read()


if __name__ == "__main__":
    main()
