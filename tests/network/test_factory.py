"""The function that builds a user's network, named by a module or by a file wherever it lies."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from kdna_deploy.errors import ArtifactError, InputError, UsageError
from kdna_deploy.graph.provenance import from_json, provenance_of
from kdna_deploy.network.factory import check_reference, hint, load_factory, named_file, recorded
from kdna_deploy.network.load import load_network

SOURCE = """
from torch import nn
from layers_beside_it import WIDTH

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, WIDTH, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))

def build():
    return Net()
"""


@pytest.fixture(autouse=True)
def modules(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing that a test imports is left for the next."""
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model that is neither the current one nor on the path of modules."""
    folder = tmp_path / "my models"
    folder.mkdir()
    (folder / "net.py").write_text(SOURCE)
    (folder / "layers_beside_it.py").write_text("WIDTH = 4\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


@pytest.mark.parametrize("form", ["relative", "absolute"])
def test_a_file_outside_the_path_of_modules_builds_the_network(elsewhere: Path, form: str) -> None:
    file = Path("../my models/net.py") if form == "relative" else elsewhere / "net.py"
    trained = nn.Conv2d(3, 4, 3)
    torch.save({f"conv.{name}": value for name, value in trained.state_dict().items()}, "ckpt.pt")
    network = load_network(Path("ckpt.pt"), factory=f"{file}:build")
    torch.testing.assert_close(network.module.conv.weight.data, trained.weight.data, rtol=0, atol=0)
    assert network.name == f"{file}:build"
    made = provenance_of(network, (3, 8, 8), 0)
    assert made.factory == "../my models/net.py:build"  # from here; not where this folder lies
    assert from_json(made.to_json(), "net.onnx").factory == made.factory


def test_a_file_of_a_package_may_import_its_neighbours_as_such(tmp_path: Path) -> None:
    package = tmp_path / "zoo_of_mine" / "small"
    package.mkdir(parents=True)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    (package / "layers.py").write_text("def build(): return 7\n")
    (package / "net.py").write_text("from .layers import build\nfrom zoo_of_mine.small import layers\n")
    assert load_factory(f"{package / 'net.py'}:build")() == 7
    assert sys.modules["zoo_of_mine.small.net"].__file__ == str(package / "net.py")


def test_a_file_hides_no_module_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("def build(): return 'mine'\n")
    assert load_factory(f"{tmp_path / 'torch.py'}:build")() == "mine"
    assert sys.modules["torch"] is torch


def test_files_of_one_name_are_told_apart_and_each_is_executed_once(tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / str(number)).mkdir()
        (tmp_path / str(number) / "net.py").write_text(f"def build(): return {number}\n")
    first, second = (f"{tmp_path / str(number) / 'net.py'}:build" for number in (1, 2))
    assert (load_factory(first)(), load_factory(second)()) == (1, 2)
    assert load_factory(second) is load_factory(second)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("absent.py:build", "There is no file 'absent.py'."),
        ("folder.py:build", "'folder.py' is a folder, not a file."),
        ("net.py:bild", "'net.py' has no function 'bild'; it has build, Other."),
        ("empty.py:build", "'empty.py' has no function 'build'."),
        ("syntax.py:build", "`model='syntax.py:build'` cannot be imported: .*"),
        ("raises.py:build", "`model='raises.py:build'` cannot be imported: not today."),
        ("exits.py:build", "`model='exits.py:build'` cannot be imported: SystemExit 3."),
        ("lacks.py:build", "`model='lacks.py:build'` cannot be imported: No module named 'absent_package'."),
    ],
)
def test_a_file_that_gives_no_function_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    for name, text in {
        "net": "from math import sqrt\ndef build(): ...\nclass Other: ...\ndef _hidden(): ...\nNUMBER = 1\n",
        "empty": "",
        "syntax": "def build(:\n",
        "raises": "raise ValueError('not today.\\nreally')\n",
        "exits": "import sys\nsys.exit(3)\n",
        "lacks": "import absent_package\n",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(InputError) as refusal:
        load_factory(reference)
    assert re.fullmatch(said, str(refusal.value))


@pytest.mark.parametrize("reference", ["net.py", "net.py:", ":build", "net", ""])
def test_what_names_no_function_is_a_usage_error(reference: str) -> None:
    with pytest.raises(UsageError, match=r"is not of the form package\.module:factory or folder/file\.py:factory"):
        check_reference(reference)


def test_a_reference_is_recorded_as_it_will_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert recorded("package.module:build") == "package.module:build"
    assert recorded("a b/net.py:build") == "a b/net.py:build"
    assert recorded(f"{tmp_path}/a/net.py:build") == "a/net.py:build"
    assert named_file(r"C:\models\net.py:build") == (Path(r"C:\models\net.py"), "build")


def test_the_hint_names_the_file_where_it_is_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    artifact = Path("run/net.onnx")
    (tmp_path / "run").mkdir()
    assert hint("package.module:build", artifact) == "package.module:build"
    assert hint("code/net.py:build", artifact) == "code/net.py:build"  # it is nowhere
    (tmp_path / "run" / "net.py").touch()
    assert hint("code/net.py:build", artifact) == "run/net.py:build"
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "net.py").touch()
    assert hint("code/net.py:build", artifact) == "code/net.py:build"


@pytest.mark.parametrize("factory", ["a:b c", "a.py", "a\nb.py:c", "aa:b.py:c", "x" * 1000 + ".py:c", "\x1b.py:c"])
def test_provenance_holds_no_other_reference(factory: str, elsewhere: Path) -> None:
    torch.save({"conv.weight": torch.zeros(4, 3, 3, 3), "conv.bias": torch.zeros(4)}, "ckpt.pt")
    made = provenance_of(load_network(Path("ckpt.pt"), factory="../my models/net.py:build"), (3, 8, 8), 0)
    text = made.to_json().replace('"../my models/net.py:build"', json.dumps(factory))
    with pytest.raises(ArtifactError, match="factory"):
        from_json(text, "net.onnx")
