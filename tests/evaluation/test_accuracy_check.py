"""When an accuracy falls short of the recorded one by more than chance explains."""

from __future__ import annotations

import math

import pytest

from kdna_deploy.evaluation.accuracy_check import LIKELY, at_most, find_shortfall, recorded_share


@pytest.mark.parametrize(("images", "share"), [(1, 0.5), (7, 0.3), (50, 0.992), (40, 0.01)])
def test_the_tail_of_the_binomial_distribution_is_that_of_its_definition(images: int, share: float) -> None:
    total = 0.0
    for right in range(images + 1):
        total += math.comb(images, right) * share**right * (1 - share) ** (images - right)
        assert at_most(right, images, share) == pytest.approx(total, rel=1e-9)
    assert total == pytest.approx(1.0)


def test_many_images_are_no_trouble() -> None:
    assert at_most(37_500, 50_000, 0.75) == pytest.approx(0.5, abs=0.01)
    assert at_most(37_000, 50_000, 0.75) < 1e-6
    assert at_most(0, 50_000, 0.999) == 0.0


@pytest.mark.parametrize(
    ("right", "images", "recorded", "short"),
    [
        (50, 50, 99.72, False),
        (47, 50, 99.17, True),  # three misses where 0.4 are expected
        (48, 50, 99.17, False),
        (6, 50, 99.72, True),
        (49, 50, 100.0, False),
        (46, 50, 100.0, True),
        (93, 100, 99.2, True),
        (70, 100, 76.0, False),
        (35_000, 50_000, 76.0, True),
        (6, 50, 0.9972, True),  # a share
        (6, 50, None, False),
        (0, 50, 0.0, False),
        (50, 50, 12.0, False),
        (6, 50, 1e9, False),
        (6, 50, -3.0, False),
        (0, 0, 99.0, False),
    ],
)
def test_only_what_chance_does_not_explain_is_a_shortfall(
    right: int, images: int, recorded: float | None, short: bool
) -> None:
    assert (find_shortfall(right, images, recorded) is not None) is short


def test_the_limit_is_one_in_a_hundred() -> None:
    for images in (20, 200):
        for right in range(images + 1):
            assert (find_shortfall(right, images, 90.0) is not None) == (at_most(right, images, 0.9) < LIKELY)


def test_the_sentence_has_both_accuracies_and_the_rule() -> None:
    shortfall = find_shortfall(6, 50, 99.72)
    assert shortfall is not None
    assert shortfall.text == (
        "top-1 is 12.00% where the checkpoint records 99.72%: with that accuracy fewer than 1 in 100 samples of 50 "
        "images would have so few right"
    )


def test_a_share_is_read_as_one() -> None:
    assert [recorded_share(value) for value in (0.5, 1.0, 76.0, 100.0, 0.0, 101.0, None)] == [
        0.5,
        1.0,
        0.76,
        1.0,
        None,
        None,
        None,
    ]
