"""Train the two sample networks on scikit-learn's handwritten digits and write them as published checkpoints.

    8×8 grey, 0..16 → uint8 round(v·255/16) → 64×64 (PIL, bilinear) → RGB → (pixel/255 - mean) / std

A fixed number of epochs on four fifths of the images; the other fifth is held out, seen once, after the last epoch,
and chooses nothing. 50 of the held-out images are also written as PNG files, in a folder per class.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from container import Recipe, container, write
from PIL import Image
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from torch import Tensor, nn

from kdna_deploy.network.families import ARCHITECTURES, Architecture

SEED = 0
SIZE = 64
CLASSES = 10
HELD_OUT = 0.2
FILES_PER_CLASS = 5
BATCH = 64
SHIFT = 4  # pixels of the 64×64 image: half a pixel of the original
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Sample:
    """A network to train, and the type that its checkpoint stores weights in."""

    arch: Architecture
    storage: torch.dtype = torch.float32


# The Backbone protocol does not say so, but every backbone is a dataclass.
_QUARTER = replace(ARCHITECTURES["resnet18"].backbone, widths=(16, 16, 32, 64, 128))  # type: ignore[type-var]

SAMPLES = {
    "digits_mobilenet_v2_1d2": Sample(replace(ARCHITECTURES["mobilenet_v2_1d2"], num_classes=CLASSES)),
    # In half precision, as many checkpoints are published, and so that the repository stays small.
    "digits_resnet18_quarter": Sample(
        replace(ARCHITECTURES["resnet18"], backbone=_QUARTER, num_classes=CLASSES), torch.float16
    ),
}


@dataclass(frozen=True)
class Digits:
    """Grey uint8 images [n, 64, 64], their labels [n], and each one's index in scikit-learn's data set."""

    images: Tensor
    labels: Tensor
    indices: Tensor

    def subset(self, rows: Tensor) -> Digits:
        return Digits(self.images[rows], self.labels[rows], self.indices[rows])


def load_split() -> tuple[Digits, Digits]:
    """Training and held-out digits: stratified by class, the same on every run."""
    pixels, labels = load_digits(return_X_y=True)
    images = np.stack([_enlarged(image) for image in pixels.reshape(-1, 8, 8)])
    digits = Digits(torch.from_numpy(images), torch.from_numpy(labels), torch.arange(len(labels)))
    train, held_out = train_test_split(np.arange(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=SEED)
    return digits.subset(torch.from_numpy(np.sort(train))), digits.subset(torch.from_numpy(np.sort(held_out)))


def _enlarged(image: np.ndarray) -> np.ndarray:
    grey = Image.fromarray(np.rint(image * 255 / 16).astype(np.uint8))
    return np.asarray(grey.resize((SIZE, SIZE), Image.Resampling.BILINEAR))


def first_of_each_class(digits: Digits) -> Digits:
    """The first `FILES_PER_CLASS` digits of each class, in the order of the data set."""
    rows = [torch.nonzero(digits.labels == label).flatten()[:FILES_PER_CLASS] for label in range(CLASSES)]
    return digits.subset(torch.cat(rows))


def write_images(digits: Digits, folder: Path) -> None:
    """Write each digit as ``folder/<class>/<index>.png``."""
    for image, label, index in zip(digits.images, digits.labels, digits.indices, strict=True):
        path = folder / str(int(label)) / f"{int(index)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.numpy()).convert("RGB").save(path, optimize=True)


def normalised(images: Tensor) -> Tensor:
    """Network input [n, 3, h, w] of grey uint8 images [n, h, w], with ImageNet's statistics."""
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    return (images.unsqueeze(1).float() / 255 - mean) / std


def shifted(images: Tensor) -> Tensor:
    """`images` [n, h, w], each moved by up to `SHIFT` pixels either way; black comes in from outside."""
    padded = F.pad(images, (SHIFT,) * 4)
    corners = torch.randint(0, 2 * SHIFT + 1, (len(images), 2)).tolist()
    crops = (image[y : y + SIZE, x : x + SIZE] for image, (y, x) in zip(padded, corners, strict=True))
    return torch.stack(list(crops))


