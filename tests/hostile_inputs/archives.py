"""Fused graphs (``.pt2``): damaged, with forbidden operators and sizes, malformed provenance, weights and members."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from tests.hostile import replaced
from tests.hostile_inputs.case import INPUT, NO, OK, USAGE, Case
from tests.hostile_inputs.damage import Make, cuts, flips, json_bytes, members, misfits, written, zipped
from tests.hostile_inputs.samples import CHECKPOINT, FUSED, MODEL, sound

NAME = "case.fused.pt2"
_VERIFY = ("verify", NAME, "--against", CHECKPOINT, *MODEL)
_READERS: tuple[tuple[str, ...], ...] = (
    _VERIFY,
    ("export", NAME, *MODEL, "--source", CHECKPOINT, "-o", "out.onnx"),
    ("verify", NAME, *MODEL),
    ("bench", NAME, *MODEL, "--save", "out.json"),
    ("evaluate", NAME, "--data", "good-classes"),
)
_PROGRAM, _WEIGHTS, _PROVENANCE = "models/model.json", "data/weights/model_weights_config.json", "extra/kdna.json"
_REFUSED = frozenset({INPUT})
_ANY = frozenset({OK, NO, INPUT})


def cases() -> Iterator[Case]:
    yield from _damaged()
    yield from _operators()
    yield from _sizes()
    yield from _programs()
    yield from _weights()
    yield from _provenance()
    yield from _archives()


def _refused(family: str, made: Iterator[tuple[str, Make]]) -> Iterator[Case]:
    for number, (name, make) in enumerate(made):
        arguments = _READERS[number % len(_READERS)]
        yield Case(family, f"{name} ({arguments[0]})", arguments, make, _REFUSED)


def _damaged() -> Iterator[Case]:
    family = "fused graph, damaged"
    for name, data in flips(FUSED, 100):
        yield Case(family, name, _VERIFY, written(NAME, data), frozenset({OK, INPUT}))
    yield from _refused(family, ((name, written(NAME, data)) for name, data in cuts(FUSED, 50)))


def _json(member: str) -> Any:
    return json.loads(members(sound(FUSED))[member])


def _changed(member: str, value: Any) -> Make:
    def make(folder: Path) -> None:  # most of the cases are never run
        data = value if isinstance(value, bytes) else json_bytes(value)
        zipped(folder / NAME, {**members(sound(FUSED)), member: data})

    return make


_TARGETS = [
    *(
        f"torch.ops.aten.{name}"
        for name in ("from_file.default", "copy_.default", "add_.Tensor", "add.out", "set_.source_Tensor")
    ),
    *(
        f"torch.ops.aten.{name}"
        for name in ("resize_.default", "zero_.default", "_print.default", "rand.default", "randn_like.default")
    ),
    *(f"torch.ops.aten.{name}" for name in ("empty.memory_format", "as_strided.default", "nonzero.default")),
    *(
        f"torch.ops.aten.{name}"
        for name in ("bernoulli_.float", "dropout.default", "item.default", "_assert_async.msg")
    ),
    *(
        f"torch.ops.aten.{name}"
        for name in ("save.default", "relu_.default", "convolution.out", "detach_.default", "no_such.default")
    ),
    *(f"torch.ops.aten.{name}" for name in ("relu", "relu.default.default", "relu.__class__", "__class__", "")),
    *(
        "torch.ops.prims.device_put.default",
        "torch.ops.quantized.linear_prepack.default",
        "torch.ops.c10d.allreduce_.default",
    ),
    *("torch.ops.profiler._record_function_enter.default", "torch.ops.inductor._alloc_from_pool.default"),
    *(
        "torch.ops.load_library",
        "torch.ops.higher_order.cond",
        "torch.ops.higher_order.wrap",
        "torch.ops.torchvision.read_file.default",
    ),
    *(
        "torch.ops.image.write_file.default",
        "torch.ops.debugprims.load_tensor.default",
        "torch.ops.rngprims.philox_rand.default",
    ),
    *(
        "torch.load",
        "torch.hub.load",
        "torch.save",
        "torch.os.system",
        "torch.utils.cpp_extension.load",
        "torch.classes.load_library",
    ),
    *(
        "os.system",
        "builtins.eval",
        "eval",
        "_operator.attrgetter",
        "operator.setitem",
        "_operator.pow",
        "math.factorial",
    ),
    *("subprocess.Popen", "torch.ops.aten.relu.default; import os", "torch.ops.aten.relu.default\n", "\x1b[2J"),
]


def _operators() -> Iterator[Case]:
    program = _json(_PROGRAM)
    nodes = program["graph_module"]["graph"]["nodes"]
    for position in (0, len(nodes) // 2):

        def made(position: int = position) -> Iterator[tuple[str, Make]]:
            for target in _TARGETS:
                changed = replaced(program, ("graph_module", "graph", "nodes", position, "target"), target)
                yield f"node {position} calls {target[:40]!r}", _changed(_PROGRAM, changed)

        yield from _refused("fused graph, forbidden operators", made())


_EXPRESSIONS = [
    "Pow(9, Pow(9, 9))", "Pow(Integer(9), Pow(Integer(9), Integer(9)))", "9**9**9",
    "__import__('os').mkdir('ran')", "exec('1')",
    "open('ran','w')", "Symbol('s0').func", "(lambda: 1)()", "[x for x in ()]",
    "s0.__class__", "Integer(10)**Integer(10**9)", "factorial(10**8)",
    "Mul(" * 3000 + "1" + ")" * 3000, "(" * 100_000,
    "9" * 100_000, "", " ", "\0", "1e999", "nan", "oo", "zoo", "I", "s0 s1",

    "True",
    "FloorDiv(1, 0)", "Mod(1, 0)", "Pow(0, -1)", "Max()", "Symbol('\x1b[2J')",
]  # fmt: skip


def _sizes() -> Iterator[Case]:
    text = members(sound(FUSED))[_PROGRAM].decode()
    old = _first_expression(json.loads(text))

    def made() -> Iterator[tuple[str, Make]]:
        for expression in _EXPRESSIONS:
            changed = text.replace(json.dumps({"expr_str": old})[1:-1], json.dumps({"expr_str": expression})[1:-1])
            assert changed != text
            yield f"a size of {expression[:30]!r}", _changed(_PROGRAM, changed.encode())

    yield from _refused("fused graph, expressions of sizes", made())


def _first_expression(value: Any) -> str:
    """The first size expression in a program."""
    stack = [value]
    while stack:
        top = stack.pop()
        if isinstance(top, dict):
            if isinstance(top.get("expr_str"), str):
                return top["expr_str"]
            stack.extend(top.values())
        elif isinstance(top, list):
            stack.extend(top)
    raise AssertionError("the program has no size of its own")


def _programs() -> Iterator[Case]:
    for name, value in misfits(_json(_PROGRAM), every=61):
        yield Case("fused graph, malformed program", name, _VERIFY, _changed(_PROGRAM, value), _ANY)
    yield from _no_json("fused graph, malformed program", _PROGRAM)


def _weights() -> Iterator[Case]:
    family = "fused graph, weights"
    for name, value in misfits(_json(_WEIGHTS), every=41):
        yield Case(family, name, _VERIFY, _changed(_WEIGHTS, value), _ANY)
    yield from _no_json(family, _WEIGHTS)
    parts = members(sound(FUSED))
    stored = [name for name in parts if name.startswith("data/weights/weight_")]

    def made() -> Iterator[tuple[str, Make]]:
        for name in stored:
            for label, data in {
                "a number less": parts[name][:-4],
                "a byte more": parts[name] + b"\0",
                "nothing": b"",
            }.items():
                yield f"{name} has {label}", lambda f, n=name, d=data: zipped(f / NAME, {**parts, n: d})
            yield f"{name} is missing", lambda f, n=name: zipped(f / NAME, {k: v for k, v in parts.items() if k != n})

    yield from _refused(family, made())


def _provenance() -> Iterator[Case]:
    for name, value in misfits(_json(_PROVENANCE), every=5):
        yield Case("fused graph, malformed provenance", name, _VERIFY, _changed(_PROVENANCE, value), _ANY)
    yield from _no_json("fused graph, malformed provenance", _PROVENANCE)


def _no_json(family: str, member: str) -> Iterator[Case]:
    texts = [
        b"",
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'"x"',
        b"[" * 100_000,
        b"NaN",
        b"{",
        b"\xff\xfe",
        b'{"a": 1e999}',
        b'{"a":' * 5000,
    ]
    yield from _refused(family, ((f"{member} is {text[:8]!r}", _changed(member, text)) for text in texts))


def _pickled() -> bytes:
    buffer = io.BytesIO()
    torch.save({"x": torch.zeros(1)}, buffer)
    return buffer.getvalue()


def _archives() -> Iterator[Case]:
    parts = members(sound(FUSED))

    def made() -> Iterator[tuple[str, Make]]:
        more = [
            "data/aotinductor/model/run.so", "data/constants/opaque_0", "data/weights/../../ran", "/ran",
            "models/other.json", "data.pkl",
            "code/__torch__.py", "data/constants/custom_obj_0", "extra/../../ran", "data/weights/weight_99.py",
            "\x1b[2J", "a\\b", ".data/x",
        ]  # fmt: skip
        for name in more:
            yield f"with a member {name!r}", lambda f, n=name: zipped(f / NAME, {**parts, n: b"\0" * 8})
        for name in (_PROGRAM, _WEIGHTS, _PROVENANCE, "archive_version", "data/constants/model_constants_config.json"):
            if name in parts:
                yield f"without {name}", lambda f, n=name: zipped(f / NAME, {k: v for k, v in parts.items() if k != n})
        yield "with pickled samples", lambda f: zipped(f / NAME, {**parts, "data/sample_inputs/model.pt": _pickled()})
        yield "compressed", lambda f: zipped(f / NAME, parts, compression=zipfile.ZIP_DEFLATED)
        bomb = {**parts, "extra/bomb": bytes(64 << 20)}
        yield "a bomb", lambda f: zipped(f / NAME, bomb, compression=zipfile.ZIP_DEFLATED)
        yield (
            "a bomb for a program",
            lambda f: zipped(f / NAME, {**parts, _PROGRAM: b" " * (64 << 20)}, compression=zipfile.ZIP_DEFLATED),
        )
        yield "a program of 40 MB", lambda f: zipped(f / NAME, {**parts, _PROGRAM: b" " * (40 << 20)})
        yield "no member", lambda f: zipped(f / NAME, {})
        yield "its members above", lambda f: zipped(f / NAME, parts, folder="..")
        yield "a member twice", _twice
        yield "a checkpoint by that name", lambda f: (f / NAME).write_bytes(sound(CHECKPOINT).read_bytes())
        yield "a text", written(NAME, b"no archive\n")
        yield "nothing", written(NAME, b"")

    yield from _refused("fused graph, archives of another form", made())
    places: dict[str, Callable[[Path], object]] = {
        "no file": lambda f: None,
        "a folder": lambda f: (f / NAME).mkdir(),
        "a link to itself": lambda f: (f / NAME).symlink_to(NAME),
    }
    for label, make in places.items():
        yield Case("fused graph, archives of another form", label, _VERIFY, make, frozenset({USAGE, INPUT}))


def _twice(folder: Path) -> None:
    with zipfile.ZipFile(zipped(folder / NAME, members(sound(FUSED))), "a") as archive:
        archive.writestr(zipfile.ZipInfo(f"archive/{_PROGRAM}"), b"{}")
