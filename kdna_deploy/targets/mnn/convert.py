"""ONNX file → MNN file, by the converter in MNN's package.

    MNNConvert -f ONNX --modelFile net.onnx --MNNModel net.mnn --bizCode RECORD
        --fp16                  weights as halves
        --weightQuantBits 8     weights as codes with a scale for each channel; MNN makes float32 of either at its start

It is called as a library, in a process of its own, since it prints what it does; and not by the command `mnnconvert`,
which sends the arguments, the sizes of the files and an identifier of the machine over the network, and for that
installs a further package (`MNN/tools/utils/log.py`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from kdna_deploy.errors import ExportError
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.runtimes.mnn_file import recorded, with_own_uuid
from kdna_deploy.runtimes.sealed import seal

# The arguments come by its input: a record may be longer than an argument can be.
_CONVERTER = "import json, sys, _tools; _tools.mnnconvert(json.load(sys.stdin))"
_STORED = {"fp16": {"fp16": ""}, "int8": {"weightQuantBits": "8"}}


def convert(onnx: Path, made: Provenance) -> Path:
    """The file that MNN's converter makes of the file `onnx`, in its folder.

    Raises:
        ExportError: it cannot convert the graph.
    """
    converted = onnx.with_suffix(".mnn")
    said = {
        "framework": "ONNX",
        "modelFile": onnx.name,
        "MNNModel": converted.name,
        "bizCode": recorded(made.to_json()),
    }
    said |= _STORED.get(str(made.options.get("weights")), {})
    words = [word for name, value in said.items() for word in (f"--{name}", value) if word]
    given = json.dumps(["MNNConvert", *words])
    command = [sys.executable, "-c", _CONVERTER]
    done = subprocess.run(
        command, cwd=onnx.parent, input=given, capture_output=True, text=True, encoding="utf-8", errors="replace"
    )
    if done.returncode or not converted.is_file():
        raise ExportError(f"MNN cannot convert the graph: {_cause(done)}; please report this.")
    return converted


def save(converted: Path, made: Provenance, path: Path) -> None:
    """Write what `convert` made to `path`; its record is in it. Equal input gives equal bytes."""
    content = with_own_uuid(converted.read_bytes())
    seal(content)
    path.write_bytes(content)


def _cause(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    if done.returncode < 0:
        return f"its converter was ended by signal {-done.returncode}"
    return lines[-1].rstrip(".")[:200] if lines else f"exit code {done.returncode}"
