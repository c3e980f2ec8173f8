"""What others say, cut down to what fits into a sentence of ours."""

from __future__ import annotations

import re

_LONGEST = 240


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, without its full stop; its type where it has no message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    sentence = re.split(r"[.!?]\s+(?=[A-Z])", lines[0])[0].rstrip(".:")
    return sentence if len(sentence) <= _LONGEST else sentence[:_LONGEST] + "…"
