"""File → Checkpoint: the weights in a training checkpoint, whatever container they travel in.

Containers: the published one (``state_dict`` beside ``arch``, optimizer and scheduler), ``model``, their averaged
copies (``state_dict_ema``, ``model_ema``), bare state dicts, and ``.safetensors``. The prefixes that wrappers leave
(``module.`` of DataParallel, ``_orig_mod.`` of `torch.compile`) are removed.

A checkpoint is untrusted: only tensors and plain containers are ever unpickled. Does not apply to pickled modules
and TorchScript archives; both are refused.
"""

from __future__ import annotations

import argparse
import collections
import hashlib
import math
import pathlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kdna_deploy.errors import CheckpointError
from kdna_deploy.models.architecture import Shapes
from kdna_deploy.training_record import TrainingRecord, training_record

_TRAINED = ("state_dict", "model", "model_state_dict")
_AVERAGED = ("state_dict_ema", "model_ema")
_PREFIXES = ("module.", "_orig_mod.")
_HALVES = (torch.float16, torch.bfloat16)

# Plain data that training scripts put beside the weights; none of these can run code when unpickled.
_NUMPY_SCALAR = np.float64(0).__reduce__()[0]
_HARMLESS: list[Any] = [
    argparse.Namespace,
    collections.defaultdict,
    pathlib.PosixPath,
    pathlib.PurePosixPath,
    (_NUMPY_SCALAR, "numpy.core.multiarray.scalar"),  # as numpy 1 wrote it
    (_NUMPY_SCALAR, "numpy._core.multiarray.scalar"),  # as numpy 2 does
    np.dtype,
    *{type(np.dtype(code)) for code in "?" + np.typecodes["AllInteger"] + np.typecodes["AllFloat"]},
]


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint file holds.

    Attributes:
        path: the file.
        sha256: of its bytes.
        state_dict: names (prefixes removed) → tensors, floating-point ones in float32.
        arch: architecture name that the training script recorded, if any.
        epoch: likewise.
        accuracy: recorded best top-1 accuracy in percent, if any.
        ema: whether these are the averaged weights that were asked for.
        notes: what a user should know about the loading, a sentence each.
        training: what the training script recorded of its images.
    """

    path: Path
    sha256: str
    state_dict: Mapping[str, Tensor]
    arch: str | None = None
    epoch: int | None = None
    accuracy: float | None = None
    ema: bool = False
    notes: tuple[str, ...] = ()
    training: TrainingRecord = field(default_factory=TrainingRecord)

    @property
    def shapes(self) -> Shapes:
        return {name: tuple(tensor.shape) for name, tensor in self.state_dict.items()}


def load_checkpoint(path: Path, ema: bool = False) -> Checkpoint:
    """Read a checkpoint; with `ema`, the exponential moving average of the weights that it keeps.

    Raises:
        CheckpointError: the file is missing, damaged, no checkpoint, holds code, or holds no (averaged) weights.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file '{path}'.")
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _unpickle(path)
    except OSError as error:
        raise CheckpointError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    weights, notes = _weights(content, path, ema)
    return Checkpoint(
        path=path,
        sha256=file_sha256(path),
        state_dict=weights,
        arch=_entry(content, "arch", str),
        epoch=_entry(content, "epoch", int),
        accuracy=_accuracy(content),
        ema=ema,
        notes=tuple(notes),
        training=training_record(content),
    )


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _digest(stream)


def _digest(stream: Any) -> str:
    # hashlib.file_digest came with Python 3.11.
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"'{path}' is not a complete safetensors file ({error}); copy it again.") from error


def _unpickle(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # damaged bytes lead the unpickler anywhere: IndexError, struct.error, …
        raise CheckpointError(_unpickling_message(path, str(error))) from error


def _unpickling_message(path: Path, error: str) -> str:
    for marker in ("Unsupported global: GLOBAL ", "unsupported GLOBAL ", "Unsupported class "):
        if marker in error:
            name = error.split(marker, 1)[1].split()[0].rstrip(",.")
            return (
                f"'{path}' asks to run code on loading ({name}), which is refused; "
                "save it again with its state dict alone."
            )
    if "TorchScript" in error:
        return f"'{path}' is a TorchScript archive; give the training checkpoint instead."
    return _damage_message(path)


def _damage_message(path: Path) -> str:
    with path.open("rb") as stream:
        head = stream.read(4)
    if head[:2] == b"PK":
        return f"'{path}' is damaged or cut short; copy or download it again."
    return f"'{path}' is not a PyTorch checkpoint or is damaged; give the file that torch.save wrote in training."


def _weights(content: Any, path: Path, ema: bool) -> tuple[dict[str, Tensor], list[str]]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{path}' holds a {type(content).__name__}, not a state dict; save model.state_dict().")
    found = {name: content[name] for name in (*_TRAINED, *_AVERAGED) if isinstance(content.get(name), Mapping)}
    averaged = [name for name in _AVERAGED if name in found]
    trained = [name for name in _TRAINED if name in found]
    notes = []
    if ema:
        if not averaged:
            raise CheckpointError(f"'{path}' keeps no averaged weights; leave --ema out.")
        chosen = averaged[0]
    elif trained:
        chosen = trained[0]
        if averaged:
            notes.append(f"the checkpoint also keeps averaged weights ({averaged[0]}); --ema takes those")
    elif averaged:
        chosen = averaged[0]
        notes.append(f"only averaged weights ({chosen}) are in the checkpoint")
    else:
        chosen = ""
    tensors = dict(found[chosen] if chosen else content)
    tensors.pop("n_averaged", None)  # the counter of torch.optim.swa_utils.AveragedModel
    weights = {str(name): value for name, value in tensors.items() if isinstance(value, Tensor)}
    if not weights or (not chosen and len(weights) != len(tensors)):
        raise CheckpointError(f"'{path}' holds no state dict; save {{'state_dict': model.state_dict()}}.")
    return _clean(weights, path, notes), notes


def _clean(weights: dict[str, Tensor], path: Path, notes: list[str]) -> dict[str, Tensor]:
    """Names without wrapper prefixes, float32 values, and no NaN among them."""
    while prefix := next((p for p in _PREFIXES if all(name.startswith(p) for name in weights)), None):
        weights = {name.removeprefix(prefix): value for name, value in weights.items()}
    # torch.compile of a part of the model leaves the prefix in the middle of a name.
    weights = {name.replace("._orig_mod.", "."): value for name, value in weights.items()}
    halves = {value.dtype for value in weights.values()} & set(_HALVES)
    if halves:
        names = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in halves))
        notes.append(f"the weights are stored in {names}; all computing is done in float32")
    for name, value in weights.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"'{path}' holds NaN or infinite values in {name}; training has diverged.")
    return {name: value.float() if value.is_floating_point() else value for name, value in weights.items()}


def _entry(content: Any, key: str, kind: type) -> Any:
    value = content.get(key) if isinstance(content, Mapping) else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _accuracy(content: Any) -> float | None:
    for key in ("best_acc1", "best_acc", "acc1"):
        value = content.get(key) if isinstance(content, Mapping) else None
        if isinstance(value, np.generic) or (isinstance(value, Tensor) and value.numel() == 1):
            value = value.item()
        if isinstance(value, (int, float)) and math.isfinite(value):
            return round(float(value), 4)
    return None
