"""Files of WordNet ids, as people have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdna_deploy.errors import InputError
from kdna_deploy.images.synsets import read_synsets

IDS = ("n01440764", "n02100735", "n02119789")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (
            "n02119789 1 kit_fox\nn02100735 2 English_setter\nn01440764 3 tench\n",
            ("n02119789", "n02100735", "n01440764"),
        ),
        ("1,n02119789\n2,n01440764\n3,n02100735", ("n02119789", "n01440764", "n02100735")),
        ("n01440764 tench, Tinca tinca\nn02100735 English setter\nn02119789 kit fox", None),
        ('{"0": ["n01440764", "tench"], "1": ["n02100735", "x"], "2": ["n02119789", "y"]}', None),
        ("0 n02119789\n1 n02100735\n2 n01440764", None),  # not ILSVRC's, which count from 1
        ("1 n01440764\n2 n02100735\n3 n02119789", None),  # nor is the order of the ids
    ],
)
def test_ids_are_sorted_and_numbers_are_ilsvrcs_own_or_none(
    tmp_path: Path, text: str, numbers: tuple[str, ...] | None
) -> None:
    (tmp_path / "ids.txt").write_text(text)
    found = read_synsets(tmp_path / "ids.txt")
    assert found.ids == IDS
    assert found.of_number == ({str(n): name for n, name in enumerate(numbers, 1)} if numbers else {})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat\ndog", "holds no WordNet ids such as n01440764"),
        ("n01440764\nn01440764", "names a WordNet id twice"),
        ("", "holds no WordNet ids"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "ids.txt").write_text(text)
    with pytest.raises(InputError, match=said):
        read_synsets(tmp_path / "ids.txt")
