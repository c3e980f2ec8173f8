"""The servers that files are packaged for, and what each takes. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass

from kdna_deploy.kinds import Kind


@dataclass(frozen=True)
class Server:
    """A server, or a program.

    Attributes:
        title: what it is called.
        kinds: of files that it takes.
        port: that it answers the Open Inference Protocol (v2) at; None where there is no server.
        ensembles: whether it runs two files in a row, where one makes the images of the other.
    """

    title: str
    kinds: tuple[Kind, ...]
    port: int | None
    ensembles: bool = False


SERVERS = {
    "triton": Server("Triton Inference Server", (Kind.onnx, Kind.engine), 8000, ensembles=True),
    "openvino-model-server": Server("OpenVINO Model Server", (Kind.onnx, Kind.openvino), 8000),
    "kserve": Server("KServe", (Kind.onnx, Kind.engine), 8080, ensembles=True),
    "kserve-model-server": Server("KServe's model server", (Kind.onnx,), 8080),
    "onnxruntime-cpp": Server("a C++ program", (Kind.onnx,), None),
}
