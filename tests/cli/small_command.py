"""The command line with one more command, which starts at once and needs no network: for its signals and streams."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from kdna_deploy.cli.app import app, as_command, main
from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.output import Json
from kdna_deploy.files import atomic_output, scratch_folder


@app.command()
@as_command
def small(
    wait: Annotated[bool, typer.Option("--wait", help="Until a signal comes.")] = False,
    prints: Annotated[bool, typer.Option("--prints", help="As a network's code may.")] = False,
    exits: Annotated[bool, typer.Option("--exits", help="As a network's code may end the process.")] = False,
    rows: int = 1,
    json: Json = False,
) -> None:
    sink = Sink(json)
    with scratch_folder("small") as folder, atomic_output(Path("small.out")) as output:
        (folder / "file").write_bytes(bytes(100))
        output.write_text("complete")
        if prints:
            print("a line of the network")
        if exits:
            sys.exit(0)
        if wait:
            sink.say("ready")
            time.sleep(60)
    sink.say("said")
    sink.result(lambda: "a row of the table\n" * rows, lambda: {"rows": ["a row of the table"] * rows})


if __name__ == "__main__":
    main()
