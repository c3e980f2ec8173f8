"""Opening a library: what is missing is said in one sentence, with the command that gets it."""

from __future__ import annotations

import pytest

from kdna_deploy.errors import RuntimeFailure, UsageError
from kdna_deploy.runtimes.nvidia.library import LIBRARIES, OpenedLibrary, check_version, library, open_library
from tests.gpu import no_gpu


def test_a_library_that_is_not_installed_is_named_with_its_install_command() -> None:
    if LIBRARIES["tensorrt"].missing is None:
        pytest.skip("TensorRT is installed")
    with pytest.raises(RuntimeFailure) as caught:
        open_library("tensorrt")
    assert str(caught.value) == "TensorRT is not installed; run: pip install 'kdna-deploy[tensorrt]'."
    assert caught.value.exit_code == 4


def test_an_unknown_library_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="choose from tensorrt, tensorrt-rtx"):
        library("tensorflow")


@pytest.mark.parametrize(
    ("name", "version"), [("tensorrt", v) for v in ("10.0.1", "10.16.1.11", "11.4.0.106")] + [("tensorrt-rtx", "1.7.1")]
)
def test_versions_within_the_range_fit(name: str, version: str) -> None:
    check_version(library(name), version)


@pytest.mark.parametrize(
    ("name", "version"),
    [
        *(("tensorrt", version) for version in ("9.9.1", "12.0.0", "?")),
        *(("tensorrt-rtx", version) for version in ("1.6.1.120", "2.0")),
    ],
)
def test_other_versions_are_refused_with_the_range_and_the_install_command(name: str, version: str) -> None:
    entry = library(name)
    with pytest.raises(RuntimeFailure) as caught:
        check_version(entry, version)
    message = str(caught.value)
    assert message.startswith(f"{entry.title} {version} is installed, but a version from ")
    assert message.endswith(f"run: {entry.install}.")


def test_the_two_libraries_write_engines_of_different_names() -> None:
    suffixes = [entry.suffix for entry in LIBRARIES.values()]
    assert suffixes == [".engine", ".rtx.engine"]


def test_building_ahead_of_time_needs_no_gpu(rtx: OpenedLibrary) -> None:
    assert rtx.gpu is None
    assert rtx.version == rtx.trt.__version__


def test_running_an_engine_without_a_gpu_is_refused_with_the_reason(rtx: OpenedLibrary) -> None:
    reason = no_gpu()
    if reason is None:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeFailure) as caught:
        open_library("tensorrt-rtx", to_build=False)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("on a machine with an NVIDIA GPU.")
