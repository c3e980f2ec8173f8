"""Files → the models of OpenVINO Model Server.

    DIR/config.json                       which models there are, and how they are run
    DIR/NAME/1/model.onnx                 1 is the version
    DIR/NAME/1/model.xml, model.bin

The server reads types and axes from the file, open ones too. It runs what OpenVINO opens; engines are not for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from kdna_deploy.targets.serving.copying import copied
from kdna_deploy.targets.serving.model import ServedModel

_MOUNTED = "/models"  # where the README's command puts the folder
_OVERFLOWS = (
    "{name} is int8 for ONNX Runtime, whose sums overflow in OpenVINO on x86 processors without VNNI: package what "
    "`export` writes with `openvino` and `precision='int8'`, whose weights have 7 bits"
)


def write_openvino_model_server(models: Sequence[ServedModel], folder: Path) -> tuple[str, ...]:
    """Write the folder of `models`; what a user should know of it, a sentence each."""
    for model in models:
        copied(model, folder / model.name / "1", f"model{model.path.suffix}")
    entries = [{"config": _entry(model)} for model in models]
    (folder / "config.json").write_text(json.dumps({"model_config_list": entries}, indent=2) + "\n", encoding="utf-8")
    return tuple(_OVERFLOWS.format(name=model.name) for model in models if model.int8_for_ort)


def _entry(model: ServedModel) -> dict[str, object]:
    """Requests come many at a time, so that streams side by side do more than one on all cores."""
    return {
        "name": model.name,
        "base_path": f"{_MOUNTED}/{model.name}",
        "target_device": "CPU",
        "plugin_config": {"PERFORMANCE_HINT": "THROUGHPUT"},
    }
