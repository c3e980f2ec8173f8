"""File → Checkpoint: the weights in a training checkpoint, whatever container they travel in.

Containers: the published one (``state_dict`` beside ``arch``, optimizer and scheduler), ``model``, their averaged
copies (``state_dict_ema``, ``model_ema``), bare state dicts, and ``.safetensors``. The prefixes that wrappers leave
(``module.`` of DataParallel, ``_orig_mod.`` of `torch.compile`) are removed.

A checkpoint is untrusted: only tensors and plain containers are ever unpickled (`pickled_file`), and only tensors of
plain numbers become weights (`stored_tensors`). Does not apply to pickled modules and TorchScript archives; both are
refused.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from kdna_deploy.errors import CheckpointError
from kdna_deploy.files import file_sha256
from kdna_deploy.json_schema import is_plain
from kdna_deploy.network.backbone import Shapes
from kdna_deploy.network.pickled_file import read_pickled
from kdna_deploy.network.stored_tensors import clean_weights, is_plain_tensor
from kdna_deploy.network.training_record import TrainingRecord, training_record

_TRAINED = ("state_dict", "model", "model_state_dict")
_AVERAGED = ("state_dict_ema", "model_ema")
_BESIDE = "the checkpoint also keeps averaged weights"
_PREFIXES = ("module.", "_orig_mod.")
BACKBONE = "backbone."  # how the names of a detector's backbone begin (MMDetection)
_MAX_NAME = 200
_LONGEST_NAME = 1000  # of a weight: modules lie in modules
_MAX_EPOCH = 1 << 31


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
        averages: whether averaged weights lie beside these.
        notes: what a user should know about the loading, a sentence each.
        training: what the training script recorded of its images.
        base: of adapters in a file of their own, the checkpoint that the rest is from.
    """

    path: Path
    sha256: str
    state_dict: Mapping[str, Tensor]
    arch: str | None = None
    epoch: int | None = None
    accuracy: float | None = None
    ema: bool = False
    averages: bool = False
    notes: tuple[str, ...] = ()
    training: TrainingRecord = field(default_factory=TrainingRecord)
    base: Checkpoint | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """What no output may replace; nothing of a network that lies in no file."""
        return (*([self.path] if self.sha256 else []), *(self.base.files if self.base else ()))

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
        with ThreadPoolExecutor(1) as beside:  # checksums and digests leave the interpreter to others
            digest = beside.submit(file_sha256, path)
            content, notes = (_read_safetensors(path), []) if path.suffix == ".safetensors" else read_pickled(path)
        sha256 = digest.result()
    except OSError as error:
        raise CheckpointError(f"'{path}' cannot be read: {error.strerror or error}.") from error
    weights, said = _weights(content, path, ema)
    notes += said
    accuracy, training = _accuracy(content, notes), training_record(content)
    return Checkpoint(
        path=path,
        sha256=sha256,
        state_dict=weights,
        arch=_arch(content, notes),
        epoch=_epoch(content, notes),
        accuracy=accuracy,
        ema=ema,
        averages=not ema and any(note.startswith(_BESIDE) for note in notes),
        notes=(*notes, *training.notes),
        training=training,
    )


def backbone_of(checkpoint: Checkpoint) -> Checkpoint:
    """The backbone in the checkpoint of a detector, whose other parts a note names; any other one as it is."""
    names = {name.removeprefix(BACKBONE): name for name in checkpoint.state_dict if name.startswith(BACKBONE)}
    if not names:
        return checkpoint
    others = Counter(name.partition(".")[0] for name in checkpoint.state_dict if not name.startswith(BACKBONE))
    parts = ", ".join(f"{part} ({count})" for part, count in others.items())
    unused = [f"only the backbone of the checkpoint is read; left out are the tensors of {parts}"] if parts else []
    weights = {short: checkpoint.state_dict[name] for short, name in names.items()}
    return replace(checkpoint, state_dict=weights, notes=(*checkpoint.notes, *unused))


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise CheckpointError(f"'{path}' is not a complete safetensors file ({error}); copy it again.") from error


