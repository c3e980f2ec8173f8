"""Starting a library's builder or runtime, whose constructors fail in as many ways as there are drivers."""

from __future__ import annotations

from typing import Any, Literal

from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.runtimes.nvidia.library import OpenedLibrary
from kdna_deploy.runtimes.nvidia.log import Messages


def started(opened: OpenedLibrary, kind: Literal["Builder", "Runtime"], logger: Any, messages: Messages) -> Any:
    """A builder or a runtime.

    Raises:
        RuntimeFailure: the library cannot be initialised: the driver is too old, or the GPU is taken.
    """
    cause: Exception | None = None
    made = None
    try:
        made = getattr(opened.trt, kind)(logger)
    # A TypeError where the library returns no object to wrap; errors of CUDA come as RuntimeError.
    except (TypeError, RuntimeError) as error:
        cause = error
    if made is None:
        raise RuntimeFailure(
            f"{opened.library.title} cannot start: {messages.cause()}; check the GPU's driver."
        ) from cause
    return made
