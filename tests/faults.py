"""Single-line faults of a Python source, as a slip of the pen would plant them.

    comparison, arithmetic, logic    < ↔ <=, == ↔ !=, in ↔ not in, + ↔ −, * ↔ /, and ↔ or, `not` dropped
    constant                         ±1, True ↔ False
    argument                         replaced by None, exchanged with its neighbour; a keyword dropped
    return, condition                None returned; an `if` that is always, or never, taken

Left alone: annotations, decorators, docstrings, the words of errors (`raise …`), and keywords that change no result
(`_WORDS`). A fault is a line before and after, so that it is found again when other lines have moved.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_COMPARISONS = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
}
_ARITHMETIC = {
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "*"),
    ast.Mod: ("%", "*"),
}
# Help texts, and what matters on other systems or to the look of a path alone.
_WORDS = frozenset({"help", "metavar", "show_default", "strict", "encoding", "prefix"})


@dataclass(frozen=True)
class Fault:
    """A line of a file, and what it is replaced by. `path` is relative to the repository, `line` counts from 1."""

    path: str
    line: int
    kind: str
    before: str
    after: str

    def planted(self, source: str) -> str | None:
        """`source` with the fault in the nearest line that reads `before`; None where there is none."""
        lines = source.splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if line.rstrip("\n") == self.before]
        if not places:
            return None
        nearest = min(places, key=lambda number: abs(number + 1 - self.line))
        lines[nearest] = self.after + "\n"
        return "".join(lines)


def faults_of(path: Path, root: Path) -> list[Fault]:
    """Every fault that can be planted in a file. A few do not compile (see `compiles`)."""
    source = path.read_text(encoding="utf-8")
    finder = _Finder(source)
    finder.visit(ast.parse(source))
    lines, name = source.splitlines(), str(path.relative_to(root))
    found: dict[Fault, None] = {}
    for kind, line, begin, end, text in finder.found:
        encoded = lines[line - 1].encode()
        after = (encoded[:begin] + text.encode() + encoded[end:]).decode()
        fault = Fault(name, line, kind, lines[line - 1], after)
        if after != fault.before:
            found[fault] = None
    return list(found)


def compiles(source: str) -> bool:
    """Whether a source has the grammar of Python."""
    try:
        ast.parse(source)
    except SyntaxError:
        return False
    return True


def _is_declaration(node: ast.FunctionDef) -> bool:
    """Of a protocol: the body is `...`."""
    last = node.body[-1]
    return isinstance(last, ast.Expr) and isinstance(last.value, ast.Constant) and last.value.value is Ellipsis


class _Finder(ast.NodeVisitor):
    """Collects (kind, line, first byte, end byte, replacement)."""

    def __init__(self, source: str) -> None:
        self._lines = [line.encode() for line in source.splitlines()]
        self.found: list[tuple[str, int, int, int, str]] = []

    # What is left alone.

    def visit_Raise(self, node: ast.Raise) -> None:
        pass

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        pass

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        if _is_declaration(node):
            return
        for default in (*node.args.defaults, *node.args.kw_defaults):
            if default is not None:
                self.visit(default)
        for statement in node.body:
            self.visit(statement)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        for statement in node.body:
            self.visit(statement)

    # What is planted.

    def visit_Compare(self, node: ast.Compare) -> None:
        for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
            self._between("comparison", left, right, *_COMPARISONS[type(operator)])
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        text = any(
            isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
            for side in (node.left, node.right)
        )
        if type(node.op) in _ARITHMETIC and not text:
            self._between("arithmetic", node.left, node.right, *_ARITHMETIC[type(node.op)])
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        words = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        for left, right in zip(node.values, node.values[1:], strict=False):
            self._between("logic", left, right, *words)
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace("logic", node, f"({self._text(node.operand)})")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, bool):
            self._replace("constant", node, str(not node.value))
        elif isinstance(node.value, (int, float)):
            self._replace("constant", node, f"({self._text(node)} + 1)")
            self._replace("constant", node, f"({self._text(node)} - 1)")

    def visit_Call(self, node: ast.Call) -> None:
        self.visit(node.func)
        for argument in node.args:
            if not (isinstance(argument, ast.Constant) and argument.value is None):
                self._replace("argument", argument, "None")
            self.visit(argument)
        for left, right in zip(node.args, node.args[1:], strict=False):
            self._exchange(left, right)
        for keyword in node.keywords:
            if keyword.arg and keyword.arg not in _WORDS:
                self._drop(node, keyword)
                self.visit(keyword.value)

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and not isinstance(node.value, ast.Constant):
            self._replace("return", node.value, "None")
        self.generic_visit(node)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._condition(node.test)
        self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._condition(node.test)
        self.generic_visit(node)

    def visit_comprehension(self, node: ast.comprehension) -> None:
        for test in node.ifs:
            self._condition(test)
        self.generic_visit(node)

    def _condition(self, test: ast.expr) -> None:
        self._replace("condition", test, "True")
        self._replace("condition", test, "False")

    def _text(self, node: ast.expr) -> str:
        if node.lineno != node.end_lineno:
            return "…"  # does not compile, and is left out
        return self._lines[node.lineno - 1][node.col_offset : node.end_col_offset].decode()

    def _replace(self, kind: str, node: ast.expr, text: str) -> None:
        if node.lineno == node.end_lineno and node.end_col_offset is not None and not isinstance(node, ast.Starred):
            self.found.append((kind, node.lineno, node.col_offset, node.end_col_offset, text))

    def _between(self, kind: str, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Replace the operator `old` between two operands on one line."""
        if left.end_lineno != right.lineno or left.end_col_offset is None:
            return
        gap = self._lines[right.lineno - 1][left.end_col_offset : right.col_offset]
        if gap.count(old.encode()) == 1:
            begin = left.end_col_offset + gap.index(old.encode())
            self.found.append((kind, right.lineno, begin, begin + len(old.encode()), new))

    def _exchange(self, left: ast.expr, right: ast.expr) -> None:
        if left.lineno == right.end_lineno and left.end_col_offset and right.end_col_offset:
            both = self._lines[left.lineno - 1]
            gap = both[left.end_col_offset : right.col_offset].decode()
            if not isinstance(left, ast.Starred) and not isinstance(right, ast.Starred):
                text = self._text(right) + gap + self._text(left)
                self.found.append(("argument", left.lineno, left.col_offset, right.end_col_offset, text))

    def _drop(self, call: ast.Call, keyword: ast.keyword) -> None:
        """Leave a keyword argument out, with the comma before or behind it."""
        if keyword.lineno != keyword.end_lineno or keyword.end_col_offset is None:
            return
        line = self._lines[keyword.lineno - 1]
        begin, end = keyword.col_offset, keyword.end_col_offset
        if line[end:].startswith(b", "):
            end += 2
        elif line[:begin].endswith(b", "):
            begin -= 2
        elif line[end:].startswith(b","):
            end += 1
        self.found.append(("argument", keyword.lineno, begin, end, ""))


def all_faults(root: Path, package: str) -> Iterator[Fault]:
    """Every fault of every file of a package."""
    for path in sorted((root / package).rglob("*.py")):
        yield from faults_of(path, root)
