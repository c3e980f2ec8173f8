"""What a sweep tells `export` and `fuse` of images."""

from __future__ import annotations

from pathlib import Path

import pytest

from kdna_deploy.network.configuration import UNSAID
from kdna_deploy.selection.result import Limits
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.search import Search


@pytest.mark.parametrize("arrays", [False, True])
def test_how_files_become_input_is_not_said_of_arrays(tmp_path: Path, arrays: bool) -> None:
    """Those words are of the labelled images then; `export` refuses them."""
    images = tmp_path / "i.npy" if arrays else tmp_path
    words = ImageWords(images, "0.5", "0.25", 70, "60", "BGR")
    request = Search(
        *(Path("net.pt"), UNSAID, None, False, None, tmp_path, None, None, words, Limits(), "latency", None, tmp_path),
        *(1, None, None),
    )
    of_files = {"mean": "0.5", "std": "0.25", "resize": 70, "crop": "60x60", "color": "BGR"}
    assert request.calibration == {"calibration": images, **({} if arrays else of_files)}
