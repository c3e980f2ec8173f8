"""What a library says, in a form to show."""

from __future__ import annotations

import pytest

from kdna_deploy.runtimes.nvidia.library import OpenedLibrary
from kdna_deploy.runtimes.nvidia.log import Messages, Notice, listening, summarise


def test_warnings_are_counted_and_the_frequent_ones_come_first() -> None:
    assert summarise(["once", "twice.", "twice.\nand more"]) == (Notice("twice", 2), Notice("once", 1))


@pytest.mark.parametrize(
    ("logged", "shown"),
    [
        (
            "[checks.cpp::catchCudaError::250] Error Code 1: Cuda Runtime (In f at /_src/c.cpp:2 (cudaError 35))",
            "(cudaError 35)",
        ),
        ("IBuilder::buildSerializedNetwork: Error Code 10: no kernel for node a", "no kernel for node a"),
        ("Myelin ([pass.cpp:337: check] Cannot compile 'a'. )", "Cannot compile 'a'"),
        ("[a.cpp::f::1] Out of memory\nsecond line", "Out of memory"),
    ],
)
def test_a_cause_is_told_without_its_place_in_the_library(logged: str, shown: str) -> None:
    messages = Messages()
    messages.add("ERROR", logged)
    messages.add("ERROR", "what followed from it")
    assert shown in messages.cause()
    assert "cpp" not in messages.cause()
    assert "\n" not in messages.cause()


def test_severities_are_kept_apart() -> None:
    messages = Messages()
    for severity in ("VERBOSE", "INFO", "WARNING", "ERROR", "INTERNAL_ERROR"):
        messages.add(severity, f"{severity}: Name: a, LayerType: b")
    assert (len(messages.warnings), len(messages.errors), len(messages.details)) == (1, 2, 2)


def test_the_one_logger_serves_whoever_listens(rtx: OpenedLibrary) -> None:
    warning = rtx.trt.ILogger.WARNING
    with listening(rtx) as (outer_logger, outer):
        outer_logger.log(warning, "a")
        with listening(rtx) as (inner_logger, inner):
            inner_logger.log(warning, "b")
        outer_logger.log(warning, "c")
    outer_logger.log(warning, "nobody listens")
    assert outer_logger is inner_logger
    assert (outer.warnings, inner.warnings) == (["a", "c"], ["b"])
