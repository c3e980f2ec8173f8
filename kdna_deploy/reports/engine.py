"""What `export --tensorrt` and `--tensorrt-rtx` print."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from kdna_deploy.reports.agreement import agreement_cells, agreements_data
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.quantities import megabytes
from kdna_deploy.reports.report import Facts, Report, document
from kdna_deploy.runtimes.nvidia.engine_record import EngineRecord, record_path
from kdna_deploy.runtimes.nvidia.library import DEFAULT_CAPABILITIES, library
from kdna_deploy.runtimes.nvidia.log import Notice
from kdna_deploy.targets.tensorrt.export import EngineExport
from kdna_deploy.targets.tensorrt.inspect import EngineInspection
from kdna_deploy.targets.tensorrt.plan_kernels import PlanKernels

_SHOWN = 5


def engine_report(result: EngineExport, graph: dict[str, Any] | None = None) -> Report:
    """The engine, what it is for, and what the library made of the graph.

    `graph` is the document of the ONNX export on the way, where there was one.
    """
    record, inspection = result.record, result.inspection
    warnings = [("warning", _notice(notice)) for notice in record.warnings]
    rows = [
        ("written", f"{result.path} ({megabytes(result.bytes)}), with {record_path(result.path).name}"),
        (
            "built by",
            f"{library(record.library).title} {record.library_version} from {record.onnx}, {result.seconds:.1f} s",
        ),
        ("for", f"{_gpus(record)}; batch {record.batches}, tuned for {record.batches.typical}"),
        ("precision", _precision(record)),
        *_fusions(inspection),
        ("kernels", _kernels(inspection.kernels)),
        *warnings[:_SHOWN],
        *([("", f"{len(warnings) - _SHOWN} more warnings in the record")] if len(warnings) > _SHOWN else []),
        *(("note", note) for note in result.notes),
    ]
    parts: list[Facts | Cells] = [Facts("Engine", rows)]
    if inspection.prescales:
        parts.append(_prescale_cells(inspection))
    if result.agreements:
        parts.append(agreement_cells(result.agreements, f"Against {record.onnx} on ONNX Runtime"))
    return Report(tuple(parts), _data(result, graph))


def _notice(notice: Notice) -> str:
    return notice.text + (f" ({notice.count}×)" if notice.count > 1 else "")


def _gpus(record: EngineRecord) -> str:
    if record.gpu is not None:
        return f"the GPU {record.gpu}"
    if record.compute_capabilities:
        return f"GPUs of compute capability {', '.join(record.compute_capabilities)}"
    return f"GPUs of compute capability {', '.join(DEFAULT_CAPABILITIES)} and later"


def _precision(record: EngineRecord) -> str:
    if record.precision != "fp32":
        return record.precision
    return "fp32, convolutions rounding to TF32" if record.tf32 else "fp32, without TF32"


def _fusions(inspection: EngineInspection) -> list[tuple[str, str]]:
    if not inspection.layers:
        return []
    convolutions = inspection.convolutions
    active, added = (sum(bool(getattr(c, what)) for c in convolutions) for what in ("activations", "adds"))
    kinds = ", ".join(f"{count} {kind}" for kind, count in inspection.layers.items())
    return [
        ("layers", f"{kinds}; {inspection.reformats} only change the order in memory"),
        (
            "fused",
            f"of {len(convolutions)} convolutions {active} with an activation, {added} with a residual sum",
        ),
    ]


def _kernels(kernels: PlanKernels) -> str:
    text = (
        f"{kernels.distinct} distinct ones for {kernels.convolutions} convolutions; {kernels.found} found in the "
        f"engine, {megabytes(kernels.bytes)}"
    )
    if not kernels.duplicated:
        return f"{text}; no parent is stored more than once"
    copies = sum(map(len, kernels.duplicated))
    return (
        f"{text}; {len(kernels.duplicated)} parents are stored as {copies} modulated copies, of which "
        f"{megabytes(kernels.duplicated_bytes)} would not be there if each were stored once"
    )


def _prescale_cells(inspection: EngineInspection) -> Cells:
    rows = tuple((p.node, ", ".join(p.fused_with) or "nothing", str(len(p.reformats))) for p in inspection.prescales)
    return Cells("Pre-scales", ("product", "computed together with", "reformats around it"), rows, left=2)


def _data(result: EngineExport, graph: dict[str, Any] | None) -> dict[str, Any]:
    record = asdict(result.record)
    record.pop("provenance")  # as in the ONNX file
    return document(
        "export",
        {
            "output": str(result.path),
            "format": result.record.library,
            "bytes": result.bytes,
            "record": record,
            "inspection": asdict(result.inspection),
            "layers": str(result.layers) if result.layers else None,
            "agreements": agreements_data(result.agreements),
            "seconds": result.seconds,
            "notes": list(result.notes),
            "graph": graph,
        },
    )
