"""Graph → graph rewrites, one a file, and the order they run in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Literal

from torch import Tensor, fx

from kdna_deploy.graph.passes.canonicalise import canonicalise
from kdna_deploy.graph.passes.find_dynamic_convolutions import find_dynamic_convolutions
from kdna_deploy.graph.passes.fold_batchnorm import fold_batchnorm
from kdna_deploy.graph.passes.fold_constants import fold_constants
from kdna_deploy.graph.passes.fold_input_scale import fold_input_scale
from kdna_deploy.graph.passes.fold_layer_norm import fold_layer_norm
from kdna_deploy.graph.passes.fold_layer_scale import fold_layer_scale
from kdna_deploy.graph.passes.fold_static_attention import fold_static_attention
from kdna_deploy.graph.passes.freeze_attention import freeze_attention
from kdna_deploy.graph.passes.materialise import materialise
from kdna_deploy.graph.passes.result import PassResult, Refusal
from kdna_deploy.graph.passes.share import share

Pass = Callable[[fx.GraphModule], PassResult]
Children = Literal["materialize", "share"]

FREEZING = "freeze_attention"

# What every network goes through.
FOLDING: tuple[Pass, ...] = (
    find_dynamic_convolutions,  # first, while the views around them stand as they were written
    canonicalise,  # early, so that identities in between do not hide a layer from its BatchNorm
    fold_static_attention,  # before BatchNorm: gives every child a modulation of its own to fold into
    fold_constants,  # before BatchNorm: statistics and biases written as expressions become constants
    fold_batchnorm,  # needs (W, M) and constant biases
    fold_layer_scale,  # likewise; behind BatchNorm, which may stand between a layer and its scale
    fold_input_scale,  # likewise, for what stands in front of a layer
    fold_layer_norm,  # last: needs the kernels and the biases as those in front leave them
)


# What a frozen kernel, or a frozen gate in between, kept from being folded.
_AGAIN: tuple[tuple[str, Pass], ...] = (
    ("fold_batchnorm", fold_batchnorm),
    ("fold_layer_scale", fold_layer_scale),
    ("fold_layer_norm", fold_layer_norm),
)


def finishing(children: Children, gates: Mapping[str, Tensor | None]) -> tuple[tuple[str, Pass], ...]:
    """What follows, by choice. `gates` is the attention to freeze (None: to drop)."""
    # after BatchNorm: a frozen gate takes the input-channel axis of a kernel, which M does not have
    freezing: tuple[tuple[str, Pass], ...] = ((FREEZING, partial(freeze_attention, gates=gates)), *_AGAIN)
    # last: until here a parent is one tensor, whatever its children fold into M
    last: tuple[str, Pass] = ("materialise", materialise) if children == "materialize" else ("share", share)
    return (*(freezing if gates else ()), last)


__all__ = ["FOLDING", "FREEZING", "Children", "Pass", "PassResult", "Refusal", "finishing"]
