"""The C++ project: what it makes of an image is what Python makes of it, bit for bit, and so are the classes."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import kdna_deploy as kd
from kdna_deploy.images.folder import pixels_of, read_image
from kdna_deploy.images.preprocessing import AskedPreprocessing, Preprocessing
from kdna_deploy.runtimes.int8_kernels import int8_kernels
from kdna_deploy.runtimes.onnx_file import provenance_of_model, read_model, record, save
from kdna_deploy.runtimes.processor import first_processor, instruction_sets
from tests import serving_environment
from tests.runtimes.test_int8_kernels import AVX2, AVX512, SSE
from tests.targets.serving.conftest import NAMES, SIZE, write_graph
from tests.verbs.test_face import small

COMPILER = shutil.which("g++")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(COMPILER is None, reason="there is no g++")]
# What is left of an image, in the bytes that the network takes.
DRIVER = """
#include <cstdio>
#include "image.hpp"
using Number = std::conditional_t<network::takes_pixels, std::uint8_t, float>;
int main(int, char** arguments) try {
    const auto values = tensor<Number>(fitted(read_image(arguments[1])));
    std::fwrite(values.data(), sizeof(Number), values.size(), stdout);
} catch (const std::exception& error) { std::fprintf(stderr, "error: %s", error.what()); return 1; }
"""
# Whether int8 needs a setting on processors of which these files tell.
ASKED = """
#include <cstdio>
#include "processor.hpp"
int main(int count, char** paths) {
    for (int i = 1; i < count; ++i) std::puts(int8_saturates(instruction_sets(paths[i])) ? "1" : "0");
}
"""
SIZES = ((21, 30), (8, 8), (5, 4), (97, 8), (300, 411))


def headers() -> Path | None:
    """The folder of ONNX Runtime's C++ API: of an unpacked release, of the system, or of a package that carries it."""
    root = os.environ.get("ONNXRUNTIME_ROOT")
    places = (*([Path(root) / "include"] if root else []), Path("/usr/include/onnxruntime"), Path("/usr/include"))
    found = (place for place in places if (place / "onnxruntime_cxx_api.h").is_file())
    return next(found, serving_environment.headers())


def release(folder: Path) -> Path:
    """As an unpacked release of ONNX Runtime: the headers that there are, and the library of its Python package."""
    import onnxruntime

    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    (folder / "lib").mkdir(parents=True)
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (folder / "lib" / name).symlink_to(library)
    where = headers()
    assert where is not None
    (folder / "include").symlink_to(where)
    return folder


def compiled(project: Path, source: str) -> Path:
    (project / "driver.cpp").write_text(source)
    program = project / "driver"
    assert COMPILER
    words = [COMPILER, "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off"]
    subprocess.run([*words, "driver.cpp", "-o", program.name], cwd=project, check=True)
    return program


def reader(project: Path) -> Path:
    return compiled(project, "#include <type_traits>\n" + DRIVER)


def pictures(folder: Path) -> list[Path]:
    made = []
    for number, (height, width) in enumerate(SIZES):
        noise = np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)
        for suffix in ("ppm", "bmp"):
            made.append(folder / f"{number}.{suffix}")
            Image.fromarray(noise).save(made[-1])
        made.append(folder / f"{number}.pgm")
        Image.fromarray(noise[..., 0]).save(made[-1])
    return made


ODD = Preprocessing((0.1, 0.2, 0.3), (0.7, 0.9, 1.0), 13, (9, 12), "BGR")


@pytest.mark.parametrize(("recorded", "name"), [(Preprocessing(), "net"), (ODD, "net"), (Preprocessing(), "pixels")])
def test_an_image_becomes_what_python_makes_of_it(
    files: Path, tmp_path: Path, recorded: Preprocessing, name: str
) -> None:
    model = read_model(files / f"{name}.onnx")
    made = provenance_of_model(model, files)
    assert made is not None
    record(model, replace(made, preprocessing=recorded.to_record()))
    save(model, tmp_path / "net.onnx")
    project = kd.package(tmp_path / "net.onnx", "onnxruntime-cpp", tmp_path / "project").path
    program = reader(project)
    for path in pictures(tmp_path):
        content = subprocess.run([program, path], capture_output=True, check=True).stdout
        if name == "pixels":
            with Image.open(path) as image:
                wanted = pixels_of(image.convert("RGB"), (SIZE, SIZE), recorded, path)
        else:
            wanted = read_image(path, (SIZE, SIZE), recorded)
        assert content == wanted.tobytes(), path.name


