"""What `export --openvino` prints."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from kdna_deploy.reports.agreement import agreement_cells, agreements_data, finite
from kdna_deploy.reports.ledger import storage_cells
from kdna_deploy.reports.quantities import megabytes
from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.targets.onnx.export import OnnxExport
from kdna_deploy.targets.onnx.guarded import GuardedExport

if TYPE_CHECKING:
    from kdna_deploy.targets.openvino.export import OpenVinoExport  # imports OpenVINO, which is optional

_STORED = {
    "fp32": "float32",
    "fp16": "half precision, computed with in float32",
    "int8": "int8 codes, computed with in float32",
    "int4": "int4 codes, computed with in float32",
}


def openvino_report(result: OpenVinoExport) -> Report:
    """Both files, and how OpenVINO computes what is in them."""
    made_from = result.made_from
    title = "int8 for OpenVINO" if result.evaluation else "OpenVINO"
    rows = [
        ("written", f"{result.path} and {result.path.with_suffix('.bin').name} ({megabytes(result.bytes)})"),
        ("made by", f"OpenVINO {result.version}"),
        ("weights", "int8" if result.evaluation else _STORED[result.stored]),
        *_judged(result),
        *(("note", note) for note in result.notes),
    ]
    against = f"Against the {result.reference}"
    facts = Facts(title, rows)
    own = [agreement_cells(result.agreements, against)] if result.agreements else []
    if isinstance(made_from, OnnxExport):
        # Without the graph that ONNX Runtime would make of it.
        return Report((facts, storage_cells(made_from.storage[:-1]), *own), _data(result))
    plain = made_from.float_export
    parity = agreement_cells(plain.agreements, "The float32 ONNX file it was made from, against the network")
    return Report((facts, *own, parity), _data(result))


def _judged(result: OpenVinoExport) -> list[tuple[str, str]]:
    """How an int8 file answers on OpenVINO."""
    found, made_from = result.evaluation, result.made_from
    if found is None or not isinstance(made_from, GuardedExport):
        return []
    agreement = found.agreement
    assert agreement is not None
    top1 = [("top-1", f"{found.top1:.2%}, {result.reference} {agreement.reference_top1:.2%}")]
    return [
        ("held out", f"{found.images} images that calibration has not seen"),
        *(top1 if made_from.labelled else []),
        ("same top-1", f"{agreement.same_top1:.2%}"),
        ("SQNR", f"{agreement.sqnr:.1f} dB over all logits; cosine {agreement.cosine:.5f} on average"),
        ("in float32", ", ".join(made_from.kept_float) or "no layer but those of the gates"),
    ]


def _data(result: OpenVinoExport) -> dict[str, Any]:
    made_from, found = result.made_from, result.evaluation
    agreement = found.agreement if found else None
    return document(
        "export",
        {
            "output": str(result.path),
            "format": "openvino",
            "precision": "int8" if found else "fp32",
            "weights": result.stored,
            "bytes": result.bytes,
            "openvino": result.version,
            "reference": result.reference,
            "agreements": agreements_data(result.agreements),
            "held_out_images": found.images if found else None,
            "labelled": made_from.labelled if isinstance(made_from, GuardedExport) else None,
            "top1": found.top1 if found else None,
            "agreement": {**asdict(agreement), "sqnr": finite(agreement.sqnr)} if agreement else None,
            "kept_float": list(made_from.kept_float) if isinstance(made_from, GuardedExport) else [],
            "ledger": [asdict(row) for row in made_from.storage[:-1]] if isinstance(made_from, OnnxExport) else [],
            "notes": list(result.notes),
        },
    )
