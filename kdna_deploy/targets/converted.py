"""Fused graph → ONNX file → a file for another runtime, verified on that runtime before it gets its name.

    ONNX file, verified (scratch) → convert → provenance → write → run beside the original → rename

    float32, half, codes as storage    agree with the network as it was trained, at the tolerance of what is stored
    int8                               judged as an ONNX file already; once more as the runtime computes it, beside the
                                       network, on the same held-out images

A further format is a further entry of `FORMATS`, and a room with its `convert` and `save` (`targets.ncnn.convert`).

Does not apply to the steps from the ONNX file on of OpenVINO files (`targets.openvino`), in which what is shared or in
codes stays so.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kdna_deploy.errors import AccuracyError, UsageError
from kdna_deploy.evaluation.accuracy import Evaluation, evaluate
from kdna_deploy.evaluation.agreement import Agreement
from kdna_deploy.evaluation.tolerance import HALF, summed_as
from kdna_deploy.files import check_output, scratch_folder
from kdna_deploy.graph.dynamic_convolution import dynamic_convolutions
from kdna_deploy.graph.provenance import Provenance, package_versions
from kdna_deploy.graph.stored_kernels import KernelStorage
from kdna_deploy.images.split import Split
from kdna_deploy.kinds import Kind, beside_own, named_kind
from kdna_deploy.precision import CODES
from kdna_deploy.progress import SILENT, Listener
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model
from kdna_deploy.runtimes.open import own_session
from kdna_deploy.runtimes.own_files import OwnFile, own_file
from kdna_deploy.runtimes.session import Session
from kdna_deploy.targets.onnx.codes.export import StorageOptions
from kdna_deploy.targets.onnx.export import OnnxExport, check_bloat, export_fused
from kdna_deploy.targets.onnx.guarded import GuardedExport
from kdna_deploy.targets.onnx.int8.export import Int8Options, export_int8
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.onnx.sensitivity import drop
from kdna_deploy.targets.onnx.verification import proving_probes
from kdna_deploy.targets.skeleton import Export, parity, write_judged
from kdna_deploy.targets.source import FusedSource, Request, fused_as_asked

_ALONE = "kernels are computed for each image, and the file takes one image at a time"
_MATERIALISED = "{} stores a kernel with every layer: the children of shared kernels are materialised"
_UNSEEN = (
    "what codes cost was measured on random images alone; name images like those the network will see by `calibration`"
)
_SHARED = "children that only scale their parent, by positive numbers, read its codes; the others are materialised"


@dataclass(frozen=True)
class Format:
    """A format that ONNX files are converted to.

    Attributes:
        title: of the runtime.
        packages: that write and open it, whose versions are told.
        weights: what they may be stored in.
        plain: whether files take normalised images of one size, one at a time or in any batch, and return what the
            network does, whatever else is asked for.
        batch: of the ONNX file of a plain one.
        of_graph: whether it is the graph that is converted, and the ONNX file is its proof alone.
        alone: whether a network with kernels for each image takes no more than one at a time.
        note: what a user should know of every file.
    """

    title: str
    packages: tuple[str, ...]
    weights: tuple[str, ...]
    plain: bool = True
    batch: int | None = None
    of_graph: bool = False
    alone: bool = False
    note: str = ""

    def onnx_options(self, asked: OnnxOptions) -> OnnxOptions:
        """Of the ONNX file that is converted."""
        if self.plain:
            asked = OnnxOptions(opset=asked.opset, batch=self.batch, simplify=asked.simplify, tolerance=asked.tolerance)
        return replace(asked, target="any", weights="fp32", max_bloat=None, external_data=False)

    def takes_one(self, opened: FusedSource) -> bool:
        """Whether the file of `opened` takes one image at a time, whatever was asked for."""
        return self.alone and bool(dynamic_convolutions(opened.graph.module))

    def file_batch(self, opened: FusedSource, asked: OnnxOptions) -> int | None:
        """The only batch size that the file of `opened` takes, and the images that judge it come in; None for any."""
        if self.takes_one(opened):
            return 1
        return None if self.plain else asked.batch


FORMATS = {
    Kind.ncnn: Format(
        "ncnn",
        ("ncnn", "pnnx"),
        ("fp32", "fp16"),
        batch=1,
        note="verified in float32; on processors with half precision ncnn computes in that, unless the options "
        "use_fp16_packed, use_fp16_storage and use_fp16_arithmetic of its Net are off",
    ),
    Kind.mnn: Format(
        "MNN",
        ("MNN",),
        ("fp32", "fp16", "int8"),
        alone=True,
        note="verified in float32; with its precision 'low' MNN computes in half precision on processors that do",
    ),
    Kind.litert: Format("LiteRT", ("ai-edge-litert",), ("fp32", "fp16", "int8"), plain=False),
    Kind.executorch: Format("ExecuTorch", ("executorch",), ("fp32",), batch=1, of_graph=True),
}


@dataclass(frozen=True, kw_only=True)
class ConvertedExport(Export):
    """A verified file for another runtime; `bytes` are those of all its files.

    Attributes:
        runtime: that it is for.
        version: of that, and of what converted it.
        reference: what it was verified against, or judged beside.
        stored: what its weights are stored in.
        made_from: the verified ONNX file that it was converted from, which is gone.
        evaluation: of int8 and codes on its runtime, on held-out images, beside the reference; None without images.
        storage: the kernels in the file itself, where that is told.
    """

    runtime: str
    version: str
    reference: str
    stored: str
    made_from: OnnxExport | GuardedExport
    evaluation: Evaluation | None = None
    storage: KernelStorage | None = None


def export_converted(
    opened: FusedSource,
    output: Path,
    options: OnnxOptions | None = None,
    int8: Int8Options | None = None,
    storage: StorageOptions | None = None,
    inputs: tuple[Path, ...] = (),
    listener: Listener = SILENT,
) -> ConvertedExport:
    """Write the fused graph `opened` to `output`, whose suffix says the format; with `int8`, it computes in that.

    Weights in codes are judged on the images of `storage` as well, where there are some. Images come in batches of
    `Format.file_batch`.

    Raises:
        UsageError: the output cannot be written, or the format does not store weights so.
        ParityError: the runtime computes something else than the network. Nothing is written.
        AccuracyError: int8 loses more than its limit. Nothing is written.
        ExportError: the graph cannot be converted, or the file is larger than `max_bloat` allows.
    """
    options, kind, checkpoint = options or OnnxOptions(), named_kind(output), opened.network.checkpoint
    form, sources = FORMATS[kind], (*inputs, *checkpoint.files)
    if options.weights not in form.weights:
        raise UsageError(f"{form.title} does not store weights in {options.weights}; choose {form.weights[-1]}.")
    for file in (output, *beside_own(output)):
        check_output(file, sources)
    if opened.provenance.options.get("children") == "share":
        opened = fused_as_asked(opened, checkpoint.path, Request(children="materialize"))
    alone = form.takes_one(opened)
    onnx_options = form.onnx_options(options)
    onnx_options = replace(onnx_options, batch=1) if alone else onnx_options
    judging = replace(onnx_options, weights=options.weights, batch=form.file_batch(opened, options))
    judging = replace(judging, tolerance=summed_as(kind.name, judging.allowed))
    converter: Any = importlib.import_module(f"kdna_deploy.targets.{kind.name}.convert")
    with scratch_folder(kind.name) as folder:
        made_from = _onnx(opened, folder / "net.onnx", onnx_options, int8, listener)
        listener.step(f"convert to {form.title}")
        made = _provenance(made_from.path, opened, output, judging)
        converted = converter.convert(opened.graph if form.of_graph else made_from.path, made)

        def write(path: Path) -> None:
            converter.save(converted, made, path)
            check_bloat(_read(path).bytes, made, options.max_bloat)

        def judge(path: Path) -> tuple[tuple[Agreement, ...], Evaluation | None]:
            with own_session(kind)(path) as candidate:
                if int8:
                    return (), judged(candidate, opened, int8.images, int8.max_drop, form.title, listener)
                agreements = verified(candidate, opened, judging, form.title, listener)
                if storage is None or storage.images is None:
                    return agreements, None
                return agreements, judged(candidate, opened, storage.images, storage.max_drop, form.title, listener)

        agreements, evaluation = write_judged(output, sources, write, judge, listener)
    found = _read(output)
    unseen = options.weights in CODES and evaluation is None
    shared = found.storage is not None and found.storage.kernels < found.storage.convolutions
    children = _SHARED if shared else _MATERIALISED.format(form.title)
    notes = (children if made.parents else "", _UNSEEN if unseen else "", _ALONE if alone else "", form.note)
    return ConvertedExport(
        runtime=form.title,
        path=output,
        bytes=found.bytes,
        version=_version(form.packages),
        reference=opened.reference.name,
        stored="int8" if int8 else options.weights,
        made_from=made_from,
        agreements=agreements,
        evaluation=evaluation,
        storage=found.storage,
        notes=(*made_from.notes, *filter(None, notes)),
    )


def verified(
    candidate: Session, opened: FusedSource, options: OnnxOptions, runtime: str, listener: Listener
) -> tuple[Agreement, ...]:
    """How what `runtime` computes agrees with the network.

    Raises:
        ParityError: it does not.
    """
    listener.step("verify")
    tolerance, reference = options.allowed, opened.reference
    plain = tolerance.roundoff < HALF.roundoff
    probes = proving_probes(opened.graph.image_shape, options, candidate.interface, opened.sample)
    departs = f"The {runtime} file departs from the {reference.name}"
    remedy = "Please report this." if plain else "Store the weights in float32."
    return parity(candidate, reference, probes, tolerance, departs, remedy)


def judged(
    candidate: Session,
    opened: FusedSource,
    images: Split,
    most: float | None,
    runtime: str,
    listener: Listener,
) -> Evaluation:
    """How far int8 on `runtime` departs from the network.

    Raises:
        AccuracyError: it loses more points of top-1 than `most`.
    """
    listener.step(f"evaluate on {runtime}")
    found = evaluate(candidate, images.held_out(), opened.reference, listener)
    lost = drop(found)
    if most is not None and lost > most:
        raise AccuracyError(
            f"On {runtime} int8 loses {lost:.2f} points of top-1, more than `max_drop={most:g}` allows; nothing was "
            "written. Give a larger limit, more calibration images, or leave it in float32."
        )
    return found


def _onnx(
    opened: FusedSource, path: Path, options: OnnxOptions, int8: Int8Options | None, listener: Listener
) -> OnnxExport | GuardedExport:
    if int8:
        int8 = replace(int8, openvino=True)  # as fast at small first kernels
        return export_int8(opened, path, replace(options, target="cpu"), int8, listener=listener)
    return export_fused(opened, path, options, listener=listener)


def _provenance(onnx: Path, opened: FusedSource, output: Path, options: OnnxOptions) -> Provenance:
    found = provenance_of_model(read_model(onnx), onnx)
    assert found is not None, "our own file"
    stored = {} if options.weights == "fp32" else {"weights": options.weights}
    made = opened.beside(found, output)
    return made.with_options(format=named_kind(output).name, batch=options.batch or "dynamic", **stored)


def _version(packages: tuple[str, ...]) -> str:
    """Of the first, and of the others with their names."""
    first, *others = (f"{name} {version}" for name, version in package_versions(packages).items())
    return ", ".join((first.partition(" ")[2], *others))


def _read(path: Path) -> OwnFile:
    found = own_file(path, weights=False)
    assert found is not None, "its suffix says so"
    return found
