"""Every error that a user can meet, one class per stage.

    KdnaError                    exit code 1
    ├── UsageError                         2   the request cannot be understood
    ├── InputError                         3   an input cannot be loaded
    │   ├── CheckpointError                    the checkpoint file, or what is in it
    │   ├── ArchitectureError                  the network it belongs to
    │   ├── ArtifactError                      a .pt2 or .onnx file
    │   └── CaptureError                       a module that torch.export cannot trace
    ├── RuntimeFailure                     4   a runtime or optional component is missing or failed
    ├── ExportError                        1   the exported file is not what was asked for
    ├── ParityError                        1   an artifact does not compute what the network computes
    ├── AccuracyError                      1   a quantised artifact loses more accuracy than the user allows
    └── ThresholdError                     1   a figure lies beyond the limit that the user set

A message is one sentence (at most two): the cause, then the remedy.
"""

from __future__ import annotations

from typing import Any


class KdnaError(Exception):
    """Base of all errors of this package; `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(KdnaError):
    exit_code = 2


class InputError(KdnaError):
    exit_code = 3


class CheckpointError(InputError):
    pass


class ArchitectureError(InputError):
    pass


class ArtifactError(InputError):
    pass


class CaptureError(InputError):
    pass


class RuntimeFailure(KdnaError):
    exit_code = 4


class ExportError(KdnaError):
    pass


class ParityError(KdnaError):
    pass


class AccuracyError(KdnaError):
    """`sensitivities` tell which layers lose it in `bits`, each a `kdna_deploy.targets.onnx.sensitivity.Sensitivity`.

    There are none where the layers were not tried one by one.
    """

    def __init__(self, message: str, sensitivities: tuple[Any, ...] = (), bits: str = "int8") -> None:
        super().__init__(message)
        self.sensitivities = sensitivities
        self.bits = bits


class ThresholdError(KdnaError):
    pass
