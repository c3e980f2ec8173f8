"""Array files as they are found: odd types and orders, wrong headers, promises that the file does not keep."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

from kdna_deploy.errors import InputError
from kdna_deploy.images.arrays import count_arrays, read_arrays

SHAPE = (3, 4, 5)
IMAGES = np.random.default_rng(0).normal(size=(19, *SHAPE))


def read(path: Path) -> np.ndarray:
    return np.concatenate(list(read_arrays(path, SHAPE)))


def header(shape: tuple[int, ...], descr: str = "<f4", fortran: bool = False) -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
def test_every_floating_point_type_and_order_is_read(tmp_path: Path, dtype: str, order: str, name: str) -> None:
    array = np.asarray(IMAGES, dtype, order=order)  # type: ignore[call-overload]
    (np.save if name.endswith("npy") else np.savez_compressed)(tmp_path / name, array)
    got = read(tmp_path / name)
    assert got.dtype == np.float32 and got.flags.c_contiguous
    assert np.array_equal(got, array.astype(np.float32))
    assert count_arrays(tmp_path / name, SHAPE) == len(IMAGES)


@pytest.mark.parametrize("count", [0, 1, 8, 9])
@pytest.mark.parametrize("order", ["C", "F"])
def test_any_number_of_images_is_read(tmp_path: Path, count: int, order: str) -> None:
    array = np.asarray(IMAGES[:count], np.float32, order=order)  # type: ignore[call-overload]
    np.save(tmp_path / "a.npy", array)
    assert np.array_equal(np.concatenate([np.zeros((0, *SHAPE)), *read_arrays(tmp_path / "a.npy", SHAPE)]), array)


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((2, *SHAPE), np.uint8), r"uint8 \(2, 3, 4, 5\).*normalise the pixels first, \(pixel/255 − mean\)"),
        (np.zeros((2, 4, 5, 3), np.float32), r"images\.transpose\(0, 3, 1, 2\)"),
        (np.zeros((2, 4, 5, 3), np.uint8), r"normalise the pixels first.*; bring the channels forward"),
        (np.zeros(SHAPE, np.float32), r"give a single image a first axis"),
        (np.zeros((2, *SHAPE), bool), "holds an array bool"),
        (np.zeros((2, *SHAPE), np.complex64), "complex64"),
        (np.zeros((2, *SHAPE), "M8[s]"), "datetime64"),
        (np.zeros(2, [("x", "f4"), ("y", "f4")]), "holds an array"),
        (np.zeros((2, *SHAPE), "U3"), "holds an array <U3"),
        (np.float32(1), r"float32 \(\)"),
    ],
)
def test_other_arrays_are_refused_with_what_to_do(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match=said):
        read(tmp_path / "a.npy")


def test_an_array_of_an_npz_that_is_no_images_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=IMAGES, labels=np.arange(19))
    with pytest.raises(InputError, match=r"holds an array 'labels', int64 \(19,\)"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_what_is_not_finite_in_float32_is_refused(tmp_path: Path, value: float) -> None:
    array = IMAGES.copy()
    array[17, 2, 3, 4] = value
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(InputError, match="holds NaN or infinite values"):
        read(tmp_path / "a.npy")


PROMISES = [
    header((10**12, *SHAPE)),
    header((10**30, *SHAPE)),
    header((10**12, *SHAPE), fortran=True),
    header((2, *SHAPE)) + bytes(100),
]


@pytest.mark.parametrize("content", PROMISES)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_header_that_promises_more_than_is_there_takes_no_memory(
    tmp_path: Path, content: bytes, zipped: bool
) -> None:
    path = tmp_path / "a.npz"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", content)
    else:
        path.write_bytes(content)
    tracemalloc.start()
    try:
        for reader in (read, lambda path: count_arrays(path, SHAPE)):
            with pytest.raises(InputError, match="cut short"):
                reader(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 21
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_a_bomb_of_zeros_is_read_a_few_images_at_a_time(tmp_path: Path) -> None:
    """100 MB of zeros deflate to 100 kB; only chunks of them are ever in memory."""
    shape, count = (3, 256, 256), 128
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.npy", "w") as out:
        out.write(header((count, *shape)))
        for _ in range(count):
            out.write(bytes(4 * 3 * 256 * 256))
    tracemalloc.start()
    try:
        assert sum(len(images) for images in read_arrays(tmp_path / "a.npz", shape)) == count
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00\x10\x00{}",
        b"\x93NUMPY\x01\x00\xff\xff{",
        header((2, -3)),
        header((2, *SHAPE), "|O"),
        header((2, *SHAPE), "|V0"),
        b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').system('id')   \n",
        b"PK\x03\x04" + bytes(50),
    ],
)
def test_damaged_files_are_one_sentence(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError) as raised:
        read(tmp_path / "a.npy")
    assert str(raised.value).startswith(f"'{tmp_path / 'a.npy'}' ") and "\n" not in str(raised.value)


def test_an_encrypted_or_damaged_archive_is_one_sentence(tmp_path: Path) -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, IMAGES.astype(np.float32))
    whole = stream.getvalue()
    random = np.random.default_rng(0)
    for _ in range(100):
        content = bytearray(whole)
        for place in random.integers(0, len(content), 4):
            content[place] ^= 1 << int(random.integers(0, 8))
        (tmp_path / "a.npz").write_bytes(bytes(content))
        try:
            assert read(tmp_path / "a.npz").shape[1:] == SHAPE
        except InputError as error:
            assert "\n" not in str(error)


def test_no_array_makes_a_process_take_more_memory_than_its_file(tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("no limit on memory")
    for number, content in enumerate(PROMISES):
        (tmp_path / f"{number}.npy").write_bytes(content)
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from kdna_deploy.images.arrays import read_arrays; from kdna_deploy.errors import InputError\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "for path in sorted(Path(sys.argv[1]).iterdir()):\n"
        "    try: list(read_arrays(path, (3, 4, 5)))\n"
        "    except InputError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.count("cut short") == len(PROMISES)
