"""Tensors of an untrusted file → weights: plain, finite numbers in float32, in memory of their own.

    refused   what is no dense tensor of plain numbers (complex, 8-bit floats, quantised, sparse, nested, without
              content); tensors that take far more memory than the file has; NaN and what float32 cannot hold;
              negative variances; whole numbers where weights are
    changed   half and double precision become float32, with a note

Whole numbers are what buffers may hold: the counters of BatchNorm, tables of indices. Tensors that share their memory
still do afterwards where they are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from kdna_deploy.errors import CheckpointError

FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
WHOLE = frozenset({torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})

# Several tensors may view one storage (tied weights), and half precision doubles.
_ALLOWED_GROWTH = 4
_ALLOWED_BYTES = 1 << 26

_WEIGHTS = ("weight", "bias", "running_mean", "running_var")


def clean_weights(weights: Mapping[str, Tensor], path: Path, notes: list[str]) -> dict[str, Tensor]:
    """The `weights` of the file at `path` in float32; what was changed is added to `notes`.

    Raises:
        CheckpointError: with the tensor that is refused.
    """
    for name, value in weights.items():
        _check_kind(name, value, path)
    _check_size(weights, path)
    kinds = {value.dtype for value in weights.values()} & FLOATS - {torch.float32}
    if kinds:
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in kinds))
        notes.append(f"the weights are stored in {names}; all computing is done in float32")
    copies: dict[object, Tensor] = {}
    found = {}
    for name, value in weights.items():
        view = _view(value)
        if view not in copies:
            copies[view] = _copied(name, value, path)
        found[name] = copies[view]
    return found


def is_plain_tensor(value: Tensor) -> bool:
    """Whether a tensor holds plain numbers, each at its place."""
    return _oddity(value) is None


def _oddity(value: Tensor) -> str | None:
    """What a tensor is instead of plain numbers, each at its place."""
    if value.is_nested:
        return "nested"
    if value.layout is not torch.strided:
        return "sparse"
    if value.is_meta:
        return "without content (meta)"
    if value.dtype not in FLOATS | WHOLE:
        kind = str(value.dtype).removeprefix("torch.")
        return f"quantised ({kind})" if value.is_quantized else f"of type {kind}"
    if value.device.type != "cpu" or type(value) not in (Tensor, torch.nn.Parameter):
        return "of a kind of its own"
    return None


def _check_kind(name: str, value: Tensor, path: Path) -> None:
    oddity = _oddity(value)
    if oddity is not None:
        raise CheckpointError(
            f"'{path}' holds '{name}' as a tensor {oddity}; save the weights as they were trained, in float32."
        )
    if value.dtype in WHOLE and name.rpartition(".")[2] in _WEIGHTS:
        kind = str(value.dtype).removeprefix("torch.")
        raise CheckpointError(
            f"'{path}' holds '{name}' in {kind}, which no trained weight has; save the weights in float32."
        )


def _check_size(weights: Mapping[str, Tensor], path: Path) -> None:
    """Tensors may be views that repeat a few numbers (`expand`) without end."""
    left = _ALLOWED_GROWTH * path.stat().st_size + _ALLOWED_BYTES
    for name, value in {_view(value): (name, value) for name, value in weights.items()}.values():
        left -= value.numel() * max(value.element_size(), 4)
        if left < 0:
            raise CheckpointError(
                f"'{path}' holds '{name}' {tuple(value.shape)}, far larger than the file, of a few numbers repeated; "
                "save its contiguous copy."
            )


def _view(value: Tensor) -> object:
    storage = value.untyped_storage()
    return storage._cdata, value.dtype, value.storage_offset(), tuple(value.shape), value.stride(), value.is_neg()


def _copied(name: str, value: Tensor, path: Path) -> Tensor:
    value = value.detach().resolve_neg()
    if value.dtype in WHOLE:
        return value.clone()
    copy = value.to(torch.float32, copy=True)
    if not _is_finite(copy):
        if _is_finite(value):
            raise CheckpointError(
                f"'{path}' holds values in '{name}' that float32 cannot hold; train or save the network in float32."
            )
        raise CheckpointError(f"'{path}' holds NaN or infinite values in {name}; training has diverged.")
    if name.rpartition(".")[2] == "running_var" and bool((copy < 0).any()):
        raise CheckpointError(
            f"'{path}' holds negative variances in '{name}'; the file is damaged, or training has diverged."
        )
    return copy


def _is_finite(values: Tensor) -> bool:
    """Whether no number is NaN or infinite: told by their sum, forty times as fast, unless the sum itself overflows."""
    return bool(values.sum().isfinite()) or bool(values.isfinite().all())
