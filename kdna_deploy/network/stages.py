"""Stage outputs: the maps of a backbone that necks of detectors and segmenters take, in place of its logits.

    images [n, c, h, w] → C2, C3, C4, C5, maps at a quarter of the images' size to a thirty-second of it

C2 to C5 are the names of the field (Lin et al. 2017, Feature Pyramid Networks): of a ResNet the outputs of ``layer1``
to ``layer4``, of a MobileNetV2 the last maps of each size, of a ConvNeXt its four stages, before any LayerNorm. What
comes behind the last stage, the classifier, is not there then.

Imports nothing heavy. Does not apply to a user's own networks, whose stages are not known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypeVar

from kdna_deploy.errors import UsageError

STAGES = ("C2", "C3", "C4", "C5")
FEATURES, LOGITS = "features", "logits"

T = TypeVar("T")


def stage_outputs(value: str | Sequence[str] | None) -> tuple[str, ...] | None:
    """``"features"``, ``"C3,C4,C5"`` or a sequence of such names → names in the network's order; () for ``"logits"``.

    Raises:
        UsageError: there is no such output.
    """
    if value is None:
        return None
    names = [one.strip() for one in (value.split(",") if isinstance(value, str) else map(str, value))]
    if names in ([], [LOGITS], [FEATURES]):
        return STAGES if names == [FEATURES] else ()
    strange = next((name for name in names if name not in STAGES), None)
    if strange is not None:
        raise UsageError(
            f"There is no output '{strange}' for `outputs`; write logits, features, or {','.join(STAGES)}."
        )
    return tuple(name for name in STAGES if name in names)


def are_stages(names: Collection[str]) -> bool:
    """Whether the outputs of a file, by their names, are stage outputs."""
    return bool(names) and set(names) <= set(STAGES)


def without_head(named: Mapping[str, T], head: Sequence[str]) -> dict[str, T]:
    """Weights or shapes of a backbone by their names, without those whose names begin as those of its `head` do."""
    return {name: value for name, value in named.items() if not name.startswith(tuple(head))}


def output_names(network: Any) -> tuple[str, ...]:
    """The stage outputs that a module or a graph returns, in order; () where it returns one tensor."""
    try:
        names = getattr(network, "stage_names", ())
    except Exception:  # a module's own `__getattr__` raises whatever it likes
        return ()
    return names if isinstance(names, tuple) and are_stages(names) else ()
