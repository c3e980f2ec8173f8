"""What every runtime offers: opened, images in, logits out, closed.

    with open_session(path) as session:        or session.close(), once it is done with
        logits = session.run(images)

Closing releases the runtime's own objects, their threads, and memory on a device, at once and in the right order;
leaving that to the garbage collector would hold them while the next session is opened. What is closed stays closed.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.images.interface import PLAIN, Interface

if TYPE_CHECKING:
    from typing_extensions import Self


class Session(Protocol):
    """A loaded artifact.

    Attributes:
        name: what it is, for tables.
        runtime: what runs it, with the version.
        batch: the only batch size it takes, or None.
        image_shape: (c, h, w) it takes, None where any.
        interface: what the file itself takes and returns.
        options: of the runtime, as they were set; for the record of a measurement.
    """

    name: str
    runtime: str
    batch: int | None
    image_shape: tuple[int, int, int] | None
    interface: Interface
    options: Mapping[str, str | int]

    def run(self, images: Images) -> Images:
        """Logits [n, classes] of normalised `images` [n, c, h, w], both float32; or what else `interface` says.

        Of a file that takes pixels, `images` may be these as well.

        Raises:
            InputError: it does not take such images.
            UsageError: it is closed.
        """

    def close(self) -> None:
        """Release all that it holds; a second time does nothing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@runtime_checkable
class StageSession(Session, Protocol):
    """A `Session` that may return stage outputs, `stage_names` (`network.stages`), in place of logits."""

    stage_names: tuple[str, ...]

    def run_all(self, images: Images) -> Answers:
        """All outputs for normalised `images` [n, c, h, w]: the logits alone, or a map [n, c', h', w'] a stage."""


def stage_names(session: Session) -> tuple[str, ...]:
    """The stage outputs that a session returns; () for logits."""
    return session.stage_names if isinstance(session, StageSession) else ()


def run_all(session: Session, images: Images) -> Answers:
    """All that a session returns for `images`, whatever it is."""
    return session.run_all(images) if isinstance(session, StageSession) else (session.run(images),)


def runner(session: Session) -> Callable[[Images], object]:
    """What runs a session, whatever it returns: looked up once, for that takes time."""
    return session.run_all if isinstance(session, StageSession) else session.run


def run_in_parts(session: Session, images: Images, batch: int | None) -> Answers:
    """Outputs for all of `images`; for a fixed `batch` in parts of that size, the last filled up."""
    if batch is None:
        return run_all(session, images)
    parts: list[Answers] = []
    for start in range(0, len(images), batch):
        part = images[start : start + batch]
        missing = batch - len(part)
        filled = np.concatenate([part, np.repeat(part[-1:], missing, axis=0)]) if missing else part
        parts.append(tuple(one[: len(part)] for one in run_all(session, filled)))
    return tuple(map(np.concatenate, zip(*parts, strict=True)))


def logits_of(session: StageSession, images: Images) -> Images:
    """The logits that a session returns.

    Raises:
        InputError: it returns stage outputs.
    """
    if session.stage_names:
        raise InputError(
            f"{session.name} returns the stage outputs {', '.join(session.stage_names)} of a backbone, not logits; "
            "give a classifier."
        )
    return session.run_all(images)[0]


def require_shape(session: Session, images: Images) -> None:
    """Refuse images that are not [n, c, h, w] of the session's shape, where its runtime would not.

    Raises:
        InputError: they are not.
    """
    assert session.image_shape is not None, "of a file of one size"
    if images.ndim != 4 or images.shape[1:] != session.image_shape:
        takes = "×".join(map(str, session.image_shape))
        raise InputError(f"{session.name} cannot run on {images.shape}: it takes images [n, c, h, w] of {takes}.")
    if session.batch not in (None, len(images)):
        raise InputError(f"{session.name} cannot run on {images.shape}: it takes {session.batch} at a time.")


class DeviceSession(Session, Protocol):
    """A `Session` that can keep its images on the device, and time inferences on them there."""

    def load_on_device(self, images: Images) -> None:
        """Copy `images` to where every inference reads them, and wait until they are there."""

    def time_on_device(self, inferences: int, host_copies: bool = False) -> float:
        """Milliseconds of each of `inferences` back-to-back ones on what was loaded.

        `host_copies` adds to each the copy of its images to the device and of its logits back.
        """


class Closing(abc.ABC):
    """The end of a session, the same for all: what a class holds is for its `_release` to let go."""

    name: str
    interface: Interface = PLAIN
    _closed = False

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._release()

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abc.abstractmethod
    def _release(self) -> None:
        """Let go of everything; called once."""

    def _check_open(self) -> None:
        """Refuse a closed session.

        Raises:
            UsageError: it is one.
        """
        if self._closed:
            raise UsageError(f"The session of '{self.name}' is closed; open it again.")
