"""A release: whole or not there, proved wherever it lies, and made again by its own commands."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

import kdna_deploy as kd
from kdna_deploy.cli.app import run
from kdna_deploy.evaluation.recorded import Recorded, read_recorded, save_recorded
from kdna_deploy.files import file_sha256
from kdna_deploy.images.record import images_sha256
from kdna_deploy.runtimes.open import read_provenance
from kdna_deploy.targets.release.manifest import read_manifest
from kdna_deploy.verbs import shipping
from kdna_deploy.verbs.proved import Proved
from kdna_deploy.verbs.ship import Shipped
from tests.benchmark.heard import Heard
from tests.cli.handed import invoke
from tests.conftest import REPOSITORY
from tests.test_device import CONVERTING
from tests.verbs.test_face import small

pytestmark = pytest.mark.slow

OPENVINO = importlib.util.find_spec("openvino") is not None
LITERT = importlib.util.find_spec("ai_edge_litert") is not None
TARGETS = ("cpu", "cpu-fp16", "cpu-int8", *(["openvino"] if OPENVINO else []), "triton", "onnxruntime-cpp")
MODELS = ["net.onnx", "net.fp16.onnx", "net.int8.onnx", *(["net.xml"] if OPENVINO else [])]
LOADING = {"model": "net.py:build", "input_size": 8}
RELEASE = "a release"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's folder; tests run in it."""
    place = tmp_path_factory.mktemp("user")
    (place / "net.py").write_text("from tests.verbs.test_face import small as build\n")
    torch.save({"state_dict": small().state_dict(), "license": "CC-BY-4.0"}, place / "net.pt")
    torch.save(small().state_dict(), place / "bare.pt")
    (place / "names.txt").write_text("cat\ndog\ngrößer\n", encoding="utf-8")
    (place / "terms.txt").write_text("\n  Our own terms\n\nYou may.\n")
    np.save(place / "images.npy", np.random.default_rng(0).standard_normal((20, 3, 8, 8), np.float32))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        yield place


@pytest.fixture(scope="module")
def release(folder: Path) -> Shipped:
    """Never change it: `copied` makes one that may be."""
    words: dict[str, Any] = {"labels": "names.txt", "calibration": "images.npy", **LOADING}
    return kd.ship("net.pt", TARGETS, RELEASE, **words)


@pytest.fixture
def copied(release: Shipped, tmp_path: Path) -> Path:
    """On another machine: elsewhere, and without the checkpoint."""
    return shutil.copytree(release.path, tmp_path / "elsewhere" / "net")


def proved(folder: Path) -> Proved:
    found = kd.verify(folder)
    assert isinstance(found, Proved)
    return found


def test_everything_is_in_it_and_named_in_the_manifest(release: Shipped) -> None:
    folder, manifest = release.path, release.manifest
    inside = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert inside == sorted(["manifest.json", *(one.path for one in manifest.files)])
    assert all(file_sha256(folder / one.path) == one.sha256 for one in manifest.files)
    assert {"README.md", "labels.txt", "calibration.json", "reference.npz", "triton/net.int8/1/model.onnx"} < {*inside}
    assert {f"reports/{name}.{kind}" for name in ("fuse", *MODELS) for kind in ("md", "json")} < {*inside}
    assert (folder / "labels.txt").read_text(encoding="utf-8") == "cat\ndog\ngrößer\n"
    assert [one.file for one in manifest.models] == MODELS and manifest.targets == TARGETS
    assert all(one.answers and one.runtime and one.exported for one in manifest.models)
    beside = {one.file: one.answers.beside for one in manifest.models if one.answers}
    assert [file for file, what in beside.items() if what != "the trained network"] == ["net.int8.onnx"]
    assert (manifest.licence, manifest.network["checkpoint"], manifest.network["classes"]) == ("CC-BY-4.0", "net.pt", 3)
    triton, program = manifest.packages
    assert triton.models == {f"triton/{name[:-5]}/1/model.onnx": name for name in MODELS[:3]}
    assert program.models == {"onnxruntime-cpp/model.onnx": "net.onnx"}
    # Nothing of the place in which it was made, and nothing of a user's images.
    texts = [path for path in folder.rglob("*") if path.suffix in (".md", ".json", ".xml", ".txt", ".pbtxt")]
    assert not [path for path in texts if ".partial" in path.read_text(encoding="utf-8")]
    calibration = json.loads((folder / "calibration.json").read_bytes())
    assert (calibration["images"], calibration["count"]) == ("images.npy", 20)
    assert calibration["files"]["net.int8.onnx"]["sha256"] == images_sha256(folder.parent / "images.npy")
    assert read_manifest(folder) == manifest and file_sha256(folder / "manifest.json") == release.sha256
    assert (folder.stat().st_mode & 0o777) == 0o755


