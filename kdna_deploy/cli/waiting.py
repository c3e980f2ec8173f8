"""How PyTorch's threads wait for each other while a command runs: for as long as waking up takes, then asleep.

OpenMP lets them spin. Beside other work they then hold up the threads that they wait for: a network of small layers
took ten times as long as on one thread. Asleep from the start they take some microseconds a layer to wake up, and on an
idle virtual machine a hundred: a MobileNetV2 0.5× took 55 ms in place of 11. Who spins for as long as that and sleeps
then waits at most twice as long as who knew.

    ms of an inference on two threads of an AMD EPYC with AVX2       idle    beside two other processes
    asleep at once (0)                                               55      20 to 31
    after 5,000 turns                                                11      87
    after 100,000 turns                                              11      396

A user's own environment stays.

Does not apply to `bench` and `sweep`, which measure runtimes as their users have them, and not after PyTorch
has been imported.
"""

from __future__ import annotations

import os

_POLICY, _TURNS = "OMP_WAIT_POLICY", "GOMP_SPINCOUNT"  # the second one of GNU's OpenMP, which Linux has
_WAKING_UP = 5000


def wait_asleep() -> None:
    """To be called before PyTorch is imported."""
    if _POLICY not in os.environ:
        os.environ[_POLICY] = "PASSIVE"
        os.environ.setdefault(_TURNS, str(_WAKING_UP))
