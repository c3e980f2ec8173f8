"""``kdna-deploy verify``."""

from __future__ import annotations

from typing import Any

import typer

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.architecture import with_architecture
from kdna_deploy.cli.options.comparison import Atol, Bisect, Reference, Rtol
from kdna_deploy.cli.options.images import Inputs
from kdna_deploy.cli.options.output import Json, SaveWorst
from kdna_deploy.cli.options.source import Arch, Artifact, Ema, InputSize, Model
from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.verbs.arguments import newest
from kdna_deploy.verbs.verify import Verification
from kdna_deploy.verbs.verify import verify as verified


@with_architecture
def verify(
    model_file: Artifact = None,
    against: Reference = None,
    inputs: Inputs = None,
    rtol: Rtol = None,
    atol: Atol = 0.0,
    bisect: Bisect = False,
    save_worst: SaveWorst = None,
    arch: Arch = None,
    model: Model = None,
    ema: Ema = False,
    input_size: InputSize = None,
    json: Json = False,
    **architecture: Any,
) -> None:
    """Compare a file with the trained network, or prove a release.

    Exit code 1 where it computes something else, or the folder is not what was shipped; 4 where none of its files
    can be run here.
    """
    sink = Sink(json)
    if model_file is None:
        model_file = newest("*.onnx", "kdna-deploy export --onnx")
        sink.say(f"using {model_file}, the newest ONNX file here")
    with sink.listening() as listener:
        done = verified(
            model_file,
            against=against,
            inputs=inputs,
            rtol=rtol,
            atol=atol,
            bisect=bisect,
            save_worst=save_worst,
            arch=arch,
            model=model,
            ema=ema,
            input_size=input_size,
            listener=listener,
            **architecture,
        )
    if isinstance(done, Verification) and done.saved is not None:
        sink.say(f"the image that departs most is in {done.saved}; compare on it with --inputs {done.saved}")
    sink.report(done.report)
    if done.passed:
        return
    if not isinstance(done, Verification) and done.unrun:
        sink.fail(done.unrun)
        raise typer.Exit(RuntimeFailure.exit_code)
    for complaint in (done.complaint,) if isinstance(done, Verification) else done.complaints:
        sink.fail(complaint)
    raise typer.Exit(1)
