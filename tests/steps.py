"""What a command says on stderr beside the lines that tell a log which step it is at."""

from __future__ import annotations

import re

_STEP = re.compile(r"^\[\d+/\d+\] .* … \(\d+ s\)\n", re.MULTILINE)


def without_steps(text: str) -> str:
    """`text` without the lines of steps: ``[3/6] verify … (4 s)``."""
    return _STEP.sub("", text)