def test_the_readme_has_ten_lines_and_a_stranger_can_type_them(release: Shipped, folder: Path) -> None:
    lines = [line for line in (release.path / "README.md").read_text(encoding="utf-8").splitlines() if line]
    assert len(lines) == 10 and "{" not in "".join(lines)
    assert "    kdna-deploy verify ." in lines and "    kdna-deploy run net.onnx photo.jpg" in lines
    assert lines[-1] == f"    {release.manifest.commands['ship']}"
    assert f"--to '{RELEASE}'" in lines[-1] and "CC-BY-4.0" in lines[1]


def test_it_is_told_as_text_and_as_data(release: Shipped, capsys: pytest.CaptureFixture[str]) -> None:
    document = json.loads(json.dumps(release.to_dict()))
    assert (document["kind"], document["schema_version"], document["output"]) == ("ship", 1, RELEASE)
    assert release.sha256 in str(release) and "triton/net/1/model.onnx = net.onnx" in str(release)
    assert run(["verify", RELEASE, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["kind"], told["passed"], told["manifest_sha256"]) == ("verify", True, release.sha256)
    assert {one["state"] for one in told["files"]} == {"as shipped"} and not told["unknown"]


@pytest.mark.parametrize("name", ["net.onnx", "net.int8.onnx"])
def test_its_commands_make_the_same_bytes_alone(release: Shipped, folder: Path, tmp_path: Path, name: str) -> None:
    command = next(one.command for one in release.manifest.models if one.file == name)
    assert f"'{RELEASE}/{name}'" in command
    (folder / "alone").mkdir(exist_ok=True)  # the way to the checkpoint is recorded, too
    _, *words = shlex.split(command.replace(f"{RELEASE}/", "alone/"))
    assert invoke(*words) == 0
    assert (folder / "alone" / name).read_bytes() == (release.path / name).read_bytes()


def test_into_a_folder_that_is_there_it_is_the_same_to_the_byte(release: Shipped, folder: Path) -> None:
    """The way to the checkpoint, too, is that from where the files end up."""
    Path("there").mkdir()
    targets = ("cpu", "cpu-int8", *(["openvino"] if OPENVINO else []), *(["litert"] if LITERT else []))
    again = kd.ship("net.pt", targets, "there", labels="names.txt", calibration="images.npy", **LOADING)  # type: ignore[arg-type]
    files = [one.file for one in again.manifest.models]
    assert [read_provenance(again.path / name).source_path for name in files] == ["../net.pt"] * len(targets)
    for name in {*files} & {*MODELS}:
        assert (again.path / name).read_bytes() == (release.path / name).read_bytes()


def test_it_is_proved_elsewhere_without_pytorch(copied: Path, release: Shipped) -> None:
    script = (
        f"import sys\nsys.modules.update(dict.fromkeys({CONVERTING}))\n"
        "from kdna_deploy.cli.app import run\nsys.exit(run(sys.argv[1:]))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-c", script, "verify", copied.name]
    done = subprocess.run(words, cwd=copied.parent, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert f"bytes {len(release.manifest.files)} as shipped" in " ".join(done.stdout.split())
    assert done.stdout.count(" pass") == len(MODELS) and "note" not in done.stderr


def other_byte(folder: Path) -> None:
    content = bytearray((folder / "net.onnx").read_bytes())
    content[-100] ^= 1
    (folder / "net.onnx").write_bytes(content)


def with_digests_of_its_own(folder: Path, *names: str) -> None:
    """As whoever changes a file could change the manifest, and its copies for servers."""
    manifest = read_manifest(folder)
    copies = {path: file for one in manifest.packages for path, file in one.models.items() if file in names}
    for path, file in copies.items():
        shutil.copy(folder / file, folder / path)
    names += (*copies,)
    new = {
        name: replace(one, bytes=(folder / name).stat().st_size, sha256=file_sha256(folder / name))
        for name in names
        if (one := manifest.file(name))
    }
    files = tuple(new.get(one.path, one) for one in manifest.files)
    (folder / "manifest.json").write_text(replace(manifest, files=files).to_json(), encoding="utf-8")


def other_weights(folder: Path) -> None:
    """Only running it tells."""
    model = onnx.load(folder / "net.onnx")
    largest = max(model.graph.initializer, key=lambda one: np.prod(one.dims))
    largest.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(largest) * np.float32(1.01), largest.name))
    onnx.save_model(model, folder / "net.onnx")
    with_digests_of_its_own(folder, "net.onnx")


