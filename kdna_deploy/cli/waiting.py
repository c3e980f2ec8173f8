"""How PyTorch's threads wait for each other while a command runs: asleep, on an idle machine after a moment.

OpenMP lets them spin. Beside other work they then hold up the threads that they wait for: a network of small layers
took ten times as long as on one thread. Where nothing else runs as the command starts, they spin for about as long as
waking up takes, less than OpenMP's own choice, and sleep after that.

    mean ms of an inference of a MobileNetV2 0.5× at 64×64, two threads of an AMD EPYC with AVX2, a virtual machine
                              idle    beside two other processes
    asleep at once            55      31
    after 5,000 turns         12      82
    after 100,000 turns       11      396

A user's own environment stays. Does not apply to `bench` and `sweep`, which measure runtimes as their users have them,
and not after PyTorch has been imported.
"""

from __future__ import annotations

import os
from pathlib import Path

_POLICY, _TURNS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"  # the second one of GNU's OpenMP, which Linux has
_WAKING_UP = 5000
_LOAD = Path("/proc/loadavg")


def wait_asleep() -> None:
    """To be called before PyTorch is imported."""
    if _POLICY not in os.environ:
        os.environ[_POLICY] = "PASSIVE"
        if _alone():
            os.environ.setdefault(_TURNS, str(_WAKING_UP))


def _alone() -> bool:
    """Whether nothing but this process runs now; false where the system does not tell."""
    try:
        running, _, _ = _LOAD.read_text().split()[3].partition("/")
        return int(running) <= 1
    except (OSError, ValueError, IndexError):
        return False
