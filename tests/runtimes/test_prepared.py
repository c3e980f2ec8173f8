"""The record of a prepared file, and every refusal that it leads to: one sentence that ends in the command to run."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from kdna_deploy.cli.app import run
from kdna_deploy.errors import ArtifactError, KdnaError, RuntimeFailure
from kdna_deploy.runtimes.blocked_layout import channels_of_a_block
from kdna_deploy.runtimes.nvidia.onnx_input import read_onnx
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.prepared import KEY, prepared_record, require_portable
from kdna_deploy.targets.onnx.prepare import prepare_onnx
from kdna_deploy.targets.reproduction import Ingredients, check_reproduction
from tests.targets.onnx.int8.quantised import chain, quantised

KERNELS = {name: np.random.default_rng(1).standard_normal((32, 32, 3, 3), dtype=np.float32) for name in "ab"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a portable and a prepared file, in float32 and in int8."""
    folder = tmp_path_factory.mktemp("prepared")
    onnx.save_model(chain(KERNELS), folder / "net.onnx")
    onnx.save_model(quantised(chain(KERNELS), folder), folder / "int8.onnx")
    for name in ("net", "int8"):
        prepare_onnx(folder / f"{name}.onnx", folder / f"{name}.prepared.onnx")
    return folder


Altered = Callable[..., Path]


@pytest.fixture
def altered(made: Path, tmp_path: Path) -> Altered:
    """A copy of a prepared file with another record, beside its weights."""

    def alter(name: str = "net", **fields: Any) -> Path:
        for file in made.glob(f"{name}.prepared.onnx*.data"):
            (tmp_path / file.name).write_bytes(file.read_bytes())
        model = onnx.load(made / f"{name}.prepared.onnx", load_external_data=False)
        (entry,) = (one for one in model.metadata_props if one.key == KEY)
        entry.value = json.dumps({**json.loads(entry.value), **fields})
        path = tmp_path / f"{name}.prepared.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return alter


def refused(path: Path) -> KdnaError:
    with pytest.raises(KdnaError) as caught:
        OrtSession(path)
    text = str(caught.value)
    assert text.count(". ") == 0 and "\n" not in text
    return caught.value


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"onnxruntime": "1.20.0"}, f"by ONNX Runtime 1.20.0, and this is {onnxruntime.__version__}"),
        ({"machine": "aarch64x"}, f"for aarch64x, and this is {platform.machine()}"),
        ({"block": 2}, "for blocks of 2 channels, and this processor takes "),
    ],
)
def test_what_is_for_another_place_is_refused_with_the_command(
    altered: Altered, fields: dict[str, Any], said: str
) -> None:
    path = altered(**fields)
    error = refused(path)
    assert isinstance(error, RuntimeFailure)
    assert f"'{path}' was prepared {said}" in str(error)
    portable = path.with_name("net.onnx")
    assert str(error).endswith(f"; prepare it anew: `prepare('{portable}', output='{path}')`.")


@pytest.mark.slow
def test_int8_is_for_processors_that_need_the_same_session(altered: Altered) -> None:
    path = altered("int8")
    OrtSession(path).close()
    session = dict(prepared_record(path).session)
    entry = {"session.x64quantprecision": "1"}
    needs = "session.x64quantprecision" in session
    other = {k: v for k, v in session.items() if k not in entry} if needs else session | entry
    error = refused(altered("int8", session=other))
    said = "without" if needs else "with"
    assert f"was prepared {said} session.x64quantprecision=1, which int8" in str(error)


@pytest.mark.slow
def test_the_command_line_refuses_with_code_4_and_says_what_to_type(
    altered: Altered, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(altered(block=2).parent)
    assert run(["verify", "net.prepared.onnx", "--against", "net.prepared.onnx"]) == 4
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines()[-1].endswith("; prepare it anew: kdna-deploy prepare net.onnx.")


@pytest.mark.slow
@pytest.mark.parametrize(
    "fields",
    [
        {"block": "16"},
        {"block": 1},
        {"int8": None},
        {"session": {}},
        {"session": {"graph_optimization_level": "ORT_ENABLE_ALL"}},
        {"source": 3},
        {"source_sha256": "0"},
        {"macs": -1},
        {"onnxruntime": ["1.31.1"]},
        {"schema_version": "1"},
    ],
)
def test_a_damaged_record_is_refused(altered: Altered, fields: dict[str, Any]) -> None:
    error = refused(altered(**fields))
    assert isinstance(error, ArtifactError)
    assert str(error).endswith("is damaged; prepare the portable file anew: `prepare('NET.onnx')`.")


@pytest.mark.slow
def test_a_later_record_is_refused(altered: Altered) -> None:
    assert "was prepared by a later kdna-deploy (schema 2); update this one." in str(refused(altered(schema_version=2)))


@pytest.mark.slow
@pytest.mark.parametrize("length", [None, 0, 1000])
def test_missing_and_short_weights_are_refused_with_the_command(altered: Altered, length: int | None) -> None:
    path = altered()
    (weights,) = path.parent.glob("*.data")
    content = weights.read_bytes()
    weights.unlink()
    if length is not None:
        weights.write_bytes(content[:length])
    error = refused(path)
    assert isinstance(error, ArtifactError)
    assert str(error).startswith(f"ONNX Runtime cannot open '{path}': ")
    assert "; prepare it anew: `prepare(" in str(error)
    assert (f"its weights '{weights.name}' are not beside it" in str(error)) is (length is None)


@pytest.mark.slow
def test_who_takes_portable_files_says_which(made: Path) -> None:
    path = made / "net.prepared.onnx"
    portable = f"give the one that it was made from, '{made / 'net.onnx'}'."
    with pytest.raises(ArtifactError, match="and TensorRT reads portable files") as caught:
        read_onnx(path)
    assert str(caught.value).endswith(portable)
    with pytest.raises(ArtifactError, match="and `check` makes portable files"):
        check_reproduction(path, Ingredients(Path("ckpt.pt")))
    require_portable(made / "net.onnx", "TensorRT reads")


@pytest.mark.slow
def test_openvino_takes_portable_files(made: Path) -> None:
    pytest.importorskip("openvino")
    from kdna_deploy.runtimes.openvino import OpenVinoSession

    with pytest.raises(ArtifactError, match="and OpenVINO opens portable files"):
        OpenVinoSession(made / "net.prepared.onnx")


@pytest.mark.slow
def test_the_blocks_are_those_that_the_runtime_fills_up_kernels_to(made: Path) -> None:
    """A file with one filter has a whole block of them once it is prepared."""
    block = channels_of_a_block()
    if block is None:
        pytest.skip("ONNX Runtime has no blocked layout on this processor")
    path = made / "one.onnx"
    onnx.save_model(chain({"a": np.ones((1, 3, 3, 3), np.float32)}), path)
    prepare_onnx(path, made / "one.prepared.onnx")
    model = onnx.load(made / "one.prepared.onnx", load_external_data=False)
    assert block in {tensor.dims[0] for tensor in model.graph.initializer if len(tensor.dims) == 4}
    assert prepared_record(made / "one.prepared.onnx").block == block
