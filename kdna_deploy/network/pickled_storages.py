"""The storages that a pickle of `torch.save` refers to, found without unpickling it.

    ('storage', torch.FloatStorage, '0', 'cpu', 36)  BINPERSID   →   {'0': 36 × 4 bytes}

`torch.load` believes these sizes. The stack machine of pickles is followed as far as it takes to know the texts and
numbers on the stack: every operation's effect on the stack is in `pickletools`.
"""

from __future__ import annotations

import pickletools
from typing import Any

_MARK = object()
_UNKNOWN = object()
# Bytes of a number in a storage, by the beginning of its class's name; 1 in all others.
_ITEM_BYTES = {
    "ComplexDouble": 16,
    "ComplexFloat": 8,
    "Double": 8,
    "Long": 8,
    "Float": 4,
    "Int": 4,
    "QInt32": 4,
    "Half": 2,
    "Short": 2,
    "BFloat16": 2,
}


def stored_sizes(pickle: bytes) -> dict[str, int]:
    """Key of each storage → the bytes that the pickle says it has."""
    sizes: dict[str, int] = {}
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for operation, argument, _ in pickletools.genops(pickle):
        if operation.name == "BINPERSID" and stack:
            _note(sizes, stack[-1])
        elif operation.name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1] if stack else _UNKNOWN
        elif operation.name in ("BINGET", "LONG_BINGET"):
            stack.append(memo.get(argument, _UNKNOWN))
            continue
        _step(stack, operation, argument)
    return sizes


def _step(stack: list[Any], operation: pickletools.OpcodeInfo, argument: Any) -> None:
    if operation.name in ("BINPUT", "LONG_BINPUT"):
        return
    taken = _take(stack, operation)
    if operation.name == "MARK":
        stack.append(_MARK)
    elif operation.name.startswith("TUPLE"):
        stack.append(tuple(taken))
    elif operation.stack_after:
        known = operation.name == "GLOBAL" or isinstance(argument, (str, int))
        stack += [argument if known else _UNKNOWN] * len(operation.stack_after)


def _take(stack: list[Any], operation: pickletools.OpcodeInfo) -> list[Any]:
    """What an operation takes from the stack, that above a mark where it asks for one."""
    if pickletools.markobject not in operation.stack_before:
        count = len(operation.stack_before)
        taken = stack[-count:] if count else []
        del stack[len(stack) - len(taken) :]
        return taken
    taken = []
    while stack and (value := stack.pop()) is not _MARK:
        taken.insert(0, value)
    for _ in operation.stack_before[: operation.stack_before.index(pickletools.markobject)]:
        if stack:
            stack.pop()
    return taken


def _note(sizes: dict[str, int], reference: Any) -> None:
    if not isinstance(reference, tuple) or len(reference) != 5:
        return
    _, kind, key, _, numbers = reference
    if isinstance(key, str) and isinstance(numbers, int):
        item = _ITEM_BYTES.get(kind.rpartition(" ")[2].removesuffix("Storage"), 1) if isinstance(kind, str) else 1
        sizes[key] = max(sizes.get(key, 0), numbers * item)
