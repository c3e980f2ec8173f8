"""ncnn files, read without ncnn: what they record and store, and what is refused before ncnn sees it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdna_deploy.errors import ArtifactError
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.input_files import MODELS, Kind, check_input
from kdna_deploy.runtimes.ncnn_file import read_ncnn, recorded_text

MADE = Provenance("net.pt", "0" * 64, None, "mine:net", False, (3, 8, 8), 1, 1, 0)
LAYERS = (
    "Input            in0   0 1 in0",
    "Convolution      conv  1 1 in0 1 0=4 1=3 4=1 5=1 6=108 9=1 -23310=2,1.0,2.0",
    "ConvolutionDepthWise dw 1 1 1 2 0=4 1=1 6=4 7=4",
    "Convolution      made  2 1 2 1 3 0=4 1=1 6=16 19=1",  # its kernel is an input
    "InnerProduct     fc    1 1 3 out0 0=10 1=1 2=40",
)
NET = "\n".join(("7767517", f"{len(LAYERS)} 5", *LAYERS, ""))


def write(folder: Path, text: str = NET, weights: bytes | None = bytes(8), made: Provenance | None = MADE) -> Path:
    path = folder / "net.ncnn.param"
    if weights is not None:
        (folder / "net.ncnn.bin").write_bytes(weights)
        text = recorded_text(text, made, folder / "net.ncnn.bin") if made else text
    path.write_text(text)
    return path


@pytest.mark.parametrize(("weights", "width"), [("fp32", 4), ("fp16", 2)])
def test_a_file_says_what_it_was_made_of_and_stores(tmp_path: Path, weights: str, width: int) -> None:
    made = MADE.with_options(weights=weights)
    path = write(tmp_path, made=made)
    found = read_ncnn(path)
    assert found.provenance == made
    assert found.bytes == path.stat().st_size + 8
    assert [layer.type for layer in found.layers] == [line.split()[0] for line in LAYERS]
    stored = found.storage
    assert (stored.kernels, stored.convolutions, stored.unique_bytes) == (2, 2, (108 + 4) * width)


def test_a_file_of_others_is_read_as_far_as_it_tells(tmp_path: Path) -> None:
    path = write(tmp_path, made=None)
    assert read_ncnn(path).provenance is None
    check_input(path, MODELS, "verify")
    with pytest.raises(Exception, match="is an ncnn file, and fuse takes a checkpoint"):
        check_input(path, (Kind.checkpoint,), "fuse")


def test_weights_are_held_to_their_recorded_digest(tmp_path: Path) -> None:
    path = write(tmp_path)
    (tmp_path / "net.ncnn.bin").write_bytes(bytes(7) + b"1")
    with pytest.raises(ArtifactError, match=r"net.ncnn.bin' is cut short, or not the weights of"):
        read_ncnn(path)
    assert read_ncnn(path, weights=False).provenance == MADE


def test_the_text_is_held_to_its_recorded_digest(tmp_path: Path) -> None:
    path = write(tmp_path)
    text = path.read_text()
    path.write_text(text.replace("1=3 ", "1=5 ", 1))
    with pytest.raises(ArtifactError, match=r"net\.ncnn\.param' is damaged: .*; export it again\.$"):
        read_ncnn(path, weights=False)
    for taken in (text.replace("\n", "\r\n"), text.partition("\nkdna_sha256 ")[0]):  # an earlier one
        path.write_bytes(taken.encode())
        assert read_ncnn(path).provenance == MADE


@pytest.mark.parametrize(
    ("text", "weights", "said"),
    [
        (NET, None, "keep the two together"),
        ("", bytes(8), "it does not begin with 7767517"),
        ("7767517\n", bytes(8), "or a damaged one"),
        ("7767517\n3\n", bytes(8), "or a damaged one"),
        ("7767517\n-1 3\n", bytes(8), "is no number of layers"),
        ("7767517\n9999999 3\n", bytes(8), "is no number of layers"),
        ("7767517\n" + "9" * 5000 + " 3\n", bytes(8), "is no number of layers"),
        ("\n".join(NET.split("\n")[:4]), bytes(8), "or a damaged one"),
        (NET.replace("6=108", "6=many"), bytes(8), "or a damaged one"),
        (NET.replace("1 1 in0 1", "1 7 in0 1"), bytes(8), "layer 'Convolution"),
        (NET + "# kdna {}\n", bytes(8), "provenance in"),
        (NET + "# kdna [[[\n", bytes(8), "provenance in"),
        ("\0\xff", bytes(8), "or a damaged one"),
        # Without Python's own words.
        ("7767517\n3\n", bytes(8), "or a damaged one; export it again."),
        (NET.replace("fc    1 1 3 out0 0=10 1=1 2=40", "fc"), bytes(8), "or a damaged one; export it again."),
    ],
)
def test_what_is_damaged_or_hostile_is_one_sentence(
    tmp_path: Path, text: str, weights: bytes | None, said: str
) -> None:
    with pytest.raises(ArtifactError) as refused:
        read_ncnn(write(tmp_path, text, weights, made=None))
    assert said in str(refused.value)
    assert "export it again" in str(refused.value) or "make the artifact again" in str(refused.value) or weights is None
    assert "\n" not in str(refused.value) and str(refused.value).endswith(".")
