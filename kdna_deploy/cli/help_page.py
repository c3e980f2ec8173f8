"""A help page: usage, what the command does, its options by topic, three examples; as wide as the terminal.

    ╭─ Precision ───────────────────────────────────────────╮
    │ --max-drop POINTS    Percentage points of top-1 that … │     a name that is longer than its column stands
    ╰───────────────────────────────────────────────────────╯     above its help

Typer's own page has five columns, three of them mostly empty: at 80 characters it cuts the names of options.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from kdna_deploy.cli.examples import Example
from kdna_deploy.cli.options.panels import HELP, PANELS

_NARROWEST, _FRAME = 24, 4  # of the column of names; what a panel takes of the width
_OPTION = r"(?<![\w-])--?[a-zA-Z][\w-]*"


def help_page(
    path: str, text: str, parameters: Sequence[Any], commands: Sequence[Any], examples: Sequence[Example], width: int
) -> RenderableType:
    """The page of the command that is called by `path`, or, with `commands`, of the program."""
    narrow = _column(parameters, max(_NARROWEST, (width - _FRAME) * 7 // 20))
    arguments = ["COMMAND ..."] if commands else list(_usage(parameters))
    return Group(
        Padding(Text(" ".join(("Usage:", path, "[OPTIONS]", *arguments)), style="bold"), (1, 1)),
        *(Padding(Text(" ".join(paragraph.split())), (0, 1, 1, 1)) for paragraph in text.split("\n\n") if paragraph),
        *([_commands(commands)] if commands else []),
        *(_panel(topic, [_row(one, narrow) for one in found]) for topic, found in _topics(parameters)),
        *([_examples(examples)] if examples else []),
    )


def _column(parameters: Iterable[Any], most: int) -> int:
    """Width of the longest name that is not wider than `most`."""
    return max((len(_name(one)) for one in parameters if len(_name(one)) <= most), default=most)


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _usage(parameters: Sequence[Any]) -> Iterator[str]:
    """What must be said, and the arguments."""
    yield from (str(_name(one)) for one in parameters if one.required and not _is_argument(one))
    yield from (_argument(one) for one in parameters if _is_argument(one))


def _argument(parameter: Any) -> str:
    name = parameter.metavar if parameter.required else f"[{parameter.metavar}]"
    return f"{name}..." if parameter.nargs == -1 else str(name)


def _topics(parameters: Iterable[Any]) -> Iterator[tuple[str, list[Any]]]:
    shown = [one for one in parameters if not getattr(one, "hidden", False)]
    for topic in PANELS:
        if found := [one for one in shown if (getattr(one, "rich_help_panel", None) or HELP) == topic]:
            yield topic, found


def _panel(title: str, rows: Iterable[RenderableType]) -> Panel:
    return Panel(Group(*rows), title=title, title_align="left", border_style="dim")


def _row(parameter: Any, narrow: int) -> RenderableType:
    """The name beside its help, or above it."""
    name = _name(parameter)
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(width=narrow)
    grid.add_column(ratio=1)
    if len(name) <= narrow:
        grid.add_row(name, _help(parameter))
        return grid
    grid.add_row("", _help(parameter))
    return Group(name, grid)


def _name(parameter: Any) -> Text:
    """``-o, --output FILE``, ``--tf32 / --no-tf32``, ``MODEL``."""
    metavar = parameter.metavar or ""
    if _is_argument(parameter):
        return Text(metavar, style="bold yellow")
    names = ", ".join(sorted(parameter.opts, key=len))
    name = Text(" / ".join((names, *parameter.secondary_opts)), style="bold cyan")
    return name.append(f" {metavar}", style="yellow") if metavar else name


def _help(parameter: Any) -> Text:
    text = Text(parameter.help or "")
    text.highlight_regex(_OPTION, "cyan")
    if parameter.required:
        return text.append(" [required]", style="red")
    default = default_of(parameter)
    return text.append(f" [default: {default}]", style="dim") if default else text


def default_of(parameter: Any) -> str:
    """What is taken where the parameter is left out, in words; empty for what is off or not there then."""
    shown, value = parameter.show_default, parameter.default
    if isinstance(shown, str):
        return shown
    if shown is False or value is None:
        return ""
    if getattr(parameter, "is_flag", False):
        sides = (parameter.opts, parameter.secondary_opts)
        return str(sides[0 if value else 1][0]) if parameter.secondary_opts else ""
    return str(value.value if isinstance(value, Enum) else value)


def _commands(commands: Sequence[Any]) -> Panel:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="bold cyan", no_wrap=True)
    grid.add_column(ratio=1)
    for command in commands:
        grid.add_row(command.name, summary(command.help or ""))
    return _panel("Commands", [grid])


def summary(text: str) -> str:
    """The first paragraph, in one line."""
    return " ".join(text.split("\n\n")[0].split())


def _examples(examples: Iterable[Example]) -> RenderableType:
    rows: list[RenderableType] = []
    for example in examples:
        rows += [Text(f"  # {example.says}", style="dim"), Text(f"  kdna-deploy {example.line}")]
    return Padding(Group(Text("Examples", style="bold"), *rows), (1, 1))
