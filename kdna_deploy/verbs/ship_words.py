"""What a user says of a release: targets, licence, and the images of targets in int8."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.errors import InputError, UsageError
from kdna_deploy.input_files import check_images, check_regular
from kdna_deploy.json_schema import is_plain
from kdna_deploy.targets.release.plan import FILES, TARGETS
from kdna_deploy.verbs.arguments import PathLike, check_number, chosen
from kdna_deploy.verbs.engine_words import EngineWords
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.own_formats import FORMATS, require_format

_TEXTS = (".txt", ".md", ".rst")
_LARGEST_LICENCE = 1 << 20  # bytes
_LONGEST_NAME = 200


@dataclass(frozen=True)
class Licence:
    """Its name, or the first line of a file, and what that holds."""

    name: str
    content: bytes = b""


@dataclass(frozen=True)
class JudgedBy:
    """Images of the targets in int8, and what these may lose."""

    images: ImageWords
    held_out: Path | None
    max_drop: float | None

    def check(self, asked: Sequence[str]) -> None:
        """Refuse images that no target uses, and targets that lack some.

        Raises:
            UsageError: it is so, or what was said of them makes no sense.
            InputError: there are no images where they should be.
        """
        of_int8 = [name for name, target in FILES.items() if target.calibrated]
        if any(one in of_int8 for one in asked):
            if self.images.path is None:
                raise UsageError(
                    "A target in int8 needs images like those the network will see: name them with `calibration`."
                )
        elif self != JudgedBy(ImageWords(), None, None):
            raise UsageError(
                f"`calibration`, what is said of its images, `held_out` and `max_drop` go with a target "
                f"in int8: {', '.join(of_int8)}."
            )
        self.images.check()
        self.images.check_read(
            *(self.images.path, self.held_out), instead="name a folder of them with `calibration`, or leave this out"
        )
        check_number("max_drop", self.max_drop)
        if self.held_out is not None:
            check_images(self.held_out, "`held_out`")


def chosen_targets(value: str | Sequence[str]) -> tuple[str, ...]:
    """``"cpu,triton"`` or a sequence of names.

    Raises:
        UsageError: there is no such target, or none is named.
    """
    names = [one.strip() for one in (value.split(",") if isinstance(value, str) else value)]
    asked = tuple(dict.fromkeys(chosen("targets", one, TARGETS) for one in names if one))
    if not asked:
        raise UsageError(f"`targets` names none; choose some of {', '.join(TARGETS)}.")
    return asked


def chosen_licence(value: PathLike | None) -> Licence | None:
    """A name, or what is in a file.

    Raises:
        UsageError: it is neither.
        InputError: the file is not there, holds no text, or more than a megabyte of it.
    """
    if value is None:
        return None
    path, name = Path(value), str(value).strip()
    if name and (_is_said_to_be_a_file(value) or _exists(path)):
        return _licence_in(path)
    if not name or not is_plain(name) or len(name) > _LONGEST_NAME:
        raise UsageError(f"`licence` '{name}' is neither a file nor the name of a licence, such as Apache-2.0.")
    return Licence(name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a name that no file can have
        return False


def _is_said_to_be_a_file(value: PathLike) -> bool:
    """Told by the text as it was typed: a path drops "./"."""
    if not isinstance(value, str):
        return True
    return "/" in value or os.sep in value or value.strip().lower().endswith(_TEXTS)


def _licence_in(path: Path) -> Licence:
    check_regular(path)
    try:
        with path.open("rb") as stream:
            content = stream.read(_LARGEST_LICENCE + 1)
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except OSError as error:
        raise InputError(f"'{path}' may not be read: {(error.strerror or str(error)).lower()}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"'{path}' holds no licence: it is no text in UTF-8.") from error
    first = next((line for line in lines if line), "")[:_LONGEST_NAME]
    if not first or not is_plain(first) or len(content) > _LARGEST_LICENCE:
        raise InputError(f"'{path}' holds no licence; give a text of at most a megabyte.")
    return Licence(first, content)


def require_libraries(targets: Collection[str]) -> None:
    """Refuse what could not be written before any work is done for it.

    Raises:
        RuntimeFailure: a library is not installed, or needs a GPU that is not there.
    """
    for words in (FILES[one].words for one in targets):
        for name in FORMATS.keys() & words.keys():
            require_format(name)
        engine = EngineWords(bool(words.get("tensorrt")), bool(words.get("tensorrt_rtx")), True, (), False)
        if engine.library:
            engine.require("dynamic")
