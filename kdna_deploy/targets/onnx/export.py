"""Graph → ONNX file, verified against the original network before it gets its name.

    translate → spell for the target → simplify → what it takes and returns → metadata → onnx.checker → run beside the
    original → rename

What spelling or simplifying makes of an odd graph may be wrong or invalid. Then the file is written without (see
`fallback`), with a note; only where the plain translation fails too is that an error.

Parity (`verification`) is measured against the module as it was trained, not against the fused graph. When it fails
nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import onnx_ir as ir
from torch import Tensor

from kdna_deploy.errors import ExportError, UsageError
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.files import check_output
from kdna_deploy.graph.gates import channel_attentions
from kdna_deploy.graph.graph import Graph
from kdna_deploy.graph.ledger import KernelStorage, graph_storage
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.images.batch import Images
from kdna_deploy.images.interface import KEY
from kdna_deploy.precision import CODES
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import file_bytes, read_model, record, save
from kdna_deploy.runtimes.remembered import Remembered
from kdna_deploy.targets.fallback import Attempt, first_that_works
from kdna_deploy.targets.fuse import Fused
from kdna_deploy.targets.onnx.convert import spell, translate
from kdna_deploy.targets.onnx.half_storage import HalfStorage, store_half
from kdna_deploy.targets.onnx.interface import complete_interface
from kdna_deploy.targets.onnx.ledger import onnx_storage, optimised_folder
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.simplify import simplify
from kdna_deploy.targets.onnx.verification import stands_for, verify_file
from kdna_deploy.targets.skeleton import Export, Verdict, write_judged
from kdna_deploy.targets.source import FusedSource, reference_of

_UNWIDENED = (
    "height and width are dynamic, so that channel attention is not repeated to the size of its maps, with which ONNX "
    "Runtime is up to 2 % faster; leave `dynamic_size` out for a file of one size"
)


@dataclass(frozen=True, kw_only=True)
class OnnxExport(Export):
    """A verified ONNX file.

    Attributes:
        opset, ir_version: as written.
        nodes: operator → count.
        reference: what it was verified against.
        storage: the sharing ledger from the checkpoint to the graph that ONNX Runtime executes.
        half_storage: what storing weights in half precision did to them; None where they are in float32.
    """

    opset: int
    ir_version: int
    nodes: Mapping[str, int]
    reference: str
    storage: tuple[KernelStorage, ...]
    half_storage: HalfStorage | None = None


def export_onnx(
    graph: Graph,
    original: Callable[[Tensor], Tensor] | Remembered,
    provenance: Provenance,
    output: Path,
    options: OnnxOptions | None = None,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
    sample: Images | None = None,
    fused: Fused | None = None,
) -> OnnxExport:
    """Write `graph` as a verified ONNX file. `inputs` are files that `output` must not be.

    `original` is what the file must agree with: the network as it was trained, or, where channel attention was frozen
    or dropped and so the function changed, the frozen graph. The file is verified on generated images, and on those of
    `sample` [n, c, h, w]. Where the graph is that of `fused` and nobody has compared it with the network, the file is
    to prove it.

    Raises:
        UsageError: `options.weights` are codes, which images judge: `codes.export`.
        ParityError: ONNX Runtime computes something else than the module `original`. Nothing is written.
        ExportError: ONNX cannot express the graph, the result is invalid, or larger than `max_bloat` allows.
    """
    options = options or OnnxOptions()
    if options.weights in CODES:
        raise UsageError(f"`weights={options.weights!r}` is to be judged by images, which export_codes does.")
    check_output(output, inputs)
    unproved = fused if stands_for(fused, options) else None
    if fused is not None and fused.rounding is None and unproved is None:
        listener.step("compare with the original")
        _ = fused.compared
    listener.step("translate to ONNX")
    translated = translate(graph, options.opset, options.batch, options.dynamic_size)
    trained = original if isinstance(original, Remembered) else reference_of(original)

    def make(chosen: OnnxOptions) -> OnnxExport:
        shared = provenance.options.get("children") == "share"
        model, notes, half = _transformed(translated.model, chosen, shared, listener)

        def judge(path: Path) -> tuple[tuple[Agreement, ...], tuple[KernelStorage, ...]]:
            with optimised_folder() as executed:
                agreements = verify_file(path, graph.image_shape, trained, chosen, sample, listener, executed, unproved)
                listener.step("read the sharing ledger")
                return agreements, _ledger(executed, graph, model, provenance)

        agreements, storage = write_onnx(model, provenance, output, chosen, judge, inputs, listener)
        return OnnxExport(
            path=output,
            bytes=file_bytes(output),
            opset=chosen.opset,
            ir_version=model.ir_version,
            nodes=dict(Counter(node.op_type for node in model.graph.node).most_common()),
            reference=trained.name,
            agreements=agreements,
            storage=storage,
            notes=(*translated.notes, *_note_on_size(graph, chosen), *notes),
            half_storage=half,
        )

    result, notes = first_that_works(attempts(options), make)
    return replace(result, notes=(*notes, *result.notes))


def _note_on_size(graph: Graph, options: OnnxOptions) -> tuple[str, ...]:
    """What a dynamic height and width cost, where that is something."""
    slower = options.dynamic_size and options.target == "cpu" and channel_attentions(graph.module)
    return (_UNWIDENED,) if slower else ()


def attempts(options: OnnxOptions) -> tuple[Attempt[OnnxOptions], ...]:
    """Ways to write a file, from what was asked for to the plain translation."""
    tries = [Attempt(options)]
    if options.simplify:
        tries.append(Attempt(replace(tries[-1].choice, simplify=False), without="not simplified"))
    if options.target == "cpu":
        plain = replace(tries[-1].choice, target="any")
        tries.append(Attempt(plain, without="spelled for any runtime instead of ONNX Runtime on a CPU"))
    return tuple(tries)


def _transformed(
    translated: ir.Model, options: OnnxOptions, shared: bool, listener: Listener
) -> tuple[onnx.ModelProto, tuple[str, ...], HalfStorage | None]:
    """The model as it is to be written, notes on it, and what storing its weights in half precision did."""
    model = spell(translated, options.target, options.widen)
    notes: tuple[str, ...] = ()
    if options.simplify:
        listener.step("simplify")
        notes = (simplify(model, shared).note,)
    half = store_half(model) if options.weights == "fp16" else None
    complete_interface(model, options.interface)
    return ir.to_proto(model), notes, half


def write_onnx(
    model: onnx.ModelProto,
    provenance: Provenance,
    output: Path,
    options: OnnxOptions,
    judge: Callable[[Path], Verdict],
    inputs: tuple[Path, ...],
    listener: Listener,
) -> Verdict:
    """Write `model` with its provenance, and what `judge` says of the file; either may refuse by raising.

    Raises:
        ExportError: it is invalid, or larger than `max_bloat` allows.
    """
    finish(model, provenance, options)

    def write(path: Path) -> None:
        save(model, path, options.external_data)
        check_bloat(file_bytes(path), provenance, options.max_bloat)

    return write_judged(output, inputs, write, judge, listener)


def finish(model: onnx.ModelProto, provenance: Provenance, options: OnnxOptions) -> None:
    """Write provenance into the metadata of `model`, in place of any that it has, and name its graph."""
    made = provenance.with_options(
        opset=options.opset, batch=options.batch or "dynamic", simplify=options.simplify, target=options.target
    )
    if options.dynamic_size:
        made = made.with_options(dynamic_size=True)
    if options.weights != "fp32":
        made = made.with_options(weights=options.weights)
    interface = options.interface
    if not interface.plain:
        made = made.with_options(**{KEY: interface.to_record()})
    if interface.layout:
        made = replace(made, preprocessing=interface.preprocessing.to_record())
    if options.on_the_fly:
        made = made.with_options(children="on-the-fly", session={"disabled_optimizers": ["ConstantFolding"]})
    record(model, made)
    model.producer_name, model.producer_version = "kdna-deploy", made.versions.get("kdna-deploy", "")
    model.graph.name = provenance.name


def check_bloat(size: int, provenance: Provenance, most: float | None) -> None:
    """Compare the `size` in bytes of a written file with the trained parameters; `most` None allows any.

    Raises:
        ExportError: it is larger than that.
    """
    unique = 4 * provenance.parameters
    if most is not None and size > most * unique:
        raise ExportError(
            f"The file takes {size / 1e6:.2f} MB, {size / unique:.2f} times the trained parameters "
            f"({unique / 1e6:.2f} MB) and more than `max_bloat={most:g}` allows; "
            "`children='share'` stores each parent once."
        )


def _ledger(executed: Path, graph: Graph, model: onnx.ModelProto, provenance: Provenance) -> tuple[KernelStorage, ...]:
    checkpoint = [KernelStorage(**provenance.kernels)] if provenance.kernels else []
    return (
        *checkpoint,
        graph_storage(graph.module, "fused graph"),
        onnx_storage(model, "ONNX file"),
        onnx_storage(read_model(executed, weights=False), "ONNX Runtime, optimised"),  # shapes are enough
    )


def export_fused(
    opened: FusedSource,
    output: Path,
    options: OnnxOptions,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
) -> OnnxExport:
    """`export_onnx` of an opened fused graph, against its original, or itself where its attention is frozen."""
    checkpoint = opened.network.checkpoint
    provenance = opened.beside(opened.provenance, output)
    return export_onnx(
        *(opened.graph, opened.trained, provenance, output, options, (*inputs, *checkpoint.files), listener),
        sample=opened.sample,
        fused=opened.fused,
    )
