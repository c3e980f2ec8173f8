"""Help pages: everything is there and whole at any width, and every example is a command that works."""

from __future__ import annotations

import io
import re
import shlex
from pathlib import Path

import pytest

from kdna_deploy.cli.examples import EXAMPLES, FIRST_STEPS
from kdna_deploy.cli.help_page import default_of, summary
from kdna_deploy.cli.options.panels import PANELS
from tests.benchmark.test_saved import PAIR, save
from tests.cli.handed import commands, handed, invoke
from tests.cli.test_contract import COMMANDS
from tests.cli.test_every_option import INT8
from tests.conftest import Cli
from tests.samples import RESNET, sample_path

LINES = [one.line for examples in (FIRST_STEPS, *EXAMPLES.values()) for one in examples]
ANSI = re.compile(r"\x1b\[[0-9;]*m")


def parameters(command: str) -> list:
    return [one for one in commands()[command].params if not getattr(one, "hidden", False)]


def page(command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    words = [command, "--help"] if command else ["--help"]
    assert invoke(*words) == 0
    return capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_a_page_fits_and_uses_the_width_and_cuts_no_name(
    command: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = page(command, width, monkeypatch, capsys)
    assert max(map(len, lines)) == width
    text = "\n".join(lines)
    assert "…" not in text
    words = set(re.findall(r"--[a-z][a-z0-9-]+|[^\s│]+", text))
    for one in parameters(command) if command else ():
        names = (one.metavar,) if one.param_type_name == "argument" else (*one.opts, *one.secondary_opts)
        for name in names:
            assert {name, f"{name},"} & words, name


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_has_a_topic_a_metavar_and_a_sentence_that_stands_alone(command: str) -> None:
    for one in parameters(command):
        name = max(one.opts, key=len)
        assert one.rich_help_panel in PANELS, name
        assert bool(one.metavar) is not bool(getattr(one, "is_flag", False)), name
        assert re.fullmatch(r"[A-Zp].{13,}\.", one.help), f"{name}: {one.help}"
        assert not re.search(r"[Ll]ikewise|same as above|ditto", one.help), name


@pytest.mark.parametrize("command", COMMANDS)
def test_every_default_is_shown(command: str) -> None:
    for one in parameters(command):
        if one.default is not None and not getattr(one, "is_flag", False) and not one.required:
            assert default_of(one), one.opts


def test_summaries_fit_in_one_line_at_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = page("", 80, monkeypatch, capsys)
    for name, command in commands().items():
        assert any(re.search(rf"│ {name} +{re.escape(summary(command.help))} ", line) for line in lines), name


def test_every_command_has_three_examples_that_fit_at_80_columns() -> None:
    assert set(EXAMPLES) == set(COMMANDS)
    for command, examples in EXAMPLES.items():
        assert len(examples) == 3
        for example in examples:
            assert example.line.split()[0] == command
            assert len(f"   kdna-deploy {example.line} ") <= 80 and len(f"   # {example.says} ") <= 80


@pytest.fixture
def users_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every file that the examples name."""
    for name in ("ckpt.pt", "mine.pt"):
        (tmp_path / name).symlink_to(sample_path(RESNET))
    for name in ("ckpt.onnx", "ckpt.int8.onnx", "new.onnx", "old.onnx", "ckpt.engine", "ckpt.fused.pt2"):
        (tmp_path / name).write_bytes(b"never opened")
    (tmp_path / "net.py").write_text("def build(): ...\n")
    (tmp_path / "names.txt").write_text("a\nb\n")
    (tmp_path / "photo.jpg").write_bytes(b"never opened")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"an image")))
    for name in ("images", "val/1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "0.png").write_bytes(b"never opened")
    save(PAIR, tmp_path)
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("users_folder")
@pytest.mark.parametrize(
    "line",
    [one.line for examples in (FIRST_STEPS, *EXAMPLES.values()) for one in examples if "int8 --cal" not in one.line],
)
def test_an_example_is_accepted_and_handed_to_the_library(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert handed(monkeypatch, *shlex.split(line))


def test_an_example_that_reads_images_is_one_of_those_that_the_options_are_tested_with() -> None:
    """The others leave what they name to the library."""
    (line,) = (line for line in LINES if "--calibration" in line)
    assert set(line.removesuffix("/").split()) <= set(INT8.split())


@pytest.mark.slow
@pytest.mark.parametrize("words", [("export", "-h"), ("-h",)])
def test_piped_help_is_100_columns_wide_and_plain_unless_colour_is_asked_for(cli: Cli, words: tuple[str, ...]) -> None:
    without = {"COLUMNS": "", "FORCE_COLOR": "", "NO_COLOR": "", "TERM": "xterm-256color"}
    plain = cli(*words, **without).stdout
    assert max(map(len, plain.splitlines())) == 100
    assert not ANSI.search(plain)
    forced = cli(*words, **{**without, "FORCE_COLOR": "1"}).stdout
    assert ANSI.search(forced)
    assert ANSI.sub("", forced) == plain
    assert max(map(len, cli(*words, **{**without, "COLUMNS": "77"}).stdout.splitlines())) == 77
