"""The commands as typer parses them, with a help page of ours and an ear for the words of other tools."""

from __future__ import annotations

import sys
from collections.abc import Collection
from typing import Any

from typer.core import TyperCommand, TyperGroup

from kdna_deploy.cli.examples import EXAMPLES, FIRST_STEPS
from kdna_deploy.cli.help_page import help_page
from kdna_deploy.cli.other_words import command_meant, likely, understood
from kdna_deploy.cli.streams import writing
from kdna_deploy.cli.terminal import console_on
from kdna_deploy.errors import UsageError

_PATHS = ("path", "file", "directory")  # what typer calls the type of one


class Command(TyperCommand):
    """A command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what is said here, or in the words of other tools.

        Raises:
            UsageError: a word of another tool for which there is none here, or a path that is empty.
        """
        if ctx.resilient_parsing:  # of a line that is not complete, for a shell that completes it
            return super().parse_args(ctx, args)
        own = {name for one in self.params for name in (*one.opts, *one.secondary_opts)}
        try:
            meant = understood(str(self.name), args, own)
            if any(word == "" or word.endswith("=") for word in meant):
                self._check_paths(ctx, meant)
            return super().parse_args(ctx, meant)
        except Exception as error:  # of typer or of Click, by version
            if getattr(error, "possibilities", None):
                error.possibilities = likely(error.option_name, own)  # type: ignore[attr-defined]
            raise

    def _check_paths(self, ctx: Any, words: list[str]) -> None:
        """An empty one, as of a shell's variable that is not set, would be the current folder once it is converted."""
        said, _, _ = self.make_parser(ctx).parse_args(list(words))
        for one in self.params:
            values = said.get(str(one.name))
            empty = "" in values if isinstance(values, (list, tuple)) else values == ""
            if not empty or one.type.name not in _PATHS:
                continue
            if one.param_type_name == "argument":
                raise UsageError(f"{str(one.metavar or one.name).rstrip('.')} is empty; name a file.")
            raise UsageError(f"{one.opts[0]} is empty; name a file or a folder, or leave the option out.")

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page; what is written to `formatter` could not be as wide as the terminal."""
        _print_page(self, ctx)


class Program(TyperGroup):
    """All commands."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names, none of them made for that."""
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command, by its name here or in other tools.

        Raises:
            UsageError: a name of other tools for which there is none here.
        """
        name = args[0] if ctx.resilient_parsing else command_meant(args[0])
        return super().resolve_command(ctx, [name, *args[1:]])

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the page."""
        _print_page(self, ctx)


def _print_page(command: Command | Program, ctx: Any) -> None:
    console = console_on(sys.stdout)
    program = isinstance(command, Program)
    page = help_page(
        ctx.command_path,
        command.help or "",
        command.get_params(ctx),
        list(command.commands.values()) if isinstance(command, Program) else (),
        FIRST_STEPS if program else EXAMPLES.get(str(command.name), ()),
        console.width,
    )
    with writing(sys.stdout):
        console.print(page)


def given(context: Any, others: Collection[str]) -> dict[str, Any]:
    """Name → value of what was typed, as by default or not, besides what is in `others`."""
    return {name: value for name, value in context.params.items() if name not in others and _typed(context, name)}


def _typed(context: Any, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name != "DEFAULT"
