"""The folder's ONNX models behind the Open Inference Protocol (v2) over HTTP, on plain ONNX Runtime.

As Triton and KServe do, it answers in JSON unless it is asked for bytes, and halves in bytes alone.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime

_TYPES = {
    "tensor(float)": ("FP32", np.float32),
    "tensor(float16)": ("FP16", np.float16),
    "tensor(uint8)": ("UINT8", np.uint8),
    "tensor(int64)": ("INT64", np.int64),
}
_LENGTH = "Inference-Header-Content-Length"


@contextlib.contextmanager
def served(model: Path, name: str, first: Path | None = None) -> Iterator[str]:
    """The address of a server that has `model` alone, or an ensemble that runs `first` before it."""
    session = onnxruntime.InferenceSession(model)
    before = onnxruntime.InferenceSession(first) if first else None
    inputs = (before or session).get_inputs()

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            taken = [
                {
                    "name": one.name,
                    "datatype": _TYPES[one.type][0],
                    "shape": [n if isinstance(n, int) else -1 for n in one.shape],
                }
                for one in inputs
            ]
            assert self.path == f"/v2/models/{name}"
            self._answer(json.dumps({"name": name, "inputs": taken}).encode())

        def do_POST(self) -> None:
            assert self.path == f"/v2/models/{name}/infer"
            body, length = self.rfile.read(int(self.headers["Content-Length"])), int(self.headers[_LENGTH])
            asked = json.loads(body[:length])
            (one,) = asked["inputs"]
            kind = dict(_TYPES.values())[one["datatype"]]
            given = {one["name"]: np.frombuffer(body[length:], kind).reshape(one["shape"])}
            if before is not None:
                given = {session.get_inputs()[0].name: before.run(None, given)[0]}
            outputs = session.run(None, given)
            binary = asked.get("parameters", {}).get("binary_data_output", False)
            told = [
                {
                    "name": value.name,
                    "datatype": _TYPES[value.type][0],
                    "shape": output.shape,
                    **({"parameters": {"binary_data_size": output.nbytes}} if binary else {"data": _listed(output)}),
                }
                for value, output in zip(session.get_outputs(), outputs, strict=True)
            ]
            head = json.dumps({"model_name": name, "outputs": told}).encode()
            if binary:
                self._answer(head + b"".join(output.tobytes() for output in outputs), len(head))
            else:
                self._answer(head)

        def _answer(self, body: bytes, length: int | None = None) -> None:
            self.send_response(200)
            if length is not None:
                self.send_header(_LENGTH, str(length))
            self.end_headers()
            self.wfile.write(body)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _listed(output: np.ndarray) -> list[float]:
    assert output.dtype != np.float16, "no server answers halves in JSON"
    return output.ravel().tolist()
