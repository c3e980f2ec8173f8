"""Provenance in the metadata of an ONNX file and in an engine's record: read as it was written, or refused."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from kdna_deploy.graph.provenance import KEY, from_json
from kdna_deploy.runtimes.nvidia.engine_record import read_record, record_path
from kdna_deploy.runtimes.nvidia.onnx_input import read_onnx
from kdna_deploy.runtimes.open import open_session, read_provenance
from kdna_deploy.runtimes.ort import session_needs
from tests.hostile import STRANGE, checked_message, places, refusal, replaced
from tests.runtimes.nvidia.test_engine_record import CONTENT, RECORD
from tests.targets.tensorrt.onnx_files import PROVENANCE

MADE = PROVENANCE.with_options(session={"disabled_optimizers": ["ConstantFolding"]}, children="on-the-fly")


def write_onnx(path: Path, metadata: str | None) -> Path:
    """The smallest file that maps an image batch to one output."""
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 8, 8])
    output = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3, 1, 1])
    graph = helper.make_graph([helper.make_node("GlobalAveragePool", ["input"], ["logits"])], "g", [image], [output])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    if metadata is not None:
        helper.set_model_props(model, {KEY: metadata})
    onnx.save(model, path)
    return path


def changed(**fields: Any) -> str:
    return json.dumps({**json.loads(MADE.to_json()), **fields})


def test_the_metadata_says_how_a_session_is_opened(tmp_path: Path) -> None:
    path = write_onnx(tmp_path / "a.onnx", MADE.to_json())
    assert session_needs(path).disabled_optimizers == ("ConstantFolding",)
    assert read_provenance(path) == MADE
    assert session_needs(write_onnx(tmp_path / "b.onnx", None)).disabled_optimizers == ()


def test_a_network_that_was_never_trained_has_no_checkpoint_and_is_opened_all_the_same(tmp_path: Path) -> None:
    """The plain backbone that `bench` measures beside a network."""
    made = replace(MADE, source="", source_sha256="")
    path = write_onnx(tmp_path / "plain.onnx", made.to_json())
    assert session_needs(path).disabled_optimizers == ("ConstantFolding",)
    assert read_provenance(path) == made


@pytest.mark.parametrize(
    "metadata",
    [
        *("[]", "3", "null", "{", '"x"', "{}", "[" * 100_000, '{"options": []}', '{"options": {"session": 3}}'),
        *(changed(options=value) for value in ([], 3, "x", None, {"session": []}, {"session": "x"})),
        *(
            changed(options={"session": {"disabled_optimizers": value}})
            for value in (3, "ab", {}, [3], [["a"]], [None])
        ),
        *(changed(schema_version=value) for value in (99, "1", None, [])),
    ],
)
def test_metadata_of_any_other_shape_is_refused_by_everyone_who_reads_it(tmp_path: Path, metadata: str) -> None:
    path = write_onnx(tmp_path / "a.onnx", metadata)
    for read in (session_needs, open_session, read_provenance, read_onnx):
        refusal(lambda read=read: read(path), path)


@pytest.mark.parametrize("value", STRANGE, ids=[repr(value)[:12] for value in STRANGE])
def test_any_value_in_the_place_of_another_is_refused_or_does_no_harm(tmp_path: Path, value: Any) -> None:
    from tests.samples import fused_sample

    made = json.loads(fused_sample().provenance.to_json())
    for way in places(made):
        try:
            provenance = from_json(json.dumps(replaced(made, way, value)), "a.onnx")
        except Exception as error:
            checked_message(error, Path("a.onnx"))  # type: ignore[arg-type]
        else:  # what is admitted can be used
            assert provenance.name
            _ = provenance.shared_kernels
            if provenance.architecture:
                try:
                    _ = provenance.restored_architecture()
                except Exception as error:
                    assert getattr(error, "exit_code", None) == 3


@pytest.mark.parametrize("value", STRANGE, ids=[repr(value)[:12] for value in STRANGE])
def test_any_value_in_an_engines_record_is_refused_or_does_no_harm(tmp_path: Path, value: Any) -> None:
    engine = tmp_path / "net.rtx.engine"
    engine.write_bytes(CONTENT)
    original = json.loads(RECORD.to_json())
    for way in places(original):
        record_path(engine).write_text(json.dumps(replaced(original, way, value)))
        try:
            assert asdict(read_record(engine))
        except Exception as error:
            assert getattr(error, "exit_code", None) == 3
            assert str(error).isprintable()
