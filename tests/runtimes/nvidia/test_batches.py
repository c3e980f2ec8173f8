"""Batch ranges as they are typed, and how they meet a file's own batch size."""

from __future__ import annotations

import pytest

from kdna_deploy.errors import UsageError
from kdna_deploy.runtimes.nvidia.batches import DEFAULT_BATCHES, Batches, fit_batches, parse_batches


@pytest.mark.parametrize(
    ("text", "batches"), [("1:8:128", Batches(1, 8, 128)), ("8", Batches(8, 8, 8)), ("4:4:4", Batches(4, 4, 4))]
)
def test_a_range_or_one_number_is_read(text: str, batches: Batches) -> None:
    assert parse_batches(text) == batches
    assert parse_batches(str(batches)) == batches


@pytest.mark.parametrize("text", ["", "1:8", "1:8:128:256", "a", "1:b:3", "-1", "1.5", "8:", "1_0", "٨"])
def test_anything_else_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="1:8:128") as caught:
        parse_batches(text)
    assert f"'{text}'" in str(caught.value)


@pytest.mark.parametrize("text", ["0", "8:1:128", "1:128:8", "0:1:2"])
def test_a_range_out_of_order_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not in order"):
        parse_batches(text)


def test_a_dynamic_file_takes_the_range_that_is_asked_for() -> None:
    assert fit_batches(None, None, "net.onnx") == DEFAULT_BATCHES
    assert fit_batches(Batches(1, 2, 4), None, "net.onnx") == Batches(1, 2, 4)


def test_a_fixed_file_has_one_size_and_refuses_others() -> None:
    assert fit_batches(None, 8, "net.onnx") == fit_batches(Batches(8, 8, 8), 8, "net.onnx") == Batches(8, 8, 8)
    for other in (Batches(4, 4, 4), Batches(1, 8, 8)):
        with pytest.raises(UsageError, match=r"'net.onnx' has a fixed batch of 8.*leave `batch` out"):
            fit_batches(other, 8, "net.onnx")


def test_an_engine_takes_what_lies_in_its_range() -> None:
    for size in (2, 4, 8):
        Batches(2, 4, 8).check(size, "net.engine")
    for size in (1, 9):
        with pytest.raises(UsageError, match=rf"batches of 2 to 8 and cannot run on {size};"):
            Batches(2, 4, 8).check(size, "net.engine")
    with pytest.raises(UsageError, match="batches of 8 and cannot run on 7"):
        Batches(8, 8, 8).check(7, "net.engine")
