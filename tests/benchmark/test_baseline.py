"""The plain backbone beside a network: its widths, classes and ends, exported as the network's file was."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import kdna_deploy as kd
from kdna_deploy.benchmark.baseline import plain_backbone, plain_identity, write_baseline
from kdna_deploy.benchmark.cpu.device import Cpu
from kdna_deploy.benchmark.device import BenchOptions
from kdna_deploy.benchmark.plan import images_for, plan
from kdna_deploy.benchmark.subject import Subject, given, same_options
from kdna_deploy.errors import UsageError
from kdna_deploy.files import file_sha256
from kdna_deploy.graph.file import save_fused
from kdna_deploy.images.interface import PLAIN, Interface
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.network.cost import count
from kdna_deploy.runtimes.open import provenance_in, recorded_provenance
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.verbs.check import check
from kdna_deploy.verbs.export import ExportedFile
from kdna_deploy.verbs.fuse import FusedNetwork
from tests.benchmark.heard import Heard
from tests.benchmark.test_subject import KINDS, logits, some_images
from tests.samples import RESNET, SIZE, exported_sample, fused_sample, sample_path

pytestmark = pytest.mark.usefixtures("fused_once")


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("artifacts")
    return given(exported_sample(folder / "net.onnx", simplify=False).path, folder / "made")


def recorded(subject: Subject, **options: object) -> Subject:
    """As if the file had been made with other options."""
    assert subject.provenance is not None
    return replace(subject, provenance=subject.provenance.with_options(**options))


@pytest.mark.slow
def test_the_plain_backbone_is_exported_as_the_file_was(subject: Subject, tmp_path: Path) -> None:
    asked = recorded(subject, opset=20, batch=2, target="any", simplify=False)
    plain = plain_backbone(asked, tmp_path / "plain")
    path = plain.artifacts.source("onnx").path
    session = OrtSession(path)
    made = provenance_in(session, path)
    assert made is not None
    assert [entry.version for entry in onnx.load(path).opset_import if entry.domain == ""] == [20]
    assert (session.batch, session.image_shape, plain.batch) == (2, (3, *SIZE), 2)
    wanted = {"opset": 20, "batch": 2, "target": "any", "simplify": False}
    assert {name: made.options[name] for name in wanted} == wanted
    assert plain.name == made.name + " 64×64" == "resnet18_plain 64×64"
    # Its other files hold the same weights.
    images = some_images(plain.image_shape)
    one, *others = (logits(plain, kind, images) for kind in KINDS)
    for other in others:
        assert np.abs(other - one).max() <= 1e-4 * np.abs(one).max()


@pytest.mark.slow
def test_the_plain_backbone_has_the_widths_and_classes_of_the_network(subject: Subject, tmp_path: Path) -> None:
    plain = plain_backbone(subject, tmp_path / "plain")
    architecture = fused_sample(RESNET).network.architecture
    assert architecture is not None
    cost = count(architecture.plain.build(), (3, *SIZE))
    assert (plain.parameters, plain.macs, plain.image_shape) == (cost.parameters, cost.macs, (3, *SIZE))
    images = some_images(plain.image_shape)
    assert logits(plain, "checkpoint", images).shape == (2, architecture.num_classes)


def test_what_makes_no_difference_to_the_plain_backbone_does_not_tell_it_apart(subject: Subject) -> None:
    def identity(**options: object) -> str:
        made = recorded(subject, **options).provenance
        assert made is not None
        return plain_identity(made)

    assert identity() == identity(children="share", channel_attention="freeze")
    assert (
        len({identity(), identity(opset=21), identity(batch=2), identity(target="any"), identity(simplify=True)}) == 5
    )
    assert subject.provenance is not None
    assert identity() != plain_identity(replace(subject.provenance, image_shape=(3, 32, 32)))


def test_the_plain_backbone_takes_and_answers_what_the_network_does(subject: Subject) -> None:
    assert subject.provenance is not None
    interface = Interface("nhwc", Preprocessing((0.5,), (0.25,)), softmax=True, top=5, classes=10)
    made = replace(subject.provenance, preprocessing=interface.preprocessing.to_record())
    made = made.with_options(interface=interface.to_record())
    assert same_options(made).interface == interface
    assert plain_identity(made) != plain_identity(subject.provenance)
    images = images_for((3, 4, 6), 2, interface)
    assert (images.shape, images.dtype) == ((2, 4, 6, 3), np.uint8)
    assert images_for((3, 4, 6), 2, PLAIN).dtype == np.float32


def test_of_a_file_of_unknown_origin_it_is_not_known(subject: Subject, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"was not exported by kdna-deploy; .*`baseline='FILE'`"):
        plain_backbone(replace(subject, provenance=None), tmp_path)


WORDS: dict[str, dict[str, object]] = {
    "as it is": {},
    "pixels": {"preprocess": "nhwc", "postprocess": "topk:5", "opset": 20, "batch": 2},
    "OpenVINO": {"openvino": True},
}


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file and its plain backbone."""
    folder = tmp_path_factory.mktemp("beside")
    export(folder / "net.onnx")
    return folder


def export(output: Path, **words: object) -> ExportedFile:
    source = FusedNetwork(fused_sample(RESNET))
    return kd.export(source, output, with_baseline=True, simplify=False, **words)  # type: ignore[arg-type]


def planned(path: Path, heard: Heard, **options: object) -> list[str]:
    """The names of what would be measured for `path`."""
    asked = BenchOptions(Cpu(), **options)  # type: ignore[arg-type]
    (group,) = plan([path], asked, path.parent / "made", heard)
    return [candidate.name for candidate in group.candidates]


