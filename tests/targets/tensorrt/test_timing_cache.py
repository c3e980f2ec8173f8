"""Where timings are kept: apart for each library version and GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdna_deploy.runtimes.nvidia.gpu import Gpu
from kdna_deploy.runtimes.nvidia.library import LIBRARIES, OpenedLibrary
from kdna_deploy.runtimes.nvidia.log import listening
from kdna_deploy.targets.tensorrt.timing_cache import cache_folder, cache_path, timing_cache


def test_versions_and_gpus_have_files_of_their_own(tmp_path: Path) -> None:
    keys = [
        ("tensorrt", "10.1.0", "NVIDIA A10"),
        ("tensorrt", "10.2.0", "NVIDIA A10"),
        ("tensorrt", "10.1.0", "NVIDIA A100/40"),
    ]
    paths = {cache_path(tmp_path, *key) for key in keys}
    assert len(paths) == 3
    assert {path.parent for path in paths} == {tmp_path}


def test_the_folder_can_be_chosen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KDNA_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("KDNA_CACHE")
    assert cache_folder().name == "kdna-deploy"


def test_building_ahead_of_time_keeps_no_timings(
    rtx: OpenedLibrary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KDNA_CACHE", str(tmp_path / "own"))
    with listening(rtx) as (logger, _), timing_cache(rtx, rtx.trt.Builder(logger).create_builder_config()) as path:
        assert path is None
    assert list(tmp_path.iterdir()) == []


class Config:
    """A builder configuration that lacks a part of its timing cache."""

    def __init__(self, created: object = b"", taken: bool = True, returned: object = None) -> None:
        self._created, self._taken, self._returned = created, taken, returned

    def create_timing_cache(self, _: bytes) -> object:
        return self._created

    def set_timing_cache(self, _: object, ignore_mismatch: bool) -> bool:
        return self._taken

    def get_timing_cache(self) -> object:
        return self._returned


@pytest.mark.parametrize(
    ("config", "named"),
    [
        (Config(created=None), False),
        (Config(taken=False), False),
        (Config(returned=None), True),
        (Config(returned=SimpleNamespace(serialize=lambda: None)), True),
    ],
)
def test_a_library_without_a_cache_costs_time_and_nothing_else(
    rtx: OpenedLibrary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, config: Config, named: bool
) -> None:
    monkeypatch.setenv("KDNA_CACHE", str(tmp_path / "own"))
    timing = replace(rtx, library=LIBRARIES["tensorrt"], gpu=Gpu("A GPU", "8.9"))
    with timing_cache(timing, config) as path:
        assert (path is not None) == named
    assert list(tmp_path.iterdir()) == []
