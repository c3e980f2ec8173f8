"""How forward runs: control flow, batches, modes, side effects, wrappers of torch, and what cannot work."""

from __future__ import annotations

import sys
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from tests.odd.case import CLASSES, WIDTH, Case, Small, Written, whole, with_middle, written


class Double(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * 2


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(WIDTH, WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] > 4:
            x = self.conv(x)
        return torch.sigmoid(x)


class AlwaysTraining(Small):
    """Its BatchNorm normalises by the batch, whatever mode it is in."""

    def forward(self, x: Tensor) -> Tensor:
        self.norm.train()
        return super().forward(x)


class Deaf(Small):
    """Ignores that it is put into evaluation mode."""

    def __init__(self) -> None:
        super().__init__(middle=nn.Dropout(0.5))

    def train(self, mode: bool = True) -> Deaf:
        return super().train(True)


class DeafNorm(Small):
    def train(self, mode: bool = True) -> DeafNorm:
        return super().train(True)


class OnlyTraining(Small):
    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            raise RuntimeError("call .train() first")
        return super().forward(x)


class OwnEval(Small):
    """Merges its branches when it is put into evaluation mode, as re-parametrised networks do."""

    def __init__(self) -> None:
        super().__init__(middle=nn.Conv2d(WIDTH, WIDTH, 1))
        self.merged = False

    def train(self, mode: bool = True) -> OwnEval:
        self.merged = not mode
        return super().train(mode)

    def middle(self, x: Tensor) -> Tensor:
        return (
            self.inner(x) + x
            if not self.merged
            else F.conv2d(x, self.inner.weight + torch.eye(WIDTH)[:, :, None, None], self.inner.bias)
        )


class Lazy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.classes = nn.LazyConv2d(WIDTH, 3), nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.stem(x).mean((2, 3)))


def _autocast(device: str) -> Any:
    def forward(m: Written, x: Tensor) -> Tensor:
        with torch.autocast(device, dtype=torch.bfloat16):
            return m.end(m.begin(x)).float()

    return forward


def _early_exit(m: Written, x: Tensor) -> Tensor:
    return x * 2 if x.sum() > 0 else x


def _while(m: Written, x: Tensor) -> Tensor:
    while x.shape[-1] > 3:
        x = F.max_pool2d(m.mix(x), 2)
    return x


def _asserts_type(m: Written, x: Tensor) -> Tensor:
    assert x.dtype == torch.float32, "give float32 images"
    assert x.ndim == 4
    return m.end(m.begin(x))


def _inference_mode(m: Written, x: Tensor) -> Tensor:
    with torch.inference_mode():
        return m.end(m.begin(x))


def _with_gradients(m: Written, x: Tensor) -> Tensor:
    with torch.enable_grad():
        return m.end(m.begin(x))


def _sets_gradients(m: Written, x: Tensor) -> Tensor:
    torch.set_grad_enabled(True)
    return m.end(m.begin(x))


def _leaves_default(m: Written, x: Tensor) -> Tensor:
    torch.set_default_dtype(torch.float64)
    return m.end(m.begin(x))


def _seeds(m: Written, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return m.end(m.begin(x))


def _seeded_noise(m: Written, x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return x + torch.randn_like(x)


def _prints(m: Written, x: Tensor) -> Tensor:
    print("shape:", x.shape)
    sys.stderr.write("still here\n")
    return m.end(m.begin(x))


def _exits(m: Written, x: Tensor) -> Tensor:
    sys.exit(0)


def _gives_up(m: Written, x: Tensor) -> Tensor:
    raise ValueError("I want images of cats")


def _swallows(m: Written, x: Tensor) -> Tensor:
    try:
        return m.missing(x)
    except AttributeError:
        return m.end(m.begin(x))


def _forever(m: Written, x: Tensor) -> Tensor:
    return _forever(m, x)


def _numpy_inside(m: Written, x: Tensor) -> Tensor:
    return torch.from_numpy(x.numpy() * 2)


def _one_image(m: Written, x: Tensor) -> Tensor:
    return m.end(m.begin(x)) * 2 if x.shape[0] == 1 else m.end(m.begin(x))


def _scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Conv2d(WIDTH, WIDTH, 3), nn.ReLU()))


