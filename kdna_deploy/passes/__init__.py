"""Graph → graph rewrites, one a file, and the order they run in."""

from __future__ import annotations

from collections.abc import Callable

from torch import fx

from kdna_deploy.passes.canonicalise import canonicalise
from kdna_deploy.passes.fold_batchnorm import fold_batchnorm
from kdna_deploy.passes.fold_constants import fold_constants
from kdna_deploy.passes.fold_static_attention import fold_static_attention
from kdna_deploy.passes.materialise import materialise
from kdna_deploy.passes.result import PassResult, Refusal

Pass = Callable[[fx.GraphModule], PassResult]

PIPELINE: tuple[Pass, ...] = (
    canonicalise,  # first, so that identities in between do not hide a layer from its BatchNorm
    fold_static_attention,  # before BatchNorm: gives every child a modulation of its own to fold into
    fold_constants,  # before BatchNorm: statistics and biases written as expressions become constants
    fold_batchnorm,  # needs (W, M) and constant biases
    materialise,  # last: until here a parent is one tensor, whatever its children fold into M
)

__all__ = ["PIPELINE", "Pass", "PassResult", "Refusal"]
