"""What the pickle of a PyTorch archive says of its storages: which member holds each, and how many bytes it has.

    ("storage", type, key, place, numbers) → BINPERSID          as torch.save writes it, literals all

PyTorch maps the file and believes these numbers: a member that is shorter would be read on into the next one.
Does not apply to a reference that is put together in another way; no `torch.save` writes one, and it is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

import torch

_MARK = object()
_FIELDS = 5


class UnknownStorage(ValueError):
    """A reference that torch.save does not write."""

    def __init__(self) -> None:
        super().__init__("a tensor names its storage in another way than PyTorch does")


@dataclass(frozen=True)
class Claim:
    """A storage of `size` bytes in the member ``data/<key>``."""

    key: str
    size: int


def claimed_storages(pickled: IO[bytes]) -> Iterator[Claim]:
    """The storages that a pickle refers to, those that several tensors share more than once.

    Raises:
        UnknownStorage: one is referred to in another way than by literals.
    """
    stack: list[Any] = []  # literals since the last mark; all that matters of the unpickler's own
    memo: dict[int, Any] = {}
    for operation, argument, _ in pickletools.genops(pickled):
        name = operation.name
        if name == "MARK":
            stack = [_MARK]
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            memo[int(argument)] = stack[-1] if stack else None
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(memo.get(int(argument)))
        elif name == "TUPLE":
            stack = [tuple(stack[1:]) if stack[:1] == [_MARK] else None]
        elif name in ("BINPERSID", "PERSID"):
            yield _claim(stack.pop() if stack else None)
            stack.append(None)
        else:
            stack.append(argument)


def _claim(reference: Any) -> Claim:
    if not isinstance(reference, tuple) or len(reference) != _FIELDS or reference[0] != "storage":
        raise UnknownStorage
    _, kind, key, _, numbers = reference
    if not (isinstance(kind, str) and isinstance(key, str) and isinstance(numbers, int)):
        raise UnknownStorage
    module, _, name = kind.partition(" ")
    storage = getattr(torch, name, None) if module in ("torch", "torch.storage") else None
    width = 1 if storage is torch.UntypedStorage else getattr(getattr(storage, "dtype", None), "itemsize", None)
    if width is None:
        raise UnknownStorage
    return Claim(key, numbers * width)