def train(arch: Architecture, digits: Digits, recipe: Recipe) -> nn.Module:
    """A freshly built `arch`, trained on `digits` by `recipe`; the same for the same seed and thread count."""
    torch.manual_seed(SEED)
    network = arch.build()
    # Weight decay on every parameter, the attentions included, as in the published training code.
    optimizer = torch.optim.SGD(
        network.parameters(), lr=recipe.base_lr, momentum=recipe.momentum, weight_decay=recipe.weight_decay
    )
    for epoch in range(recipe.epochs):
        network.train()
        batches = torch.split(torch.randperm(len(digits.labels)), BATCH)
        loss_sum, hits = 0.0, 0
        for number, rows in enumerate(batches):
            optimizer.param_groups[0]["lr"] = recipe.learning_rate(epoch + (number + 1) / len(batches))
            logits, labels = network(normalised(shifted(digits.images[rows]))), digits.labels[rows]
            loss = F.cross_entropy(logits, labels)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            loss_sum += loss.item() * len(rows)
            hits += int((logits.argmax(1) == labels).sum())
        n = len(digits.labels)
        print(f"epoch {epoch + 1:3d}  loss {loss_sum / n:.4f}  training top-1 {100 * hits / n:.2f} %", file=sys.stderr)
    return network.eval()


@torch.no_grad()
def correct(network: nn.Module, digits: Digits) -> int:
    """How many of `digits` `network` classifies correctly."""
    return int((network(normalised(digits.images)).argmax(1) == digits.labels).sum())


def attention_lines(network: nn.Module) -> list[str]:
    """A line of statistics for each stacked static attention."""
    return [
        f"  {name} {tuple(value.shape)}: std {value.std():.2g}, largest {value.abs().max():.2g}"
        for name, value in network.named_parameters()
        if "static_" in name
    ]


def make_sample(name: str, recipe: Recipe, training: Digits, held_out: Digits, out: Path) -> None:
    """Train one network of `SAMPLES`, write its checkpoint and print what was measured."""
    start = time.perf_counter()
    sample = SAMPLES[name]
    network = train(sample.arch, training, recipe)
    seconds = time.perf_counter() - start
    network = network.to(sample.storage).float()  # what a reader of the checkpoint gets is what is evaluated
    hits, total = correct(network, held_out), len(held_out.labels)
    files = first_of_each_class(held_out)
    path = out / f"{name}.pth.tar"
    args = {"img_size": SIZE, "mean": list(MEAN), "std": list(STD), "classes": [str(label) for label in range(CLASSES)]}
    write(container(network.to(sample.storage), sample.arch.name, recipe, 100 * hits / total, args), path)
    network.float()
    print(f"{path.name}: {path.stat().st_size:,} bytes, {recipe.epochs} epochs in {seconds:.0f} s")
    print(f"  held-out top-1 {100 * hits / total:.2f} % ({hits}/{total}), of the images written as files ", end="")
    print(f"{correct(network, files)}/{len(files.labels)}")
    print("\n".join(attention_lines(network)), flush=True)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train the sample networks on scikit-learn's handwritten digits.")
    parser.add_argument("--epochs", type=int, default=30, help="epochs of training (default: 30)")
    parser.add_argument(
        "--out", type=Path, default=Path(__file__).resolve().parent, help="output folder (default: the script's)"
    )
    parser.add_argument("--only", choices=sorted(SAMPLES), help="train this network alone")
    parser.add_argument(
        "--images", action=argparse.BooleanOptionalAction, default=True, help="write held-out images as PNG files"
    )
    options = parser.parse_args(arguments)
    if options.epochs < 1:
        parser.error("--epochs must be at least 1.")
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    training, held_out = load_split()
    options.out.mkdir(parents=True, exist_ok=True)
    if options.images:
        write_images(first_of_each_class(held_out), options.out / "digits")
    recipe = Recipe(options.epochs, base_lr=0.05, weight_decay=1e-4, warmup_epochs=min(2, options.epochs - 1))
    for name in [options.only] if options.only else SAMPLES:
        make_sample(name, recipe, training, held_out, options.out)


if __name__ == "__main__":
    main()
