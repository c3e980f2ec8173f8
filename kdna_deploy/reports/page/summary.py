"""The first screen: what the network is, which file to ship, and what was verified against what."""

from __future__ import annotations

from kdna_deploy.evaluation.agreement import worst_of
from kdna_deploy.graph.provenance import Provenance
from kdna_deploy.kinds import Kind, named_kind
from kdna_deploy.reports.cells import Cells
from kdna_deploy.reports.ledger import sharing
from kdna_deploy.reports.page.evidence import Evidence, FileEvidence, NetworkEvidence
from kdna_deploy.reports.page.parts import Part, facts, table
from kdna_deploy.reports.quantities import megabytes
from kdna_deploy.selection.result import STATES, Sweep
from kdna_deploy.words import counted

_NAMED = 3
_CHILDREN = {
    "materialize": "children materialised",
    "share": "children shared",
    "on-the-fly": "children multiplied on the fly",
}
_ATTENTION = {"keep": "attention kept", "freeze": "attention frozen", "drop": "attention dropped"}


def title_of(evidence: Evidence) -> str:
    """``resnet18 of digits.pth.tar``: what the page is about."""
    if evidence.networks:
        return _few([f"{one.inspection.network.name} of {one.file.path.name}" for one in evidence.networks])
    if evidence.sweeps:
        return _few([f"{sweep.network.name} of {sweep.network.checkpoint}" for _, sweep in evidence.sweeps])
    return _few(
        [file.path.name for file in evidence.artifacts] or [name.removeprefix("in ") for name, _ in evidence.runs]
    )


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def summary_sentences(evidence: Evidence) -> tuple[str, ...]:
    """The file to ship, and whether files compute what was trained."""
    chosen = tuple(
        f"The file to ship: {sweep.reason}" if sweep.recommended else sweep.reason for _, sweep in evidence.sweeps
    )
    return (*chosen, *_verified(evidence))


def _verified(evidence: Evidence) -> tuple[str, ...]:
    done = [file for file in evidence.artifacts if file.verification]
    failed = [file.path.name for file in done if file.verification and not file.verification.passed]
    if failed:
        return (f"{_few(failed)} {'does' if len(failed) == 1 else 'do'} not compute what was trained.",)
    if not done:
        return ()
    return (
        f"{counted(len(done), 'file')} of {len(evidence.artifacts)} verified against the network as it was trained.",
    )


def summary_parts(evidence: Evidence) -> tuple[Part, ...]:
    """Networks, files and measurements, and what a reader should know of them."""
    rows = [(one.file.path.name, _network(one)) for one in evidence.networks]
    rows += [(f"swept in {name}", _swept(sweep)) for name, sweep in evidence.sweeps]
    rows += [
        (f"measured {name}", f"{counted(len(result.rows), 'row')} on {result.environment.processor}")
        for name, result in evidence.runs
    ]
    notes = [("note", note) for note in evidence.notes]
    files = (table(_files(evidence.files)),) if evidence.files else ()
    return (*facts("", rows), *files, *facts("", notes))


def _network(one: NetworkEvidence) -> str:
    inspection = one.inspection
    storage, cost = inspection.ledger.storage, inspection.cost
    kernels = (
        f"{megabytes(storage.unique_bytes)} of kernels stored, {megabytes(storage.materialised_bytes)} materialised"
    )
    size = "×".join(map(str, inspection.image_shape))
    return (
        f"{inspection.network.name} at {size}: {cost.parameters:,} parameters, {cost.macs:,} MACs; "
        f"{sharing(inspection.ledger, kernels)}"
    )


def _swept(sweep: Sweep) -> str:
    network, states = sweep.network, [one.state for one in sweep.candidates]
    top1 = "" if network.top1 is None else f", top-1 {network.top1:.2%}"
    told = ", ".join(f"{states.count(state)} {state}" for state in STATES if state in states)
    return f"{network.name} of {network.checkpoint}{top1}: of {counted(len(states), 'candidate')} {told}"


def _files(files: tuple[FileEvidence, ...]) -> Cells:
    rows = tuple((one.path.name, _made_with(one), *_verdict(one), *_figures(one)) for one in files)
    headings = ("file", "made with", "verified against", "verdict", "MB", "top-1 %", "same top-1 %")
    why = "\n".join(
        dict.fromkeys(f"{one.path.name} was not verified: {one.unverified}" for one in files if one.unverified)
    )
    return Cells("Files", headings, rows, left=4, caption=why)


def made_with(made: Provenance | None) -> str:
    """``int8, children shared, attention frozen``; what a file's name need not say."""
    if made is None:
        return "–"
    options = made.options
    precision, weights = options.get("precision", "fp32"), options.get("weights", "fp32")
    words = [str(precision) if weights == "fp32" else f"weights {weights}"]
    words += [_CHILDREN.get(str(options.get("children")), "")]
    attention = str(options.get("channel_attention", "keep"))
    words += [_ATTENTION.get(attention, "")] if made.channel_attentions or attention != "keep" else []
    return ", ".join(word for word in words if word)


def _made_with(one: FileEvidence) -> str:
    return "as trained" if named_kind(one.path) is Kind.checkpoint else made_with(one.provenance)


def _verdict(one: FileEvidence) -> tuple[str, str]:
    result = one.verification
    if result is None:
        return ("–", "not verified" if one.unverified else "–")
    worst = worst_of(result.agreements)
    return (result.reference, "pass" if worst is None else "FAIL")


def _figures(one: FileEvidence) -> tuple[str, str, str]:
    done = one.evaluation
    beside = done.result.agreement if done else None
    return (
        f"{one.size / 1e6:.2f}",
        f"{100 * done.result.top1:.2f}" if done else "–",
        f"{100 * beside.same_top1:.2f}" if beside else "–",
    )
