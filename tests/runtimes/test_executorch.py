"""ExecuTorch: the network's logits, whatever the batch, from a file that is verified, found out about and measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import kdna_deploy as kd
from kdna_deploy.errors import ArtifactError, InputError
from kdna_deploy.runtimes.executorch_file import read_executorch
from kdna_deploy.runtimes.open import open_session, read_provenance
from tests.converted_files import converted_sample, copy_of, require
from tests.samples import RESNET, fused_sample, sample_path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("float_files_once"), pytest.mark.usefixtures("fused_once")]


@pytest.fixture(scope="module")
def path() -> Path:
    require("executorch")
    return converted_sample("executorch").path


def test_a_file_was_verified_and_says_what_it_is(path: Path) -> None:
    done = converted_sample("executorch")
    assert done.agreements and all(agreement.passed for agreement in done.agreements)
    assert done.version.startswith("1.") and done.bytes == path.stat().st_size
    made = read_provenance(path)
    assert (made.options["format"], made.source_sha256) == ("executorch", fused_sample().network.checkpoint.sha256)
    assert kd.verify(path, against=sample_path(RESNET)).passed
    assert "executorch" in str(kd.inspect(path))


def test_a_batch_is_its_images(path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    images = np.random.default_rng(1).standard_normal((3, 3, 64, 64), dtype=np.float32)
    before = images.copy()
    with open_session(path, threads=1) as session, open_session(sample_path(RESNET)) as original:
        expected = original.run(images)
        first = session.run(images[:1])
        kept = first.copy()
        together = session.run(images)
        assert (session.name, session.batch, session.image_shape) == ("net.pte", None, (3, 64, 64))
        assert session.runtime.startswith("ExecuTorch 1.") and session.options == {"threads": 1}
    assert np.array_equal(first, kept) and np.array_equal(images, before) and np.array_equal(together[:1], kept)
    assert np.abs(together - expected).max() <= 1e-5 * np.abs(expected).max()
    assert "cpuinfo" not in capfd.readouterr().err  # what ExecuTorch says of the processor


@pytest.mark.parametrize("shape", [(1, 3, 32, 32), (1, 1, 64, 64), (3, 64, 64)])
def test_images_of_another_shape_are_refused_with_one_sentence(path: Path, shape: tuple[int, ...]) -> None:
    with open_session(path) as session, pytest.raises(InputError, match=r"it takes images .* of 3×64×64\.$"):
        session.run(np.zeros(shape, np.float32))


def test_what_the_program_does_not_stand_is_refused_with_one_sentence(path: Path, tmp_path: Path) -> None:
    other = copy_of(converted_sample("executorch"), tmp_path)
    with_other_record(other, b'"image_shape": [3, 64, 64]', b'"image_shape": [3, 96, 96]')
    with open_session(other) as session, pytest.raises(InputError, match=r"^net\.pte cannot run on .*[^.]\.$"):
        session.run(np.zeros((1, 3, 96, 96), np.float32))


def with_other_record(path: Path, old: bytes, new: bytes) -> None:
    """As an earlier file, which has no digest, would record it."""
    content = path.read_bytes()
    length = int.from_bytes(content[-16:-8], "little")
    record = content[-16 - length : -16].partition(b"\nkdna_sha256 ")[0]
    assert record.count(old) == 1
    record = record.replace(old, new)
    path.write_bytes(content[: -16 - length] + record + len(record).to_bytes(8, "little") + content[-8:])


def test_files_that_cannot_be_run_are_refused(path: Path, tmp_path: Path) -> None:
    other = copy_of(converted_sample("executorch"), tmp_path)
    content = other.read_bytes()
    length = int.from_bytes(content[-16:-8], "little")
    other.write_bytes(content[: -16 - length])
    assert read_executorch(other) is None
    with pytest.raises(ArtifactError, match="does not record which images it takes"):
        open_session(other)
    changed = bytearray(content)
    changed[60:2000] = bytes(1940)  # the program; its header stays
    other.write_bytes(changed)
    with pytest.raises(ArtifactError, match=r"net.pte' is damaged: its bytes are not those that were written"):
        open_session(other)
    earlier = content[-16 - length : -16].partition(b"\nkdna_sha256 ")[0]
    other.write_bytes(changed[: -16 - length] + earlier + len(earlier).to_bytes(8, "little") + content[-8:])
    with pytest.raises(ArtifactError, match=r"ExecuTorch cannot open '.*net.pte'"):
        open_session(other)
