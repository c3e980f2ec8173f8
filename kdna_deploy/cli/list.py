"""``kdna-deploy list``."""

from __future__ import annotations

from kdna_deploy.cli.console import Sink
from kdna_deploy.cli.options.output import Json
from kdna_deploy.cli.options.source import Name
from kdna_deploy.verbs.list import list as listed


def list(name: Name = None, json: Json = False) -> None:
    """List architectures, layouts, and what each was checked against.

    Parameters as built and as the paper prints them. The column 'said with' holds what other commands take as options.
    """
    sink = Sink(json)
    sink.report(listed(name).report)