def other_answers_in_int8(folder: Path) -> None:
    path = folder / "reference.npz"
    recorded = read_recorded(path)
    own = {name: tuple((3 * one[0],) for one in answers) for name, answers in recorded.own.items()}
    save_recorded(replace(recorded, own=own), path)
    with_digests_of_its_own(folder, "reference.npz")


def no_network(folder: Path) -> None:
    (folder / "net.onnx").write_bytes(b"nothing")
    with_digests_of_its_own(folder, "net.onnx")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (other_byte, ["'net.onnx' has other bytes than were shipped; copy it again."]),
        (lambda folder: (folder / "labels.txt").unlink(), ["'labels.txt' is missing; copy it again."]),
        (
            lambda folder: (folder / "reference.npz").write_bytes(b""),
            ["'reference.npz' has other bytes than were shipped"],
        ),
        (other_weights, ["'net.onnx' does not answer as the trained network does: output "]),
        (
            other_answers_in_int8,
            ["'net.int8.onnx' does not answer as it did when it was shipped: its answers have moved"],
        ),
        (no_network, ["'net.onnx' cannot be run: ONNX Runtime cannot open "]),
        (
            lambda folder: (other_byte(folder), (folder / "triton" / "send.py").unlink()),
            ["'net.onnx' has other bytes", "'triton/send.py' is missing"],
        ),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence_for_each_file(
    copied: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[Path], object], said: list[str]
) -> None:
    spoil(copied)
    assert run(["verify", str(copied)]) == 1
    told = capsys.readouterr()
    errors = [line.removeprefix("error: ") for line in told.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == len(said) and all(map(str.startswith, errors, said)), errors
    assert all(line.endswith(".") for line in errors)
    assert " FAIL" in told.out or "missing" in told.out


def test_what_is_no_fault_is_a_note(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = read_manifest(copied)
    earlier = tuple(replace(one, runtime=f"{one.runtime} of old") for one in manifest.models[:1])
    manifest = replace(manifest, models=(*earlier, *manifest.models[1:]))
    (copied / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    (copied / "net.prepared.onnx").write_bytes(b"made here")
    monkeypatch.delitem(sys.modules, "kdna_deploy.runtimes.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "kdna_deploy.runtimes.openvino_library", None)  # where OpenVINO is not installed
    found = proved(copied)
    assert found.passed and found.complaint == ""
    first, *others = found.notes
    assert first.startswith("net.onnx was shipped with ONNX Runtime ") and " of old, and ONNX Runtime " in first
    if OPENVINO:
        assert others.pop(0).startswith("net.xml was proved by its bytes alone: OpenVINO is not installed; run: pip ")
    assert others == ["not of the release, and not looked at: net.prepared.onnx"]


@pytest.mark.skipif(not OPENVINO, reason="without OpenVINO nothing has a runtime that may be missing")
def test_where_no_file_can_be_run_nothing_is_said_to_be_proved(
    copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = read_manifest(copied)
    alone = replace(manifest, models=manifest.models[-1:], packages=())
    (copied / "manifest.json").write_text(alone.to_json(), encoding="utf-8")
    assert run(["verify", str(copied)]) == 0
    monkeypatch.delitem(sys.modules, "kdna_deploy.runtimes.openvino", raising=False)
    monkeypatch.setitem(sys.modules, "kdna_deploy.runtimes.openvino_library", None)  # where OpenVINO is not installed
    capsys.readouterr()
    assert run(["verify", str(copied), "--json"]) == 4
    told = capsys.readouterr()
    assert "OpenVINO is not installed; run: pip install 'kdna-deploy[openvino]'" in told.err
    said = f"No file of '{copied}' could be run here, so that nothing but its bytes was proved; "
    assert [line for line in told.err.splitlines() if line.startswith(f"error: {said}")]
    document = json.loads(told.out)
    assert not document["passed"] and document["unrun"].startswith(said) and document["complaints"] == []
    (copied / "labels.txt").unlink()
    assert run(["verify", str(copied)]) == 1
    assert not proved(copied).unrun


def test_recorded_images_of_another_size_are_no_fault_of_the_files(copied: Path) -> None:
    path = copied / "reference.npz"
    recorded = read_recorded(path)
    smaller = tuple(replace(one, images=np.ascontiguousarray(one.images[..., :4])) for one in recorded.probes)
    save_recorded(replace(recorded, probes=smaller), path)
    with_digests_of_its_own(copied, "reference.npz")
    with pytest.raises(kd.ArtifactError) as refused:
        kd.verify(copied)
    said = "holds images of 3×8×4, which is not the size that manifest.json says; copy both again."
    assert str(refused.value) == f"'{path}' {said}"


class Planned(Heard):
    """Also what was planned, by whoever knows the whole job."""

    def plan(self, steps: Sequence[str]) -> None:
        self.planned = list(steps)


def test_the_licence_is_a_name_a_file_or_said_to_be_unknown(folder: Path) -> None:
    named = kd.ship("bare.pt", to="named", licence="Apache-2.0", **LOADING)  # type: ignore[arg-type]
    assert named.manifest.licence == "Apache-2.0" and not (named.path / "LICENSE").exists()
    assert not [note for note in named.notes if "licence" in note] and [
        note for note in named.notes if "labels" in note
    ]
    text = kd.ship("net.pt", to="text", licence="terms.txt", **LOADING)  # type: ignore[arg-type]
    assert text.manifest.licence == "Our own terms"
    assert (text.path / "LICENSE").read_bytes() == Path("terms.txt").read_bytes()
    heard = Planned()
    unknown = kd.ship("bare.pt", "triton", listener=heard, **LOADING)  # type: ignore[arg-type]
    assert heard.planned == ["load", "fuse", "bare.onnx", "triton/", "record answers", "write reports", "prove"]
    assert [step for step in dict.fromkeys(heard.steps) if step in heard.planned] == heard.planned
    assert not heard.notes  # they are in the manifest, and told once
    assert unknown.path == Path("bare.release") and unknown.manifest.licence is None
    assert [note for note in unknown.notes if "under which licence" in note]
    assert "the target cpu came along, for a server's folder is made of its file" in unknown.notes
    assert unknown.manifest.targets == ("cpu", "triton")


def test_ctrl_c_and_a_file_that_is_not_proved_leave_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sorted(folder.iterdir())

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shipping, "package", interrupted)
        assert (
            run(
                [
                    "ship",
                    "net.pt",
                    "--targets",
                    "triton",
                    "--to",
                    "half",
                    "--model",
                    "net.py:build",
                    "--input-size",
                    "8",
                ]
            )
            == 130
        )
    assert sorted(folder.iterdir()) == before

    record = shipping.record_answers

    def of_another(*arguments: Any) -> Recorded:
        recorded = record(*arguments)
        other = tuple((logits + np.arange(3, dtype=np.float32),) for (logits,) in recorded.answers)
        return replace(recorded, answers=other)

    monkeypatch.setattr(shipping, "record_answers", of_another)
    with pytest.raises(kd.ParityError, match=r"'net\.onnx' was not proved: .*; nothing was written"):
        kd.ship("net.pt", to="half", **LOADING)  # type: ignore[arg-type]
    assert sorted(folder.iterdir()) == before


def test_a_name_that_no_server_takes_is_told_before_anything_is_made(folder: Path, tmp_path: Path) -> None:
    shutil.copy("net.pt", "my net.pt")
    try:
        said = "'my net.pt' gives a model the name 'my net', which is no part of an address; rename the checkpoint, "
        with pytest.raises(kd.InputError, match=re.escape(said)):
            kd.ship("my net.pt", ("cpu", "triton"), **LOADING)  # type: ignore[arg-type]
        assert not Path("my net.release").exists()
        # A program opens a file, and has no address.
        program = kd.ship("my net.pt", "onnxruntime-cpp", tmp_path / "program", **LOADING)  # type: ignore[arg-type]
        assert proved(program.path).passed
    finally:
        Path("my net.pt").unlink()


def test_a_release_is_packaged_for_another_server(release: Shipped, tmp_path: Path) -> None:
    done = kd.package(release, "kserve", tmp_path / "kserve")
    assert [model.path.name for model in done.package.models] == MODELS[:3]
    with pytest.raises(kd.InputError, match=r"There is no manifest\.json in "):
        kd.package(tmp_path, "kserve", tmp_path / "other")


def test_what_is_not_as_shipped_is_not_packaged(copied: Path, tmp_path: Path) -> None:
    other_byte(copied)
    with pytest.raises(kd.ArtifactError) as refused:
        kd.package(copied, "kserve", tmp_path / "kserve")
    assert str(refused.value) == f"'{copied / 'net.onnx'}' has other bytes than were shipped; copy it again."
    assert not (tmp_path / "kserve").exists()
