"""A file of WordNet ids → the ids of ImageNet's classes, and which has which of ILSVRC's own numbers.

    n02119789 1 kit_fox⏎ …        map_clsloc.txt of the development kit: the only form that tells ILSVRC's numbers
    n01440764 tench, …⏎ …         LOC_synset_mapping.txt, synset_words.txt: the ids alone
    {"0": ["n01440764", …], …}    imagenet_class_index.json: the ids alone

Networks count classes in the order of the sorted ids, whatever the order of the file.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from kdna_deploy.errors import InputError
from kdna_deploy.input_files import check_regular

_LARGEST_FILE = 16 << 20  # bytes
_ID = re.compile(r"\bn[0-9]{8}\b")
_NUMBERED = re.compile(r"\s*(?:(n[0-9]{8})[\s,;]+([0-9]{1,6})|([0-9]{1,6})[\s,;]+(n[0-9]{8}))\b")


@dataclass(frozen=True)
class Synsets:
    """WordNet ids of a network's classes, sorted. `of_number`: ILSVRC's number, as text → id; empty if not told."""

    ids: tuple[str, ...]
    of_number: dict[str, str] = field(default_factory=dict)


def read_synsets(path: Path) -> Synsets:
    """The ids in the file at `path`.

    Raises:
        InputError: it holds none, or one twice.
    """
    check_regular(path)
    text = path.read_bytes()[:_LARGEST_FILE].decode("utf-8", "replace")
    ids = _ID.findall(text)
    if not ids or len(set(ids)) < len(ids):
        why = "holds no WordNet ids such as n01440764" if not ids else "names a WordNet id twice"
        raise InputError(f"'{path}' {why}; give a file with the id of each class once.")
    found = [match for line in text.splitlines() if (match := _NUMBERED.match(line))]
    numbered = {str(int(match[2] or match[3])): match[1] or match[4] for match in found}
    told = [numbered.get(str(n), "") for n in range(1, len(ids) + 1)]
    # In the order of the ids they are somebody's own numbers: ILSVRC's are not.
    return Synsets(tuple(sorted(ids)), {} if "" in told or told == sorted(ids) else numbered)
