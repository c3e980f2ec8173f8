"""ncnn: float32 alone, one image after another, and what it says of files and images that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.runtimes.ncnn_file import read_ncnn
from tests.converted_files import converted_sample, copy_of

pytest.importorskip("ncnn", reason="ncnn is not installed: pip install 'kdna-deploy[ncnn]'")
from kdna_deploy.runtimes.ncnn import NcnnSession

pytestmark = pytest.mark.slow


def test_a_session_tells_what_it_takes_and_what_was_set() -> None:
    with NcnnSession(converted_sample("ncnn").path, threads=1) as session:
        assert (session.name, session.batch, session.image_shape) == ("net.ncnn.param", None, (3, 64, 64))
        assert session.runtime.startswith("ncnn 1.")
        assert session.options["num_threads"] == 1
        assert session.options["use_fp16_storage"] == session.options["use_fp16_arithmetic"] == 0


def test_a_result_and_the_images_are_left_alone() -> None:
    images = np.random.default_rng(0).standard_normal((2, 3, 64, 64), dtype=np.float32)
    before = images.copy()
    with NcnnSession(converted_sample("ncnn").path) as session:
        first = session.run(images[:1])
        kept = first.copy()
        session.run(images[1:])
    assert np.array_equal(first, kept) and np.array_equal(images, before)


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 64, 64), (3, 64, 64)])
def test_images_of_another_shape_are_refused_with_one_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^net.ncnn.param cannot run on .*: it takes images .* of 3×64×64\.$"):
        NcnnSession(converted_sample("ncnn").path).run(np.zeros(shape, np.float32))


def test_files_that_ncnn_cannot_run_are_refused_before_it_opens_them(tmp_path: Path) -> None:
    path = copy_of(converted_sample("ncnn"), tmp_path)
    ours = path.read_text()
    path.write_text(ours.split("# kdna")[0])
    with pytest.raises(ArtifactError, match="does not record which images it takes"):
        NcnnSession(path)
    kind = next(layer.type for layer in read_ncnn(path).layers if layer.kernel)
    unheard = ours.replace(f"{kind} ", "Unheard ", 1)
    path.write_text(unheard)
    with pytest.raises(ArtifactError, match="is damaged: its bytes are not those that were written"):
        NcnnSession(path)
    path.write_text(unheard.partition("\nkdna_sha256 ")[0])  # an earlier one, which another ncnn could open
    with pytest.raises(ArtifactError, match=r"has no layer 'Unheard', which '.*' needs; export it again\.$"):
        NcnnSession(path)
