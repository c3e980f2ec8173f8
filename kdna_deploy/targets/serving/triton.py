"""Files → a model repository of Triton Inference Server.

    DIR/NAME/config.pbtxt             ModelConfig: types and axes as the file has them
    DIR/NAME/labels.txt               names of the classes, where an output has as many
    DIR/NAME/1/model.onnx | model.plan
    DIR/ensemble_NAME/…               where one of the files makes the images of another (below)

    the batch is open        max_batch_size, dynamic_batching, axes without the batch's
    it is not                max_batch_size 0, all axes

One of several files is preprocessing where its only output has the type and the axes [n, c, h, w] of the only input of
another; an ensemble then runs the two in a row. A file that was exported with `preprocess` needs none.

The server fills `config.pbtxt` in by itself where a field is left out; what it cannot tell from a file is written:
how long it may wait for a batch, how many instances run, what warms them up, what the classes are called.

Does not apply to entries of ONNX Runtime's sessions: its backend hands on a few, and not the one that int8 needs on
processors without VNNI.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.kinds import Kind
from kdna_deploy.targets.inspect_file import TakenOrReturned
from kdna_deploy.targets.serving.copying import copied
from kdna_deploy.targets.serving.model import ServedModel
from kdna_deploy.targets.serving.protobuf_text import Word, text_format

_PLATFORMS = {Kind.onnx: ("onnxruntime_onnx", "model.onnx"), Kind.engine: ("tensorrt_plan", "model.plan")}
_WAIT_MICROSECONDS = 500  # for further images of a batch; less than an inference takes
_FIXED = "batch of the file"  # what warms a model up whose batch is an axis
_TYPES = {
    **{f"{sign}int{bits}": f"TYPE_{sign.upper()}INT{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"TYPE_FP{bits}" for bits in (16, 32, 64)},
    "bool": "TYPE_BOOL",
}


def write_triton(models: Sequence[ServedModel], folder: Path) -> tuple[str, ...]:
    """Write the repository of `models` into `folder`; what a user should know of it, a sentence each.

    Raises:
        InputError: an input or output is of a type that the server does not know.
        UsageError: an ensemble would have the name of a file, or of another one.
    """
    notes = []
    for model in models:
        _, file = _PLATFORMS[model.kind]
        place = folder / model.name
        copied(model, place / "1", file)
        config, note = _config(model)
        (place / "config.pbtxt").write_text(text_format(config), encoding="utf-8")
        notes += [*note, *_saturating(model)]
        if any(_has_labels(model, output) for output in model.outputs):
            (place / "labels.txt").write_text("".join(f"{name}\n" for name in model.class_names), encoding="utf-8")
    for first, second in ensembles(models):
        name = ensemble_name(second)
        if (folder / name).exists():
            raise UsageError(
                f"Two models would be served as '{name}', of which one runs {first.name} and {second.name} in a row; "
                "package fewer files together, or rename one."
            )
        (folder / name / "1").mkdir(parents=True)
        (folder / name / "config.pbtxt").write_text(text_format(_ensemble(name, first, second)), encoding="utf-8")
        notes.append(f"{first.name} makes the images that {second.name} takes: {name} runs the two in a row")
    return tuple(notes)


def ensembles(models: Sequence[ServedModel]) -> Iterator[tuple[ServedModel, ServedModel]]:
    """Preprocessing and what takes its images."""
    for first in models:
        for second in models:
            if first is not second and _feeds(first, second):
                yield first, second


def ensemble_name(second: ServedModel) -> str:
    """Of the ensemble that ends in `second`."""
    return f"ensemble_{second.name}"


def _feeds(first: ServedModel, second: ServedModel) -> bool:
    if len(first.outputs) != 1 or len(second.inputs) != 1 or bool(first.max_batch) != bool(second.max_batch):
        return False
    made, taken = first.outputs[0], second.inputs[0]
    return made.type == taken.type and len(made.shape) == 4 and first.dims(made) == second.dims(taken)


def _config(model: ServedModel) -> tuple[dict[str, Any], list[str]]:
    """The model's configuration, and what could not be written into it."""
    platform, _ = _PLATFORMS[model.kind]
    warm_up = _warm_up(model)
    labels = {"label_filename": "labels.txt"}
    config = {
        "name": model.name,
        "platform": platform,
        "max_batch_size": model.max_batch,
        "input": [_value(model, value) for value in model.inputs],
        "output": [_value(model, value) | (labels if _has_labels(model, value) else {}) for value in model.outputs],
        "instance_group": [{"count": 1, "kind": Word(_device(model))}],
        **({"dynamic_batching": {"max_queue_delay_microseconds": _WAIT_MICROSECONDS}} if model.max_batch else {}),
        "model_warmup": warm_up,
    }
    return config, [] if warm_up else [f"{model.name} is not warmed up: nothing tells the size of its images"]


def _saturating(model: ServedModel) -> Iterator[str]:
    """Of int8 on a server that opens sessions without the entry of `runtimes.int8_kernels`."""
    if model.int8_for_ort:
        yield (
            f"{model.name} is int8, whose sums saturate on x86 processors without VNNI, and the server has no setting "
            "against that: choose processors that have it, or package the float32 file"
        )


def _value(model: ServedModel, value: TakenOrReturned) -> dict[str, Any]:
    return {"name": value.name, "data_type": _type(model, value), "dims": model.dims(value)}


def _type(model: ServedModel, value: TakenOrReturned) -> Word:
    if value.type not in _TYPES:
        raise InputError(f"'{model.path}' has {value}, a type that Triton does not know; export it with another.")
    return Word(_TYPES[value.type])


def _device(model: ServedModel) -> str:
    """Engines run on GPUs alone; ONNX files that were written for one, where there is one."""
    if model.kind is Kind.engine:
        return "KIND_GPU"
    target = model.provenance.options.get("target") if model.provenance else None
    return "KIND_AUTO" if target == "tensorrt" else "KIND_CPU"


def _warm_up(model: ServedModel) -> list[dict[str, Any]]:
    """One image, and as many as are put together: a runtime plans its memory when it sees a size first.

    A sample of none is skipped; where the batch is an axis, the server takes all that is in it for one.
    """
    inputs = []
    for value in model.inputs:
        dims = model.sample_dims(value)
        if dims is None:
            return []
        zeros = {"data_type": _type(model, value), "dims": dims, "zero_data": True}
        inputs.append({"key": value.name, "value": zeros})
    sizes = {f"batch of {size}": size for size in sorted({1, model.max_batch})} if model.max_batch else {_FIXED: 1}
    return [{"name": name, "batch_size": size, "inputs": inputs} for name, size in sizes.items()]


def _has_labels(model: ServedModel, output: TakenOrReturned) -> bool:
    names = model.class_names
    return len(names) > 1 and len(output.shape) == 2 and output.shape[1] == len(names) and model.interface.top is None


def _ensemble(name: str, first: ServedModel, second: ServedModel) -> dict[str, Any]:
    between = "images"
    steps = (
        (first, {value.name: value.name for value in first.inputs}, {first.outputs[0].name: between}),
        (second, {second.inputs[0].name: between}, {value.name: value.name for value in second.outputs}),
    )
    return {
        "name": name,
        "platform": "ensemble",
        "max_batch_size": min(first.max_batch, second.max_batch),
        "input": [_value(first, value) for value in first.inputs],
        "output": [_value(second, value) for value in second.outputs],
        "ensemble_scheduling": {
            "step": [
                {"model_name": model.name, "model_version": -1, "input_map": _map(taken), "output_map": _map(made)}
                for model, taken, made in steps
            ]
        },
    }


def _map(names: dict[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in names.items()]