@pytest.mark.slow
@pytest.mark.parametrize("words", WORDS.values(), ids=WORDS)
def test_what_is_written_with_a_file_is_what_would_be_built_for_it(words: dict[str, Any], tmp_path: Path) -> None:
    if words.get("openvino"):
        pytest.importorskip("openvino")
    done = export(tmp_path / f"net.{'xml' if words.get('openvino') else 'onnx'}", **words)
    assert done.baseline == tmp_path / "net.baseline.onnx"
    assert done.to_dict()["baseline"]["bytes"] == done.baseline.stat().st_size
    made = recorded_provenance(done.path)
    assert made is not None
    assert made.options["baseline"] == {"file": done.baseline.name, "sha256": file_sha256(done.baseline)}
    subject = replace(given(done.baseline, tmp_path), name="net", provenance=made.with_options(baseline=None))
    built = plain_backbone(subject, tmp_path / "plain").artifacts.source("onnx").path
    assert built.read_bytes() == done.baseline.read_bytes()


@pytest.mark.slow
def test_a_file_is_measured_beside_what_was_written_with_it(beside: Path) -> None:
    heard = Heard()
    assert planned(beside / "net.onnx", heard) == ["resnet18_plain 64×64", "net.onnx"]
    assert heard.notes == ["net.onnx is measured beside net.baseline.onnx, the plain backbone that was written with it"]
    assert not (beside / "made").exists()
    plain = given(beside / "net.baseline.onnx", beside)
    built = plain_backbone(given(beside / "net.onnx", beside), beside / "built")
    assert (plain.parameters, plain.macs) == (built.parameters, built.macs)


@pytest.mark.slow
def test_a_prepared_file_elsewhere_has_that_of_the_file_it_was_made_from(beside: Path, tmp_path: Path) -> None:
    prepared = kd.prepare(beside / "net.onnx", tmp_path / "net.prepared.onnx").path
    heard = Heard()
    assert planned(prepared, heard) == ["resnet18_plain 64×64", "net.prepared.onnx"]
    assert "beside net.baseline.onnx" in heard.notes[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "'net.baseline.onnx' is not beside it"), (b"", "'net.baseline.onnx' has changed since")],
)
def test_where_it_is_gone_or_changed_one_is_built_and_that_is_said(
    content: bytes | None, said: str, beside: Path, tmp_path: Path
) -> None:
    shutil.copy(beside / "net.onnx", tmp_path)
    if content is not None:
        (tmp_path / "net.baseline.onnx").write_bytes(content)
    (group,) = plan([tmp_path / "net.onnx"], BenchOptions(Cpu()), tmp_path)
    plain, _ = group.candidates
    assert plain.subject.notes == (f"the plain backbone of net.onnx was built: its own {said}",)


@pytest.mark.slow
def test_what_another_runtime_opens_is_built(beside: Path) -> None:
    (beside / "made").mkdir(exist_ok=True)
    shutil.copy(sample_path(RESNET), beside)
    (group,) = plan([beside / "net.onnx"], BenchOptions(Cpu(), runtimes=("pt2",)), beside / "made")
    plain, _ = group.candidates
    reason = "net.baseline.onnx is for runtimes that open ONNX files on a CPU"
    assert plain.subject.notes == (f"the plain backbone of net.onnx was built: {reason}",)


@pytest.mark.slow
def test_what_was_written_with_a_file_is_no_baseline_of_what_another_runtime_opens(
    beside: Path, tmp_path: Path
) -> None:
    sample, fused = fused_sample(RESNET), tmp_path / "net.fused.pt2"
    save_fused(sample.graph, sample.provenance.with_options(simplify=False), fused)  # whose plain backbone is the same
    written, built = plan([beside / "net.onnx", fused], BenchOptions(Cpu()), tmp_path)
    plain = "resnet18_plain 64×64"
    assert [one.name for one in written.candidates] == [f"{plain}, onnxruntime", "net.onnx, onnxruntime"]
    assert [one.name for one in built.candidates] == [f"{plain}, pt2", "net.fused.pt2, pt2"]
    assert [one.unavailable for one in (*written.candidates, *built.candidates)] == [""] * 4
    sources = [one.candidates[0].source for one in (written, built)]
    assert [one.path.parent == beside for one in sources if one] == [True, False]


@pytest.mark.slow
def test_two_files_with_one_plain_backbone_are_measured_beside_one(beside: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(beside / "net.onnx", beside / "other.onnx"))
    heard = Heard()
    (group,) = plan([beside / "net.onnx", other], BenchOptions(Cpu()), tmp_path, heard)
    assert [one.name for one in group.candidates] == ["resnet18_plain 64×64", "net.onnx", "other.onnx"]
    assert len(heard.notes) == 1


@pytest.mark.slow
def test_nothing_is_written_where_the_file_fails(tmp_path: Path) -> None:
    with pytest.raises(kd.ExportError, match=r"`max_bloat=0\.5` allows"):
        export(tmp_path / "net.onnx", max_bloat=0.5)
    assert list(tmp_path.iterdir()) == []


def test_it_is_refused_for_engines_and_unknown_networks(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="`with_baseline` is for files that run on a CPU"):
        kd.export("net.onnx", tmp_path / "net.engine", tensorrt=True, with_baseline=True)
    own = replace(fused_sample(RESNET).provenance, architecture=None, factory="mine:build")
    with pytest.raises(UsageError, match="plain backbone of mine:build is not known; leave `with_baseline` out"):
        write_baseline(own, OnnxOptions(), tmp_path / "plain.onnx")


@pytest.mark.slow
def test_a_file_with_a_baseline_is_made_again_without_one(beside: Path) -> None:
    assert check(beside / "net.onnx", sample_path(RESNET)).identical
