"""Engine files: written with their record or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError, ExportError, KdnaError, UsageError
from kdna_deploy.files import file_sha256
from kdna_deploy.runtimes.nvidia.batches import Batches
from kdna_deploy.runtimes.nvidia.engine_record import check_engine, check_version, read_record, record_path
from kdna_deploy.runtimes.nvidia.library import OpenedLibrary
from kdna_deploy.runtimes.nvidia.onnx_input import read_onnx
from kdna_deploy.targets.tensorrt.build import BuildOptions
from kdna_deploy.targets.tensorrt.export import EngineOptions, engine_path, export_engine, layers_path
from tests.gpu import no_gpu
from tests.recorded import Recorded
from tests.targets.tensorrt.onnx_files import PIXELS, PROVENANCE, SMALL, write_by_hand, write_small

pytestmark = pytest.mark.usefixtures("rtx")


def test_the_record_tells_what_the_engine_was_made_from_and_with(rtx: OpenedLibrary, tmp_path: Path) -> None:
    source = write_small(tmp_path / "net.onnx", provenance=PROVENANCE)
    output = tmp_path / "net.rtx.engine"
    options = EngineOptions(build=BuildOptions(Batches(1, 2, 4), tf32=False, compute_capabilities=("8.6",)))
    made = export_engine(source, output, options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.rtx.engine", "net.rtx.engine.json"]
    record = read_record(output)
    assert record == made.record
    check_engine(output, record)
    check_version(output, record, rtx.version)
    assert (record.library, record.library_version) == ("tensorrt-rtx", rtx.version)
    assert (record.onnx, record.onnx_sha256) == ("net.onnx", file_sha256(source))
    assert (record.precision, record.tf32, record.batches) == ("fp32", False, Batches(1, 2, 4))
    assert (record.image_shape, record.compute_capabilities, record.gpu) == (SMALL, ("8.6",), None)
    assert record.provenance == PROVENANCE
    assert record.rebuild == (
        "kdna-deploy export net.onnx --tensorrt-rtx --batch 1:2:4 -o net.rtx.engine --no-tf32 --compute-capability 8.6"
    )
    assert json.loads(record_path(output).read_text())["schema_version"] == 1
    assert made.bytes == output.stat().st_size


def test_an_engine_takes_pixels_and_names_classes_as_its_file_does(tmp_path: Path) -> None:
    source = write_small(tmp_path / "net.onnx", interface=PIXELS)
    assert read_onnx(source).interface == PIXELS
    made = export_engine(source, tmp_path / "net.rtx.engine", EngineOptions(build=BuildOptions(Batches(1, 2, 5))))
    record = read_record(made.path)
    assert record.provenance is not None
    assert (record.image_shape, record.provenance.interface(made.path)) == (SMALL, PIXELS)


def test_the_command_is_for_the_folder_of_the_engine(small: Path, tmp_path: Path) -> None:
    made = export_engine(small, tmp_path / "net.rtx.engine")
    words = made.record.rebuild.split()
    assert (tmp_path / words[2]).resolve() == small.resolve()
    assert made.record.provenance is None


@pytest.mark.slow
def test_layers_are_written_on_request(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.rtx.engine"
    assert export_engine(small, output).layers is None
    assert not layers_path(output).exists()
    made = export_engine(small, output, EngineOptions(layer_information=True))
    assert made.layers == layers_path(output)
    listed = json.loads(layers_path(output).read_text(encoding="utf-8"))
    assert listed["schema_version"] == 1
    assert sum(made.inspection.layers.values()) == len(listed["layers"])
    assert {"name", "kind", "nodes", "inputs", "outputs", "constants"} == set(listed["layers"][0])


def test_an_engine_that_could_not_be_run_says_why_and_how_to_verify_it(small: Path, tmp_path: Path) -> None:
    reason = no_gpu()
    if reason is None:
        pytest.skip("there is a GPU")
    made = export_engine(small, tmp_path / "net.rtx.engine")
    assert made.agreements == ()
    assert made.notes[-1] == (
        f"the engine has not been run: {reason}; on the machine that it is for, run: "
        "`verify('net.rtx.engine', against='small.onnx')`"
    )


def test_steps_are_reported_in_order(small: Path, tmp_path: Path) -> None:
    heard = Recorded()
    export_engine(small, tmp_path / "net.rtx.engine", None, heard)
    named = [step for step in heard.steps if step.startswith(("parse with", "build the engine", "inspect", "write"))]
    assert [step.split()[0] for step in named] == ["parse", "build", "inspect", "write"]
    assert heard.counts


def _refused_by_parser(folder: Path) -> Path:
    return write_by_hand(folder / "net.onnx", "Det")


def _cut_short(folder: Path) -> Path:
    path = write_small(folder / "net.onnx")
    path.write_bytes(path.read_bytes()[:-1000])
    return path


def _fixed(folder: Path) -> Path:
    return write_small(folder / "net.onnx", batch=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "error"), [(_refused_by_parser, ExportError), (_cut_short, ArtifactError), (_fixed, UsageError)]
)
def test_a_refusal_leaves_nothing_behind_and_what_was_there_alone(
    tmp_path: Path, source: object, error: type[KdnaError]
) -> None:
    assert callable(source)
    path = source(tmp_path)
    output = tmp_path / "net.rtx.engine"
    output.write_bytes(b"an engine that works")
    options = EngineOptions(build=BuildOptions(Batches(1, 8, 128)), layer_information=True)
    with pytest.raises(error):
        export_engine(path, output, options)
    assert output.read_bytes() == b"an engine that works"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.onnx", "net.rtx.engine"]


def test_an_interrupt_leaves_nothing_behind(small: Path, tmp_path: Path) -> None:
    def interrupt(done: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export_engine(small, tmp_path / "net.rtx.engine", listener=Recorded(at_count=interrupt))
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused_before_any_work(small: Path, tmp_path: Path) -> None:
    heard = Recorded()
    for output in (small, tmp_path, tmp_path / "no" / "net.engine"):
        with pytest.raises(UsageError):
            export_engine(small, output, None, heard)
    assert heard.steps == []


def test_engines_are_named_after_the_file_and_the_library() -> None:
    assert engine_path(Path("a/net.v2.onnx"), "tensorrt") == Path("a/net.v2.engine")
    assert engine_path(Path("a/net.v2.onnx"), "tensorrt-rtx") == Path("a/net.v2.rtx.engine")


def test_an_engine_is_replaced_only_together_with_its_record(small: Path, tmp_path: Path) -> None:
    output = tmp_path / "net.rtx.engine"
    output.write_bytes(b"an engine that works")
    record_path(output).mkdir()
    (record_path(output) / "in the way").touch()
    with pytest.raises(KdnaError, match="' is a folder"):
        export_engine(small, output)
    assert output.read_bytes() == b"an engine that works"
    assert len(list(tmp_path.iterdir())) == 2
