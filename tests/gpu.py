"""Whether there is a GPU for the tests that need one."""

from __future__ import annotations

from kdna_deploy.errors import RuntimeFailure
from kdna_deploy.runtimes.nvidia.gpu import first_gpu


def no_gpu() -> str | None:
    """Why there is no GPU to use, as a clause; None where there is one."""
    try:
        first_gpu()
    except RuntimeFailure as reason:
        return str(reason)
    return None
