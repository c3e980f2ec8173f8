"""The expressions of sizes in a ``.pt2``, before SymPy evaluates them as Python.

    size := Symbol('s31', positive=True) | Integer(2) | Rational(1, 2) | Float('0.5', precision=53) | -1
          | Function(size, size, …)

Bounded in length, in depth and in the digits of a number; a power has a small constant exponent and a base with a
symbol and without a power, so that nothing grows faster than the text. Anything else is refused, whatever it would
compute.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

MAX_LENGTH = 1000
MAX_DEPTH = 20
MAX_EXPONENT = 8

_WHOLE = r"-?\d{1,19}"
_LEAF = re.compile(
    r"(?P<symbol>Symbol\('\w{1,60}'(, [a-z_]{1,30}=(True|False)){0,10}\))"
    rf"|(Integer\({_WHOLE}\)|Rational\({_WHOLE}, [1-9]\d{{0,18}}\)|Float\('[-+.e\d]{{1,40}}', precision=\d{{1,3}}\)"
    rf"|{_WHOLE}|true|false)"
)
_CALL = re.compile(
    r"(Add|Mul|Pow|PowByNatural|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|IntTrueDiv|FloatTrueDiv|ToFloat"
    r"|TruncToInt|RoundToInt|CeilToInt|FloorToInt|Eq|Ne|Lt|Le|Gt|Ge|Equality|Unequality|StrictLessThan|LessThan"
    r"|StrictGreaterThan|GreaterThan|And|Or|Not)\("
)
_EXPONENT = re.compile(rf"Integer\(-?[0-{MAX_EXPONENT}]\)|-?[0-{MAX_EXPONENT}]")
_POWERS = ("Pow", "PowByNatural")


def is_size_expression(expression: str) -> bool:
    """Whether `expression` is of the form above."""
    if len(expression) > MAX_LENGTH or not expression.isascii():
        return False
    return _read(expression, 0, 0).end == len(expression)


@dataclass(frozen=True)
class _Part:
    """A part of an expression: where it ends (−1: it is none), and what is in it."""

    end: int
    symbol: bool = False
    power: bool = False


_REFUSED = _Part(-1)


def _read(text: str, start: int, depth: int) -> _Part:
    leaf = _LEAF.match(text, start)
    if leaf:
        return _Part(leaf.end(), symbol=leaf["symbol"] is not None)
    call = _CALL.match(text, start)
    if call is None or depth == MAX_DEPTH:
        return _REFUSED
    return _read_power(text, call.end(), depth) if call[1] in _POWERS else _read_arguments(text, call.end(), depth)


def _read_power(text: str, start: int, depth: int) -> _Part:
    base = _read(text, start, depth + 1)
    if base.power or not base.symbol or not text.startswith(", ", base.end):
        return _REFUSED
    exponent = _EXPONENT.match(text, base.end + 2)
    if exponent is None or not text.startswith(")", exponent.end()):
        return _REFUSED
    return _Part(exponent.end() + 1, symbol=True, power=True)


def _read_arguments(text: str, start: int, depth: int) -> _Part:
    symbol = power = False
    while (part := _read(text, start, depth + 1)).end >= 0:
        symbol, power = symbol or part.symbol, power or part.power
        if text.startswith(")", part.end):
            return _Part(part.end + 1, symbol, power)
        if not text.startswith(", ", part.end):
            break
        start = part.end + 2
    return _REFUSED
