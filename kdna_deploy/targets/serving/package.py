"""Files → a folder that a server takes as it is: models, configuration, a client and a README of ten lines.

The folder is written beside its place and renamed when it is complete, so that there is never half of one. One that
holds something already is not touched: a server may be reading it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from kdna_deploy.files import new_folder
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.targets.serving import (
    kserve,
    kserve_model_server,
    onnxruntime_cpp,
    openvino_model_server,
    triton,
)
from kdna_deploy.targets.serving.model import ServedModel, served_models
from kdna_deploy.targets.serving.servers import SERVERS

# Models and an empty folder → what a user should know, a sentence each.
_WRITERS: dict[str, Callable[[Sequence[ServedModel], Path], tuple[str, ...]]] = {
    "triton": triton.write_triton,
    "openvino-model-server": openvino_model_server.write_openvino_model_server,
    "kserve": kserve.write_kserve,
    "kserve-model-server": kserve_model_server.write_kserve_model_server,
    "onnxruntime-cpp": onnxruntime_cpp.write_onnxruntime_cpp,
}


@dataclass(frozen=True)
class Package:
    """A folder for a server.

    Attributes:
        folder: where it lies.
        server: its name, of `SERVERS`.
        models: in it, as they are called there.
        files: in it, relative to it, with their bytes.
        notes: what a user should know, a sentence each.
    """

    folder: Path
    server: str
    models: tuple[ServedModel, ...]
    files: tuple[tuple[str, int], ...]
    notes: tuple[str, ...]


def package_files(paths: Sequence[Path], name: str, folder: Path, listener: Listener = SILENT) -> Package:
    """Put the files at `paths` together for the server `name`, in `folder`.

    Raises:
        UsageError: the folder holds something already, or two files would have one name.
        InputError: a file cannot be served.
        KdnaError: the disk is full or not writable.
    """
    server = SERVERS[name]
    listener.step("read")
    models = served_models(paths, addressed=server.port is not None)
    listener.step("write")
    with new_folder(folder) as place:
        notes = _WRITERS[name](models, place)
        (place / "README.md").write_text(_readme(name, models), encoding="utf-8")
        if server.port is not None:
            _write_client(models, server.port, server.ensembles, place)
        written = tuple(
            (path.relative_to(place).as_posix(), path.stat().st_size)
            for path in sorted(place.rglob("*"))
            if path.is_file()
        )
    sending = _of_client(models) if server.port is not None else ()
    return Package(folder, name, models, written, (*notes, *sending, *_assumed(models)))


def _of_client(models: Sequence[ServedModel]) -> Iterator[str]:
    """What the client does not do, a sentence each."""
    for model in models:
        if not model.answers_classes:
            yield f"send.py shows no classes of {model.name}, which answers with no row of logits"
        if not model.pictured:
            yield f"send.py makes no images of {model.channels} channels, which {model.name} takes; send arrays"


def _assumed(models: Sequence[ServedModel]) -> Iterator[str]:
    """What no file tells, a sentence each."""
    for model in models:
        if not model.recorded_preprocessing and model.pictured:
            yield f"nothing in {model.path.name} tells how images are prepared; assumed {model.preprocessing}"
        if model.class_names and not model.recorded_names:
            yield f"nothing in {model.path.name} names its classes; assumed the {len(model.class_names)} of ImageNet"


def _write_client(models: Sequence[ServedModel], port: int, ensembles: bool, place: Path) -> None:
    """`send.py` needs Pillow and NumPy alone, and reads what the models take from `send.json`.

    It asks the last of them, unless it is told which: that is a file, also where there are ensembles.
    """
    pairs = triton.ensembles(models) if ensembles else ()
    taken = {triton.ensemble_name(second): _taken(first, second) for first, second in pairs}
    taken |= {model.name: _taken(model, model) for model in models}
    sending = {"url": f"http://localhost:{port}", "models": taken}
    (place / "send.json").write_text(json.dumps(sending, indent=1) + "\n", encoding="utf-8")
    (place / "send.py").write_text(_data("send.py.txt"), encoding="utf-8")


def _taken(model: ServedModel, answering: ServedModel) -> dict[str, Any]:
    """What a client needs to make of an image, and of what the model `answering` returns; null where no file tells.

    In an ensemble `model` takes the image; how it is resized and cropped is recorded where the network is.
    """
    preparing = answering if answering.recorded_preprocessing and not model.provenance else model
    return {
        "batch": model.least_batch,
        "size": model.image_size or answering.image_size,
        "layout": model.layout,
        **preparing.preprocessing.to_record(),
        "top": answering.interface.top,
        "classes": answering.class_names,
    }


def _readme(name: str, models: Sequence[ServedModel]) -> str:
    """Start, send, scale: ten lines."""
    text = _data(f"README.{name}.md").replace("LAST", models[-1].name)
    return text.replace("MODELS", ", ".join(f"`{model.name}`" for model in models))


def _data(name: str) -> str:
    return files("kdna_deploy.targets.serving").joinpath(name).read_text(encoding="utf-8")
