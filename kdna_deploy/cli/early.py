"""Ctrl-C while the command line itself is being imported, a tenth of a second in which there is nothing to clean up.

A handler that ends the process at once: an exception in the middle of an import goes where nobody expects it. Imports
next to nothing, so that it is there first; `signals` takes its place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType

_CODE = 128 + signal.SIGINT
# As `failure` has it, which may be half imported.
_DOCUMENT = f"""{{
  "schema_version": 1,
  "kind": "error",
  "error": {{
    "kind": "Interrupted",
    "code": {_CODE},
    "message": "interrupted."
  }}
}}
"""


def end_at_once() -> None:
    """Let Ctrl-C end the process with its sentence and exit code, from now on; where it is ignored, it stays so."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


@contextlib.contextmanager
def raising_again() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt as ever, where `end_at_once` has been called."""
    early = signal.getsignal(signal.SIGINT) is _end
    if early:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if early:
            signal.signal(signal.SIGINT, _end)


def _end(number: int, frame: FrameType | None) -> None:
    _tell(2, "error: interrupted.\n")
    if "--json" in sys.argv:
        _tell(1, _DOCUMENT)
    os._exit(_CODE)


def _tell(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):  # it is closed
        os.write(descriptor, text.encode())
