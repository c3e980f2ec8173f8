"""What a user says of OpenVINO files, and what that excludes."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from kdna_deploy.errors import RuntimeFailure, UsageError

OPENVINO_STEPS = ("convert to OpenVINO", "write")  # for a listener's plan
_WITHOUT = "`openvino` writes an OpenVINO file alone; leave {} out, or run again for it."


@dataclass(frozen=True)
class OpenVinoWords:
    """Whether an OpenVINO file is `wanted`, and what else was said."""

    wanted: bool
    engine: bool
    prepare: bool
    target: str | None
    precision: str
    children: str | None
    external_data: bool

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            UsageError: another kind of file is wanted too, or something that an OpenVINO file cannot have.
        """
        refusal = next((text for applies, text in self._refusals() if applies), None)
        if self.wanted and refusal:
            raise UsageError(refusal)

    def _refusals(self) -> tuple[tuple[bool, str], ...]:
        return (
            (self.engine, _WITHOUT.format("the engine")),
            (self.prepare, _WITHOUT.format("`prepare`, which is for ONNX Runtime,")),
            (self.target is not None, "An OpenVINO file is for OpenVINO; leave `target` out."),
            (
                self.precision == "fp16",
                'OpenVINO computes in float32 or int8 on CPUs; `weights="fp16"` halves the file for them.',
            ),
            (
                self.children == "on-the-fly",
                'OpenVINO multiplies children out when it opens a file; choose `children="share"`.',
            ),
            (self.external_data, "The weights of an OpenVINO file lie beside it anyway; leave `external_data` out."),
        )

    def files(self, output: Path) -> tuple[Path, ...]:
        """What is written for `output`.

        Raises:
            UsageError: OpenVINO could not open a file of that name.
        """
        if output.suffix != ".xml":
            raise UsageError(f"'{output}' must end in .xml, so that OpenVINO finds its weights; give another `output`.")
        return output, output.with_suffix(".bin")

    def require(self) -> None:
        """Refuse what could not be written before any work is done for it.

        Raises:
            RuntimeFailure: OpenVINO is not installed.
        """
        if self.wanted and importlib.util.find_spec("openvino") is None:
            raise RuntimeFailure("OpenVINO is not installed; run: pip install 'kdna-deploy[openvino]'.")
