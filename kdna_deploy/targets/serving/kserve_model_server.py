"""Files → a folder for KServe's model server, which is a Python process: no container, no cluster.

    DIR/serve.py              starts it, with every model of the folder
    DIR/NAME/model.onnx       in a session of ours (`served_file`)

Does not apply to files that sessions do not run (`runtimes.image_graph`): one of them would keep the server from
starting.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from kdna_deploy.errors import InputError
from kdna_deploy.runtimes.image_graph import misfit
from kdna_deploy.targets.serving.copying import copied
from kdna_deploy.targets.serving.model import ServedModel

FILE = "model.onnx"
TYPES = {"float32": "FP32", "float16": "FP16", "uint8": "UINT8"}  # that sessions take, as the protocol spells them


def write_kserve_model_server(models: Sequence[ServedModel], folder: Path) -> tuple[str, ...]:
    """Write the folder of `models`; nothing needs to be said of it.

    Raises:
        InputError: a session does not run one of them.
    """
    for model in models:
        _check(model)
    for model in models:
        copied(model, folder / model.name, FILE)
    program = files("kdna_deploy.targets.serving").joinpath("serve.py.txt").read_bytes()
    (folder / "serve.py").write_bytes(program)
    return ()


def _check(model: ServedModel) -> None:
    """Refuse a file that a session would.

    Raises:
        InputError: it is one.
    """
    taken, returned = model.inputs, model.outputs
    if len(taken) != 1 or len(taken[0].shape) != 4 or taken[0].type not in TYPES:
        raise InputError(
            f"'{model.path}' takes {' and '.join(map(str, taken)) or 'nothing'}; this server feeds one batch of "
            "images; serve it with Triton."
        )
    inputs = [(one.type, len(one.shape)) for one in taken]
    if wrong := misfit(model.interface, inputs, [one.name for one in returned]):
        raise InputError(f"'{model.path}' {wrong}, and this server would not start with it; serve it with Triton.")
