"""The benchmarks measure with what the package has today: each is imported, and tells what it takes."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from tests.conftest import REPOSITORY

ALONE = ("table", "serving_load")  # no benchmarks: what one imports, and what one starts
SCRIPTS = sorted(path for path in (REPOSITORY / "benchmarks").glob("*.py") if path.stem not in ALONE)


def imported(script: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"benchmark_{script.stem}", script)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_benchmark_tells_what_it_takes(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(script.parent))
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    module = imported(script, monkeypatch)
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert ended.value.code == 0
    assert "--out" in capsys.readouterr().out
    assert f"benchmarks/{script.name}`" in (script.parent / "README.md").read_text()


def test_a_table_made_again_leaves_those_of_other_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table, path = imported(REPOSITORY / "benchmarks" / "table.py", monkeypatch), tmp_path / "t.md"
    told = {"cores": 2, "versions": {"onnxruntime": "1.31.1", "torch": "2.13.0"}}
    for processor, figure in (("EPYC (AVX2)", "1 ms"), ("Xeon (VNNI)", "2 ms"), ("EPYC (AVX2)", "3 ms")):
        monkeypatch.setattr(table, "environment", lambda name=processor: SimpleNamespace(processor=name, **told))
        monkeypatch.setattr(sys, "argv", ["benchmarks/times.py", "--min-time", "2", f"--out={path}"])
        table.write_table(path, "Times", "One thread.", ["network", "time"], [["resnet18", figure]])
    monkeypatch.setattr(
        sys, "argv", ["benchmarks/times.py", "--arch=resnet50", "--out", str(path), "--arch", "resnet18"]
    )
    table.write_table(path, "Times", "One thread.", ["network", "time"], [["resnet50", "4 ms"]])
    title, *sections = path.read_text().split("\n## ")
    assert title == "# Times\n"
    part = "EPYC (AVX2), `--arch resnet50 --arch resnet18`"  # leaves the rows of all
    assert [section.splitlines()[0] for section in sections] == ["EPYC (AVX2)", "Xeon (VNNI)", part]
    last = ["| resnet18 | 3 ms |", "| resnet18 | 2 ms |", "| resnet50 | 4 ms |"]
    assert [section.splitlines()[-1] for section in sections] == last
    assert all("Made by `python benchmarks/times.py --min-time 2` on" in section for section in sections[:2])
    assert "Made by `python benchmarks/times.py --arch resnet50 --arch resnet18` on" in sections[2]
    assert "2 ms" in capsys.readouterr().out
