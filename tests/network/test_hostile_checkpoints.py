"""A checkpoint from anyone: its weights are read as they were trained, or it is refused with the tensor's name."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from kdna_deploy.errors import CheckpointError, InputError
from kdna_deploy.network.checkpoint import load_checkpoint
from kdna_deploy.network.load import load_network
from tests.hostile import checked_message, members, refusal, write_members

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # torch's own, about kinds of tensors in decline

WEIGHTS = {
    "conv.weight": torch.arange(36.0).reshape(4, 1, 3, 3) / 36,
    "conv.bias": torch.tensor([0.5, -1.0, 2.0, 0.0]),
    "bn.running_mean": torch.zeros(4),
    "bn.running_var": torch.ones(4),
    "bn.num_batches_tracked": torch.tensor(5005),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ckpt.pth"


def refused(path: Path) -> str:
    return refusal(lambda: load_checkpoint(path), path)


def with_weight(value: Any, name: str = "conv.weight") -> dict[str, Any]:
    return {"state_dict": {**WEIGHTS, name: value}}


# ---------------------------------------------------------------- kinds of tensors

W = WEIGHTS["conv.weight"]
OTHER_TYPES = (
    *(torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool),
    *(torch.complex32, torch.complex64, torch.complex128, torch.uint16, torch.uint32, torch.uint64),
    *(torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
)
KINDS: dict[str, Callable[[], Tensor]] = {
    **{
        f"{dtype}".removeprefix("torch."): lambda dtype=dtype: torch.ones(4, 1, 3, 3).to(dtype) for dtype in OTHER_TYPES
    },
    "quantised": lambda: torch.quantize_per_tensor(W, 0.1, 0, torch.qint8),
    "quantised by channel": lambda: torch.quantize_per_channel(W, torch.ones(4), torch.zeros(4), 0, torch.qint8),
    "sparse": lambda: W.to_sparse(),
    "sparse by row": lambda: W.reshape(4, 9).to_sparse_csr(),
    "sparse by column": lambda: W.reshape(4, 9).to_sparse_csc(),
    "nested": lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    "without content": lambda: torch.ones(4, 1, 3, 3, device="meta"),
}


@pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("name", ["conv.weight", "bn.running_var", "bn.weight"])
def test_tensors_of_another_kind_are_refused_by_name(path: Path, make: Callable[[], Tensor], name: str) -> None:
    torch.save(with_weight(make(), name), path)
    assert f"'{name}'" in refused(path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool, torch.uint8])
def test_whole_numbers_are_what_a_buffer_may_hold(path: Path, dtype: torch.dtype) -> None:
    torch.save(with_weight(torch.ones(3, dtype=dtype), "attention.index"), path)
    assert load_checkpoint(path).state_dict["attention.index"].dtype == dtype


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_double_precision_becomes_float32_with_a_note(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"ckpt{suffix}"
    weights = {name: v.double() if v.is_floating_point() else v for name, v in WEIGHTS.items()}
    save_file(weights, path) if suffix == ".safetensors" else torch.save(weights, path)
    found = load_checkpoint(path)
    assert found.notes == ("the weights are stored in float64; all computing is done in float32",)
    torch.testing.assert_close(dict(found.state_dict), WEIGHTS, rtol=0, atol=0)


@pytest.mark.parametrize("value", [1e300, -1e300, 3.5e38, float("inf")])
def test_double_precision_beyond_float32_is_refused(path: Path, value: float) -> None:
    torch.save(with_weight(torch.full((4,), value, dtype=torch.float64), "conv.bias"), path)
    assert "conv.bias" in refused(path)


@pytest.mark.parametrize("value", [-1.0, -1e-30])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_negative_variance_is_refused(path: Path, value: float, dtype: torch.dtype) -> None:
    torch.save(with_weight(torch.tensor([1.0, value, 1.0, 1.0], dtype=dtype), "bn.running_var"), path)
    assert "negative variances in 'bn.running_var'" in refused(path)


def test_parameters_and_views_are_read_as_what_they_hold(path: Path) -> None:
    stored = torch.arange(72.0).reshape(2, 36)
    weights = {
        "a.weight": nn.Parameter(stored[1].reshape(4, 9)),
        "b.weight": stored[0].reshape(4, 9).t(),
        "c.weight": torch.full((9,), 2 + 3j).conj().imag,
        "d.weight": torch.ones(1).expand(4, 9),
        "e.weight": torch.ones(0, 3),
        "f.weight": torch.tensor(3.0),
        "g.weight": W.to(memory_format=torch.channels_last),
    }
    weights["a.weight"].extra = "an attribute"
    torch.save({"state_dict": weights}, path)
    found = load_checkpoint(path).state_dict
    for name, value in weights.items():
        torch.testing.assert_close(found[name], value.detach().resolve_neg(), rtol=0, atol=0)
        assert type(found[name]) is Tensor
        assert not found[name].requires_grad


def test_tied_weights_stay_tied_and_take_their_memory_once(path: Path) -> None:
    shared = torch.randn(64, 64)
    torch.save({f"layer{n}.weight": shared for n in range(2000)}, path)
    found = load_checkpoint(path).state_dict
    assert len({value.data_ptr() for value in found.values()}) == 1


def test_weights_do_not_change_with_their_file(path: Path) -> None:
    torch.save({"state_dict": WEIGHTS}, path)
    found = load_checkpoint(path).state_dict
    path.write_bytes(bytes(path.stat().st_size))
    torch.testing.assert_close(dict(found), WEIGHTS, rtol=0, atol=0)


# ---------------------------------------------------------------- sizes

SIZES: dict[str, Callable[[], dict[str, Tensor]]] = {
    "a terabyte of one number": lambda: {"conv.weight": torch.ones(1).expand(1 << 38)},
    "2⁶⁰ numbers": lambda: {"conv.weight": torch.ones(1).expand(1 << 60)},
    "a row repeated": lambda: {"conv.weight": torch.ones(1000).expand(1 << 20, 1000)},
    "overlapping windows": lambda: {"conv.weight": torch.ones(1 << 15).unfold(0, 1 << 14, 1)},
    "many views": lambda: {f"w{n}.weight": torch.ones(1).expand(1 << 20, n + 1) for n in range(40)},
}


@pytest.mark.parametrize("make", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_tensors_far_larger_than_their_file_are_refused(path: Path, make: Any, zipped: bool) -> None:
    torch.save(make(), path, _use_new_zipfile_serialization=zipped)
    assert "far larger than the file" in refused(path)


def changed_pickle(path: Path, old: bytes, new: bytes) -> Path:
    contents = members(path)
    assert old in contents["data.pkl"]
    return write_members(path, {**contents, "data.pkl": contents["data.pkl"].replace(old, new)})


def integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


@pytest.mark.parametrize("numbers", [5, 1 << 10, 1 << 20, (1 << 31) - 1])
def test_a_storage_said_to_be_larger_than_it_is_is_refused(path: Path, numbers: int) -> None:
    """Reading it would read what lies behind it."""
    torch.save({"conv.bias": torch.ones(4)}, path)
    refused(changed_pickle(path, b"K\x04", integer(numbers)))


@pytest.mark.parametrize(("old", "new"), [(b"K\x00K\x04", b"K\x01K\x04"), (b"K\x04\x85", integer(-1) + b"\x85")])
def test_a_view_that_leaves_its_storage_is_refused(path: Path, old: bytes, new: bytes) -> None:
    torch.save({"conv.bias": torch.ones(4)}, path)
    refused(changed_pickle(path, old, new))


@pytest.mark.slow
def test_very_many_names_are_read_or_refused_in_bounded_time(path: Path) -> None:
    one = torch.ones(1)
    torch.save({f"w{number}": one for number in range(20_000)}, path)
    assert len(load_checkpoint(path).state_dict) == 20_000


# ---------------------------------------------------------------- names

NAMES: dict[str, Callable[[], Any]] = {
    "compiled beside not": lambda: {"a.b": torch.ones(1), "a._orig_mod.b": torch.zeros(1), "c": torch.ones(1)},
    "a number": lambda: {1: torch.ones(1), "a": torch.ones(1)},
    "a tuple": lambda: {("a", "b"): torch.ones(1)},
    "bytes": lambda: {b"a": torch.ones(1)},
    "nothing": lambda: {None: torch.ones(1)},
    "a line break": lambda: {"a\nb": torch.ones(1)},
    "an escape sequence": lambda: {"\x1b[31ma": torch.ones(1)},
    "a dictionary among weights": lambda: {"state_dict": {"encoder": {"a": torch.ones(1)}, "b": torch.ones(1)}},
    "dictionaries alone": lambda: {"state_dict": {"encoder": {"a": torch.ones(1)}}},
    "no weights": lambda: {"state_dict": {"a": 3}},
    "a list": lambda: {"state_dict": [torch.ones(1)]},
    "an empty state dict": lambda: {"state_dict": OrderedDict()},
    "a set": lambda: {1, 2},
    "a string": lambda: "weights",
    "none": lambda: None,
}


@pytest.mark.parametrize("make", NAMES.values(), ids=NAMES)
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_names_and_containers_that_no_training_writes_are_refused(path: Path, make: Any, zipped: bool) -> None:
    torch.save(make(), path, _use_new_zipfile_serialization=zipped)
    refused(path)


def test_a_weight_that_is_there_twice_is_refused_with_both_names(path: Path) -> None:
    torch.save({"module.a.b": torch.ones(1), "module.a._orig_mod.b": torch.zeros(1)}, path)
    message = refused(path)
    assert "'module.a.b'" in message
    assert "'module.a._orig_mod.b'" in message


def test_entries_that_are_no_tensors_are_told(path: Path) -> None:
    torch.save({"state_dict": {**WEIGHTS, "extra_state": None}}, path)
    assert load_checkpoint(path).notes == ("entries that are no tensors are left out: 'extra_state'",)


# ---------------------------------------------------------------- what training recorded

RECORDED: dict[str, Any] = {
    "a huge accuracy": {"best_acc1": 10**400},
    "a negative one": {"best_acc1": -(10**400)},
    "beyond percent": {"best_acc1": 1e9},
    "not a number": {"best_acc1": float("nan")},
    "infinite": {"best_acc1": float("inf")},
    "complex": {"best_acc1": 3 + 4j},
    "a flag": {"best_acc1": True},
    "a list": {"best_acc1": [74]},
    "a sparse tensor": {"best_acc1": torch.ones(1).to_sparse()},
    "a meta tensor": {"best_acc1": torch.ones(1, device="meta")},
    "a complex tensor": {"best_acc1": torch.ones(1, dtype=torch.complex64)},
    "several": {"best_acc1": torch.ones(3)},
    "a huge epoch": {"epoch": 10**500},
    "a negative epoch": {"epoch": -1},
    "half an epoch": {"epoch": 1.5},
    "a long name": {"arch": "a" * 100_000},
    "an escape sequence": {"arch": "\x1b[31mred"},
    "no name": {"arch": 3},
    "a list of names": {"arch": ["resnet18"]},
}


@pytest.mark.parametrize("entries", RECORDED.values(), ids=RECORDED)
def test_odd_records_of_training_are_left_out(path: Path, entries: dict[str, Any]) -> None:
    torch.save({"state_dict": WEIGHTS, **entries}, path)
    found = load_checkpoint(path)
    assert (found.accuracy, found.epoch, found.arch) == (None, None, None)
    assert all(note.isprintable() and len(note) < 200 for note in found.notes)


# ---------------------------------------------------------------- damage


def test_every_flipped_byte_of_a_tensor_is_noticed(path: Path) -> None:
    torch.save({"state_dict": WEIGHTS}, path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        info = next(info for info in archive.infolist() if info.filename.endswith("data/0"))
    begin = content.index(W.numpy().tobytes())
    for position in range(begin, begin + info.file_size):
        path.write_bytes(content[:position] + bytes([content[position] ^ 0x40]) + content[position + 1 :])
        assert "the checksum of its member 'data/0' does not fit" in refused(path)


@pytest.mark.parametrize("part", range(6))
def test_a_flipped_bit_anywhere_is_noticed_or_changes_nothing(path: Path, part: int) -> None:
    torch.save({"state_dict": WEIGHTS}, path)
    content = path.read_bytes()
    for position in range(part * 11, len(content), 66):
        path.write_bytes(content[:position] + bytes([content[position] ^ 1 << position % 8]) + content[position + 1 :])
        try:
            torch.testing.assert_close(dict(load_checkpoint(path).state_dict), WEIGHTS, rtol=0, atol=0)
        except CheckpointError as error:
            checked_message(error, path)


@pytest.mark.parametrize("kept", [*range(0, 1000, 50), -1, -10, -22, -100])
def test_a_file_cut_anywhere_is_refused(path: Path, kept: int) -> None:
    torch.save({"state_dict": WEIGHTS}, path)
    path.write_bytes(path.read_bytes()[:kept])
    refused(path)


def test_a_checkpoint_without_checksums_is_read_with_a_note(path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"state_dict": WEIGHTS}, path)
    finally:
        torch.serialization.set_crc32_options(True)
    found = load_checkpoint(path)
    assert found.notes == ("the checkpoint was written without checksums, so that damage in it would go unnoticed",)
    torch.testing.assert_close(dict(found.state_dict), WEIGHTS, rtol=0, atol=0)


def test_a_zip64_archive_is_read(path: Path) -> None:
    torch.save({"state_dict": WEIGHTS}, path)
    contents = members(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in contents.items():
            with archive.open(zipfile.ZipInfo(f"a/{name}"), "w", force_zip64=True) as member:
                member.write(content)
    torch.testing.assert_close(dict(load_checkpoint(path).state_dict), WEIGHTS, rtol=0, atol=0)


ARCHIVES: dict[str, Callable[[dict[str, bytes]], dict[str, bytes]]] = {
    "no content": lambda m: {name: c for name, c in m.items() if name != "data.pkl"},
    "a missing tensor": lambda m: {name: c for name, c in m.items() if name != "data/0"},
    "an empty tensor": lambda m: {**m, "data/0": b""},
    "a short tensor": lambda m: {**m, "data/0": m["data/0"][:-4]},
    "an empty pickle": lambda m: {**m, "data.pkl": b""},
    "another pickle": lambda m: {**m, "data.pkl": b"hello"},
    "no members but one": lambda m: {"x": b"y"},
    "names in two spellings": lambda m: {**m, "DATA/0": m["data/0"]},
    "a way out": lambda m: {**m, "../x": b"y"},
}


@pytest.mark.parametrize("change", ARCHIVES.values(), ids=ARCHIVES)
def test_archives_that_are_incomplete_or_strange_are_refused(path: Path, change: Any) -> None:
    torch.save({"state_dict": WEIGHTS}, path)
    refused(write_members(path, change(members(path))))


@pytest.mark.slow
def test_a_bomb_is_not_unpacked(path: Path) -> None:
    torch.save({"state_dict": WEIGHTS}, path)
    contents = members(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**contents, "data/0": bytes(1 << 28)}.items():
            archive.writestr(f"a/{name}", content)
    refused(path)


# ---------------------------------------------------------------- classes


def pickled(path: Path, call: bytes) -> Path:
    """A checkpoint that holds, beside its weights, what a pickle makes of `call`."""
    torch.save({"state_dict": WEIGHTS, "args": 77}, path)
    return changed_pickle(path, b"K\x4d", call)


def called(module: str, name: str, *arguments: bytes) -> bytes:
    return f"c{module}\n{name}\n".encode() + b"(" + b"".join(arguments) + b"tR"


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text.encode())) + text.encode()


PATHS = [
    (module, name)
    for module in ("pathlib", "pathlib._local")
    for name in ("Path", "PosixPath", "WindowsPath", "PurePath", "PurePosixPath", "PureWindowsPath")
]


@pytest.mark.parametrize(("module", "name"), PATHS)
def test_paths_of_any_platform_and_python_are_read_as_text(path: Path, module: str, name: str) -> None:
    """Python 3.13 names them `pathlib._local`; a WindowsPath cannot be made elsewhere, nor a PosixPath there."""
    found = load_checkpoint(pickled(path, called(module, name, word("data"), word("imagenet"))))
    torch.testing.assert_close(dict(found.state_dict), WEIGHTS, rtol=0, atol=0)


@pytest.mark.parametrize(
    "value",
    [
        *(OrderedDict(a=1), Counter("ab"), defaultdict(list, a=[1]), {1, 2}, 3 + 4j, b"bytes", torch.Size([1, 2])),
        *(torch.float32, torch.device("cpu"), np.float64(3), np.int32(3), np.bool_(True), [1, "a", None, (1.5, True)]),
        *(Path("data"), torch.ones(2, 2).to_sparse(), torch.Generator().get_state(), 10**500),
    ],
    ids=lambda value: type(value).__name__,
)
def test_plain_data_beside_the_weights_does_no_harm(path: Path, value: Any) -> None:
    torch.save({"state_dict": WEIGHTS, "args": value}, path)
    torch.testing.assert_close(dict(load_checkpoint(path).state_dict), WEIGHTS, rtol=0, atol=0)


CALLS = (
    *(("os", "system"), ("posix", "system"), ("nt", "system"), ("subprocess", "Popen"), ("builtins", "eval")),
    *(("builtins", "exec"), ("builtins", "open"), ("builtins", "getattr"), ("builtins", "__import__")),
    *(("__builtin__", "eval"), ("__builtin__", "execfile"), ("copy_reg", "_reconstructor"), ("builtins", "bytearray")),
    *(
        ("importlib", "import_module"),
        ("runpy", "run_path"),
        ("code", "interact"),
        ("pdb", "run"),
        ("shutil", "rmtree"),
    ),
    *(("torch", "load"), ("torch.hub", "load"), ("torch.jit", "load"), ("torch.ops", "load_library")),
    *(("torch.storage", "_load_from_bytes"), ("torch.serialization", "load"), ("torch.nn.modules.linear", "Linear")),
    *(("numpy", "load"), ("numpy._core.multiarray", "fromfile"), ("numpy.core.multiarray", "_reconstruct")),
    *(("numpy.testing._private.utils", "runstring"), ("pickle", "loads"), ("_pickle", "loads"), ("types", "CodeType")),
    *(("operator", "methodcaller"), ("functools", "partial"), ("ctypes", "CDLL"), ("webbrowser", "open"), ("x", "y")),
    *(("pathlib", "PosixPath.unlink"), ("pathlib", "os"), ("argparse", "FileType"), ("collections", "namedtuple")),
    *(("kdna_deploy.files", "check_output"), ("torch._C", "_load"), ("torch._utils", "_import_dotted_name")),
)


@pytest.mark.parametrize(("module", "name"), CALLS)
def test_classes_and_functions_that_are_no_data_are_refused_by_name(path: Path, module: str, name: str) -> None:
    message = refused(pickled(path, called(module, name, word("echo ran > ran"))))
    assert "asks to run code on loading" in message
    assert name.rpartition(".")[2] in message
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "call",
    [
        called("numpy._core.multiarray", "scalar", called("numpy", "dtype", word("O8")), b"N"),
        called("numpy._core.multiarray", "scalar", called("numpy", "dtype", word("S999999999"))),
        called("numpy._core.multiarray", "scalar", called("numpy", "dtype", word("f8")), word("short")),
        called("numpy", "dtype", word("evil")),
        called("pathlib", "PosixPath") + b"}b",
        called("torch._utils", "_rebuild_tensor_v2", b"N"),
        called("torch._utils", "_rebuild_parameter", b"K\x01", b"K\x01", b"K\x01"),
        called("torch", "FloatStorage", b"J\xff\xff\xff\x7f"),
        called("collections", "OrderedDict", b"K\x01"),
        called("argparse", "Namespace", b"K\x01"),
        b"\x95" + bytes(8),
        b"\x96" + struct.pack("<Q", 1 << 40),
        b"X" + struct.pack("<I", (1 << 32) - 1),
        b"h\xff",
        b"r" + struct.pack("<I", (1 << 32) - 1),
        b"0" * 50,
        b"(" * 10_000,
        b"]" * 10_000,
        b"P1\n",
        b"I99999999999999999999\n",
        b"\x8b" + struct.pack("<i", -1),
        b"\x82\x01",
    ],
    ids=range(22),
)
def test_pickles_that_make_no_sense_are_refused_or_do_no_harm(path: Path, call: bytes) -> None:
    pickled(path, call)
    try:
        found = load_checkpoint(path)
    except InputError as error:
        checked_message(error, path)
    else:
        torch.testing.assert_close(dict(found.state_dict), WEIGHTS, rtol=0, atol=0)


@pytest.mark.parametrize("protocol", [4, 5])
@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_later_pickle_protocol_is_refused_for_what_it_is(path: Path, protocol: int, zipped: bool) -> None:
    torch.save({"state_dict": WEIGHTS}, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    assert "pickle protocol" in refused(path)


@pytest.mark.parametrize("protocol", range(6))
def test_a_plain_pickle_is_no_checkpoint(path: Path, protocol: int) -> None:
    path.write_bytes(pickle.dumps({"a": [1, 2]}, protocol=protocol))
    assert "is not a PyTorch checkpoint" in refused(path)


def test_an_archive_of_something_else_is_no_checkpoint(path: Path) -> None:
    np.savez(buffer := io.BytesIO(), a=np.ones(3))
    path.write_bytes(buffer.getvalue())
    refused(path)


# ---------------------------------------------------------------- in a network


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.int8])
def test_whole_numbers_for_a_weight_by_any_name_are_refused(tmp_path: Path, dtype: torch.dtype) -> None:
    from tests.samples import sample_path

    weights = dict(load_checkpoint(sample_path("digits_resnet18_quarter")).state_dict)
    name = next(name for name in weights if name.rpartition(".")[2] not in ("weight", "bias") and "bn" not in name)
    weights[name] = weights[name].to(dtype)
    path = tmp_path / "ckpt.pth"
    torch.save({"state_dict": weights}, path)
    assert f"'{name}'" in refusal(lambda: load_network(path), path)
