"""What others say, cut down to what fits into a sentence of ours."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_LONGEST = 240


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, without its full stop; its type where it has no message.

    Backticks become quotes: in sentences of ours they name parameters.
    """
    lines = [line.strip() for line in str(error).replace("`", "'").splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    sentence = re.split(r"[.!?]\s+(?=[A-Z])", lines[0])[0].rstrip(".:")
    return sentence if len(sentence) <= _LONGEST else sentence[:_LONGEST] + "…"


def parameters(names: Sequence[str]) -> str:
    """Of verbs, as sentences of ours name them: ```mean`, `std` and `crop```."""
    *some, last = (f"`{name}`" for name in names)
    return f"{', '.join(some)} and {last}" if some else last


def said(words: Mapping[str, object]) -> list[str]:
    """Names of those of a verb's arguments that are not None, for `parameters`; False with its value."""
    return [f"{name}=False" if value is False else name for name, value in words.items() if value is not None]


def counted(number: int, one: str, many: str | None = None) -> str:
    """``3 images``, ``1 image``."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"