def _weights(content: Any, path: Path, ema: bool) -> tuple[dict[str, Tensor], list[str]]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"'{path}' holds a {type(content).__name__}, not a state dict; save model.state_dict().")
    found = {name: content[name] for name in (*_TRAINED, *_AVERAGED) if isinstance(content.get(name), Mapping)}
    averaged = [name for name in _AVERAGED if name in found]
    trained = [name for name in _TRAINED if name in found]
    notes = []
    if ema:
        if not averaged:
            raise CheckpointError(f"'{path}' keeps no averaged weights; leave `ema` out.")
        chosen = averaged[0]
    elif trained:
        chosen = trained[0]
        if averaged:
            notes.append(f"{_BESIDE} ({averaged[0]}); `ema` takes those")
    elif averaged:
        chosen = averaged[0]
        notes.append(f"only averaged weights ({chosen}) are in the checkpoint")
    else:
        chosen = ""
    tensors = dict(found[chosen] if chosen else content)
    tensors.pop("n_averaged", None)  # the counter of torch.optim.swa_utils.AveragedModel
    others = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if len(others) == len(tensors) or (others and not chosen):
        raise CheckpointError(f"'{path}' holds no state dict; save {{'state_dict': model.state_dict()}}.")
    nested = next((name for name in others if isinstance(tensors[name], Mapping)), None)
    if nested is not None:
        raise CheckpointError(
            f"'{path}' holds a dictionary ({_shown(nested)}) among its weights; save model.state_dict() itself."
        )
    if others:
        notes.append(f"entries that are no tensors are left out: {', '.join(map(_shown, others[:3]))}")
    weights = {name: tensors[name] for name in tensors if name not in set(others)}
    return clean_weights(_renamed(weights, path), path, notes), notes


def _renamed(weights: dict[Any, Tensor], path: Path) -> dict[str, Tensor]:
    """Names without the prefixes of wrappers."""
    for name in weights:
        if not isinstance(name, str) or not is_plain(name) or len(name) > _LONGEST_NAME:
            raise CheckpointError(f"'{path}' names a tensor {_shown(name)}, which is no name; save model.state_dict().")
    prefix = ""
    while more := next((p for p in _PREFIXES if all(name.startswith(prefix + p) for name in weights)), None):
        prefix += more
    found: dict[str, str] = {}
    for name in weights:
        # torch.compile of a part of the model leaves the prefix in the middle of a name.
        short = name.removeprefix(prefix).replace("._orig_mod.", ".")
        if short in found:
            raise CheckpointError(
                f"'{path}' holds both '{found[short]}' and '{name}', which are one weight; keep the one that is meant."
            )
        found[short] = name
    return {short: weights[name] for short, name in found.items()}


def _shown(name: Any) -> str:
    text = repr(name) if isinstance(name, (str, int, float, bytes)) else f"of type {type(name).__name__}"
    return text[:80]


def _arch(content: Any, notes: list[str]) -> str | None:
    value = _entry(content, "arch", str)
    system, variant = (_entry(content, name, str) for name in ("system", "variant"))
    if value is None and system and variant:  # of a method that its shapes do not tell (`Method.recorded`)
        value = f"{system} {variant}"
    if value is None or (is_plain(value) and len(value) <= _MAX_NAME):
        return value
    notes.append("the recorded architecture is no name, and is left out")
    return None


def _epoch(content: Any, notes: list[str]) -> int | None:
    value = _entry(content, "epoch", int)
    if value is None or 0 <= value <= _MAX_EPOCH:
        return value
    notes.append("the recorded epoch is out of range, and is left out")
    return None


def _entry(content: Any, key: str, kind: type) -> Any:
    value = content.get(key) if isinstance(content, Mapping) else None
    return value if isinstance(value, kind) and not isinstance(value, bool) else None


def _accuracy(content: Any, notes: list[str]) -> float | None:
    for key in ("best_acc1", "best_acc", "acc1"):
        value = _number(content.get(key) if isinstance(content, Mapping) else None)
        if value is None or math.isnan(value):
            continue
        if 0 <= value <= 100:
            return round(value, 4)
        notes.append(f"the recorded accuracy ({key}) is no percentage, and is left out")
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, np.generic) or (isinstance(value, Tensor) and is_plain_tensor(value) and value.numel() == 1):
        value = value.item()
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf
