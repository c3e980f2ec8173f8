"""Files of the sample network for the runtimes that ONNX files are converted for, each made once a run."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

from kdna_deploy.targets.converted import ConvertedExport, export_converted
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.verbs.own_formats import FORMATS, missing
from tests.samples import RESNET, fused_sample
from tests.session_folder import made_once, shared_folder

EVERY = tuple(name for name in FORMATS if name != "openvino")
NAMES = tuple(name for name in EVERY if name != "executorch")  # whose converter takes some ten seconds


def require(name: str) -> None:
    """Skip the test where a package of the format is not installed."""
    if absent := missing(name):
        pytest.skip(absent)


def converted_sample(name: str, weights: str = "fp32", children: Any = None) -> ConvertedExport:
    """The sample network as a file of the format `name`. Never write to it."""

    def make(path: Path) -> None:
        options = OnnxOptions(simplify=False, weights=weights)  # type: ignore[arg-type]
        done = export_converted(fused_sample(RESNET, children), path, options)
        path.with_suffix(".result").write_bytes(pickle.dumps(done))

    require(name)
    folder = shared_folder("converted") / f"{name}-{weights}-{children}"
    folder.mkdir(exist_ok=True)
    path = made_once(folder / f"net{FORMATS[name].suffix}", make)
    return pickle.loads(path.with_suffix(".result").read_bytes())  # type: ignore[no-any-return]


def copy_of(done: ConvertedExport, folder: Path) -> Path:
    """Its files in `folder`, to be damaged."""
    for file in done.path.parent.iterdir():
        if file.name.startswith(done.path.stem) and file.suffix in (".param", ".bin", ".mnn", ".tflite", ".pte"):
            shutil.copyfile(file, folder / file.name)
    return folder / done.path.name
