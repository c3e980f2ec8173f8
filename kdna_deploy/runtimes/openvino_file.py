"""OpenVINO files (IR), read without OpenVINO: is what OpenVINO is about to be given complete, and what does it record?

    NAME.xml   <net> <layers> … <layer type="Const"> <data offset size> …  <rt_info> <kdna value="provenance"/> …
    NAME.bin   the numbers that the offsets lead into

OpenVINO takes any ``.bin`` of that name that is long enough, and computes with what lies in it. Files of ours therefore
record its SHA-256, and another one is refused: two files can be moved apart, and cannot be renamed at once. The
``.xml`` has its own as well (`sealed`).

Document types, with which XML defines entities, are refused: no such file has one. What the layers compute is left to
OpenVINO's own reader.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.parsers import expat

from kdna_deploy.errors import ArtifactError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.provenance import KEY, Provenance, from_json
from kdna_deploy.runtimes.sealed import XML_MARK, check_whole

WEIGHTS_KEY = f"{KEY}_weights"  # the SHA-256 of the .bin
_RECORDED = (KEY, WEIGHTS_KEY)
_LARGEST = 256 << 20  # bytes of an .xml; one of a ResNet-50 has less than a megabyte


@dataclass(frozen=True)
class OpenVinoFile:
    """What an OpenVINO file says of itself.

    Attributes:
        bytes: of both files.
        weights: bytes that its constants reach into the ``.bin``.
        provenance: None where it is not ours.
    """

    bytes: int
    weights: int
    provenance: Provenance | None


def weights_of(path: Path) -> Path:
    """Where the weights of the OpenVINO or ncnn file `path` lie."""
    return path.with_suffix(".bin")


def read_openvino(path: Path, weights: bool = True) -> OpenVinoFile:
    """Read the OpenVINO file at `path`; without `weights`, their content is not compared with what is recorded.

    Raises:
        ArtifactError: there is none, it is damaged, or its weights are not beside it, cut short, or those of another.
    """
    if not path.is_file():
        raise ArtifactError(f"There is no file '{path}'.")
    found = _parsed(path)
    beside = weights_of(path)
    if not beside.is_file():
        raise ArtifactError(f"The weights of '{path}' are not beside it, in '{beside.name}'; keep the two together.")
    size = beside.stat().st_size
    recorded = found.recorded.get(WEIGHTS_KEY)
    changed = weights and recorded is not None and recorded != file_sha256(beside)
    if found.reached > size or changed:
        raise ArtifactError(f"'{beside}' is cut short, or not the weights of '{path}'; export it again.")
    text = found.recorded.get(KEY)
    made = from_json(text, str(path)) if text else None
    return OpenVinoFile(path.stat().st_size + size, found.reached, made)


class _Misfit(ValueError):
    """What is wrong with a file, in words of ours; Python's say nothing to a user."""


class _Reader:
    """Hears the elements of an ``.xml``."""

    def __init__(self) -> None:
        self.reached = 0
        self.recorded: dict[str, str] = {}
        self._depth: list[str] = []
        self._constant = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._depth and name != "net":
            raise _Misfit(f"its root is <{name[:40]}>")
        self._depth.append(name)
        if name == "layer":
            self._constant = attributes.get("type") == "Const"
        elif name == "data" and self._constant and self._depth[-2] == "layer":
            offset, size = (int(attributes.get(key, "0")) for key in ("offset", "size"))
            if min(offset, size) < 0:
                raise _Misfit("an offset below zero")
            self.reached = max(self.reached, offset + size)
        elif self._depth[:2] == ["net", "rt_info"] and len(self._depth) == 3 and name in _RECORDED:
            self.recorded[name] = attributes.get("value", "")

    def end(self, name: str) -> None:
        self._depth.pop()

    def document_type(self, *_: object) -> None:
        raise _Misfit("a document type")


def _parsed(path: Path) -> _Reader:
    reader, parser = _Reader(), expat.ParserCreate()
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.StartDoctypeDeclHandler = reader.document_type
    try:
        if path.stat().st_size > _LARGEST:
            raise _Misfit("too large")
        content = path.read_bytes()
        parser.Parse(content, True)
    except (expat.ExpatError, ValueError, OSError) as error:
        why = f" ({str(error)[:80]})" if isinstance(error, (_Misfit, expat.ExpatError)) else ""
        raise ArtifactError(f"'{path}' is no OpenVINO file, or a damaged one{why}; export it again.") from error
    check_whole(content, path, XML_MARK)
    return reader
