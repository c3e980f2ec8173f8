"""Why a network cannot be traced, told by what it does, not by what `torch.export` calls it.

Whether the network runs at all decides first: where it fails on a blank batch as well, its own error is the cause, and
only there can the image size be to blame.

    it does not run            its own error, and --input-size where the error is about shapes
    values decide              branches, loops, indices or numbers taken from the images
    the batch is built in      a batch size other than that of the trace is not possible
    otherwise                  what `torch.export` says
"""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from kdna_deploy.errors import InputError
from kdna_deploy.network.forward import forward
from kdna_deploy.words import first_sentence

_SHAPES = re.compile(
    r"shape|size|dimension|channels|mat1 and mat2|out of range|must match|expand|stride|kernel|normalized",
    re.IGNORECASE,
)
_VALUES = re.compile(
    r"data.dependent|GuardOnDataDependent|\.item\(\)|_local_scalar_dense|unbacked|aten\.nonzero|u\d+|Could not guard"
)
_NUMPY = re.compile(r"numpy\(\)|\.numpy|__array__|convert.*numpy", re.IGNORECASE)
_BATCH = re.compile(r"[Cc]onstraints violated|specializ|dynamic.*batch|batch.*dynamic|vmap|iterating over a tensor")


# With what was found in the place of the braces.
VALUES_DECIDE = (
    "The network's forward depends on the values of tensors ({}), as data-dependent control flow, .item(), float() and "
    "boolean indices do; write it with operations on tensors, such as torch.where."
)


def fixes_batch(error: BaseException) -> bool:
    """Whether `torch.export` failed because the batch size is a constant of the traced program."""
    text = f"{type(error).__name__} {error}"
    return bool(_BATCH.search(text)) and "GuardOnDataDependent" not in text


def why(error: BaseException, module: nn.Module, example: Tensor) -> str:
    """One sentence: why `module` could not be traced on `example`, and what to change."""
    if isinstance(error, RecursionError):
        return "The network's forward calls itself without end (maximum recursion depth exceeded)."
    if isinstance(error, SystemExit):
        return f"The network's forward calls sys.exit({error.code}); let it return its logits."
    special = _special(module)
    if special:
        return special
    failure = _failure(module, example)
    return _own_error(failure, module, example) if failure is not None else _of_tracing(error, example)


def _of_tracing(error: BaseException, example: Tensor) -> str:
    """Why a network that runs cannot be traced."""
    text = f"{type(error).__name__} {error}"
    if _NUMPY.search(text):
        return (
            f"The network's forward leaves PyTorch for numpy ({first_sentence(error)}), which cannot be traced; "
            "compute it with torch."
        )
    if fixes_batch(error):
        return (
            "The network's forward has a fixed batch size built in, as a loop over the images or a view with a number "
            f"for the batch has ({_cause(error)}); write x.shape[0] or -1 there."
        )
    if _VALUES.search(text):
        return VALUES_DECIDE.format(_cause(error))
    return (
        f"torch.export cannot trace the network for input {tuple(example.shape)}: {first_sentence(error)}. "
        "Write that part of its forward with other operations, or as operations on tensors alone."
    )


def _special(module: nn.Module) -> str | None:
    """Parts that no tracing gets through."""
    for name, part in module.named_modules():
        where = f"'{name}'" if name else "The network"
        if isinstance(part, torch.jit.ScriptModule):
            return f"{where} is TorchScript, which cannot be traced again; build it without torch.jit."
        if any(is_lazy(value) for value in (*part._parameters.values(), *part._buffers.values())):
            return (
                f"{where} is a lazy module without weights ({type(part).__name__}); "
                "name its number of input channels, or call the network once in the factory."
            )
    return None


def _failure(module: nn.Module, example: Tensor) -> BaseException | None:
    """What `module` itself raises on a blank batch."""
    try:
        forward(module, example)
    except InputError as error:
        return error.__cause__ or error
    return None


def _own_error(failure: BaseException, module: nn.Module, example: Tensor) -> str:
    """What a network says that does not run."""
    shape = tuple(example.shape)
    if isinstance(failure, InputError):
        return str(failure)
    if isinstance(failure, TypeError) and "missing" in str(failure) and "argument" in str(failure):
        return (
            f"The network takes more than one input ({first_sentence(failure)}); "
            "wrap it so that it takes one image batch."
        )
    said = first_sentence(failure)
    if isinstance(failure, (RuntimeError, ValueError, IndexError)) and _SHAPES.search(str(failure)):
        return f"The network cannot run on images of shape {shape}: {said}; check `input_size`.{_dimension(module)}"
    kind = "" if said == type(failure).__name__ else f"{type(failure).__name__}: "
    return f"The network's forward fails on images of shape {shape} ({kind}{said}); no artifact can be made of it."


def _dimension(module: nn.Module) -> str:
    """Names the layers of a network that is not for images."""
    kinds = {type(part) for part in module.modules() if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d))}
    if not kinds or any(issubclass(kind, nn.Conv2d) for kind in kinds):
        return ""
    return f" Its layers are {kinds.pop().__name__}; networks for images [n, c, h, w] alone are taken."


def _cause(error: BaseException) -> str:
    """The first sentence that says something; `torch.export` begins some messages with a headline."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not re.search(r"^Constraints violated|For more information|^$", line)]
    return first_sentence(RuntimeError(telling[0])) if telling else type(error).__name__