def test_a_network_of_one_channel_is_given_grey_images(tmp_path: Path) -> None:
    shape = f"float[1, 1, {SIZE}, {SIZE}]"
    path = write_graph(tmp_path / "grey.onnx", f"net ({shape} x) => (float[1, {SIZE * SIZE}] y) {{ y = Flatten (x) }}")
    program = reader(kd.package(path, "onnxruntime-cpp", tmp_path / "project").path)
    for image in pictures(tmp_path):
        content = subprocess.run([program, image], capture_output=True, check=True).stdout
        wanted = read_image(image, (SIZE, SIZE), AskedPreprocessing(color="L").over())
        assert content == wanted.tobytes(), image.name


def test_what_is_no_image_is_told_in_a_sentence(files: Path, tmp_path: Path) -> None:
    project = kd.package(files / "net.onnx", "onnxruntime-cpp", tmp_path / "project").path
    program = reader(project)
    (tmp_path / "cut.ppm").write_bytes(b"P6\n# a comment\n8 8\n255\n123")
    (tmp_path / "huge.ppm").write_bytes(b"P6 99999999 99999999 255\n")
    (tmp_path / "cut.bmp").write_bytes(b"BM" + bytes(40))
    (tmp_path / "short.bmp").write_bytes(b"BM")
    (tmp_path / "short.ppm").write_bytes(b"P6")
    for name, said in (
        ("cut.ppm", "a damaged PPM"),
        ("huge.ppm", "a damaged PPM"),
        ("short.ppm", "a damaged PPM"),
        ("cut.bmp", "a damaged BMP"),
        ("short.bmp", "a damaged BMP"),
        ("gone.ppm", "there is no file"),
        (files / "photo.png", "is neither PPM nor BMP"),
    ):
        done = subprocess.run([program, tmp_path / name], capture_output=True, text=True)
        assert (done.returncode, said in done.stderr) == (1, True), (name, done.stderr)


def built(model: Path, folder: Path) -> Path:
    """The project of `model`, as its README says."""
    project = kd.package(model, "onnxruntime-cpp", folder / "project").path
    said = f"-DONNXRUNTIME_ROOT={release(folder / 'release')}"
    subprocess.run(["cmake", "-B", "build", said], cwd=project, check=True, capture_output=True)
    subprocess.run(["cmake", "--build", "build"], cwd=project, check=True, capture_output=True)
    return project


needs_headers = pytest.mark.skipif(
    headers() is None, reason=f"ONNX Runtime's C++ headers are not here: {serving_environment.COMMAND}"
)


@needs_headers
@pytest.mark.parametrize("name", ["net", "pixels"])
def test_the_program_prints_the_classes_of_run(files: Path, tmp_path: Path, name: str) -> None:
    project = built(files / f"{name}.onnx", tmp_path)
    photo = tmp_path / "photo.ppm"
    Image.open(files / "photo.png").save(photo)
    done = subprocess.run(["build/classify", photo], cwd=project, capture_output=True, text=True, check=True)
    (image,) = kd.run(files / f"{name}.onnx", photo).images
    printed = [line.split("  ", 1) for line in done.stdout.splitlines()]
    assert [label for _, label in printed] == [one.name for one in image.classes]
    assert np.allclose([float(number) for number, _ in printed], [one.probability for one in image.classes], atol=2e-6)
    assert set(NAMES) >= {label for _, label in printed}


