"""What provenance says of calibration images: enough to tell later whether other ones are the same.

    sha256 = SHA-256 over the digests of the files, in the order in which they are read

Names are recorded for people; only the bytes count, so that a folder may move. Does not apply to random images.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kdna_deploy.files import file_sha256
from kdna_deploy.images.folder import Preprocessing, image_files


def image_record(path: Path, preprocessing: Preprocessing) -> dict[str, Any]:
    """The images of a folder or an array file; arrays hold images that are prepared already."""
    prepared = asdict(preprocessing) if path.is_dir() else {}
    return {"images": path.name, "sha256": images_sha256(path), **prepared}


def images_sha256(path: Path) -> str:
    """Of the bytes of an array file, or of all image files in a folder."""
    files = [file for file in image_files(path) if file.is_file()] if path.is_dir() else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(bytes.fromhex(file_sha256(file)))
    return digest.hexdigest()
