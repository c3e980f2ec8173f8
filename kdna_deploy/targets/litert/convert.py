"""ONNX file → LiteRT file, operator by operator (`operators`), without TensorFlow.

    constants computed → axes in LiteRT's order → operators → buffers, equal ones once → provenance among the metadata

    float32                      the ONNX file for any runtime
    half, codes as storage       likewise, its kernels as halves or codes, of which XNNPACK makes float32
    int8, `precision='int8'`     the ONNX file with QDQ pairs: operators between two of them compute in codes

XNNPACK takes stored kernels alone, so that children are multiplied out; those whose codes are equal read one buffer,
each with scales of its own.
"""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.graph.provenance import KEY, Provenance
from kdna_deploy.runtimes.onnx_file import read_model
from kdna_deploy.runtimes.sealed import seal, with_room
from kdna_deploy.targets.litert.lowering import Lowering
from kdna_deploy.targets.litert.onnx_facts import Facts
from kdna_deploy.targets.litert.operators import translate


def convert(onnx: Path, made: Provenance) -> bytes:
    """The LiteRT file of the ONNX file at `onnx`, which records `made`.

    Raises:
        ExportError: LiteRT cannot compute its graph.
    """
    model = read_model(onnx)
    batch = model.graph.input[0].type.tensor_type.shape.dim[0].dim_value or None
    lowering = Lowering(Facts(model, batch), batch is None, str(made.options.get("weights", "fp32")))
    inputs, outputs = lowering.run(translate)
    return lowering.writer.finish(inputs, outputs, KEY, with_room(made.to_json()))


def save(converted: bytes, made: Provenance, path: Path) -> None:
    """Write what `convert` made to `path`; its record is in it."""
    content = bytearray(converted)
    seal(content)
    path.write_bytes(content)
