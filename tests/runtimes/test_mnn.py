"""MNN: float32 alone, any batch, and what it says of files and images that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.runtimes.mnn_file import read_mnn
from tests.converted_files import converted_sample, copy_of

pytest.importorskip("MNN", reason="MNN is not installed: pip install 'kdna-deploy[mnn]'")
from kdna_deploy.runtimes.mnn import MnnSession

pytestmark = pytest.mark.slow


def test_a_session_tells_what_it_takes_and_what_was_set() -> None:
    with MnnSession(converted_sample("mnn").path, threads=1) as session:
        assert (session.name, session.batch, session.image_shape) == ("net.mnn", None, (3, 64, 64))
        assert session.runtime.startswith("MNN 3.")
        assert session.options == {"backend": "CPU", "precision": "high", "numThread": 1, "WINOGRAD_MEMORY_LEVEL": 1}


def test_one_session_takes_one_batch_size_after_another_and_leaves_arrays_alone() -> None:
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64), dtype=np.float32)
    before = images.copy()
    with MnnSession(converted_sample("mnn").path) as session:
        first = session.run(images[:1])
        kept = first.copy()
        together = session.run(images)
    assert np.array_equal(first, kept) and np.array_equal(images, before)
    assert np.abs(together[:1] - kept).max() <= 1e-5 * np.abs(kept).max()


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 64, 64), (3, 64, 64)])
def test_images_of_another_shape_are_refused_with_one_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^net.mnn cannot run on .*: it takes images .* of 3×64×64\.$"):
        MnnSession(converted_sample("mnn").path).run(np.zeros(shape, np.float32))


def test_files_that_mnn_cannot_run_are_refused(tmp_path: Path) -> None:
    path = copy_of(converted_sample("mnn"), tmp_path)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"kdna {", b"else {", 1).replace(b"\nkdna_sha256", b"\nelse_sha256", 1))
    assert read_mnn(path).provenance is None
    with pytest.raises(ArtifactError, match="does not record which images it takes"):
        MnnSession(path)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(ArtifactError):
        MnnSession(path)
