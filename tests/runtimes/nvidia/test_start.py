"""A builder or runtime that cannot be had ends in one sentence."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.runtimes.nvidia.library import OpenedLibrary
from kdna_deploy.runtimes.nvidia.log import listening
from kdna_deploy.runtimes.nvidia.start import started


def refused(_: object) -> None:
    raise TypeError("pybind11::init(): factory function returned nullptr")


def broken(_: object) -> None:
    raise RuntimeError("CUDA initialization failure with error: 35\nmore")


def nothing(_: object) -> None:
    return None


@pytest.mark.parametrize("constructor", [refused, broken, nothing])
@pytest.mark.parametrize("kind", ["Builder", "Runtime"])
def test_what_cannot_start_says_so(rtx: OpenedLibrary, constructor: object, kind: str) -> None:
    with listening(rtx) as (logger, messages):
        messages.add("ERROR", "[initLibrary.cpp::f::52] Error Code 6: no driver")
        opened = replace(rtx, trt=SimpleNamespace(**{kind: constructor}))
        with pytest.raises(
            RuntimeFailure, match=r"TensorRT-RTX cannot start: .*no driver; check the GPU's driver"
        ) as error:
            started(opened, kind, logger, messages)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_the_library_at_hand_starts(rtx: OpenedLibrary) -> None:
    with listening(rtx) as (logger, messages):
        assert isinstance(started(rtx, "Builder", logger, messages), rtx.trt.Builder)
