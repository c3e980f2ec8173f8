"""What a written file must be called: files of networks are told by their suffix, whatever is in them."""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.errors import UsageError
from kdna_deploy.kinds import SUFFIXES, Kind

_TOLD = {Kind.onnx: "ONNX files", Kind.fused: "fused graphs", Kind.engine: "engines"}


def check_name(output: Path, kind: Kind, why: str = "") -> None:
    """Refuse a name by which `output` would not be told to be of its `kind`; `why` it must end so, unless it is told.

    Raises:
        UsageError: it is one.
    """
    if output.suffix != SUFFIXES[kind]:
        why = why or f"by which {_TOLD[kind]} are told"
        raise UsageError(f"'{output}' must end in {SUFFIXES[kind]}, {why}; give another `output`.")
