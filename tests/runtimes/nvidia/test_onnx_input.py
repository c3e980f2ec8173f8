"""Files that engines can be built from, and those that cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import file_sha256
from kdna_deploy.runtimes.nvidia.onnx_input import read_onnx
from kdna_deploy.targets.onnx.half_storage import store_half
from tests.targets.onnx.passes import applied
from tests.targets.tensorrt.onnx_files import PIXELS, PROVENANCE, SMALL, write_by_hand, write_small


@pytest.mark.slow
def test_input_batch_and_digest_are_read(small: Path, tmp_path: Path) -> None:
    source = read_onnx(small)
    assert (source.batch, source.image_shape, source.precision, source.provenance) == (None, SMALL, "fp32", None)
    assert source.sha256 == file_sha256(small)
    assert read_onnx(write_small(tmp_path / "fixed.onnx", batch=4)).batch == 4


@pytest.mark.slow
def test_provenance_comes_along(tmp_path: Path) -> None:
    made = read_onnx(write_small(tmp_path / "net.onnx", provenance=PROVENANCE)).provenance
    assert made == PROVENANCE


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"There is no file '.*none\.onnx'"):
        read_onnx(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"no protocol buffer at all", b"\xff" * 100])
def test_another_kind_of_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="no ONNX file, or a damaged one; export it again"):
        read_onnx(path)


def test_a_file_that_was_cut_short_is_refused(small: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(small.read_bytes()[:-1000])
    with pytest.raises(ArtifactError, match="damaged"):
        read_onnx(path)


def test_an_open_image_size_is_refused_with_the_option_that_fixes_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="again without `dynamic_size`"):
        read_onnx(write_by_hand(tmp_path / "net.onnx", shape=("n", 8, "h", "w")))


def test_the_types_of_pixels_and_classes_are_those_that_the_file_says(tmp_path: Path) -> None:
    path = write_small(tmp_path / "net.onnx", interface=PIXELS)
    assert (read_onnx(path).image_shape, read_onnx(path).interface) == (SMALL, PIXELS)
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, path)
    with pytest.raises(ArtifactError, match=r"net\.onnx' takes uint8 \(input\), and engines take and return float32"):
        read_onnx(path)


@pytest.mark.parametrize(("place", "does"), [("input", "takes"), ("output", "returns")])
def test_a_file_of_half_precision_images_or_logits_is_refused(
    small: Path, tmp_path: Path, place: str, does: str
) -> None:
    """No session could open its engine."""
    model = onnx.load(small)
    getattr(model.graph, place)[0].type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, tmp_path / "net.onnx")
    with pytest.raises(ArtifactError, match=rf"net\.onnx' {does} float16 .* export it again without `half_io`"):
        read_onnx(tmp_path / "net.onnx")


def test_what_takes_no_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not map one image batch"):
        read_onnx(write_by_hand(tmp_path / "net.onnx", shape=("n", 8)))


def test_float16_kernels_make_an_fp16_graph_and_half_storage_does_not(small: Path, tmp_path: Path) -> None:
    model = onnx.load(small)
    applied(store_half, model)
    onnx.save(model, tmp_path / "stored.onnx")
    assert read_onnx(tmp_path / "stored.onnx").precision == "fp32"
    path = write_by_hand(tmp_path / "half.onnx")
    model = onnx.load(path)
    kernel = numpy_helper.to_array(model.graph.initializer[0]).astype(np.float16)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(kernel, "kernel"))
    onnx.save(model, path)
    assert read_onnx(path).precision == "fp16"


def test_a_graph_that_quantises_is_int8(tmp_path: Path) -> None:
    path = write_by_hand(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("QuantizeLinear", ["images", "s", "z"], ["q"]))
    model.graph.initializer.extend(
        [
            helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]),
            helper.make_tensor("z", TensorProto.INT8, [], [0]),
        ]
    )
    onnx.save(model, path)
    assert read_onnx(path).precision == "int8"


def test_kernels_cast_to_float16_make_an_fp16_graph(tmp_path: Path) -> None:
    path = write_by_hand(tmp_path / "net.onnx")
    model = onnx.load(path)
    model.graph.node.insert(0, helper.make_node("Cast", ["kernel"], ["half"], to=TensorProto.FLOAT16))
    model.graph.node[1].input[1] = "half"
    onnx.save(model, path)
    assert read_onnx(path).precision == "fp16"
