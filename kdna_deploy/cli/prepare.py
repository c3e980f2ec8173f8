"""``kdna-deploy prepare``."""

from __future__ import annotations

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.output import Json, Output
from kdna_deploy.cli.options.source import Portable
from kdna_deploy.verbs.prepare import prepare as prepared


def prepare(model_file: Portable, output: Output = None, json: Json = False) -> None:
    """Write an ONNX file as ONNX Runtime executes it on this processor.

    It opens in milliseconds, and all processes share its weights. The file that it is made from stays the one to ship.
    """
    sink = Sink(json)
    with sink.listening() as listener:
        done = prepared(model_file, output, listener=listener)
    sink.report(done.report)
