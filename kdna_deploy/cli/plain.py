"""Text of others (names of files, layers, classes; messages of libraries) as what it is: no markup, no control.

What it could do to a terminal, and what would make two lines of a sentence, is written out: ``\\x1b``, ``\\n``.
"""

from __future__ import annotations

from rich.markup import escape

CONTROL = {code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160)) if chr(code) != "\n"}


def plain(text: str) -> str:
    """`text` without a meaning for rich or for a terminal, and on the line that it is part of."""
    return escape(text.replace("\n", "\\n").translate(CONTROL))
