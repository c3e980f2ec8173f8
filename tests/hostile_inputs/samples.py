"""The sound files that hostile ones are made from, made once a run: a small network as each kind of artifact."""

from __future__ import annotations

import contextlib
import functools
import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.brief_bench import brief_bench
from tests.planted_network import FACTORY, SHAPE, write_checkpoint
from tests.session_folder import made_once, shared_folder

SIZE = str(SHAPE[1])
CHECKPOINT, SAFE, FUSED, ONNX = "good.pt", "good.safetensors", "good.fused.pt2", "good.onnx"
PREPARED = "good.prepared.onnx"
MNN, LITERT, NCNN, NCNN_WEIGHTS = "good.mnn", "good.tflite", "good.param", "good.bin"
IMAGES, CLASSES, RUN, RELEASE = "good-images", "good-classes", "good.json", "good-release"
MODEL = ("--model", FACTORY)


def sample(name: str, folder: Path) -> None:
    """Put the sample of that name into `folder`; nothing where there is none."""
    if name in _MAKERS:
        source = sound(name)
        if source.is_dir():
            shutil.copytree(source, folder / name)
        else:
            shutil.copyfile(source, folder / name)


@functools.cache
def sound(name: str) -> Path:
    """The sample of that name; never write to it."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return made_once(shared_folder("hostile") / name, _MAKERS[name])


@functools.cache
def content(name: str) -> bytes:
    return sound(name).read_bytes()


def picture(seed: int = 0, size: tuple[int, int] = (12, 12)) -> Image.Image:
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), np.uint8))


def _checkpoint(path: Path) -> None:
    write_checkpoint(path)


def _safetensors(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    state = torch.load(sound(CHECKPOINT), weights_only=True)["state_dict"]
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


def _fused(path: Path) -> None:
    _run("fuse", str(sound(CHECKPOINT)), "--input-size", SIZE, *MODEL, "-o", str(path))


def _onnx(path: Path) -> None:
    _run("export", str(sound(FUSED)), *MODEL, "-o", str(path))


def _prepared(path: Path) -> None:
    _run("prepare", str(sound(ONNX)), "-o", str(path))


def _own(name: str) -> Callable[[Path], None]:
    return lambda path: _run("export", str(sound(FUSED)), *MODEL, f"--{name}", "-o", str(path))


def _ncnn_weights(path: Path) -> None:
    assert sound(NCNN).with_suffix(".bin") == path, "it is written with the layers"


def _release(path: Path) -> None:
    _run("ship", str(sound(CHECKPOINT)), "--input-size", SIZE, *MODEL, "--targets", "cpu,mnn", "-o", str(path))


def _images(path: Path) -> None:
    path.mkdir()
    for seed in range(3):
        picture(seed).save(path / f"{seed}.png")


def _classes(path: Path) -> None:
    for label in range(5):
        (path / str(label)).mkdir(parents=True)
        picture(label).save(path / str(label) / "a.png")


def _saved_run(path: Path) -> None:
    model = str(sound(ONNX))
    with pytest.MonkeyPatch.context() as patch:
        brief_bench(patch.setattr)
        brief = "--iterations 6 --min-time 0 --no-cold-start"
        _run("bench", model, "--baseline", model, *brief.split(), "--save", str(path))


def _run(*arguments: str) -> None:
    from kdna_deploy.cli import app

    assert app.run(list(arguments)) == 0, arguments


_MAKERS = {
    CHECKPOINT: _checkpoint,
    SAFE: _safetensors,
    FUSED: _fused,
    ONNX: _onnx,
    PREPARED: _prepared,
    MNN: _own("mnn"),
    LITERT: _own("litert"),
    NCNN: _own("ncnn"),
    NCNN_WEIGHTS: _ncnn_weights,
    RELEASE: _release,
    IMAGES: _images,
    CLASSES: _classes,
    RUN: _saved_run,
}
