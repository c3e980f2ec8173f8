"""Image files as they are found: odd, damaged, hostile."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import PIL
import pytest
from PIL import Image

from kdna_deploy.images.file import LARGEST, ImageBytes, UnreadableImage, open_image
from kdna_deploy.images.folder import ImageSource, Preprocessing, read_image
from tests.recorded import Recorded

PLAIN = Preprocessing((0.0,), (1.0,))
CORNERS = np.asarray([[10, 60], [110, 160], [210, 250]], np.uint8)  # 3 high, 2 wide: every turn is told


def pixels(path: Path) -> np.ndarray:
    return np.asarray(open_image(path, "RGB"))


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def png_of(width: int, height: int, bits: int = 8, data: bytes = bytes(100)) -> bytes:
    """A PNG whose header promises `width` × `height`, with hardly any data behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits in colour, which Pillow reads and does not write."""
    height, width, _ = pixels.shape
    return png_of(width, height, 16, b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels))


def inverted16() -> bytes:
    """A grey TIFF of 16 bits in which 0 is white, which Pillow does not turn round."""
    return encoded(Image.fromarray(np.full((4, 4), 999, np.uint16)), "TIFF", tiffinfo={262: 0})


TURNED = {  # EXIF orientation → how the stored picture is turned to stand upright
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_a_rotation_that_a_camera_recorded_is_carried_out(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    for mode in ("RGB", "L"):  # Pillow maps grey TIFFs into memory, others not
        picture = Image.fromarray(CORNERS).convert(mode)
        (tmp_path / "a.png").write_bytes(encoded(picture, kind, exif=exif, **options))
        assert np.array_equal(pixels(tmp_path / "a.png")[:, :, 0], TURNED[orientation](CORNERS))


def test_a_rotated_photograph_is_turned_before_it_is_cropped(tmp_path: Path) -> None:
    """A JPEG that lies on its side: its left half, red, is the upper half of the picture."""
    stored = np.zeros((64, 128, 3), np.uint8)
    stored[:, :64, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(stored), "JPEG", exif=exif, quality=95))
    read = read_image(tmp_path / "a.jpg", (128, 64), PLAIN)
    assert read[0, :60].min() > 0.95 and read[0, 68:].max() < 0.05


def test_damaged_exif_does_not_keep_an_image_from_being_read(tmp_path: Path) -> None:
    for number, exif in enumerate([b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"\xff" * 50]):
        path = tmp_path / f"{number}.png"
        path.write_bytes(encoded(Image.fromarray(CORNERS), exif=exif))
        assert np.array_equal(pixels(path)[:, :, 0], CORNERS)


def test_transparency_is_ignored_as_by_imagefolder(tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (5, 4, 4), dtype=np.uint8)
    Image.fromarray(colours, "RGBA").save(tmp_path / "a.png")
    assert np.array_equal(pixels(tmp_path / "a.png"), colours[:, :, :3])


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "P", "PA", "RGBA", "LA", "1", "L"])
def test_every_usual_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    if mode == "YCbCr" and int(PIL.__version__.partition(".")[0]) < 13:
        pytest.skip(f"Pillow {PIL.__version__} cannot read the small YCbCr TIFF that it writes")
    image = Image.fromarray(CORNERS).convert("RGB").convert(mode)
    kind = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    if mode == "PA":
        image = Image.fromarray(CORNERS).convert("P")
        image.info["transparency"] = 0
    (tmp_path / "a.png").write_bytes(encoded(image, kind))
    assert pixels(tmp_path / "a.png").shape == (3, 2, 3)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_of_16_bits_the_upper_8_are_kept_in_grey_as_in_colour(tmp_path: Path, kind: str) -> None:
    deep = CORNERS.astype(np.uint16) * 256 + 255
    exif = Image.Exif()
    exif[0x0112] = 6
    options = {} if kind == "PPM" else {"exif": exif}
    (tmp_path / "a.png").write_bytes(encoded(Image.fromarray(deep), kind, **options))
    assert np.array_equal(pixels(tmp_path / "a.png")[:, :, 1], CORNERS if kind == "PPM" else TURNED[6](CORNERS))
    if kind == "PNG":
        (tmp_path / "b.png").write_bytes(png16(np.stack([deep, deep // 2, deep // 3], axis=2)))
        assert np.array_equal(pixels(tmp_path / "b.png")[:, :, 0], CORNERS)


def test_the_content_of_a_file_is_read_as_the_file_is(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(CORNERS))
    assert np.array_equal(np.asarray(open_image(ImageBytes(content), "L")), CORNERS)
    with pytest.raises(UnreadableImage, match="'-' is not an image that can be read: it is empty"):
        open_image(ImageBytes(b""), "RGB")


def test_of_an_animation_the_first_frame_is_taken(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (6, 6), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert pixels(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def test_one_pixel_becomes_an_image_of_that_colour(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), (255, 0, 51)).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png", (32, 24), PLAIN)
    assert read.shape == (3, 32, 24)
    assert [float(channel.min()) for channel in read] == [1.0, 0.0, pytest.approx(0.2)]
    assert np.ptp(read, axis=(1, 2)).max() == 0


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(encoded(Image.fromarray(CORNERS)))
    assert np.array_equal(pixels(tmp_path / "a.jpg")[:, :, 0], CORNERS)


def test_postscript_in_an_image_file_is_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would start Ghostscript for it."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n"
    (tmp_path / "a.png").write_bytes(program)
    started: list[object] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: started.append(a))
    with pytest.raises(UnreadableImage, match="of another format"):
        open_image(tmp_path / "a.png", "RGB")
    assert started == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty, damaged, or of another format"),
        (b"hello", "empty, damaged, or of another format"),
        (encoded(Image.fromarray(CORNERS))[:45], "damaged or cut short"),
        (encoded(Image.new("RGB", (99, 99), "red"), "JPEG")[:700], "damaged or cut short"),
        (encoded(Image.fromarray(np.full((4, 4), 999, np.int32)), "TIFF"), "more than 8 bits a channel"),
        (inverted16(), "more than 8 bits a channel, and no white is told"),
        (encoded(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"), "more than 8 bits a channel"),
        (png_of(20000, 20000), r"it has (20000×20000 pixels, )?more than 67 million"),
        (png_of(9000, 9000), "it has 9000×9000 pixels, more than 67 million"),
        (png_of(2**31 - 1, 2**31 - 1), "more than 67 million pixels|damaged"),
        (png_of(0, 5), "damaged|empty|no pixels"),
    ],
)
def test_what_cannot_be_read_is_skipped_with_the_reason(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "bad.png").write_bytes(content)
    Image.fromarray(CORNERS).save(tmp_path / "good.png")
    heard = Recorded()
    (batch,) = ImageSource(tmp_path, (3, 2, 2), listener=heard).batches()
    assert len(batch) == 1
    assert [path.name for path, _ in heard.skipped] == ["bad.png"]
    with pytest.raises(UnreadableImage, match=reason):
        open_image(tmp_path / "bad.png", "RGB")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match="no such regular file"):
        open_image(tmp_path / "a.png", "RGB")


def test_a_long_and_narrow_image_is_refused_before_it_is_enlarged(tmp_path: Path) -> None:
    Image.new("RGB", (100_000, 1), "red").save(tmp_path / "a.png")
    with pytest.raises(UnreadableImage, match=r"100000×1 pixels would have to be resized to 25600000×256 pixels"):
        read_image(tmp_path / "a.png", (224, 224))
    assert read_image(tmp_path / "a.png", (4, 4)).shape == (3, 4, 4)  # at that size it is small enough


def test_no_header_makes_a_reader_take_more_memory_than_the_bound(tmp_path: Path) -> None:
    """In a process whose address space is bounded: a promise of 4 billion pixels would not fit in it."""
    if sys.platform == "win32":
        pytest.skip("no limit on memory")
    for number, (width, height) in enumerate([(65000, 65000), (2**31 - 1, 1), (1, 2**31 - 1), (30000, 30000)]):
        (tmp_path / f"{number}.png").write_bytes(png_of(width, height))
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from kdna_deploy.images.file import UnreadableImage, open_image\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try: open_image(path, 'RGB')\n"
        "    except UnreadableImage as error: print(error.reason)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    reasons = done.stdout.splitlines()
    assert len(reasons) == 4
    assert not any("memory" in reason for reason in reasons)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_flipped_bits_and_cuts_never_lead_anywhere_else(tmp_path: Path, kind: str) -> None:
    random = np.random.default_rng(0)
    whole = encoded(Image.fromarray(random.integers(0, 256, (24, 24, 3), dtype=np.uint8)), kind)
    path = tmp_path / "a.png"
    for _ in range(60):
        content = bytearray(whole)
        for place in random.integers(0, len(content), random.integers(1, 6)):
            content[place] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(bytes(content[: random.integers(1, len(content) + 1)]))
        try:
            assert read_image(path, (8, 8)).shape == (3, 8, 8)
        except UnreadableImage as error:
            assert str(error).startswith(f"'{path}' is not an image that can be read: ") and str(error).endswith(".")
            assert "\n" not in str(error)


def test_the_bound_is_that_of_the_documentation() -> None:
    assert LARGEST // 10**6 == 67
