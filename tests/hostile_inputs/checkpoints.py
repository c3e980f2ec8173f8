"""Training checkpoints: damaged, of odd tensors and containers, with code, in archives of another form."""

from __future__ import annotations

import gzip
import io
import os
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.hostile_inputs.case import INPUT, NO, OK, USAGE, Case
from tests.hostile_inputs.damage import Make, cuts, flips, members, written, zipped
from tests.hostile_inputs.samples import CHECKPOINT, MODEL, SAFE, SIZE, content, sound

NAME = "case.pt"
_SIZE = ("--input-size", SIZE)
_VERIFY = ("verify", NAME, "--against", CHECKPOINT, *MODEL, *_SIZE)
# Refused by every command that reads a checkpoint, whichever it is.
_READERS: tuple[tuple[str, ...], ...] = (
    _VERIFY,
    ("fuse", NAME, *MODEL, *_SIZE, "-o", "out.fused.pt2"),
    ("export", NAME, *MODEL, *_SIZE, "-o", "out.onnx"),
    ("inspect", NAME, *MODEL, *_SIZE, "--json"),
    ("bench", NAME, *MODEL, *_SIZE, "--runtime", "pytorch", "--save", "out.json"),
    ("verify", CHECKPOINT, "--against", NAME, *MODEL, *_SIZE),
)
_WEIGHT, _VARIANCE, _BIAS = "stem.weight", "bns.0.running_var", "fc.bias"
_REFUSED, _NOTICED = frozenset({INPUT}), frozenset({OK, INPUT})
_ANY = frozenset({OK, NO, INPUT})


def cases() -> Iterator[Case]:
    yield from _damaged()
    yield from _tensors()
    yield from _keys()
    yield from _records()
    yield from _containers()
    yield from _code()
    yield from _archives()


class _Readers:
    """Commands in turn."""

    def __init__(self, family: str) -> None:
        self._family, self._count = family, 0

    def case(self, name: str, make: Make, codes: frozenset[int] = _REFUSED) -> Case:
        # What may be accepted is verified, so that its numbers are judged as well.
        arguments = _READERS[self._count % len(_READERS)] if codes == _REFUSED else _VERIFY
        self._count += 1
        return Case(self._family, f"{name} ({arguments[0]})", arguments, make, codes)


def _damaged() -> Iterator[Case]:
    family = "checkpoint, damaged"
    for name, data in flips(CHECKPOINT, 120):
        yield Case(family, name, _VERIFY, written(NAME, data), _NOTICED)  # checksums: no number changes unnoticed
    reader = _Readers(family)
    for name, data in cuts(CHECKPOINT, 60):
        yield reader.case(name, written(NAME, data))
    safe = ("verify", "case.safetensors", "--against", CHECKPOINT, *MODEL, *_SIZE)
    for name, data in flips(SAFE, 40):
        yield Case(family, f"safetensors, {name}", safe, written("case.safetensors", data), _ANY)
    for name, data in cuts(SAFE, 20):
        yield Case(family, f"safetensors, {name}", safe, written("case.safetensors", data), _REFUSED)
    legacy = io.BytesIO()
    torch.save({"state_dict": _state()}, legacy, _use_new_zipfile_serialization=False)
    whole = legacy.getvalue()
    for part in range(20):
        kept = len(whole) * part // 20
        yield reader.case(f"one stream, cut to {kept} bytes", written(NAME, whole[:kept]))


def _state() -> dict[str, Tensor]:
    return dict(torch.load(sound(CHECKPOINT), weights_only=True)["state_dict"])


def saved(content: Any, **options: Any) -> Make:
    return lambda folder: torch.save(content, folder / NAME, **options)


def _with(name: str, change: Callable[[Tensor], Any]) -> Make:
    def make(folder: Path) -> None:
        state = _state()
        state[name] = change(state[name])
        torch.save({"state_dict": state}, folder / NAME)

    return make


def _quantised(t: Tensor) -> Tensor:
    return torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)


def _huge(t: Tensor) -> Tensor:
    return torch.zeros(1).expand(1 << 20, 1 << 12)


