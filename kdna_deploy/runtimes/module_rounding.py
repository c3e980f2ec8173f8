"""How far rounding alone moves what a PyTorch module returns: its run in float64, and runs with weights moved a little.

The equations are those of `rounding`, which moves ONNX files.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor, fx, nn

from kdna_deploy.errors import InputError
from kdna_deploy.graph.capture import capture
from kdna_deploy.graph.graph import cast_floats
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.network.forward import forward_all
from kdna_deploy.network.module_copy import twin
from kdna_deploy.runtimes.rounding import FLOAT32_ROUNDOFF, LEAST_MOVE, MOVES

M = TypeVar("M", bound=nn.Module)


class NoFloat64(Exception):
    """The network cannot run in float64."""


def module_rounding(
    module: nn.Module,
    images: Images,
    answers: Answers,
    roundoff: float,
    move: Callable[[nn.Module, float, int], nn.Module] | None = None,
) -> Iterator[Answers]:
    """|Δ| [n, …] that rounding to unit roundoff `roundoff` causes in the `answers` for `images`, a few times over.

    `move` makes the moved copies, `perturbed` where it is not given. The run in float64 is last: it takes longest.
    """
    inputs = torch.from_numpy(images)
    plain = [torch.from_numpy(one).double() for one in answers]

    def off(moved: tuple[Tensor, ...]) -> Answers:
        return arrays(tuple((a - b.double()).abs() for a, b in zip(plain, moved, strict=True)))

    for seed in range(MOVES):
        yield off(forward_all((move or perturbed)(module, max(roundoff, LEAST_MOVE), seed), inputs, len(answers)))
    if roundoff <= FLOAT32_ROUNDOFF:
        with contextlib.suppress(NoFloat64):
            yield off(in_float64(module, inputs, len(answers)))


def arrays(tensors: tuple[Tensor, ...]) -> Answers:
    return tuple(tensor.numpy() for tensor in tensors)


def in_float64(module: nn.Module, images: Tensor, outputs: int = 1) -> tuple[Tensor, ...]:
    """What `module`, with so many `outputs`, returns for `images`, computed in float64.

    Of its captured graph where its own code holds on to float32: kernels in plain attributes or numpy arrays,
    assertions on the type.

    Raises:
        NoFloat64: neither works.
    """
    default, threads = torch.get_default_dtype(), torch.get_num_threads()
    torch.set_default_dtype(torch.float64)  # for constants that a user's forward creates
    # PyTorch runs a float64 depthwise convolution channel by channel, with a thread barrier each: on a busy machine
    # that was measured a thousand times slower than on one thread.
    if any(_is_depthwise(weight) for weight in (*module.parameters(), *module.buffers())):
        torch.set_num_threads(1)
    try:
        return _doubled(forward_all(_widened(twin(module)), images.double(), outputs))
    except InputError:
        torch.set_default_dtype(default)
        return _graph_in_float64(module, images)
    finally:
        torch.set_default_dtype(default)
        torch.set_num_threads(threads)


def _is_depthwise(weight: Tensor) -> bool:
    """Whether a weight [c', c/g, *k] may be that of a depthwise convolution."""
    return weight.dim() > 2 and weight.shape[1] == 1 and weight.shape[0] > 1 and weight[0, 0].numel() > 1


def _graph_in_float64(module: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
    try:
        graph = capture(module, (images.shape[1], images.shape[2], images.shape[3]))
        return _doubled(forward_all(_widened(graph.module), images.double(), len(graph.stage_names)))
    except InputError as error:
        raise NoFloat64(str(error)) from error


def _doubled(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return tuple(tensor.double() for tensor in tensors)


def _widened(module: nn.Module) -> nn.Module:
    if isinstance(module, fx.GraphModule):
        cast_floats(module, torch.float64)  # dtypes are written into its nodes, too
    return module.double()


def perturbed(module: M, roundoff: float, seed: int) -> M:
    """A copy whose weights are moved by up to `roundoff` of themselves, the same way for the same `seed`."""
    moved = twin(module)
    generator = torch.Generator().manual_seed(seed)
    for tensor in {id(t): t for t in (*moved.parameters(), *moved.buffers()) if t.is_floating_point()}.values():
        # In place: a pass over new memory for each operation takes as long as an inference.
        factor = torch.rand(tensor.shape, generator=generator).mul_(2).sub_(1).to(tensor.dtype)
        tensor.data = factor.mul_(roundoff).add_(1).mul_(tensor.data)
    return moved
