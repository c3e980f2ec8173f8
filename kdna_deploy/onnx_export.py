"""Graph → ONNX file, verified against the original network before it gets its name.

    translate → simplify → metadata → onnx.checker → run on ONNX Runtime beside the original → rename

Parity is measured at batch 1, 2 and 5 (at the fixed batch alone where one is fixed), against the module as it was
trained, not against the fused graph. When it fails nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir
from torch import nn

from kdna_deploy.errors import ExportError, ParityError
from kdna_deploy.files import atomic_output
from kdna_deploy.fusion import random_images
from kdna_deploy.graph import Graph
from kdna_deploy.onnx.convert import DEFAULT_OPSET, to_onnx
from kdna_deploy.onnx.simplify import simplify
from kdna_deploy.provenance import KEY, Provenance
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.runtimes.torch_session import TorchSession
from kdna_deploy.verification import FLOAT32, Agreement, Tolerance, compare

VERIFIED_BATCHES = (1, 2, 5)
# The serialised form of a protocol buffer ends at 2 GB; weights beyond it go into a file beside the model.
_ONE_FILE_BYTES = 2 * 1024**3 - 64 * 1024


@dataclass(frozen=True)
class OnnxOptions:
    """How to write an ONNX file.

    Attributes:
        opset: ONNX operator set.
        batch: fixed batch size, or None for a dynamic one.
        simplify: run onnxsim.
        external_data: keep the weights in a file of their own.
        tolerance: of the verification.
    """

    opset: int = DEFAULT_OPSET
    batch: int | None = None
    simplify: bool = True
    external_data: bool = False
    tolerance: Tolerance = FLOAT32


@dataclass(frozen=True)
class OnnxExport:
    """A verified ONNX file.

    Attributes:
        path: the file.
        bytes: its size, external data included.
        opset, ir_version: as written.
        nodes: operator → count.
        agreements: with the original network, one a batch size.
        notes: what a user should know, a sentence each.
    """

    path: Path
    bytes: int
    opset: int
    ir_version: int
    nodes: Mapping[str, int]
    agreements: tuple[Agreement, ...]
    notes: tuple[str, ...] = ()


def export_onnx(
    graph: Graph,
    original: nn.Module,
    provenance: Provenance,
    output: Path,
    options: OnnxOptions | None = None,
    inputs: tuple[Path, ...] = (),
    on_step: Callable[[str], None] = lambda _: None,
) -> OnnxExport:
    """Write `graph` as a verified ONNX file. `inputs` are files that `output` must not be.

    Raises:
        ParityError: ONNX Runtime computes something else than the module `original`. Nothing is written.
        ExportError: ONNX cannot express the graph, or the result is invalid.
    """
    options = options or OnnxOptions()
    on_step("translate to ONNX")
    model = ir.to_proto(to_onnx(graph, options.opset, options.batch))
    notes = []
    if options.simplify:
        on_step("simplify")
        simplified = simplify(model)
        model, note = simplified.model, simplified.note
        notes.append(note)
    _add_metadata(model, provenance, options)
    with atomic_output(output, inputs) as temporary:
        on_step("write")
        _save(model, temporary, output, options.external_data)
        on_step("verify against the original network")
        agreements = _verify(temporary, graph, original, options)
    return OnnxExport(
        path=output,
        bytes=sum(file.stat().st_size for file in (output, _data_file(output)) if file.exists()),
        opset=options.opset,
        ir_version=model.ir_version,
        nodes=dict(Counter(node.op_type for node in model.graph.node).most_common()),
        agreements=agreements,
        notes=tuple(notes),
    )


def _add_metadata(model: onnx.ModelProto, provenance: Provenance, options: OnnxOptions) -> None:
    made = provenance.with_options(opset=options.opset, batch=options.batch or "dynamic", simplify=options.simplify)
    entry = model.metadata_props.add()
    entry.key, entry.value = KEY, made.to_json()
    model.producer_name, model.producer_version = "kdna-deploy", made.versions.get("kdna-deploy", "")
    model.graph.name = provenance.name


def _save(model: onnx.ModelProto, temporary: Path, output: Path, external: bool) -> None:
    if external or model.ByteSize() > _ONE_FILE_BYTES:
        # The weights' file name is written into the model, so it carries its final name from the start.
        onnx.save_model(
            model, temporary, save_as_external_data=True, location=_data_file(output).name, size_threshold=1024
        )
    else:
        onnx.save_model(model, temporary)
    try:
        onnx.checker.check_model(temporary, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The ONNX model is invalid: {str(error).splitlines()[0]}; please report this.") from error


def _verify(path: Path, graph: Graph, original: nn.Module, options: OnnxOptions) -> tuple[Agreement, ...]:
    sizes = (options.batch,) if options.batch else VERIFIED_BATCHES
    batches = [random_images(size, graph.image_shape, seed=size).numpy() for size in sizes]
    reference = TorchSession(original, "original network")
    agreements = compare(OrtSession(path), reference, batches, options.tolerance)
    failed = [a for a in agreements if not a.passed]
    if failed:
        worst = max(failed, key=lambda a: a.max_difference / a.allowed if a.allowed else float("inf"))
        raise ParityError(
            f"The ONNX file departs from the original network by {worst.max_difference:.2e} at batch {worst.batch}, "
            f"more than the {worst.allowed:.2e} allowed; nothing was written. "
            "Fuse again with the --input-size to export for."
        )
    return agreements


def _data_file(path: Path) -> Path:
    return path.with_name(path.name + ".data")
