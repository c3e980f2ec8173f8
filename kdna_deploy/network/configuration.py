"""What is said of a network's architecture; what is not said is told from the shapes of its weights.

    kd.load("ckpt.pt", arch="resnet18", layout="FS-FSF", spatial=False)       said as words
    ckpt.arch.json    {"arch": "resnet18", "layout": "FS-FSF"}                said beside ckpt.pt, for whoever loads it

Both have the same words, and those that a user says come first. What is said must fit: it decides where shapes leave a
choice, the order of kernels and children in a layout and reductions that give the same hidden widths, and is checked
everywhere else. Imports nothing heavy.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from kdna_deploy.errors import ArchitectureError, KdnaError, UsageError
from kdna_deploy.json_schema import anything, boolean, is_plain, number, record, shown, text
from kdna_deploy.kinds import stem
from kdna_deploy.network.layout import parse_layout
from kdna_deploy.network.stages import LOGITS, stage_outputs

Attention = Literal["channel", "filter", "spatial"]
BESIDE = ".arch.json"
_LARGEST_FILE = 1 << 16  # bytes
_LARGEST_SCALE = 64
_LARGEST_TEMPERATURE = 1000
_LARGEST_MULTIPLIER = 1000
_LONGEST_WORD = 1000
_LONGEST_NAME = 80
_OF_ALL = (
    "arch",
    "scale",
    "outputs",
    "temperature",
    "multiplier",
    "base",
)  # what can be said of networks that share nothing, too


class Words(TypedDict, total=False):
    """The words of an architecture beside its name `arch`; None where nothing is said.

    Attributes:
        layout: of every stage that shares kernels, ``"FS-FSF"``, or of each, ``"layer3=FS-FSF,layer4=FS-SF-SF"`` or as
            a mapping.
        channel: whether children have dynamic channel attention.
        filter: whether children have static filter attention.
        spatial: whether children have static spatial attention.
        reductions: of channel attention, a number for each convolution of a block that is shared: 4, ``"4,24"``.
        scale: by which the backbone's published widths are multiplied.
        outputs: ``"logits"``, or ``"features"`` for the backbone's stage outputs C2 to C5, or some: ``"C3,C4,C5"``.
        temperature: of DY-Conv's attention over kernels, which no checkpoint holds.
        multiplier: of KARST's adapters, which no checkpoint holds; 1 unless it is said.
        base: checkpoint of the network that adapters were trained on, where the checkpoint holds these alone.
    """

    layout: str | Mapping[str, str] | None
    channel: bool | None
    filter: bool | None
    spatial: bool | None
    reductions: int | str | Sequence[int] | None
    scale: float | None
    outputs: str | Sequence[str] | None
    temperature: float | None
    multiplier: float | None
    base: str | os.PathLike[str] | None


@dataclass(frozen=True)
class Configuration:
    """What was said, checked as far as it can be without a network; None where nothing was. See `Words`.

    Raises:
        UsageError: it makes no sense.
    """

    arch: str | None = None
    layout: str | None = None
    channel: bool | None = None
    filter: bool | None = None
    spatial: bool | None = None
    reductions: tuple[int, ...] | None = None
    scale: float | None = None
    outputs: tuple[str, ...] | None = None
    temperature: float | None = None
    multiplier: float | None = None
    base: str | None = None

    def __post_init__(self) -> None:
        if self.multiplier is not None and not 0 < abs(self.multiplier) <= _LARGEST_MULTIPLIER:  # nor NaN
            most = f"other than 0 and up to {_LARGEST_MULTIPLIER}"
            raise UsageError(f"`multiplier` {self.multiplier:g} is no number {most}, such as 0.5.")
        heat = self.temperature
        if heat is not None and not 0 < heat <= _LARGEST_TEMPERATURE:  # nor NaN
            most = f"above 0 and up to {_LARGEST_TEMPERATURE}"
            raise UsageError(f"`temperature` {heat:g} is no number {most}, such as 30.")
        for layout in self._pairs.values():
            try:
                parse_layout(layout)
            except ArchitectureError as error:
                raise UsageError(str(error)) from None

    def __bool__(self) -> bool:
        return any(value is not None for value in self._said.values())

    def __str__(self) -> str:
        """``resnet18, layout FS-FSF, no spatial attention``."""
        said = []
        for name, value in self._said.items():
            if isinstance(value, bool):
                said.append(f"{'' if value else 'no '}{name} attention")
            elif value is not None:
                several = (value or (LOGITS,)) if isinstance(value, tuple) else str(value).split(",")
                told = ", ".join(map(str, several))
                said.append(told if name == "arch" else f"{name} {told}")
        return ", ".join(said)

    @property
    def _said(self) -> dict[str, Any]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self)}

    @property
    def files(self) -> tuple[Path, ...]:
        """What no output may replace."""
        return () if self.base is None else (Path(self.base),)

    @property
    def of_sharing(self) -> tuple[str, ...]:
        """The words that were said and make sense for a network that shares kernels alone."""
        return tuple(name for name, value in self._said.items() if value is not None and name not in _OF_ALL)

    @property
    def _pairs(self) -> dict[str, str]:
        """Stage → layout; the stage is empty where the layout is that of every stage."""
        if self.layout is None:
            return {}
        split = [part.rpartition("=") for part in self.layout.split(",")]
        pairs = {stage.strip(): layout.strip() for stage, _, layout in split}
        nameless = any(separator and not stage.strip() for stage, separator, _ in split)
        if nameless or len(pairs) != len(split) or (len(pairs) > 1 and "" in pairs):
            raise UsageError(f"`layout` '{self.layout}' is neither one layout nor one a stage, such as layer3=FS-FSF.")
        return pairs

    def layouts(self, stages: Collection[str], published: Mapping[str, str]) -> dict[str, str]:
        """Stage → layout of a backbone whose `stages` can share kernels, those `published` where nothing was said.

        Raises:
            UsageError: there is no such stage.
        """
        pairs = self._pairs
        if "" in pairs:
            return dict.fromkeys(published, pairs[""])
        strange = next((stage for stage in pairs if stage not in stages), None)
        if strange is not None:
            raise UsageError(f"There is no stage '{strange}' for a `layout`; the stages are {', '.join(stages)}.")
        return pairs or dict(published)

    def attentions(self, there_are: frozenset[Attention], trained: frozenset[Attention]) -> frozenset[Attention]:
        """Of the attentions that `there_are`, those said to be there, and those `trained` where nothing was said.

        Raises:
            UsageError: one is said to be there that the architecture cannot have.
        """
        said: dict[Attention, bool | None] = {
            "channel": self.channel,
            "filter": self.filter,
            "spatial": self.spatial,
        }
        strange = next((name for name, value in said.items() if value and name not in there_are), None)
        if strange is not None:
            raise UsageError(f"Kernels that are shared here have no {strange} attention; leave `{strange}` out.")
        return frozenset(name for name, value in said.items() if (name in trained if value is None else value))

    def over(self, other: Configuration) -> Configuration:
        """This, and what `other` says where this says nothing."""
        mine = {name: value for name, value in self._said.items() if value is not None}
        return Configuration(**{**other._said, **mine})


UNSAID = Configuration()


def configured(arch: Configuration | str | None, words: Words | None = None) -> Configuration:
    """An architecture's name and further `words` as people say them.

    Raises:
        UsageError: they make no sense.
        TypeError: there is no such word.
    """
    if isinstance(arch, Configuration):
        return arch
    said: dict[str, Any] = {"arch": arch, **(words or {})}
    said["layout"] = _layout(said.get("layout"))
    said["reductions"] = _reductions(said.get("reductions"))
    said["scale"] = _scale(said.get("scale"))
    said["outputs"] = stage_outputs(said.get("outputs"))
    said["base"] = None if said.get("base") is None else os.fspath(said["base"])
    return Configuration(**said)


def beside(checkpoint: Path) -> tuple[Configuration, Path | None]:
    """What the file beside `checkpoint` says, and where it lies; nothing where there is none.

    A base is named as it lies from there.

    Raises:
        ArchitectureError: it cannot be read, or says what makes no sense.
    """
    path = checkpoint.with_name(stem(checkpoint) + BESIDE)
    if not path.is_file():
        return UNSAID, None
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise ValueError("it is too long")
        said = _checked(json.loads(path.read_text(encoding="utf-8")))
    except (KdnaError, OSError, RecursionError, ValueError) as error:
        why = str(getattr(error, "strerror", None) or error).rstrip(".")
        raise ArchitectureError(f"'{path}' describes no architecture: {why}; mend it, or remove it.") from error
    return (replace(said, base=str(path.parent / said.base)) if said.base else said), path


# Words that are of several types are looked at as those of a user are.
_WORDS = record(
    {},
    {
        "arch": text(r".+", most=_LONGEST_WORD),
        "layout": anything,
        **dict.fromkeys(("channel", "filter", "spatial"), boolean),
        "reductions": anything,
        "scale": number,
        "outputs": anything,
        "temperature": number,
        "multiplier": number,
        "base": text(r".+", most=_LONGEST_WORD),
    },
)
_NAMES = tuple(entry.name for entry in fields(Configuration))


def _checked(content: Any) -> Configuration:
    said = _WORDS(content)
    strange = next((name for name in content if name not in _NAMES), None)
    if strange is not None:
        raise UsageError(f"there is no word '{shown(strange)[:_LONGEST_NAME]}', only {', '.join(_NAMES)}")
    return configured(said.pop("arch", None), said)  # type: ignore[arg-type]


def _layout(value: Any) -> str | None:
    if isinstance(value, Mapping):
        value = ",".join(f"{stage}={layout}" for stage, layout in value.items())
    if value is not None and (not isinstance(value, str) or not is_plain(value) or len(value) > _LONGEST_WORD):
        raise UsageError("`layout` is no text such as FS-SF-SF; give one, or leave it out.")
    return value


def _reductions(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    given = value.split(",") if isinstance(value, str) else value if isinstance(value, (list, tuple)) else [value]
    whole = [str(one).strip() for one in given]
    if not whole or not all(re.fullmatch(r"[1-9][0-9]{0,4}", one) for one in whole):
        raise UsageError(f"`reductions` '{value}' are no whole numbers from 1 such as 4, or 4,24.")
    return tuple(map(int, whole))


def _scale(value: Any) -> float | None:
    if value is None:
        return None
    if not math.isfinite(value) or not 0 < value <= _LARGEST_SCALE:
        raise UsageError(f"`scale` {value:g} is no number above 0 and up to {_LARGEST_SCALE}, such as 0.5.")
    return float(value)
