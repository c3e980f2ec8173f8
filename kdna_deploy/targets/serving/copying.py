"""A file and all that belongs to it → a folder."""

from __future__ import annotations

import shutil
from pathlib import Path

from kdna_deploy.kinds import Kind
from kdna_deploy.targets.serving.model import ServedModel


def copied(model: ServedModel, folder: Path, file: str) -> Path:
    """Copy the file of `model` into `folder`, as `file`, with what lies beside it; the copy.

    Weights of an ONNX file keep their paths, by which it refers to them; those of an OpenVINO file are named after it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for beside in model.beside:
        own = Path(file).with_suffix(beside.suffix)
        place = folder / (own if model.kind is Kind.openvino else beside.relative_to(model.path.parent))
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(beside, place)
    return Path(shutil.copyfile(model.path, folder / file))
