"""A user's OpenVINO file as a subject of the bench: OpenVINO alone opens it, and nothing else is made of it."""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.benchmark.subject import Subject, measured_shape, scaled_macs
from kdna_deploy.errors import ArtifactError
from kdna_deploy.network.input_size import DEFAULT_SIZE, made_for_assumed
from kdna_deploy.runtimes.openvino_file import read_openvino
from kdna_deploy.runtimes.table import RUNTIMES, Artifact, OnCpu, Source


class OpenVinoAlone:
    """The artifacts of an OpenVINO file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def source(self, kind: Artifact) -> Source:
        if kind == "openvino":
            return Source(self._path)
        raise ArtifactError(
            f"'{self._path}' is an OpenVINO file; for other runtimes name the checkpoint that it was made from, or an "
            "ONNX file."
        )


def given_openvino(path: Path, size: tuple[int, int] | None = None) -> Subject:
    """The network of a user's OpenVINO file, on images of `size` (h, w). What it does not record counts as nothing.

    Raises:
        ArtifactError: the file cannot be read.
        UsageError: it takes images of another size alone.
        RuntimeFailure: OpenVINO is not installed.
    """
    made = read_openvino(path).provenance
    with RUNTIMES["openvino"].prepare(Source(path), OnCpu())() as session:
        takes, batch = session.image_shape, session.batch
    made_for = takes or (made.image_shape if made else (3, *DEFAULT_SIZE))
    shape = measured_shape(path, takes, made_for, size)
    parameters, macs = (made.parameters, scaled_macs(made.macs, made_for, shape)) if made else (0, 0)
    notes = made_for_assumed(path.name, shape, made.options) if made and size is None else ()
    return Subject(path.name, parameters, macs, shape, "openvino", OpenVinoAlone(path), batch, made, notes)