_KINDS: dict[str, Callable[[Tensor], Any]] = {
    **{
        str(dtype).removeprefix("torch."): lambda t, dtype=dtype: t.to(dtype)
        for dtype in (
            *(torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64, torch.bool),
            *(torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2),
        )
    },
    "quantised": _quantised,
    "quantised per channel": lambda t: torch.quantize_per_channel(
        t.reshape(len(t), -1), torch.ones(len(t)), torch.zeros(len(t)), 0, torch.qint8
    ),
    "sparse": lambda t: t.to_sparse(),
    "sparse in rows": lambda t: t.reshape(len(t), -1).to_sparse_csr(),
    "nested": lambda t: torch.nested.nested_tensor([t.reshape(-1)[:2], t.reshape(-1)[:1]]),
    "meta": lambda t: t.to("meta"),
    "expanded to 16 GB": _huge,
    "expanded to its shape": lambda t: torch.zeros(()).expand(t.shape),
    "no tensor but numbers": lambda t: t.reshape(-1).tolist(),
    "None": lambda t: None,
    "a text": lambda t: "weights",
}
_SHAPES: dict[str, Callable[[Tensor], Tensor]] = {
    "one row more": lambda t: torch.cat([t, t[:1]]),
    "one row less": lambda t: t[:-1],
    "empty": lambda t: t[:0],
    "a scalar": lambda t: t.reshape(-1)[0],
    "flat": lambda t: t.reshape(-1) if t.dim() > 1 else t.reshape(-1, 1),
    "nine axes": lambda t: t.reshape(*([1] * (9 - t.dim())), *t.shape),
    "a tenth of a million rows": lambda t: torch.zeros(100_000, *t.shape[1:]),
}
_VALUES = {"NaN": float("nan"), "∞": float("inf"), "-∞": float("-inf"), "1e300": 1e300, "-1": -1.0, "3e38": 3e38}


def _tensors() -> Iterator[Case]:
    kinds = _Readers("checkpoint, tensors of another kind")
    for name in (_WEIGHT, _VARIANCE, _BIAS):
        for kind, change in _KINDS.items():
            exact = kind == "expanded to its shape" or (name == _VARIANCE and kind.startswith(("int", "uint", "bool")))
            yield kinds.case(f"{name} is {kind}", _with(name, change), _ANY if exact else _REFUSED)
    shapes = _Readers("checkpoint, tensors of another shape")
    for name in (_WEIGHT, _VARIANCE, _BIAS, "filters", "gates.1.fc1.weight"):
        for shape, change in _SHAPES.items():
            yield shapes.case(f"{name} is {shape}", _with(name, change))
    values = _Readers("checkpoint, values")
    for name in (_WEIGHT, _VARIANCE, _BIAS, "bns.1.weight", "spatials"):
        for label, value in _VALUES.items():
            for dtype in (torch.float64, torch.bfloat16):
                yield values.case(f"{name} holds {label} in {dtype}", _with(name, _one(value, dtype)), _ANY)


