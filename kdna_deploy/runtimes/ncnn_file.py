"""ncnn files, read without ncnn: is what ncnn is about to be given complete, and what does it record?

    NAME.param   7767517, the numbers of layers and blobs, a line a layer, and behind them what is recorded:
                 # kdna PROVENANCE
                 # kdna_weights SHA-256
                 kdna_sha256 SHA-256
    NAME.bin     the weights, layer after layer

ncnn reads as many layers as the second line says, and leaves what follows alone. It takes any ``.bin`` that is long
enough, and computes with what lies in it; files of ours therefore record its SHA-256, and another one is refused, and
last of all their own (`sealed`).

A convolution's kernel is stored with it: the format has no name for a constant that several layers read as their
weights. What the layers compute is left to ncnn's own reader.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import KEY, Provenance, from_json
from kdna_deploy.graph.stored_kernels import KernelStorage
from kdna_deploy.runtimes.openvino_file import weights_of
from kdna_deploy.runtimes.sealed import check_whole, seal, with_room

WEIGHTS_KEY = f"{KEY}_weights"  # the SHA-256 of the .bin
MAGIC = "7767517"
_LARGEST = 64 << 20  # bytes of a .param; one of a ResNet-50 has 20 kilobytes
_MOST_LAYERS = 1 << 20
_RECORD = re.compile(rf"# ({KEY}|{WEIGHTS_KEY}) (.*)")
_PARAMETER = re.compile(r"(-?\d+)=(\S*)")
_KERNEL = "6"  # parameter of a convolution: how many numbers its kernel has
_WEIGHTLESS = "19"  # likewise: its kernel is an input


@dataclass(frozen=True)
class NcnnLayer:
    """A line of the file.

    Attributes:
        type: such as "Convolution".
        kernel: numbers in the kernel of a convolution that stores one; 0 of every other layer.
    """

    type: str
    kernel: int = 0


@dataclass(frozen=True)
class NcnnFile:
    """What an ncnn file says of itself.

    Attributes:
        bytes: of both files.
        layers: in order.
        provenance: None where it is not ours.
    """

    bytes: int
    layers: tuple[NcnnLayer, ...]
    provenance: Provenance | None

    @property
    def storage(self) -> KernelStorage:
        """The kernels in it: each layer has its own."""
        halves = self.provenance is not None and self.provenance.options.get("weights") == "fp16"
        kernels = [layer.kernel for layer in self.layers if layer.kernel]
        stored = (2 if halves else 4) * sum(kernels)
        return KernelStorage("ncnn file", len(kernels), len(kernels), stored, stored)


def read_ncnn(path: Path, weights: bool = True) -> NcnnFile:
    """Read the ncnn file at `path`; without `weights`, their content is not compared with what is recorded.

    Raises:
        ArtifactError: there is none, it is damaged, or its weights are not beside it or those of another.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    layers, recorded = _parsed(path)
    # Line feeds alone: a text is still the same where a tool has given it other ends of lines.
    check_whole(path.read_bytes().replace(b"\r\n", b"\n"), path)
    beside = weights_of(path)
    if not beside.is_file():
        raise ArtifactError(f"The weights of '{path}' are not beside it, in '{beside.name}'; keep the two together.")
    digest = recorded.get(WEIGHTS_KEY)
    if weights and digest is not None and digest != file_sha256(beside):
        raise ArtifactError(f"'{beside}' is cut short, or not the weights of '{path}'; export it again.")
    text = recorded.get(KEY)
    made = from_json(text, str(path)) if text else None
    return NcnnFile(path.stat().st_size + beside.stat().st_size, layers, made)


def recorded_text(param: str, made: Provenance, weights: Path) -> str:
    """The content `param` of a ``.param`` with its record; `weights` is the file beside it."""
    text = f"{param.rstrip()}\n# {KEY} {made.to_json()}\n# {WEIGHTS_KEY} {file_sha256(weights)}"
    content = bytearray(with_room(text).encode() + b"\n")
    seal(content)
    return content.decode()


class _Misfit(ValueError):
    """What is wrong with a file, in words of ours; Python's say nothing to a user."""


def _parsed(path: Path) -> tuple[tuple[NcnnLayer, ...], dict[str, str]]:
    try:
        if path.stat().st_size > _LARGEST:
            raise _Misfit("too large")
        lines = path.read_text(encoding="utf-8").split("\n")
        if lines[0].strip() != MAGIC:
            raise _Misfit(f"it does not begin with {MAGIC}")
        count, _ = map(_number, lines[1].split())
        layers = tuple(map(_layer, lines[2 : 2 + count]))
        if len(layers) < count:
            raise _Misfit("it is cut short")
    except (ValueError, LookupError, OSError) as error:
        why = f" ({str(error)[:80]})" if isinstance(error, _Misfit) else ""
        raise ArtifactError(f"'{path}' is no ncnn file, or a damaged one{why}; export it again.") from error
    found = (_RECORD.fullmatch(line.rstrip("\r")) for line in lines[2 + count :])
    return layers, {match[1]: match[2] for match in found if match}


def _layer(line: str) -> NcnnLayer:
    """``Convolution conv_0 1 1 in0 1 0=64 1=7 …``: type, name, numbers of inputs and outputs, these, parameters."""
    kind, _, inputs, outputs, *rest = line.split()
    ends = _number(inputs) + _number(outputs)
    blobs, parameters = rest[:ends], [_PARAMETER.fullmatch(word) for word in rest[ends:]]
    if len(blobs) < ends or any("=" in name for name in blobs) or not all(parameters):
        raise _Misfit(f"layer {line[:40].strip()!r}")
    said = {match[1]: match[2] for match in parameters if match}
    convolution = kind.startswith(("Convolution", "Deconvolution")) and said.get(_WEIGHTLESS, "0") == "0"
    return NcnnLayer(kind, int(said.get(_KERNEL, "0")) if convolution else 0)


def _number(text: str) -> int:
    if not re.fullmatch(r"\d{1,7}", text) or int(text) > _MOST_LAYERS:
        raise _Misfit(f"{text[:20]!r} is no number of layers")
    return int(text)
