"""Files of ncnn, MNN and LiteRT, damaged: refused before their runtimes, some of which crash over them, see them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from kdna_deploy.verbs.own_formats import missing
from tests.hostile_inputs.case import INPUT, OK, Case
from tests.hostile_inputs.damage import cuts, flips
from tests.hostile_inputs.samples import CHECKPOINT, LITERT, MNN, MODEL, NCNN, NCNN_WEIGHTS, content

# The format → the sample that is damaged, the name that it gets, and what lies beside it.
_FILES = (
    ("mnn", "MNN file, damaged", MNN, "case.mnn", {}),
    ("litert", "LiteRT file, damaged", LITERT, "case.tflite", {}),
    ("ncnn", "ncnn file, damaged", NCNN, "case.param", {"case.bin": NCNN_WEIGHTS}),
    ("ncnn", "ncnn file, weights damaged", NCNN_WEIGHTS, "case.bin", {"case.param": NCNN}),
)


def cases() -> Iterator[Case]:
    for form, family, source, name, beside in _FILES:
        if missing(form):
            continue
        model = next(one for one in (name, *beside) if not one.endswith(".bin"))
        readers = (("verify", model, "--against", CHECKPOINT, *MODEL), ("inspect", model))
        # Where the digest of an ncnn file is cut away, layers and weights are those that were written.
        codes = frozenset({OK, INPUT} if source == NCNN else {INPUT})
        for number, (what, data) in enumerate((*flips(source, 60), *cuts(source, 20))):
            yield Case(family, what, readers[number % 2], _laid(name, data, beside), codes)


def _laid(name: str, data: bytes, beside: dict[str, str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        for other, source in beside.items():
            (folder / other).write_bytes(content(source))
        (folder / name).write_bytes(data)

    return make
