"""Pinning takes the idlest of the cores that this process may use, and gives all of them back."""

from __future__ import annotations

import psutil
import pytest

from kdna_deploy.benchmark import affinity
from kdna_deploy.benchmark.affinity import pinned

ALLOWED = psutil.Process().cpu_affinity() if hasattr(psutil.Process, "cpu_affinity") else []
needs_two = pytest.mark.skipif(len(ALLOWED) < 2, reason="there is one core, or no affinity")


def loaded(monkeypatch: pytest.MonkeyPatch, busiest: int) -> None:
    """All cores idle but one."""
    load = [90.0 if core == busiest else 10.0 for core in range(max(ALLOWED) + 1)]
    monkeypatch.setattr(affinity.psutil, "cpu_percent", lambda interval, percpu: load)


@needs_two
@pytest.mark.parametrize("busy", [0, 1])
def test_the_process_is_on_the_idlest_core_and_on_no_other(monkeypatch: pytest.MonkeyPatch, busy: int) -> None:
    loaded(monkeypatch, ALLOWED[busy])
    with pinned(1) as cores:
        assert psutil.Process().cpu_affinity() == list(cores)
        assert len(cores) == 1 and cores[0] != ALLOWED[busy]
    assert psutil.Process().cpu_affinity() == ALLOWED


@needs_two
def test_two_threads_have_two_cores_whose_numbers_are_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(monkeypatch, ALLOWED[0])
    with pinned(2) as cores:
        assert list(cores) == sorted(psutil.Process().cpu_affinity()) and len(cores) == 2
        assert len(ALLOWED) > 2 or list(cores) == ALLOWED
    assert psutil.Process().cpu_affinity() == ALLOWED


@needs_two
def test_the_cores_are_given_back_after_an_error() -> None:
    with pytest.raises(KeyboardInterrupt), pinned(1):
        raise KeyboardInterrupt
    assert psutil.Process().cpu_affinity() == ALLOWED
