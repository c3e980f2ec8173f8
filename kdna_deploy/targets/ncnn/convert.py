"""ONNX file → ncnn file, by pnnx, a program of ncnn's authors.

    pnnx net.onnx inputshape=[1,c,h,w] fp16=0   →   net.ncnn.param, net.ncnn.bin   →   the record behind the layers

With ``fp16=1`` weights are stored as halves, which ncnn makes float32 of when it opens the file. pnnx writes five more
files of its own into the folder of the ONNX file, which is a scratch folder.

Does not apply to int8, which pnnx does not write: that takes two more programs, of which no Python package has any.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import ncnn

from kdna_deploy.errors import ExportError, RuntimeFailure
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.runtimes.ncnn_file import read_ncnn, recorded_text
from kdna_deploy.runtimes.openvino_file import weights_of


def convert(onnx: Path, made: Provenance) -> Path:
    """The ``.param`` that pnnx makes of the file `onnx`, in its folder; its weights lie beside it.

    Raises:
        RuntimeFailure: pnnx is not installed.
        ExportError: it cannot convert the graph, or ncnn has no layer for a part of it.
    """
    shape = ",".join(map(str, (1, *made.image_shape)))
    halves = int(made.options.get("weights") == "fp16")
    words = (onnx.name, f"inputshape=[{shape}]", f"fp16={halves}")
    done = subprocess.run([_program(), *words], cwd=onnx.parent, capture_output=True, text=True, errors="replace")
    converted = onnx.with_suffix(".ncnn.param")
    if done.returncode or not (converted.is_file() and weights_of(converted).is_file()):
        raise ExportError(f"pnnx cannot convert the graph: {_cause(done)}; please report this.")
    missing = sorted({one.type for one in read_ncnn(converted).layers if ncnn.layer_to_index(one.type) < 0})
    if missing:
        raise ExportError(f"ncnn has no layer for a part of the graph: {', '.join(missing)}; export an ONNX file.")
    return converted


def save(converted: Path, made: Provenance, path: Path) -> None:
    """Write what `convert` made to `path`, with its record, and the weights beside it."""
    shutil.copyfile(weights_of(converted), weights_of(path))
    text = converted.read_text(encoding="utf-8")
    path.write_text(recorded_text(text, made, weights_of(path)), encoding="utf-8", newline="\n")


def _program() -> str:
    """Where the program lies in its package, which would import PyTorch."""
    found = find_spec("pnnx")
    folders = found.submodule_search_locations if found else None
    if not folders:
        raise RuntimeFailure("pnnx is not installed; run: pip install 'kdna-deploy[ncnn-convert]'.")
    return str(Path(folders[0]) / ("pnnx.exe" if os.name == "nt" else "pnnx"))


def _cause(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1].rstrip(".")[:200] if lines else f"exit code {done.returncode}"
