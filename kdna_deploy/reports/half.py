"""What `export --precision fp16` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdna_deploy.reports.agreement import agreement_cells, agreements_data
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.quantities import megabytes, small
from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.targets.onnx.half.audit import KernelAudit
from kdna_deploy.targets.onnx.half.export import HalfExport

_SHOWN = 10


def half_report(result: HalfExport) -> Report:
    """The file, what stayed in float32 and why, and how far it departs from the network."""
    kept = result.audit.keep_float
    rows = [
        ("written", f"{result.path} ({megabytes(result.bytes)}, {_ratio(result):.3f} of the float32 file)"),
        ("in float32", "nothing: all weights and activations fit" if not kept else f"{len(kept)} nodes"),
        *((name, reason) for name, reason in list(kept.items())[:_SHOWN]),
        *(("note", note) for note in result.float_export.notes),
    ]
    parts = (
        Facts("fp16", rows),
        _kernel_cells(result.audit.kernels),
        agreement_cells(result.agreements, f"Against the {result.reference}"),
    )
    return Report(parts, _data(result))


def _ratio(result: HalfExport) -> float:
    return result.bytes / result.float_export.bytes


def _kernel_cells(kernels: tuple[KernelAudit, ...]) -> Cells:
    """Parents, and of the other layers those with the most to lose."""
    shared = [k for k in kernels if len(k.layers) > 1]
    others = sorted((k for k in kernels if len(k.layers) == 1), key=lambda k: (-len(k.overflowing), -k.subnormal))
    rows = tuple(
        (k.kernel, ", ".join(k.overflowing) or "none", str(len(k.layers)), small(k.largest), f"{k.subnormal:.2%}")
        for k in (*shared, *others[: max(0, _SHOWN - len(shared))])
    )
    heading = ("kernel", "overflow in", "layers", "largest weight", "subnormal")
    return Cells(
        "Weights in half precision, modulations included: parents, and the layers that lose most", heading, rows, left=2
    )


def _data(result: HalfExport) -> dict[str, Any]:
    return document(
        "export",
        {
            "output": str(result.path),
            "format": "onnx",
            "precision": "fp16",
            "bytes": result.bytes,
            "float32_bytes": result.float_export.bytes,
            "kept_float": dict(result.audit.keep_float),
            "kernels": [asdict(kernel) for kernel in result.audit.kernels],
            "reference": result.reference,
            "agreements": agreements_data(result.agreements),
            "notes": list(result.float_export.notes),
        },
    )
