"""What is evaluated in pieces: a model, mostly beside a reference, on a shard of the images.

    shards   the images in their order, a batch each, however many workers there are
    done     the sums over a shard (`accuracy.Sums`): integers, and three of float64 over its batches in their order
    result   the sums of all shards, added in the order of the shards, whatever the order in which they were done

So every number is added up in one order, and is the same to the last digit wherever its parts come from. What runs a
network has one thread, for several may add up in another order.

Does not apply to processors with other instructions, for which runtimes have other kernels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from kdna_deploy.evaluation.accuracy import Batch, Sums
from kdna_deploy.external_data import external_files
from kdna_deploy.images.batch import Shape
from kdna_deploy.images.file import ImageBytes
from kdna_deploy.images.labelled import LabelledImages, in_batches, labelled_stream
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.kinds import Kind, beside_own, named_kind
from kdna_deploy.network.configuration import Configuration, beside, configured
from kdna_deploy.progress import Listener
from kdna_deploy.runtimes.open import open_session
from kdna_deploy.runtimes.session import Session


@dataclass(frozen=True)
class ModelFile:
    """A model by the file that it is opened from; how to load it, for a checkpoint."""

    path: Path
    factory: str | None = None
    arch: Configuration | str | None = None
    ema: bool = False

    def open(self) -> Session:
        """A session on one thread, and of PyTorch on as many as the process has."""
        return open_session(self.path, self.factory, self.arch, self.ema, threads=1)

    @property
    def base(self) -> Path | None:
        """The checkpoint that this one's adapters are put beside, where one is named."""
        if named_kind(self.path) is not Kind.checkpoint:
            return None
        if said := configured(self.arch).base:
            return Path(said)
        described = beside(self.path)[0].base
        return Path(described) if described else None

    @property
    def beside(self) -> tuple[Path, ...]:
        """The files that must lie in the folder of `path`, or below it: weights, and what is said of a checkpoint."""
        kind = named_kind(self.path)
        if kind is Kind.checkpoint:
            said = beside(self.path)[1]
            return (said,) if said else ()
        return beside_own(self.path) or external_files(self.path)


class Shard(Protocol):
    """Some of the images."""

    def batches(self, listener: Listener, threads: int | None = None) -> Iterator[Batch]:
        """Its images in batches, decoded on so many threads; `listener` is told which cannot be read."""


@dataclass(frozen=True)
class FileShard:
    """Image files with labels, to be run in batches of `batch`; `fixed` where the model takes no fewer."""

    files: tuple[tuple[Path | ImageBytes, int], ...]
    image_shape: Shape
    preprocessing: Preprocessing
    batch: int
    fixed: bool

    def batches(self, listener: Listener, threads: int | None = None) -> Iterator[Batch]:
        images = labelled_stream(self.files, self.image_shape, self.preprocessing, listener, threads)
        return in_batches(images, self.batch, self.fixed)


@dataclass(frozen=True)
class BatchShard:
    """Images that are decoded already."""

    content: tuple[Batch, ...]

    def batches(self, listener: Listener, threads: int | None = None) -> Iterator[Batch]:
        return iter(self.content)


@dataclass(frozen=True)
class Task:
    """A shard to be evaluated on."""

    model: ModelFile
    reference: ModelFile | None
    shard: Shard

    @property
    def opening(self) -> Task:
        """Its models on no images: what is left of it is to open them."""
        return replace(self, shard=BatchShard(()))


@dataclass(frozen=True)
class Done:
    """What came of a task.

    Attributes:
        sums: over its images.
        skipped: files that are no readable images, and why.
        top: how many classes the model names; None for all.
    """

    sums: Sums
    skipped: tuple[tuple[Path, str], ...] = ()
    top: int | None = None


def file_shards(
    files: Sequence[tuple[Path, int]], images: LabelledImages, batch: int, fixed: bool
) -> Iterator[FileShard]:
    """Some `files` of `images`, a batch each."""
    for first in range(0, len(files), batch):
        some = tuple(files[first : first + batch])
        yield FileShard(some, images.image_shape, images.preprocessing, batch, fixed)
