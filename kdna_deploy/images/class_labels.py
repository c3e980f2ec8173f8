"""Names of classes, as a data set has them → labels, the places in what the network answers.

    label = the number, where every name is a number
          = the place among the sorted WordNet ids of `synsets`, where these are given and every name is such an id
          = the place among the names that the checkpoint records, where it records any
          = the place in the sorted list of names otherwise, as PyTorch's ImageFolder counts

Names that a list of ids or a record lacks are of classes that the network does not know. WordNet ids where the
checkpoint records words are counted in their own order, which is that of ImageNet's networks. What could be read in
two ways is refused: numbers beside words, `1` beside `01`, `Cat` beside `cat`.

Does not apply to names that are recorded nowhere where some of the network's classes are missing: their places in the
list would not be their classes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kdna_deploy.errors import InputError

WORDNET = re.compile(r"n[0-9]{8}")
_NAMED = 3


@dataclass(frozen=True)
class ClassLabels:
    """Classes and their labels.

    Attributes:
        labels: label → name.
        by: what tells the label.
        unknown: names of classes that the network does not know.
        count: how many classes the network must have; None where the labels alone tell.
    """

    labels: dict[int, str]
    by: Literal["number", "synset", "record", "place"]
    unknown: tuple[str, ...] = ()
    count: int | None = None

    @property
    def named(self) -> str:
        """By what the classes are named, for people."""
        if self.by == "number":
            return "numbers"
        return "WordNet ids" if all(map(WORDNET.fullmatch, self.labels.values())) else "words"

    def fit(self, outputs: int) -> bool:
        """Whether they can be classes of a network with so many outputs."""
        return max(self.labels) < outputs and self.count in (None, outputs)


def class_labels(
    names: Sequence[str],
    where: Path,
    what: str = "class folders",
    empty: Sequence[str] = (),
    recorded: Sequence[str] = (),
    synsets: Sequence[str] = (),
) -> ClassLabels:
    """The labels of the classes `names`, which `where` has as its `what`.

    `empty` are names of classes without images, `recorded` those of the network's classes, `synsets` its WordNet ids.

    Raises:
        InputError: they can be read in two ways, or the network knows none of them.
    """
    numbers, words = [n for n in names if _is_number(n)], [n for n in names if not _is_number(n)]
    if numbers and words:
        raise InputError(
            f"'{where}' has {what} named by numbers ({listed(numbers)}) and by words ({listed(words)}); name "
            "all of them in one way."
        )
    if numbers:
        _check_different(numbers, int, where, what)
        return ClassLabels({int(name): name for name in sorted(numbers, key=int)}, "number")
    _check_different(words, _folded, where, what)
    if synsets and _are_ids(words):
        return _known(words, sorted(set(synsets)), "synset", f"The list of WordNet ids has {len(set(synsets))}", where)
    if recorded and not (_are_ids(words) and not any(map(WORDNET.fullmatch, recorded))):
        _check_once(words, recorded, where, what)
        says = f"The checkpoint records {len(recorded)} classes ({listed(recorded)})"
        return _known(words, recorded, "record", says, where)
    places = sorted([*words, *empty])
    return ClassLabels({places.index(name): name for name in sorted(words)}, "place", count=len(places))


def listed(names: Sequence[str]) -> str:
    """The first few names, for a sentence."""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + (", …" if len(names) > _NAMED else "")


def _known(
    names: Sequence[str], order: Sequence[str], by: Literal["synset", "record"], says: str, where: Path
) -> ClassLabels:
    place = {name: label for label, name in enumerate(order)}
    unknown = tuple(name for name in names if name not in place)
    if len(unknown) == len(names):
        raise InputError(f"{says}, and none named {listed(unknown)} as in '{where}'; rename the classes.")
    labels = {place[name]: name for name in sorted(set(names) - set(unknown), key=lambda name: place[name])}
    return ClassLabels(labels, by, unknown, len(order) if by == "synset" else None)


def _check_once(names: Sequence[str], recorded: Sequence[str], where: Path, what: str) -> None:
    twice = [name for name in names if recorded.count(name) > 1]  # ImageNet has two cranes
    if twice:
        raise InputError(
            f"Of the recorded classes several are called {listed(twice)}; name the {what.split()[-1]} in '{where}' "
            "by the numbers of their classes."
        )


def _check_different(names: Sequence[str], key: Callable[[str], object], where: Path, what: str) -> None:
    seen: dict[object, str] = {}
    for name in names:
        if key(name) in seen:
            raise InputError(
                f"The {what} '{seen[key(name)]}' and '{name}' of '{where}' would be one class; rename or join them."
            )
        seen[key(name)] = name


def _are_ids(names: Sequence[str]) -> bool:
    return all(map(WORDNET.fullmatch, names))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal()


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
