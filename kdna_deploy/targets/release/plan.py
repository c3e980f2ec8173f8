"""Targets of a release → the files to make for them, and the folders for servers. Imports nothing heavy.

cpu, cpu-int8, openvino, …      a file each: the words of `export`
triton, kserve, …               a folder each, of those of these files that the server takes
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kdna_deploy.kinds import Kind
from kdna_deploy.targets.serving.servers import SERVERS

_ONLY_ONE = "onnxruntime-cpp"  # takes one file
_OPENVINO_SERVER = "openvino-model-server"
FALLBACK = "cpu"  # is made for a server that no other target makes a file for


@dataclass(frozen=True)
class FileTarget:
    """A file of a release.

    Attributes:
        ending: of its name, after that of the checkpoint.
        words: of `export`, by parameter.
        shares: whether its children may be shared.
    """

    ending: str
    words: Mapping[str, Any] = field(default_factory=dict)
    shares: bool = True

    @property
    def calibrated(self) -> bool:
        """Whether it computes in int8, and is judged by images."""
        return self.words.get("precision") == "int8"

    @property
    def extra(self) -> str:
        """Of the package, that what runs the file comes with; empty for ONNX Runtime, which the core has."""
        return next((word.replace("_", "-") for word, said in self.words.items() if said is True), "")


FILES: Mapping[str, FileTarget] = {
    "cpu": FileTarget(".onnx"),
    "cpu-fp16": FileTarget(".fp16.onnx", {"weights": "fp16"}),
    "cpu-int8": FileTarget(".int8.onnx", {"precision": "int8"}, shares=False),
    "any": FileTarget(".any.onnx", {"target": "any"}),
    "openvino": FileTarget(".xml", {"openvino": True}),
    "openvino-int8": FileTarget(".int8.xml", {"openvino": True, "precision": "int8"}, shares=False),
    "ncnn": FileTarget(".ncnn.param", {"ncnn": True}, shares=False),
    "mnn": FileTarget(".mnn", {"mnn": True}, shares=False),
    "litert": FileTarget(".tflite", {"litert": True}, shares=False),
    "litert-int8": FileTarget(".int8.tflite", {"litert": True, "precision": "int8"}, shares=False),
    "executorch": FileTarget(".pte", {"executorch": True}, shares=False),
    "gpu-fp16": FileTarget(".gpu.onnx", {"precision": "fp16"}, shares=False),
    "tensorrt": FileTarget(".trt.engine", {"tensorrt": True}, shares=False),
    "tensorrt-rtx": FileTarget(".rtx.engine", {"tensorrt_rtx": True}, shares=False),
}
TARGETS = (*FILES, *SERVERS)
_ON_CPUS = ("cpu", "cpu-fp16", "cpu-int8", "any")
_ON_GPUS = ("gpu-fp16", "tensorrt")  # of the servers that may have some


@dataclass(frozen=True)
class Plan:
    """What is made.

    Attributes:
        name: that files are called after.
        files: target → name of its file.
        packages: server → names of the files that its folder is made of.
        added: whether `FALLBACK` came along though nobody asked for it.
    """

    name: str
    files: Mapping[str, str]
    packages: Mapping[str, Sequence[str]]
    added: bool

    @property
    def targets(self) -> tuple[str, ...]:
        return (*self.files, *self.packages)


def plan(asked: Iterable[str], name: str) -> Plan:
    """For the targets `asked` for, in the order of `TARGETS`; `name` is what files are called after."""
    wanted = set(asked)
    made = [one for one in FILES if one in wanted]
    servers = [one for one in SERVERS if one in wanted]
    added = any(not taken(server, made) for server in servers)
    if added:
        made.insert(0, FALLBACK)
    files = {one: name + FILES[one].ending for one in made}
    return Plan(name, files, {one: [files[target] for target in taken(one, made)] for one in servers}, added)


def taken(server: str, made: Sequence[str]) -> Sequence[str]:
    """Of the targets that are `made`, those whose files the server is given."""
    for_openvino = [one for one in made if one.startswith("openvino")]
    if server == _OPENVINO_SERVER and for_openvino:
        return for_openvino
    gpus = _ON_GPUS if Kind.engine in SERVERS[server].kinds else ()
    takes = [one for one in made if one in (*_ON_CPUS, *gpus)]
    return takes[:1] if server == _ONLY_ONE else takes
