"""A user's OpenVINO file as a subject of the bench: OpenVINO alone opens it, and nothing else is made of it."""

from __future__ import annotations

from pathlib import Path

from kdna_deploy.benchmark.subject import Subject
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


def given_openvino(path: Path) -> Subject:
    """The network of a user's OpenVINO file. What it does not record counts as nothing.

    Raises:
        ArtifactError: the file cannot be read.
        RuntimeFailure: OpenVINO is not installed.
    """
    made = read_openvino(path).provenance
    with RUNTIMES["openvino"].prepare(Source(path), OnCpu())() as session:
        shape, batch = session.image_shape, session.batch
    shape = shape or (made.image_shape if made else (3, *DEFAULT_SIZE))
    parameters, macs = (made.parameters, made.macs) if made else (0, 0)
    notes = made_for_assumed(path.name, shape, made.options) if made else ()
    return Subject(path.name, parameters, macs, shape, "openvino", OpenVinoAlone(path), batch, made, notes)