@needs_headers
def test_the_program_is_as_exact_in_int8_as_run(tmp_path: Path) -> None:
    """Products of white with the first and the last filter, two at a time, do not fit into 16 bits."""
    codes = ", ".join(map(str, [127] * 27 + [60] * 27 + [-127] * 27))
    stored = (
        f"int8[3, 3, 3, 3] w = {{{codes}}}, float step = {{0.01}}, uint8 zero = {{0}}, float size = {{0.0005}}, "
        "int8 none = {0}, float far = {0.04}, uint8 middle = {128}"
    )
    path = write_graph(
        tmp_path / "net.onnx",
        f"net (float[1, 3, {SIZE}, {SIZE}] x) => (float[1, 3] y) <{stored}> {{ q = QuantizeLinear (x, step, zero) "
        "s = QLinearConv (q, step, zero, w, size, none, far, middle) d = DequantizeLinear (s, far, middle) "
        "p = GlobalAveragePool (d) y = Flatten (p) }",
    )
    Image.new("RGB", (SIZE, SIZE), "white").save(white := tmp_path / "white.ppm")
    done = subprocess.run(
        ["build/classify", white], cwd=built(path, tmp_path), capture_output=True, text=True, check=True
    )
    (image,) = kd.run(path, white).images
    assert done.stdout.splitlines() == [f"{one.probability:.6f}  {one}" for one in image.classes]
    assert [one.probability for one in image.classes[1:]] == pytest.approx([0.1, 0.0], abs=0.05)  # 0.45 if saturated


def test_the_program_tells_processors_apart_as_sessions_do(files: Path, tmp_path: Path) -> None:
    kinds = [AVX512, AVX2, SSE, AVX512 | {"avx512_vnni"}, AVX512 | {"avx_vnni"}, AVX512 | {"avx512_vnni", "avx_vnni"}]
    kinds += [AVX2 | {"avx_vnni"}, AVX2 | {"avx512_vnni"}, SSE | {"avx_vnni"}]
    texts = [f"processor\t: 0\nvmx flags\t: x\nflags\t\t: {' '.join(sorted(kind))}\nbugs\t\t: y\n" for kind in kinds]
    texts += ["", "processor\t: 0\n\nflags\t\t: avx2 fma avx_vnni\n", "vmx flags\t: avx2 fma avx_vnni\n"]
    places = [tmp_path / f"cpuinfo{number}" for number in range(len(texts))]
    for place, text in zip(places, texts, strict=True):
        place.write_text(text)
    places.append(tmp_path / "gone")
    program = compiled(kd.package(files / "net.onnx", "onnxruntime-cpp", tmp_path / "project").path, ASKED)
    done = subprocess.run([program, *places], capture_output=True, text=True, check=True)
    machine = platform.machine()
    wanted = [bool(int8_kernels(instruction_sets(first_processor(place)), machine).entries) for place in places]
    assert [line == "1" for line in done.stdout.split()] == wanted


@pytest.mark.parametrize("system", ["_WIN32", "__linux__"])
def test_sessions_are_not_reported_unless_somebody_asks_for_it(files: Path, tmp_path: Path, system: str) -> None:
    """The lines of main.cpp that say so, as each system's compiler takes them."""
    project = kd.package(files / "net.onnx", "onnxruntime-cpp", tmp_path / "project").path
    source = (project / "main.cpp").read_text(encoding="utf-8")
    (lines,) = re.findall(r"^#ifdef _WIN32.*?^#endif$", source, re.MULTILINE | re.DOTALL)
    (tmp_path / "said.cpp").write_text(
        "#include <cstdio>\n#include <cstdlib>\n"
        "[[maybe_unused]] static int _putenv_s(const char* name, const char* value) "
        "{ return setenv(name, value, 1); }\n"
        f"#undef _WIN32\n#undef {system}\n#define {system}\n"
        f'int main() {{\n{lines}\n    std::puts(std::getenv("ORT_DISABLE_TELEMETRY"));\n}}\n'
    )
    assert COMPILER
    subprocess.run([COMPILER, "-std=c++17", "-Wall", "-Werror", "said.cpp", "-o", "said"], cwd=tmp_path, check=True)
    for own, expected in (({}, "1"), ({"ORT_DISABLE_TELEMETRY": "0"}, "0")):
        done = subprocess.run([tmp_path / "said"], env=own, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected


def test_what_the_program_cannot_run_is_refused(files: Path, tmp_path: Path) -> None:
    with pytest.raises(kd.UsageError, match="A program opens one file; package them one by one"):
        kd.package([files / "net.onnx", files / "pixels.onnx"], "onnxruntime-cpp", tmp_path / "project")
    kd.export(kd.load(small(), input_size=SIZE), tmp_path / "four.onnx", batch=4, simplify=False)
    with pytest.raises(kd.InputError, match="takes 4 images at once, and the program one"):
        kd.package(tmp_path / "four.onnx", "onnxruntime-cpp", tmp_path / "project")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["four.onnx"]
