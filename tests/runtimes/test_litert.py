"""LiteRT: one batch size after another, and what it says of files and images that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.errors import ArtifactError, InputError
from tests.converted_files import converted_sample
from tests.targets.litert.small_file import small_file

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install 'kdna-deploy[litert]'")
from kdna_deploy.runtimes.litert import LiteRtSession

pytestmark = pytest.mark.slow


def test_a_session_tells_what_it_takes_and_what_was_set(capfd: pytest.CaptureFixture[str]) -> None:
    with LiteRtSession(converted_sample("litert").path, threads=1) as session:
        assert (session.name, session.batch, session.image_shape) == ("net.tflite", None, (3, 64, 64))
        assert session.runtime.startswith("LiteRT 2.")
        assert session.options == {"num_threads": 1}
    assert capfd.readouterr().err == ""  # LiteRT's own greeting


def test_one_session_takes_one_batch_size_after_another_and_leaves_arrays_alone() -> None:
    images = np.random.default_rng(0).standard_normal((3, 3, 64, 64), dtype=np.float32)
    before = images.copy()
    with LiteRtSession(converted_sample("litert").path) as session:
        first = session.run(images[:1])
        kept = first.copy()
        together = session.run(images)
        again = session.run(images[:1])
    assert np.array_equal(first, kept) and np.array_equal(images, before) and np.array_equal(again, kept)
    assert np.abs(together[:1] - kept).max() <= 1e-5 * np.abs(kept).max()


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 64, 64), (3, 64, 64), (0, 3, 64, 64)])
def test_images_of_another_shape_are_refused_with_one_sentence(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"^net.tflite cannot run on .*: it takes \[n, 3, 64, 64\]\.$"):
        LiteRtSession(converted_sample("litert").path).run(np.zeros(shape, np.float32))


def test_a_batch_that_the_graph_does_not_stand_is_refused_and_forgotten(tmp_path: Path) -> None:
    from kdna_deploy.targets.litert.writer import Writer

    path, writer = tmp_path / "net.tflite", Writer()
    taken = writer.tensor("input", (1, 3, 4, 4), np.float32)
    writer.open_batch(taken)
    made = writer.tensor("logits", (1, 48), np.float32)
    writer.operator("RESHAPE", [taken, writer.constant("shape", np.array([1, 48], np.int32))], [made])
    path.write_bytes(writer.finish([taken], [made], "key", "what is recorded"))
    images = np.random.default_rng(0).standard_normal((2, 3, 4, 4), dtype=np.float32)
    with LiteRtSession(path) as session:
        for _ in range(2):
            assert np.array_equal(session.run(images[:1]), images[:1].reshape(1, 48))
            with pytest.raises(InputError, match=r"^net\.tflite cannot run on \(2, 3, 4, 4\): .*[^.]\.$"):
                session.run(images)


def test_what_litert_cannot_open_is_one_sentence_with_a_remedy(tmp_path: Path) -> None:
    from kdna_deploy.targets.litert.writer import Writer

    path, writer = tmp_path / "net.tflite", Writer()
    taken = writer.tensor("input", (1, 3, 4, 4), np.float32)
    writer.operator("RELU", [taken], [999])
    path.write_bytes(writer.finish([taken], [taken], "key", "what is recorded"))
    with pytest.raises(ArtifactError, match=r"^LiteRT cannot open '.*net\.tflite': .*; export it again\.$"):
        LiteRtSession(path)


def test_files_that_are_no_classifier_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "small.tflite"
    path.write_bytes(small_file())
    with pytest.raises(ArtifactError, match="does not map one image batch"):
        LiteRtSession(path)
    path.write_bytes(converted_sample("litert").path.read_bytes()[:5000])
    with pytest.raises(ArtifactError, match="is no LiteRT file, or a damaged one"):
        LiteRtSession(path)
