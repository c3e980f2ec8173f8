"""Rich tables for the results of the commands; each fits 80 columns.

Names may wrap, figures may not: a table that is narrowed loses no column and no digit.
"""

from __future__ import annotations

from dataclasses import replace

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from kdna_deploy.evaluation.parity import Agreement
from kdna_deploy.export.fuse import Fused, Rounding
from kdna_deploy.export.onnx.export import OnnxExport
from kdna_deploy.export.onnx.half_storage import HalfStorage
from kdna_deploy.graph.inspection import AttentionStatistics, Inspection
from kdna_deploy.graph.ledger import KernelStorage, Ledger
from kdna_deploy.graph.passes import FREEZING
from kdna_deploy.images.probes import GIVEN
from kdna_deploy.reports.quantities import megabytes, small

_DONE = {"freeze": "frozen", "drop": "dropped"}
_CHILDREN = {"materialize": "materialised", "share": "shared: each parent is stored once"}


def facts(title: str, rows: list[tuple[str, str]]) -> Table:
    """A two-column table without a header."""
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", overflow="fold")
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, escape(value))
    return table


def ledger_table(ledger: Ledger) -> Table:
    """Parent → children."""
    table = Table(title="Shared kernels", title_justify="left")
    table.add_column("parent kernel", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("own layer", justify="center", min_width=5)
    table.add_column("children", overflow="fold")
    for parent in ledger.parents:
        shape = "×".join(map(str, parent.shape))
        table.add_row(
            parent.name.removesuffix(".weight"), shape, "yes" if parent.layer else "no", ", ".join(parent.children)
        )
    return table


def fused_report(fused: Fused, output: str) -> RenderableType:
    """What `fuse` did."""
    found = {step.name: step.result for step in fused.steps}
    r = fused.rounding
    rows = [
        ("sharing", _sharing(fused.ledger, _CHILDREN[fused.children])),
        ("BatchNorms folded", str(found["fold_batchnorm"].changed)),
        ("still dynamic", f"{fused.channel_attentions} channel attentions"),
        (
            "parameters",
            f"{fused.parameters_before:,} trained → {fused.parameters_after:,} stored "
            f"({megabytes(4 * fused.parameters_after)})",
        ),
        (
            "largest difference",
            f"fused to original {small(r.fused_to_original)}{_to_float64(r)} (logits up to {r.scale:.2f})",
        ),
        ("written", output),
    ]
    rows += [("not shared", f"{refusal.site}: {refusal.reason}") for refusal in fused.not_shared]
    for step in fused.steps:
        if step.name not in ("share", FREEZING):  # see above, and below
            name = step.name.replace("_", " ")
            rows += [("not folded", f"{refusal.site} ({name}): {refusal.reason}") for refusal in step.result.refused]
    parts: list[RenderableType] = [ledger_table(fused.ledger)] if fused.ledger.parents else []
    if fused.freezing.statistics:
        parts.append(_gate_table(fused))
    return Group(*parts, facts("Fused", [*rows, *_attention_rows(fused)]))


def _sharing(ledger: Ledger, children: str) -> str:
    """``6 children of 4 parent kernels, materialised``; of a network like any other that there is nothing to share."""
    if not ledger.parents:
        return "plain: nothing shared"
    return f"{ledger.children} children of {len(ledger.parents)} parent kernels, {children}"


def _attention_rows(fused: Fused) -> list[tuple[str, str]]:
    """What freezing or dropping did, and why it did not where it was asked for."""
    freezing = fused.freezing
    if freezing.choice == "keep":
        return []
    word = _DONE[freezing.choice]
    rows = [(f"not {word}", f"{refusal.site}: {refusal.reason}") for refusal in freezing.refused]
    if not freezing.gates:
        found = "no other gate was found" if freezing.refused else "no gate was found"
        why = "every gate varies more than was allowed" if freezing.statistics and not freezing.refused else found
        rows.append((f"nothing {word}", f"{why}; the network is as it was trained"))
    return rows if fused.change is None else [*rows, ("changed", _change(fused))]


def _to_float64(r: Rounding) -> str:
    if r.original_to_reference is None or r.fused_to_reference is None:
        return "; the network does not run in float64"
    return f"; to float64: original {small(r.original_to_reference)}, fused {small(r.fused_to_reference)}"


def _change(fused: Fused) -> str:
    """What freezing or dropping did: never an equivalence."""
    change = fused.change
    assert change is not None
    return (
        f"this network is NOT equivalent to the trained one: over {change.images} images the logits differ by up to "
        f"{small(change.max_difference)}, {small(change.mean_difference)} on average "
        f"(logits up to {change.scale:.2f}); "
        f"top-1 is the same for {change.same_top1} of {change.images} ({change.same_top1 / change.images:.2%})"
    )


def _gate_table(fused: Fused) -> Table:
    """How much each channel attention moves over the calibration images, and what became of it."""
    table = Table(title="Channel attention β over the calibration images", title_justify="left")
    table.add_column("layer", overflow="fold")
    for heading in ("mean", "deviation", "variance", "explained by mean", ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in fused.freezing.statistics:
        fate = _DONE[fused.freezing.choice] if row.node in fused.freezing.gates else "kept"
        table.add_row(
            row.site,
            f"{float(row.mean.mean()):.3f}",
            f"{row.variance**0.5:.4f}",
            small(row.variance),
            f"{row.explained:.1%}",
            fate,
        )
    return table


def storage_table(storage: tuple[KernelStorage, ...]) -> Table:
    """The sharing ledger, stage by stage."""
    table = Table(title="Convolution kernels, and the convolutions that use them", title_justify="left")
    table.add_column("stage", overflow="fold")
    for heading in ("kernels", "convolutions", "stored", "materialised"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in storage:
        table.add_row(
            row.stage,
            str(row.kernels),
            str(row.convolutions),
            megabytes(row.unique_bytes),
            megabytes(row.materialised_bytes),
        )
    return table


def attention_changes(fused: Fused | None) -> list[RenderableType]:
    """What became of channel attention, and what that did; nothing where it was kept."""
    if fused is None or fused.freezing.choice == "keep":
        return []
    table = [_gate_table(fused)] if fused.freezing.statistics else []
    return [*table, facts("Channel attention", _attention_rows(fused))]


def onnx_report(result: OnnxExport) -> RenderableType:
    """What `export --onnx` wrote."""
    rows = [
        ("written", f"{result.path} ({megabytes(result.bytes)})"),
        ("opset", f"{result.opset} (IR version {result.ir_version})"),
        ("nodes", ", ".join(f"{count} {operator}" for operator, count in result.nodes.items())),
        *(("note", note) for note in result.notes),
    ]
    if result.half_storage is not None:
        rows.append(("weights", _half_storage(result.half_storage)))
    return Group(
        facts("ONNX", rows),
        storage_table(result.storage),
        agreement_table(result.agreements, f"Against the {result.reference}"),
    )


def _half_storage(half: HalfStorage) -> str:
    text = (
        f"{half.converted} tensors in half precision, changed by up to {small(half.largest_change)} of their largest "
        f"number; {half.subnormal:.2%} of the numbers are subnormal"
    )
    return text + (f"; in float32, since they overflow: {', '.join(half.overflowing)}" if half.overflowing else "")


def agreement_table(agreements: tuple[Agreement, ...], title: str) -> Table:
    """One row a probe; of the user's own images, however many, the one that uses most of what it is allowed."""
    remarks = ["* what rounding explains, more than the spread allows"] if any(a.explained for a in agreements) else []
    remarks += dict.fromkeys(f"{a.images} skipped: {a.skipped}" for a in agreements if a.skipped)
    table = Table(title=title, title_justify="left", caption="\n".join(remarks) or None, caption_justify="left")
    table.add_column("images", overflow="fold")
    for heading in ("batch", "worst |Δ|", "allowed", "spread"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("same top-1", justify="right", overflow="fold")
    table.add_column("", justify="right", overflow="fold", min_width=4)
    generated, given = ([a for a in agreements if (a.images == GIVEN) is own] for own in (False, True))
    for a in generated:
        table.add_row(a.images, str(a.batch), *_agreement_cells(a))
    if given:
        a = max(given, key=lambda each: (not each.passed, each.used))
        same = [each.same_top1 for each in given if each.same_top1 is not None]
        whole = replace(
            a,
            batch=sum(each.batch for each in given),
            same_top1=sum(same) if same else None,
            ties=sum(each.ties for each in given),
        )
        cells = _agreement_cells(whole)
        table.add_row(GIVEN, str(whole.batch), *cells[:-1], _verdict(a))
    return table


def _verdict(a: Agreement) -> str:
    return "[green]pass[/]" if a.passed else "[red]FAIL[/]"


def _agreement_cells(a: Agreement) -> tuple[str, ...]:
    if a.skipped:
        return ("", "", "", "", "skipped")
    tied = f" + {a.ties} tied" if a.ties else ""
    return (
        small(a.worst),
        small(a.allowed) + ("*" if a.explained else ""),
        small(a.spread),
        "–" if a.same_top1 is None else f"{a.same_top1}/{a.batch}{tied}",
        _verdict(a),
    )


def inspection_report(inspection: Inspection) -> RenderableType:
    """Everything about a checkpoint."""
    network, cost = inspection.network, inspection.cost
    checkpoint, architecture = network.checkpoint, network.architecture
    attentions = inspection.channel_attentions
    c, h, w = inspection.image_shape
    rows = [("architecture", network.name)]
    if architecture:
        rows += [("layout", f"{stage}: {layout}") for stage, layout in architecture.layouts.items()]
        rows.append(("widths", ", ".join(map(str, architecture.backbone.widths))))
    rows += [
        ("classes", str(inspection.num_classes)),
        ("parameters", f"{cost.parameters:,}"),
        (f"MACs at {c}×{h}×{w}", f"{cost.macs:,} (as the paper counts FLOPs: {cost.table_flops:,})"),
        ("channel attentions", f"{attentions}, dynamic" if attentions else "none"),
    ]
    if checkpoint.epoch is not None:
        rows.append(("epoch", str(checkpoint.epoch)))
    if checkpoint.training.preprocessing is not None:
        rows.append(("recorded preprocessing", str(checkpoint.training.preprocessing)))
    if checkpoint.accuracy is not None:
        rows.append(("recorded top-1", f"{checkpoint.accuracy:.2f} %"))
    ledger = inspection.ledger
    unique, materialised = ledger.storage.unique_bytes, ledger.storage.materialised_bytes
    rows.append(("sharing", _sharing(ledger, f"{megabytes(unique)} unique, {megabytes(materialised)} materialised")))
    rows += [("not static", f"{refusal.site}: {refusal.reason}") for refusal in inspection.refused]
    learned = any(_is_learned(row) for row in inspection.attention)
    if ledger.parents and not learned:
        rows.append(("static attention", "no static attention learned: every child is its parent's kernel as it is"))
    parts: list[RenderableType] = [facts(checkpoint.path.name, rows)]
    if ledger.parents:
        parts.append(ledger_table(ledger))
    if learned:
        parts.append(_attention_table(inspection))
    return Group(*parts)


def _is_learned(row: AttentionStatistics) -> bool:
    """Whether the table would show anything but M = 1."""
    shown = (row.filter_spread, row.spatial_spread, row.low - 1, row.high - 1)
    return any(abs(value) >= 0.00005 for value in shown[:2]) or any(abs(value) >= 0.0005 for value in shown[2:])


def _attention_table(inspection: Inspection) -> Table:
    table = Table(title="Static attention: M = (1 + α_f)(1 + α_s) of each child", title_justify="left")
    table.add_column("child", overflow="fold")
    for heading in ("spread over filters", "over positions", "min", "max"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in inspection.attention:
        table.add_row(
            row.child, f"{row.filter_spread:.4f}", f"{row.spatial_spread:.4f}", f"{row.low:.3f}", f"{row.high:.3f}"
        )
    return table
