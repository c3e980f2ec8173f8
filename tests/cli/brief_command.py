"""The command line, with the peak of a core tried in no time: for a bench that a test tells to end."""

from __future__ import annotations

import contextlib
import importlib

from kdna_deploy.cli.app import main

if __name__ == "__main__":
    with contextlib.suppress(ImportError):  # first, as the product imports it
        importlib.import_module("kdna_deploy.runtimes.openvino_library")
    from kdna_deploy.benchmark.cpu import roofline

    roofline._SECONDS = 0.001
    main()
