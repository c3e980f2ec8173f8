"""Draw the picture of the README's first screen: what `export` and `bench` print for a sample, as they print it.

    python docs/pictures/make.py          → docs/pictures/first_screen.svg

The figures are those of the machine that it runs on, which the picture names.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from pathlib import Path

from rich.console import Console

import kdna_deploy as kd
from kdna_deploy.reports.report import Report
from kdna_deploy.reports.terminal import rendered

HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parents[1] / "sample_checkpoints" / "digits_resnet18_quarter.pth.tar"


def main() -> None:
    """Export the sample, measure it and draw the first tables of both."""
    console = Console(record=True, width=84, file=io.StringIO(), highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # so that files are called by their names alone
        file = kd.export(SAMPLE, "net.onnx", input_size=64, children="share")
        measured = kd.bench(file, cold_start=False)
        os.chdir(HERE)
    console.print("[bold]$ kdna-deploy export ckpt.pt --children share[/]")
    console.print(rendered(Report(file.report.parts[1:3], {})))
    console.print("[bold]$ kdna-deploy bench net.onnx[/]")
    console.print(rendered(Report((measured.report.parts[0], measured.report.parts[-1]), {})))
    drawn = console.export_svg(title="kdna-deploy", unique_id="kdna")
    # A font from elsewhere would be the one thing in the picture that needs a network.
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    (HERE / "first_screen.svg").write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
