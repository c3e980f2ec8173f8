"""Layout strings, as the paper writes them, say which kernel every convolution uses."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdna_deploy.errors import ArchitectureError
from kdna_deploy.network.layout import parse_layout

_BLOCKS = st.lists(st.text("FS", min_size=1, max_size=4), min_size=1, max_size=6).map("-".join)
LAYOUTS = _BLOCKS.filter(lambda text: text.startswith("F") and text.endswith("F"))


@pytest.mark.parametrize(
    ("text", "parents_of_children", "full_kernels"),
    [
        ("FF-FF", [], 4),
        ("FS-FSF", [1, 2], 3),
        ("FS-SSF", [1, 1, 1], 2),
        ("FS-SF-SF", [1, 1, 2], 3),
        ("F-S-F", [1], 2),
        ("F-S-S-F", [1, 1], 2),
        ("F-S-F-S-F-S-F", [1, 2, 3], 4),
    ],
)
def test_a_child_uses_the_next_full_kernel(text: str, parents_of_children: list[int], full_kernels: int) -> None:
    layout = parse_layout(text)
    assert [child.parent for child in layout.children] == parents_of_children
    assert [child.index for child in layout.children] == list(range(len(parents_of_children)))
    assert layout.full_kernels == full_kernels


def test_blocks_hold_the_slots_between_two_residual_sums() -> None:
    blocks = parse_layout("FS-SF-SF").blocks
    assert [[(slot.is_child, slot.index, slot.parent) for slot in block] for block in blocks] == [
        [(False, 0, 0), (True, 0, 1)],
        [(True, 1, 1), (False, 1, 1)],
        [(True, 2, 2), (False, 2, 2)],
    ]


@pytest.mark.parametrize("text", ["", "-", "F-", "-F", "F--F", "FXF", "fs-sf", "F S F", "FS,SF"])
def test_what_is_not_a_layout_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ArchitectureError, match="is not a layout; write blocks of F and S joined by '-'"):
        parse_layout(text)


@pytest.mark.parametrize("text", ["S", "SF", "FS", "F-S", "SF-FS", "FF-S"])
def test_a_layout_must_begin_and_end_with_a_full_kernel(text: str) -> None:
    with pytest.raises(ArchitectureError, match=f"'{text}' must begin and end with F"):
        parse_layout(text)


@pytest.mark.slow
@settings(deadline=None)
@given(LAYOUTS)
def test_every_parent_is_the_next_full_kernel_to_the_right(text: str) -> None:
    slots = parse_layout(text).slots
    for position, slot in enumerate(slots):
        following = next(other for other in slots[position:] if not other.is_child)
        assert slot.parent == following.index


@pytest.mark.slow
@settings(deadline=None)
@given(LAYOUTS)
def test_a_layout_can_be_read_back_from_its_slots(text: str) -> None:
    layout = parse_layout(text)
    assert "-".join("".join("FS"[slot.is_child] for slot in block) for block in layout.blocks) == text
    for kind in (True, False):
        indices = [slot.index for slot in layout.slots if slot.is_child is kind]
        assert indices == list(range(len(indices)))
