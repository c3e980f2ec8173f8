"""ncnn on the CPU, from its own file. Optional: ``pip install 'kdna-deploy[ncnn]'``.

It computes in float32 here, for which files are verified (`ncnn_library`). ncnn knows no batches: the images of one are
run one after another.

Does not apply to files that do not record which images they take: ncnn would read beyond those that are too small.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kdna_deploy.errors import ArtifactError, InputError, RuntimeFailure
from kdna_deploy.images.batch import Answers, Images
from kdna_deploy.runtimes.ncnn_file import read_ncnn
from kdna_deploy.runtimes.openvino_file import weights_of
from kdna_deploy.runtimes.session import Closing, logits_of, require_shape

try:
    from kdna_deploy.runtimes.ncnn_library import extracted, float32_alone, ncnn
except ImportError as error:
    raise RuntimeFailure("ncnn is not installed; run: pip install 'kdna-deploy[ncnn]'.") from error


class NcnnSession(Closing):
    """A `Session` over an ncnn file of ours.

    Raises:
        ArtifactError: ncnn cannot open the file, or it does not record which images it takes.
    """

    def __init__(self, path: Path, threads: int | None = None, name: str | None = None) -> None:
        found = read_ncnn(path, weights=False)
        if found.provenance is None:
            raise ArtifactError(f"'{path}' does not record which images it takes; write one with `export`.")
        unknown = next((layer.type for layer in found.layers if ncnn.layer_to_index(layer.type) < 0), None)
        if unknown is not None:
            raise ArtifactError(
                f"ncnn {ncnn.__version__} has no layer '{unknown}', which '{path}' needs; export it again."
            )
        self._net = ncnn.Net()
        self.options: Mapping[str, str | int] = _configure(self._net.opt, threads)
        if self._net.load_param(str(path)) or self._net.load_model(str(weights_of(path))):
            raise ArtifactError(f"ncnn cannot open '{path}'; export it again.")
        self.name = name or path.name
        self.runtime = f"ncnn {ncnn.__version__}"
        self.batch: int | None = None
        self.image_shape: tuple[int, int, int] | None = found.provenance.image_shape
        self.stage_names = found.provenance.stage_names

    def run(self, images: Images) -> Images:
        return logits_of(self, images)

    def run_all(self, images: Images) -> Answers:
        self._check_open()
        require_shape(self, images)
        answers = [self._answers(image) for image in images]
        return tuple(np.stack(one) for one in zip(*answers, strict=True))

    def _answers(self, image: Images) -> Answers:
        found = extracted(self._net, np.ascontiguousarray(image, np.float32), len(self.stage_names) or 1)
        if any(code for code, _ in found):
            raise InputError(f"{self.name} cannot run on an image of {image.shape}: ncnn fails.")
        return tuple(np.array(made) for _, made in found)

    def _release(self) -> None:
        del self._net


def _configure(options: ncnn.Option, threads: int | None) -> dict[str, str | int]:
    """Set float32, no GPU, and so many threads; returns what was set."""
    off = float32_alone(options)
    if threads is not None:
        options.num_threads = threads
    return {"num_threads": options.num_threads, **off}
