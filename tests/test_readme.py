"""The commands in the README work as they stand, and the reference names every option."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY, Cli

README = (REPOSITORY / "README.md").read_text()
REFERENCE = (REPOSITORY / "docs" / "cli.md").read_text()


def _executed_commands() -> list[list[str]]:
    block = re.search(r"<!-- executed by tests/test_readme.py -->\n```console\n(.*?)```", README, re.DOTALL)
    assert block
    return [shlex.split(line.removeprefix("$ ")) for line in block[1].splitlines()]


@pytest.mark.slow
def test_readme_commands_succeed_one_after_the_other(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "sample_checkpoints").symlink_to(REPOSITORY / "sample_checkpoints")
    commands = _executed_commands()
    assert len(commands) == 5
    for program, *arguments in commands:
        assert program == "kdna-deploy"
        ran = cli(*arguments)
        assert ran.returncode == 0, ran.stderr
        assert ran.stdout


@pytest.mark.parametrize("command", ["inspect", "fuse", "export", "verify", "evaluate", "bench"])
def test_reference_names_every_option(cli: Cli, command: str) -> None:
    options = set(re.findall(r"--[a-z][a-z-]+", cli(command, "--help").stdout)) - {"--help", "--json", "--output"}
    section = REFERENCE.split(f"## `{command} ")[1].split("\n## ")[0]
    named = set(re.findall(r"--[a-z][a-z-]+", section))
    assert options <= named, f"docs/cli.md misses {options - named}"