TABLE = {
    "length": whole(lambda m, x: m.end(m.begin(x)).view(len(x), -1)),
    "int_of_size": whole(lambda m, x: m.end(m.begin(x)).view(int(x.shape[0]), -1)),
    "fixed_batch": whole(lambda m, x: m.end(m.begin(x)).view(2, -1), refusal="batch"),
    "merged_batch": whole(lambda m, x: m.end(m.begin(x)).view(1, -1), refusal="batch"),
    "bare_squeeze": whole(lambda m, x: m.end(m.begin(x))[:, :, None].squeeze()),
    "mixes_the_batch": written(lambda m, x: x - x.mean(0)),
    "one_image_is_special": whole(_one_image, refusal="batch"),
    "loop_over_images": written(lambda m, x: torch.stack([image * 2 for image in x]), refusal="batch"),
    "shape_branch": with_middle(Gate),
    "while_on_shape": written(_while, mix=lambda: nn.Conv2d(WIDTH, WIDTH, 1)),
    "if_on_data": written(_early_exit, refusal="depends on the values"),
    "item": written(lambda m, x: x * x.max().item(), refusal="depends on the values"),
    "float_of_data": written(lambda m, x: x / float(x.std()), refusal="depends on the values"),
    "list_of_data": written(lambda m, x: x * sum(x.mean((1, 2, 3)).tolist()), refusal="batch"),
    "boolean_index": whole(lambda m, x: m.end(m.begin(x))[x[:, 0, 0, 0] > 0], refusal="depends on the values"),
    "numpy_in_forward": written(_numpy_inside, refusal="numpy"),
    "asserts_type": whole(_asserts_type),
    "autocast_cpu": Case(whole(_autocast("cpu")).build, rounds=True),
    "autocast_cuda": whole(_autocast("cuda")),
    "inference_mode": whole(_inference_mode),
    "enable_grad": whole(_with_gradients),
    "set_grad_enabled": whole(_sets_gradients),
    "leaves_default_dtype": whole(_leaves_default),
    "manual_seed": whole(_seeds),
    "prints": whole(_prints),
    "exits": whole(_exits, refusal="exit"),
    "raises": whole(_gives_up, refusal="I want images of cats"),
    "tries": whole(_swallows),
    "endless_recursion": whole(_forever, refusal="recursion"),
    "always_training": Case(AlwaysTraining, refusal="BatchNorm"),
    "batch_norm_of_the_batch": Case(
        lambda: Small(3, nn.BatchNorm2d(8, track_running_stats=False)), refusal="BatchNorm"
    ),
    "functional_training": written(lambda m, x: F.batch_norm(x, None, None, training=True), refusal="BatchNorm"),
    "functional_dropout": written(lambda m, x: F.dropout(x, 0.5), refusal="random"),
    "deaf_to_eval": Case(Deaf, refusal="training"),
    "deaf_norm": Case(DeafNorm, refusal="training"),
    "only_training": Case(OnlyTraining, refusal="call .train() first"),
    "own_eval": Case(OwnEval),
    "random": written(lambda m, x: x + torch.rand_like(x), refusal="random"),
    "seeded_noise": written(_seeded_noise, refusal="random"),
    "bernoulli": written(lambda m, x: x * torch.bernoulli(torch.full_like(x, 0.9)), refusal="random"),
    "gumbel": written(lambda m, x: F.gumbel_softmax(x, dim=1), refusal="random"),
    "random_permutation": written(lambda m, x: x[:, torch.randperm(WIDTH)], refusal="random"),
    "dropout": with_middle(lambda: nn.Sequential(nn.Dropout2d(0.5), nn.AlphaDropout(0.2))),
    "autograd_function": written(lambda m, x: Double.apply(x)),
    "checkpointed": written(
        lambda m, x: checkpoint(m.mix, x, use_reentrant=False), mix=lambda: nn.Conv2d(WIDTH, WIDTH, 1)
    ),
    "scripted_part": Case(lambda: Small(3, _scripted()), refusal="TorchScript"),
    "traced_part": Case(
        lambda: Small(3, torch.jit.trace(nn.Conv2d(8, 8, 3), torch.zeros(1, 8, 5, 5))), refusal="TorchScript"
    ),
    "scripted_whole": Case(
        lambda: torch.jit.script(nn.Sequential(nn.Conv2d(3, WIDTH, 3), nn.BatchNorm2d(WIDTH), nn.ReLU())),
        refusal="TorchScript",
    ),
    "script_function": written(lambda m, x: _hard(x)),
    "compiled_part": with_middle(lambda: torch.compile(nn.Conv2d(WIDTH, WIDTH, 3))),
    "compiled_whole": Case(lambda: torch.compile(Small())),
    "data_parallel": Case(lambda: nn.DataParallel(Small())),
    "traced_by_fx": Case(lambda: torch.fx.symbolic_trace(Small())),
    "lazy": Case(Lazy),
    "conditional_operator": written(
        lambda m, x: torch.cond(x.sum() > 0, lambda x: x * 2, lambda x: x * 3, (x,)), refusal="cond"
    ),
}


@torch.jit.script
def _hard(x: Tensor) -> Tensor:
    return torch.clamp(x + 3, 0, 6) / 6


def __getattr__(name: str) -> Any:
    """The factory of a case, by its name."""
    if name not in TABLE:
        raise AttributeError(name)
    return TABLE[name].build
