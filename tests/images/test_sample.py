"""Random subsets: balanced, without bias, the same for a seed wherever the files lie."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from kdna_deploy.images.sample import sampled

FOLDER = Path("data")
FILES = tuple((FOLDER / str(label) / f"{n}.png", label) for label in range(10) for n in range(20))


@pytest.mark.parametrize("limit", [1, 7, 10, 30, 33, 199])
def test_every_class_has_its_share_up_to_one_image(limit: int) -> None:
    taken = sampled(FILES, limit, 3, FOLDER)
    assert len(set(taken)) == limit and list(taken) == sorted(taken, key=FILES.index)
    counts = Counter(label for _, label in taken)
    assert all(limit // 10 <= counts[label] <= -(-limit // 10) for label in range(10))


def test_a_class_of_three_quarters_of_the_images_has_three_quarters_of_the_sample() -> None:
    files = tuple((FOLDER / f"{n}.png", int(n >= 300)) for n in range(400))
    assert Counter(label for _, label in sampled(files, 40, 0, FOLDER)) == {0: 30, 1: 10}


def test_every_image_is_drawn_as_often_as_any_other() -> None:
    drawn = Counter(path for seed in range(600) for path, _ in sampled(FILES[:30], 6, seed, FOLDER))
    # 600 · 6/30 = 120 of each; the standard deviation is below √(600 · 0.2 · 0.8) = 9.8, and five of them are allowed.
    assert len(drawn) == 30 and max(abs(count - 120) for count in drawn.values()) < 49


def test_a_seed_draws_the_same_images_wherever_they_lie() -> None:
    moved = tuple((Path("/elsewhere") / path.relative_to(FOLDER), label) for path, label in FILES)
    ours, theirs = sampled(FILES, 5, 1, FOLDER), sampled(moved, 5, 1, Path("/elsewhere"))
    assert [path.relative_to(FOLDER) for path, _ in ours] == [path.relative_to("/elsewhere") for path, _ in theirs]
    assert ours != sampled(FILES, 5, 2, FOLDER)
    # Pinned, for a recorded seed must draw the same images in the next version.
    assert [path.as_posix() for path, _ in sampled(FILES, 3, 0, FOLDER)] == [
        "data/4/5.png",
        "data/7/3.png",
        "data/9/9.png",
    ]


def test_more_than_there_are_is_all() -> None:
    assert sampled(FILES, 200, 0, FOLDER) == sampled(FILES, 10**9, 0, FOLDER) == FILES
