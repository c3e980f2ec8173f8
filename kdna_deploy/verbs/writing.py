"""What was asked of `export` → the function of `targets` that writes it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kdna_deploy.files import atomic_output, file_sha256
from kdna_deploy.kinds import Kind, baseline_name, named_kind
from kdna_deploy.precision import CODES
from kdna_deploy.progress import Listener
from kdna_deploy.verbs.fuse import fuse_steps
from kdna_deploy.verbs.precision_words import PrecisionWords

if TYPE_CHECKING:
    from kdna_deploy.targets.converted import ConvertedExport
    from kdna_deploy.targets.onnx.export import OnnxExport
    from kdna_deploy.targets.onnx.guarded import GuardedExport
    from kdna_deploy.targets.onnx.half.export import HalfExport
    from kdna_deploy.targets.onnx.options import OnnxOptions
    from kdna_deploy.targets.onnx.prepare import PreparedFile
    from kdna_deploy.targets.source import FusedSource

BASELINE_STEP = "write the plain backbone"  # for a listener's plan


@dataclass(frozen=True)
class Writing:
    """A file to be written of `opened`, and what it must not replace."""

    opened: FusedSource
    output: Path
    options: OnnxOptions
    words: PrecisionWords
    inputs: tuple[Path, ...]
    listener: Listener

    def onnx(self) -> OnnxExport | GuardedExport | HalfExport:
        """Write an ONNX file."""
        words, listener = self.words, self.listener
        given = (self.opened, self.output, self.options)
        if words.precision == "int8":
            from kdna_deploy.targets.onnx.int8.export import export_int8

            int8 = words.int8_options(self.opened, self.options.batch, listener)
            return export_int8(*given, int8, self.inputs, listener)
        if words.precision == "fp16":
            from kdna_deploy.targets.onnx.half.export import export_half

            half = words.half_options(self.opened, self.options.batch, listener)
            return export_half(*given, half, self.inputs, listener)
        if words.weights in CODES:
            from kdna_deploy.targets.onnx.codes.export import export_codes

            storage = words.storage_options(self.opened, self.options.batch, listener)
            return export_codes(*given, storage, self.inputs, listener)
        from kdna_deploy.targets.onnx.export import export_fused

        return export_fused(*given, self.inputs, listener)

    def own(self) -> ConvertedExport:
        """Write a file that one runtime alone opens, which the suffix of the output tells."""
        return self.openvino() if named_kind(self.output) is Kind.openvino else self.converted()

    def openvino(self) -> ConvertedExport:
        """Write an OpenVINO file."""
        from kdna_deploy.targets.openvino.export import OpenVinoOptions, export_openvino

        words, asked = self.words, (self.opened, self.options.batch, self.listener)
        int8 = words.int8_options(*asked) if words.precision == "int8" else None
        storage = words.storage_options(*asked) if words.weights in CODES else None
        options = OpenVinoOptions(self.options, int8, storage)
        return export_openvino(self.opened, self.output, options, self.inputs, self.listener)

    def converted(self) -> ConvertedExport:
        """Write a file of another runtime, which the suffix of the output tells."""
        from kdna_deploy.targets.converted import FORMATS, export_converted

        words, form = self.words, FORMATS[named_kind(self.output)]
        asked = (self.opened, form.file_batch(self.opened, self.options), self.listener)
        int8 = words.int8_options(*asked) if words.precision == "int8" else None
        storage = words.storage_options(*asked) if words.weights in CODES else None
        return export_converted(self.opened, self.output, self.options, int8, storage, self.inputs, self.listener)


@contextlib.contextmanager
def beside_baseline(writing: Writing, wanted: bool) -> Iterator[Writing]:
    """`writing`, whose file is to record its plain backbone; that gets its name, beside it, once the block is done.

    Raises:
        UsageError: the plain backbone is not known.
    """
    if not wanted:
        yield writing
        return
    from kdna_deploy.benchmark.baseline import KEY, write_baseline

    opened, options = writing.opened, writing.options
    if named_kind(writing.output) is Kind.openvino:  # as the ONNX file that it is converted from
        options = replace(options, target="cpu" if writing.words.precision == "int8" else "any")
    output = baseline_name(writing.output)
    with atomic_output(output, writing.inputs) as temporary:
        writing.listener.step(BASELINE_STEP)
        write_baseline(opened.provenance, options, temporary)
        record = {"file": output.name, "sha256": file_sha256(temporary)}
        yield replace(writing, opened=replace(opened, provenance=opened.provenance.with_options(**{KEY: record})))


def prepared(written: Path, beside: Path | None, listener: Listener) -> PreparedFile | None:
    """What `written` is prepared to, `beside` it; None where that was not asked for."""
    if beside is None:
        return None
    from kdna_deploy.targets.onnx.prepare import prepare_onnx

    return prepare_onnx(written, beside, listener)


def writing_steps(
    given: Any, attention: str, words: PrecisionWords, simplify: bool, baseline: bool, by_file: bool
) -> tuple[str, ...]:
    """For a listener's plan; `by_file`: a float32 file proves the fused graph."""
    fused = hasattr(given, "graph") or (isinstance(given, Path) and given.suffix == ".pt2")
    before = ("load",) if fused and attention == "keep" else fuse_steps(attention)[: -1 if by_file else None]
    write = (
        *([BASELINE_STEP] if baseline else []),
        "translate to ONNX",
        *(("simplify",) if simplify else ()),
        "write",
        "verify",
        "read the sharing ledger",
    )
    after = {
        "fp32": ("evaluate on held-out images", "write", "verify") if words.weights in CODES else (),
        "fp16": ("see how large activations get", "cast to half precision", "write", "verify"),
        "int8": ("calibrate", "evaluate on held-out images", "write"),
    }
    return (*before, *write, *after[words.precision])