def _one(value: float, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    def change(t: Tensor) -> Tensor:
        changed = t.to(dtype, copy=True)
        changed.view(-1)[0] = value
        return changed

    return change


def _keys() -> Iterator[Case]:
    missing, more = _Readers("checkpoint, missing and extra weights"), _Readers("checkpoint, missing and extra weights")
    for name in _state():
        state = {key: tensor for key, tensor in _state().items() if key != name}
        counted = name.endswith("num_batches_tracked")  # old checkpoints have none
        yield missing.case(f"without {name}", saved({"state_dict": state}), _ANY if counted else _REFUSED)
    names: dict[str, Any] = {
        "an unknown one": "other.weight",
        "an empty name": "",
        "a dot": ".",
        "dots": "stem..weight",
        "a number": 7,
        "None": None,
        "a tuple": ("stem", "weight"),
        "bytes": b"stem.weight",
        "a path": "../../stem.weight",
        "an attribute of Python": "stem.__class__",
        "an escape": "\x1b[31mstem",
        "markup": "[bold]stem[/bold].weight",
        "two lines": "stem\nweight",
        "a very long name": "x" * 100_000,
        "a surrogate": "\udcff",
        "a zero byte": "stem.\0weight",
        "a compiled twin": "_orig_mod.stem.weight",
        "a parallel twin": "module.stem.weight",
        "a deep name": ".".join(["a"] * 5000),
    }
    for label, name in names.items():
        yield more.case(f"with {label}", saved({"state_dict": {**_state(), name: torch.zeros(3)}}))


def _records() -> Iterator[Case]:
    reader = _Readers("checkpoint, records of training")
    odd: dict[str, Any] = {
        "10**400": 10**400,
        "-1": -1,
        "NaN": float("nan"),
        "∞": float("inf"),
        "True": True,
        "None": None,
        "a text": "ninety",
        "an escape": "\x1b[2J",
        "a list": [1, [2, [3]]],
        "a tensor": torch.zeros(3, 3),
        "a complex number": 1j,
        "an integer tensor": torch.tensor(10**18),
    }
    for field in ("best_acc1", "epoch", "arch", "args"):
        for label, value in odd.items():
            yield reader.case(f"{field} is {label}", saved({"state_dict": _state(), field: value}), _NOTICED)


def _containers() -> Iterator[Case]:
    reader = _Readers("checkpoint, containers")
    endless: list[Any] = []
    endless.append(endless)
    loop: dict[str, Any] = {}
    loop["state_dict"] = loop
    deep: Any = torch.zeros(1)
    for _ in range(200):
        deep = {"state_dict": deep}
    odd: dict[str, Any] = {
        "None": None,
        "a number": 3,
        "a text": "weights",
        "a list": [1, 2],
        "a tuple": (),
        "nothing": {},
        "a tensor": torch.zeros(3),
        "a list of tensors": list(_state().values()),
        "an empty state": {"state_dict": {}},
        "a state that is None": {"state_dict": None},
        "a state that is a list": {"state_dict": [1]},
        "a state of states": {"state_dict": {"state_dict": _state()}},
        "a state within itself": loop,
        "a list within itself": endless,
        "a state 200 deep": deep,
        "an optimizer alone": {"optimizer": {"state": {}, "param_groups": []}},
        "an average that is None": {"model_ema": None},
        "a set": {1, 2},
        "a module": torch.nn.Linear(2, 2),
    }
    for label, container in odd.items():
        yield reader.case(f"{label} for a container", saved(container))
    for label, container in odd.items():
        if not isinstance(container, dict):
            yield reader.case(f"{label} for a state", saved({"state_dict": container, "epoch": 3}))
    for text in ("", "epoch 1, loss 2.3\n", "{}", "\0" * 4096, "PK\x03\x04", "\x80\x02.", "\x80\x04N."):
        yield reader.case(f"the file {text[:8]!r}", written(NAME, text.encode("latin-1")))


class _Call:
    """Calls `function` when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = (function, arguments)

    def __reduce__(self) -> Any:
        return self._call


def _named(module: str, function: str, argument: str = "ran") -> bytes:
    """A pickle that calls ``module.function(argument)``, whether or not there is one here."""
    return (
        b"\x80\x02c"
        + f"{module}\n{function}\n".encode()
        + b"X"
        + struct.pack("<I", len(argument))
        + argument.encode()
        + b"\x85R."
    )


_CALLS = [
    *(("os", name) for name in ("system", "mkdir", "remove", "popen", "execv", "unlink", "rmdir")),
    *(("posix", name) for name in ("system", "mkdir", "unlink")),
    *(("builtins", name) for name in ("eval", "exec", "open", "__import__", "compile", "getattr", "input", "exit")),
    *(("__builtin__", name) for name in ("eval", "file", "execfile", "getattr")),
    *(("subprocess", name) for name in ("Popen", "call", "check_output")),
    *(("pathlib", name) for name in ("Path.touch", "Path.mkdir", "Path.unlink")),
    ("shutil", "rmtree"),
    ("importlib", "import_module"),
    ("runpy", "run_path"),
    ("torch.hub", "load"),
    ("torch", "load"),
    ("torch", "save"),
    ("torch.serialization", "load"),
    ("torch.package", "PackageImporter"),
    ("torch.jit", "load"),
    ("torch.utils.cpp_extension", "load"),
    ("torch._utils", "_rebuild_tensor_v2.__globals__"),
    ("torch.storage", "_load_from_bytes"),
    ("torch.storage.UntypedStorage", "from_file"),
    ("numpy", "load"),
    ("numpy", "save"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.f2py", "compile"),
    ("functools", "partial"),
    ("operator", "attrgetter"),
    ("operator", "methodcaller"),
    ("pickle", "loads"),
    ("marshal", "loads"),
    ("types", "FunctionType"),
    ("types", "CodeType"),
    ("pty", "spawn"),
    ("webbrowser", "open"),
    ("socket", "socket"),
    ("ctypes", "CDLL"),
    ("timeit", "timeit"),
    ("code", "InteractiveInterpreter"),
    ("multiprocessing.util", "spawnv_passfds"),
    ("logging.config", "fileConfig"),
    ("tests.planted_network", "build"),
    ("kdna_deploy.files", "atomic_output"),
]


def _code() -> Iterator[Case]:
    reader = _Readers("checkpoint, pickled code")
    for module, function in _CALLS:

        def make(folder: Path, pickled: bytes = _named(module, function)) -> None:
            zipped(folder / NAME, {"data.pkl": pickled, "version": b"3\n", "byteorder": b"little"})

        yield reader.case(f"calls {module}.{function}", make)
    for protocol in range(6):
        yield reader.case(
            f"calls os.mkdir in a bare pickle of protocol {protocol}",
            written(NAME, pickle.dumps(_Call(os.mkdir, "ran"), protocol=protocol)),
        )
    for place in ("args", "epoch", "optimizer", "best_acc1"):
        for legacy in (False, True):
            odd = {"state_dict": _state(), place: _Call(os.mkdir, "ran")}
            make = saved(odd, _use_new_zipfile_serialization=not legacy)
            yield reader.case(f"calls os.mkdir in {place}, {'one stream' if legacy else 'zip'}", make)
    yield reader.case("calls os.mkdir for a weight", saved({"state_dict": {**_state(), "x": _Call(os.mkdir, "ran")}}))


def _parts() -> dict[str, bytes]:
    return members(sound(CHECKPOINT))


def _archives() -> Iterator[Case]:
    reader = _Readers("checkpoint, archives of another form")
    for member in _parts():
        counted = member not in ("data.pkl",) and not member.startswith("data/")
        without = {name: data for name, data in _parts().items() if name != member}
        make = lambda folder, parts=without: zipped(folder / NAME, parts)  # noqa: E731
        yield reader.case(f"without {member}", make, _ANY if counted else _REFUSED)
    for member in _parts():
        if member.startswith("data/"):
            short = {name: data[:-4] if name == member else data for name, data in _parts().items()}
            yield reader.case(f"{member} cut short", lambda folder, parts=short: zipped(folder / NAME, parts))
    whole = content(CHECKPOINT)
    forms: dict[str, Make] = {
        "compressed": lambda f: zipped(f / NAME, _parts(), compression=zipfile.ZIP_DEFLATED),
        "a bomb": lambda f: zipped(
            f / NAME, {**_parts(), "data/99": bytes(64 << 20)}, compression=zipfile.ZIP_DEFLATED
        ),
        "a member twice": _twice,
        "an absolute member": lambda f: zipped(f / NAME, _parts(), folder="/tmp"),
        "a member above": lambda f: zipped(f / NAME, _parts(), folder=".."),
        "a link": _link,
        "no member": lambda f: zipped(f / NAME, {}),
        "another archive inside": lambda f: zipped(f / NAME, {"inner.pt": whole}),
        "gzip": written(NAME, gzip.compress(whole)),
        "tar": _tar,
        "TorchScript": lambda f: zipped(
            f / NAME, {**_parts(), "constants.pkl": b"\x80\x02).", "code/__torch__.py": b""}
        ),
        "TorchScript, compiled": lambda f: torch.jit.script(torch.nn.Linear(2, 2)).save(str(f / NAME)),
        "a name that is not text": lambda f: zipped(f / NAME, {**_parts(), "data/\x1b[2J": b""}),
    }
    for label, make in forms.items():
        yield reader.case(label, make)
    for label, data in {"in front": b"junk" + whole, "behind": whole + b"junk"}.items():
        yield reader.case(f"junk {label}", written(NAME, data), _ANY)
    for label, make_place in _PLACES.items():
        yield reader.case(label, make_place, frozenset({INPUT, USAGE}))


def _twice(folder: Path) -> None:
    with zipfile.ZipFile(zipped(folder / NAME, _parts()), "a") as archive:
        archive.writestr(zipfile.ZipInfo("archive/data.pkl"), _named("os", "mkdir"))


def _link(folder: Path) -> None:
    with zipfile.ZipFile(zipped(folder / NAME, _parts()), "a") as archive:
        info = zipfile.ZipInfo("archive/data/99")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")


def _tar(folder: Path) -> None:
    with tarfile.open(folder / NAME, "w") as archive:
        archive.add(sound(CHECKPOINT), "inner.pt")


_PLACES: dict[str, Make] = {
    "no file": lambda f: None,
    "a folder": lambda f: (f / NAME).mkdir(),
    "a named pipe": lambda f: os.mkfifo(f / NAME),
    "a link to nothing": lambda f: (f / NAME).symlink_to("nothing"),
    "a link to itself": lambda f: (f / NAME).symlink_to(NAME),
    "a device": lambda f: (f / NAME).symlink_to("/dev/zero"),
    "an image": lambda f: (f / NAME).write_bytes(b"\x89PNG\r\n\x1a\n"),
}
