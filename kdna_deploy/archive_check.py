"""What a ``.pt2`` may hold before `torch.export.load` is let near it.

    members      those that `torch.export.save` writes for a network of tensors, in one folder, each once
    payloads     raw tensors: nothing pickled, no sample inputs
    operators    ``torch.ops.namespace.name.overload``, and arithmetic on sizes
    expressions  symbols, integers and arithmetic

Anything else is refused, because loading or running it could run code: `torch.export.load` unpickles the layouts of
earlier versions, sample inputs and custom objects, loads compiled libraries, takes an operator's name for any
attribute of `torch`, and evaluates the expressions of sizes as Python.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from kdna_deploy.errors import ArtifactError

_MODEL = "models/model.json"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_SAMPLES = "data/sample_inputs/model.pt"
_INSPECTED = (_MODEL, *_CONFIGS, _SAMPLES)
_MEMBER = re.compile(
    r"archive_format|archive_version|byteorder|(\.data/)?version|\.data/serialization_id|extra/[\w.]+"
    r"|data/weights/weight_\d+|data/constants/tensor_\d+|" + "|".join(map(re.escape, _INSPECTED))
)
_OPERATOR = re.compile(
    r"torch\.ops(\._?[A-Za-z]\w*){3}|torch\.sym_[a-z]+|math\.[a-z]+"
    r"|_operator\.(getitem|add|sub|mul|truediv|floordiv|mod|pow|neg|pos|eq|ne|lt|le|gt|ge|and_|or_)"
)
_EXPRESSION = re.compile(
    r"(Symbol\('\w+'(, \w+=(True|False))*\)"
    r"|(Integer|Rational|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|Eq|Ne|Lt|Le|Gt|Ge)(?=\()"
    r"|-?\d+|[(), ])*"
)


def check_archive(path: Path, extra: str) -> None:
    """Refuse what is not a ``.pt2`` of tensors and operators that carries the extra file `extra`.

    Raises:
        ArtifactError: with the reason.
    """
    try:
        members = _members(path)
        ours = f"extra/{extra}" in members
        culprit = _culprit(members) if ours else None
    except Exception as error:  # damaged bytes lead zipfile and json anywhere
        raise ArtifactError(f"'{path}' is no complete .pt2 archive; make it again with: kdna-deploy fuse.") from error
    if not ours:
        raise ArtifactError(f"'{path}' was not written by kdna-deploy; make one with: kdna-deploy fuse CKPT.")
    if culprit:
        raise ArtifactError(f"'{path}' holds {culprit}, which could run code, and is refused.")


def _members(path: Path) -> dict[str, bytes]:
    """Member name (below the archive's one folder) → content, of those that are looked into."""
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        folder, _, _ = names[0].partition("/")
        if len(set(names)) != len(names) or not all(name.startswith(f"{folder}/") for name in names):
            raise zipfile.BadZipFile("not one folder of distinct members")
        members = {name.removeprefix(f"{folder}/"): name for name in names}
        return {name: archive.read(full) if name in _INSPECTED else b"" for name, full in members.items()}


def _culprit(members: dict[str, bytes]) -> str | None:
    """What there is in the archive that could run code, or None."""
    strange = [name for name in members if not _MEMBER.fullmatch(name)]
    if strange:
        return f"'{strange[0]}'"
    entries = [entry for config in _CONFIGS for entry in json.loads(members[config])["config"].values()]
    if members[_SAMPLES] or any(entry["use_pickle"] for entry in entries):
        return "pickled objects"
    for key, text in _code(json.loads(members[_MODEL])):
        if not (_EXPRESSION if key == "expr_str" else _OPERATOR).fullmatch(text):
            return f"{text[:60]!r}"
    return None


def _code(value: Any) -> Iterator[tuple[str, str]]:
    """What a serialised program has in the way of names of operators, and of expressions."""
    if isinstance(value, dict):
        operator_keys = {"as_operator"} | ({"target"} if "inputs" in value else set())
        yield from ((key, str(text)) for key, text in value.items() if key in operator_keys | {"expr_str"})
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _code(item)
