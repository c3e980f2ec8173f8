"""A packaged file in a session of ours → a model of KServe's model server.

    request (HTTP: JSON or bytes; gRPC) → one array, by its name, type and axes → session → the outputs of the file

An inference has one thread, and as many run at once as there are cores: throughput, and a bound on memory. What a
session answers becomes what the file answers again (`answers`).

Does not apply to the protocol v1, which knows neither names nor types.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure
from kdna_deploy.images.decoding import cores
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.inspect_file import TakenOrReturned
from kdna_deploy.targets.serving.answers import answer_type, answers_of_file
from kdna_deploy.targets.serving.kserve_model_server import FILE, TYPES
from kdna_deploy.targets.serving.model import ServedModel, served_models

try:
    from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelRepository, ModelServer
    from kserve.errors import InvalidInput
except ImportError as error:
    raise RuntimeFailure("KServe's model server is not installed; run: pip install kserve.") from error


def served_files(folder: Path) -> list[ServedFile]:
    """The models of a packaged `folder`, opened.

    Raises:
        ArtifactError: there is none, or one cannot be opened.
    """
    found = sorted(folder.glob(f"*/{FILE}"))
    if not found:
        raise ArtifactError(f"There is no NAME/{FILE} in '{folder}'; package a file into it.")
    threads = ThreadPoolExecutor(cores(), "inference")
    served = [ServedFile(replace(*served_models([path]), name=path.parent.name), threads) for path in found]
    for one in served:
        one.load()
    return served


class FileServer(ModelServer):  # type: ignore[misc]  # as below
    """KServe's model server, which answers what it has accepted before it ends."""

    def stop(self, sig: int) -> None:
        """End; its own way is to forget the models first, and to refuse what it has accepted since: not found."""
        self.registered_models = ModelRepository()
        super().stop(sig)


class ServedFile(Model):  # type: ignore[misc]  # of no type where KServe is not installed
    """A file that answers requests of the Open Inference Protocol (v2); `threads` are shared by all files."""

    def __init__(self, model: ServedModel, threads: ThreadPoolExecutor) -> None:
        super().__init__(model.name)
        self._model, self._threads = model, threads

    def load(self) -> bool:
        """Open the file.

        Raises:
            ArtifactError: it cannot be opened.
        """
        self._session = OrtSession(self._model.path, threads=1)
        self.ready = True
        return True

    def get_input_types(self) -> list[dict[str, Any]]:
        (taken,) = self._model.inputs
        return [_told(taken, TYPES[taken.type])]

    def get_output_types(self) -> list[dict[str, Any]]:
        return [_told(one, answer_type(one)) for one in self._model.outputs]

    async def predict(self, payload: InferRequest, headers: Mapping[str, str] | None = None) -> InferResponse:
        """What the file returns for the images of a request.

        Raises:
            InvalidInput: the file does not take them.
        """
        images = self._images(payload)
        try:
            answers = await asyncio.get_running_loop().run_in_executor(self._threads, self._session.run_all, images)
        except InputError as error:
            raise InvalidInput(str(error)) from error
        found = zip(self.get_output_types(), answers_of_file(self._model, answers), strict=True)
        return InferResponse(
            response_id=payload.id or uuid.uuid4().hex,  # the server wants one
            model_name=self.name,
            infer_outputs=[_output(told, values) for told, values in found],
            use_binary_outputs=payload.use_binary_outputs,
            requested_outputs=payload.request_outputs,
        )

    def _images(self, payload: InferRequest) -> NDArray[Any]:
        """The one input of a request; its axes are the session's to judge.

        Raises:
            InvalidInput: it has another name or type, there are several, or its numbers do not fill its axes.
        """
        (told,) = self.get_input_types()
        given: Sequence[InferInput] = payload.inputs if isinstance(payload, InferRequest) else ()
        if [(one.name, one.datatype) for one in given] != [(told["name"], told["datatype"])]:
            listed = ", ".join(f"{one.name} of {one.datatype}" for one in given) or "nothing of the protocol v2"
            raise InvalidInput(f"{self.name} takes {told['name']} of {told['datatype']}, and got {listed}.")
        try:
            images: NDArray[Any] = given[0].as_numpy()
        except (ValueError, TypeError, OverflowError) as error:
            raise InvalidInput(f"The numbers of {told['name']} do not fill {list(given[0].shape)}: {error}.") from error
        if not images.size:
            raise InvalidInput(f"There is no image in {told['name']} of {list(given[0].shape)}.")
        return images


def _told(value: TakenOrReturned, datatype: str) -> dict[str, Any]:
    """An input or output in the words of the protocol; −1 for an open axis."""
    shape = [axis if isinstance(axis, int) else -1 for axis in value.shape]
    return {"name": value.name, "datatype": datatype, "shape": shape}


def _output(told: Mapping[str, Any], values: NDArray[Any]) -> InferOutput:
    output = InferOutput(told["name"], list(values.shape), told["datatype"])
    output.set_data_from_numpy(values, binary_data=True)
    return output
