"""Which convolution kernels lie in a plan, and how often: the sharing ledger's last stage.

A plan has no public format, but the kernels in it are the graph's, number for number, so that their bytes can be looked
for: as the convolution takes them, float16 also cast to float32, output channels first, with input channels before or
after the window, in the latter case also padded to fours. What is not found is named, not guessed at.

Two kernels are copies of one parent W when each is W ⊙ M with M constant along the input channels. Then the fibres
W[o, :, i, j] of both point in the same direction, for all o, i, j:

    mean |cos(W_a[o, :, i, j], W_b[o, :, i, j])| ≈ 1

which rounding to float16 or int8 hardly changes. Does not apply to kernels of fewer than eight input channels (all
depthwise ones), whose fibres are too short to tell, and where channel attention was frozen into the kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from kdna_deploy.targets.onnx.weight_value import weight_value

Kernel = NDArray[Any]

_SHORTEST = 64  # bytes; shorter ones could be met by chance
_FIBRE = 8
_ALIKE = 0.98
_WORD = np.dtype("<u4")  # plans align weights to more than this


@dataclass(frozen=True)
class PlanKernels:
    """The convolution kernels of a graph, as a plan stores them.

    Attributes:
        convolutions: in the graph.
        distinct: kernels with different values in the graph.
        found: of those, the ones that lie in the plan.
        not_found: names of the others, as the convolutions take them.
        bytes: that the found ones take in the plan.
        duplicated: parents of which the plan stores several modulated copies, each as the names of the copies.
        duplicated_bytes: that the copies beyond the first of each take.
        undecided: found kernels of too few input channels to tell whether they are copies.
    """

    convolutions: int
    distinct: int
    found: int
    not_found: tuple[str, ...]
    bytes: int
    duplicated: tuple[tuple[str, ...], ...]
    duplicated_bytes: int
    undecided: int


def plan_kernels(model: onnx.ModelProto, plan: bytes) -> PlanKernels:
    """Look for the kernels of `model`, loaded with its weights, in `plan`."""
    used = list(_kernels(model))
    distinct = {(kernel.dtype.str, kernel.shape, kernel.tobytes()): (name, kernel) for name, kernel in reversed(used)}
    words = np.frombuffer(plan, _WORD, len(plan) // _WORD.itemsize)
    stored = {name: _stored_bytes(kernel, plan, words) for name, kernel in distinct.values()}
    found = [(name, kernel) for name, kernel in reversed(distinct.values()) if stored[name]]
    comparable = [(name, kernel) for name, kernel in found if kernel.shape[1] >= _FIBRE]
    families = tuple(family for family in _families(comparable) if len(family) > 1)
    return PlanKernels(
        convolutions=len(used),
        distinct=len(distinct),
        found=len(found),
        not_found=tuple(sorted(name for name, size in stored.items() if not size)),
        bytes=sum(stored.values()),
        duplicated=families,
        duplicated_bytes=sum(stored[name] for family in families for name in family[1:]),
        undecided=len(found) - len(comparable),
    )


def _kernels(model: onnx.ModelProto) -> Iterator[tuple[str, Kernel]]:
    """Name and values of each convolution's kernel; of one that is quantised, the integers."""
    made_by = {node.output[0]: node for node in model.graph.node}
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        name = node.input[1]
        quantised = name in made_by and made_by[name].op_type == "DequantizeLinear"
        kernel = weight_value(made_by[name].input[0] if quantised else name, model)
        if kernel is not None:
            yield name, kernel


def _stored_bytes(kernel: Kernel, plan: bytes, words: NDArray[np.uint32]) -> int:
    """Bytes that all copies of a kernel take in the plan, 0 where it is not in it."""
    patterns = {pattern for pattern in _patterns(kernel) if len(pattern) >= _SHORTEST}
    return sum(len(pattern) * _occurrences(pattern, plan, words) for pattern in patterns)


def _patterns(kernel: Kernel) -> Iterator[bytes]:
    last = np.moveaxis(kernel, 1, -1)
    missing = -kernel.shape[1] % 4
    padded = np.pad(last, [(0, 0)] * (last.ndim - 1) + [(0, missing)])
    for array in (kernel, last, padded):
        yield np.ascontiguousarray(array).tobytes()
        if array.dtype == np.float16:
            yield np.ascontiguousarray(array.astype(np.float32)).tobytes()


def _occurrences(pattern: bytes, plan: bytes, words: NDArray[np.uint32]) -> int:
    # One word of the pattern is compared with all words of the plan, ten times as fast as bytes.count; the largest
    # is none of the zeros that a plan is padded with.
    own = np.frombuffer(pattern, _WORD, len(pattern) // _WORD.itemsize)
    place = int(own.argmax())
    starts = (np.flatnonzero(words == own[place]) - place) * _WORD.itemsize
    return sum(start >= 0 and plan.startswith(pattern, start) for start in starts.tolist())


def _families(kernels: list[tuple[str, Kernel]]) -> list[tuple[str, ...]]:
    """Names of kernels, grouped by the parent that they are copies of."""
    families: list[tuple[Kernel, list[str]]] = []
    for name, kernel in kernels:
        fibres = _directions(kernel)
        for parent, names in families:
            if parent.shape == fibres.shape and _likeness(parent, fibres) >= _ALIKE:
                names.append(name)
                break
        else:
            families.append((fibres, [name]))
    return [tuple(names) for _, names in families]


def _directions(kernel: Kernel) -> Kernel:
    values = kernel.astype(np.float32)
    length = np.linalg.norm(values, axis=1, keepdims=True)
    return np.divide(values, length, out=np.zeros_like(values), where=length > 0)


def _likeness(first: Kernel, second: Kernel) -> float:
    return float(np.abs((first * second).sum(axis=1)).mean())
