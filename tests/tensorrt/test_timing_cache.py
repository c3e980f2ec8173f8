"""Where timings are kept: apart for each library version and GPU."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import pytest

from kdna_deploy.tensorrt.gpu import Gpu
from kdna_deploy.tensorrt.library import LIBRARIES, OpenedLibrary
from kdna_deploy.tensorrt.log import listening
from kdna_deploy.tensorrt.timing_cache import cache_folder, cache_path, timing_cache


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


def test_a_library_that_gives_no_cache_back_keeps_none(
    rtx: OpenedLibrary, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TensorRT-RTX takes a cache and then has none, as TensorRT does with a build that cannot keep one."""
    monkeypatch.setenv("KDNA_CACHE", str(tmp_path / "own"))
    timing = replace(rtx, library=LIBRARIES["tensorrt"], gpu=Gpu("A GPU", "8.9"))
    with listening(rtx) as (logger, _):
        config = rtx.trt.Builder(logger).create_builder_config()
        with warnings.catch_warnings(), timing_cache(timing, config):
            warnings.simplefilter("ignore")  # that timing caches are of no use to it
            assert config.get_timing_cache() is None
    assert list(tmp_path.iterdir()) == []
