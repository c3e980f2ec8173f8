"""Run every hostile input and write what happened into ``docs/reliability.md``.

Run it as ``python -m tests.hostile_inputs.report``. The part of the page between the markers is made anew; what else is
on it stays.
"""

from __future__ import annotations

import datetime
import platform
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch

from kdna_deploy.graph.provenance import package_versions
from kdna_deploy.runtimes.processor import first_processor
from tests.hostile_inputs.case import INPUT, NO, OK, RUNTIME, USAGE, Outcome, run
from tests.hostile_inputs.suite import all_cases

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
BEGIN = "<!-- hostile inputs: begin, written by python -m tests.hostile_inputs.report -->"
END = "<!-- hostile inputs: end -->"
_CODES = {
    OK: "harmless (0)",
    NO: "check failed (1)",
    USAGE: "usage (2)",
    INPUT: "input refused (3)",
    RUNTIME: "runtime (4)",
}


def main() -> int:
    torch.set_num_threads(1)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as place:
        outcomes = [run(case, Path(place)) for case in all_cases()]
    text = section(outcomes, time.perf_counter() - start)
    PAGE.write_text(placed(PAGE.read_text(encoding="utf-8"), text), encoding="utf-8")
    for outcome in outcomes:
        if outcome.complaints:
            print(f"{outcome.case.id}: {'; '.join(outcome.complaints)}", file=sys.stderr)
    return int(any(outcome.complaints for outcome in outcomes))


def placed(page: str, text: str) -> str:
    """`page` with `text` between the markers."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin, "the page has lost its first marker"
    assert end, "the page has lost its second marker"
    return f"{before}{BEGIN}\n{text}{END}{after}"


def section(outcomes: list[Outcome], seconds: float) -> str:
    """What happened, as Markdown."""
    complaints = sum(bool(outcome.complaints) for outcome in outcomes)
    internal = sum(outcome.internal for outcome in outcomes)
    versions = package_versions()
    named = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "numpy") if name in versions)
    processor = first_processor().get("model name", platform.processor())
    today = datetime.datetime.now(tz=datetime.timezone.utc).date()
    largest = max(outcomes, key=lambda outcome: outcome.memory)
    lines = [
        f"Run on {today}: Python {platform.python_version()}, {named}, {processor}; {seconds:.0f} s.",
        "",
        f"**{len(outcomes)} cases. Internal errors: {internal}.** Cases that broke any other rule above: {complaints}.",
        f"Most memory beyond what the process had: {largest.memory / 1e6:.0f} MB ({largest.case.id}).",
        "",
        "| " + " | ".join(("family", "cases", *_CODES.values(), "internal errors")) + " |",
        "|---|" + "---:|" * (len(_CODES) + 2),
        *_rows(outcomes),
        "",
    ]
    return "\n".join(lines)


def _rows(outcomes: list[Outcome]) -> Iterable[str]:
    families = dict.fromkeys(outcome.case.family for outcome in outcomes)
    for family in families:
        yield _row(family, [outcome for outcome in outcomes if outcome.case.family == family])
    yield _row("**all**", outcomes)


def _row(name: str, outcomes: list[Outcome]) -> str:
    codes = Counter(outcome.code for outcome in outcomes)
    internal = sum(outcome.internal for outcome in outcomes)
    return "| " + " | ".join(map(str, (name, len(outcomes), *(codes[code] for code in _CODES), internal))) + " |"


if __name__ == "__main__":
    sys.exit(main())
