"""Input size, preprocessing and accuracy travel from the checkpoint through every artifact to `evaluate`."""

from __future__ import annotations

import json
import shutil
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from kdna_deploy.cli.app import app
from kdna_deploy.errors import ArtifactError
from kdna_deploy.evaluation import accuracy_causes
from kdna_deploy.evaluation.evaluate import EvaluationRequest, FileEvaluation, evaluate_files
from kdna_deploy.graph.file import save_fused
from kdna_deploy.graph.freezing import AttentionOptions
from kdna_deploy.graph.inspection import inspect_network
from kdna_deploy.graph.provenance import KEY, Provenance, from_json
from kdna_deploy.images.folder import ImageSource, read_image
from kdna_deploy.images.preprocessing import MEAN, STD, AskedPreprocessing, Preprocessing
from kdna_deploy.kinds import FUSED
from kdna_deploy.network.load import load_network
from kdna_deploy.progress import SILENT
from kdna_deploy.runtimes.open import read_provenance
from kdna_deploy.targets.onnx.export import export_fused
from kdna_deploy.targets.onnx.options import OnnxOptions
from kdna_deploy.targets.source import FusedSource, Request, open_fused_source
from kdna_deploy.verbs.attention_words import AttentionWords
from kdna_deploy.verbs.image_words import ImageWords
from kdna_deploy.verbs.precision_words import PrecisionWords
from tests.conftest import SAMPLES
from tests.gated import Gated
from tests.recorded import Recorded
from tests.samples import RESNET, sample_path

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("fused_once")]

DIGITS = SAMPLES / "digits"
IMAGENET = Preprocessing()
WRONG = Preprocessing((0.9,) * 3, (0.1,) * 3)
ASSUMED = "assumed 224×224: nothing in the checkpoint tells the size it was trained on; give `input_size`"
MERELY_ASSUMED = (
    f"assumed for images: {IMAGENET}, for nothing in the checkpoint or artifact tells how they were prepared for "
    "training; give `mean` and `std`"
)


def with_args(path: Path, **args: object) -> Path:
    """The sample, as a script would have saved it that records its options."""
    content = torch.load(sample_path(RESNET), weights_only=True)
    torch.save({**content, "args": Namespace(**args)}, path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("recorded")


@pytest.fixture(scope="module")
def recorded(folder: Path) -> FusedSource:
    """Fused without a word about the size, from a checkpoint that records it."""
    return open_fused_source(with_args(folder / "recorded.pth", img_size=64, mean=list(MEAN), std=list(STD)), Request())


@pytest.fixture(scope="module")
def assumed(folder: Path) -> FusedSource:
    """The same from one that records nothing."""
    shutil.copy(sample_path(RESNET), folder / "plain.pth.tar")
    return open_fused_source(folder / "plain.pth.tar", Request())


def provenance_in(path: Path) -> Provenance:
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    return from_json(metadata[KEY], str(path))


@pytest.fixture(scope="module")
def recorded_onnx(folder: Path, recorded: FusedSource) -> Path:
    export_fused(recorded, folder / "recorded.onnx", OnnxOptions())
    return folder / "recorded.onnx"


@pytest.fixture(scope="module")
def assumed_onnx(folder: Path, assumed: FusedSource) -> Path:
    export_fused(assumed, folder / "assumed.onnx", OnnxOptions())
    return folder / "assumed.onnx"


def test_a_recorded_size_is_taken_said_and_not_called_assumed(recorded: FusedSource, recorded_onnx: Path) -> None:
    assert recorded.graph.image_shape == (3, 64, 64)
    assert recorded.notes == ("the input size is 64×64, as the checkpoint records",)
    made = provenance_in(recorded_onnx)
    assert (made.image_shape, "size_assumed" in made.options) == ((3, 64, 64), False)
    assert made.preprocessing == IMAGENET.to_record()
    assert (made.num_classes, made.recorded_top1) == (10, pytest.approx(99.7222, abs=1e-3))


def test_an_assumed_size_is_said_and_recorded_in_every_artifact(
    folder: Path, assumed: FusedSource, assumed_onnx: Path
) -> None:
    assert assumed.notes == (ASSUMED,)
    fused = folder / f"assumed{FUSED}"
    save_fused(assumed.graph, assumed.provenance.beside(fused, folder / "plain.pth.tar"), fused)
    for path in (fused, assumed_onnx):
        assert read_provenance(path).options["size_assumed"] is True
    again = open_fused_source(fused, Request())
    assert len(again.notes) == 1 and "was made for an assumed 224×224" in again.notes[0]
    assert again.provenance.options["size_assumed"] is True
    sized = open_fused_source(fused, Request(size=(64, 64)))
    assert (sized.notes, "size_assumed" in sized.provenance.options) == ((), False)
    assert sized.provenance.num_classes == 10
    confirmed = open_fused_source(fused, Request(size=(224, 224)))
    assert (confirmed.notes, "size_assumed" in confirmed.provenance.options) == ((), False)


def test_inspect_says_where_the_size_is_from(recorded: FusedSource) -> None:
    plain = inspect_network(load_network(sample_path(RESNET)))
    assert (plain.image_shape, plain.size.notes) == ((3, 224, 224), (ASSUMED,))
    assert inspect_network(recorded.network).image_shape == (3, 64, 64)
    assert inspect_network(recorded.network, (96, 96)).size.notes == ()


def evaluated(model: Path, **request: object) -> FileEvaluation:
    return evaluate_files(EvaluationRequest(model, request.pop("data", DIGITS), **request))  # type: ignore[arg-type]


def test_a_right_evaluation_says_what_it_took_from_the_record_and_nothing_more(recorded_onnx: Path) -> None:
    done = evaluated(recorded_onnx)
    assert (done.result.top1, done.shortfall, done.cause) == (1.0, None, None)
    assert done.notes == (f"images are prepared as recorded.onnx records: {IMAGENET}",)
    assert (done.preprocessing, done.num_classes, done.image_shape) == (IMAGENET, 10, (3, 64, 64))


def test_recorded_preprocessing_applies_unless_another_is_said(folder: Path, recorded_onnx: Path) -> None:
    """An artifact that records a wrong one is evaluated with that, and right again with what is said."""
    model = onnx.load(recorded_onnx)
    made = replace(provenance_in(recorded_onnx), preprocessing=WRONG.to_record())
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=made.to_json())
    onnx.save(model, folder / "wrong.onnx")
    wrong = evaluated(folder / "wrong.onnx")
    assert (wrong.preprocessing, wrong.result.top1 < 0.5) == (WRONG, True)
    assert wrong.cause is not None and wrong.cause.startswith("normalisation: ImageNet's mean and std (50 of 50 images")
    said = evaluated(folder / "wrong.onnx", preprocessing=AskedPreprocessing(mean=MEAN, std=STD))
    assert (said.preprocessing, said.result.top1, said.shortfall) == (IMAGENET, 1.0, None)
    assert len(said.notes) == 1 and "though wrong.onnx records mean 0.9 0.9 0.9" in said.notes[0]


@pytest.mark.parametrize("record", [{"mean": 3}, {"mean": [0, 0, 0], "std": [0, 0, 0]}])
def test_a_damaged_record_is_one_sentence(folder: Path, recorded_onnx: Path, record: dict[str, object]) -> None:
    model = onnx.load(recorded_onnx)
    made = replace(provenance_in(recorded_onnx), preprocessing=record)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=made.to_json())
    onnx.save(model, folder / "damaged.onnx")
    with pytest.raises(ArtifactError, match=r"The preprocessing recorded in '.*damaged\.onnx' is damaged"):
        evaluated(folder / "damaged.onnx")


def test_an_assumed_size_is_found_to_be_the_cause(assumed_onnx: Path) -> None:
    """The file takes 224×224 alone; the checkpoint beside it is run at the size of the images."""
    done = evaluated(assumed_onnx)
    assert done.result.top1 < 0.3 and done.size_assumed and done.shortfall is not None
    assert done.cause is not None
    assert done.cause.startswith("input size: make it again with `input_size=64` (50 of 50 images right that way, ")
    assert any("was made for an assumed 224×224" in note for note in done.notes)


def test_a_checkpoint_at_a_wrong_size_is_told_the_right_one() -> None:
    done = evaluated(sample_path(RESNET), size=(160, 160))
    assert not done.size_assumed and done.cause is not None
    assert done.cause.startswith("input size: give `input_size=64` (50 of 50 images right that way, ")


def test_a_wrong_mean_that_is_said_is_found(recorded_onnx: Path) -> None:
    done = evaluated(recorded_onnx, preprocessing=AskedPreprocessing(mean=(0.9,), std=(0.1,)))
    assert done.cause is not None
    assert done.cause.startswith("preprocessing: give no `mean`, `std`, `resize`, `crop` or `color`, so that")


def test_exchanged_classes_are_found_in_the_confusions(tmp_path: Path, recorded_onnx: Path) -> None:
    for label in range(10):
        shutil.copytree(DIGITS / str(label), tmp_path / str((label + 1) % 10))
    done = evaluated(recorded_onnx, data=tmp_path)
    assert done.result.top1 == 0.0
    assert done.cause is not None
    assert done.cause.startswith("class order: images of '0' are taken for class 9, and so on for 10 of 10 classes")


def test_what_no_usual_mistake_explains_is_said_to_be_so(tmp_path: Path, recorded_onnx: Path) -> None:
    """Two classes of ten exchanged: what is missing is a matter of these images."""
    for label in range(10):
        shutil.copytree(DIGITS / str(label), tmp_path / str({3: 8, 8: 3}.get(label, label)))
    done = evaluated(recorded_onnx, data=tmp_path)
    assert (done.result.top1, done.shortfall is not None) == (0.8, True)
    assert done.cause is not None and done.cause.startswith("the usual causes were tried and do not explain it")


def test_a_trial_that_brings_nothing_back_ends_no_search(
    tmp_path: Path, recorded_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is missing over all images may be within chance over the few that trials are made on."""
    monkeypatch.setattr(accuracy_causes, "_IMAGES", 5)
    for label in range(10):
        shutil.copytree(DIGITS / str(label), tmp_path / str({3: 8, 8: 3}.get(label, label)))
    listener = Recorded()
    done = evaluate_files(EvaluationRequest(recorded_onnx, tmp_path), listener)
    assert done.cause is not None and done.cause.startswith("the usual causes were tried and do not explain it")
    tried = [step for step in listener.steps if step.startswith("look for the cause: ")]
    assert {step.rpartition(": ")[2] for step in tried} >= {"normalisation", "colour order", "crop"}


def run(*arguments: str | Path) -> tuple[str, str]:
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == 0, done.output
    return done.stdout, done.stderr


def test_the_commands_print_it_and_put_it_into_their_documents(
    folder: Path, recorded_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    printed, told = run("evaluate", recorded_onnx, "--data", DIGITS)
    assert f"3×64×64; {IMAGENET}" in " ".join(printed.split()) and "recorded top-1" in printed
    assert f"note: images are prepared as recorded.onnx records: {IMAGENET}" in told
    document = json.loads(run("evaluate", recorded_onnx, "--data", DIGITS, "--mean", "0.9", "--json")[0])
    assert document["preprocessing"]["mean"] == [0.9]
    assert (document["image_shape"], document["num_classes"], document["size_assumed"]) == ([3, 64, 64], 10, False)
    assert document["falls_short"] is True and document["likely_cause"].startswith("preprocessing: ")


def test_int8_prepares_images_as_recorded_and_records_how(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    checkpoint = with_args(folder / "half.pth", img_size=64, mean=[0.5] * 3, std=[0.5] * 3)
    taken, told = run(
        *("export", checkpoint, "--precision", "int8", "--calibration", DIGITS, "--json", "-o", "taken.onnx")
    )
    assert "note: the input size is 64×64, as the checkpoint records" in told
    assert "note: images are prepared as the checkpoint or artifact records: mean 0.5 0.5 0.5" in told
    assert json.loads(taken)["preprocessing"] == Preprocessing((0.5,) * 3, (0.5,) * 3).to_record()
    assert provenance_in(folder / "taken.onnx").preprocessing == json.loads(taken)["preprocessing"]
    assert "labelled" in taken and json.loads(taken)["labelled"] is True


def choice(calibration: ImageWords, precision: str = "int8") -> PrecisionWords:
    return PrecisionWords(*(precision, "fp32", False, None, None, None, "minmax", None, calibration))


def test_what_is_said_of_the_images_of_int8_is_recorded_with_a_note(recorded: FusedSource, tmp_path: Path) -> None:
    said = ImageWords(DIGITS, "0.5", "0.25,0.25,0.5", 70, "60", "BGR")
    opened = choice(said).prepared(recorded)
    used = Preprocessing((0.5,), (0.25, 0.25, 0.5), 70, (60, 60), "BGR")
    assert opened.provenance.preprocessing == used.to_record()
    assert opened.notes[-1] == f"images are prepared with {used}, though the checkpoint or artifact records {IMAGENET}"
    images = choice(said).int8_options(opened, None, SILENT).images
    first = next(iter(images.calibration()))[0]
    assert np.array_equal(first, read_image(sorted(DIGITS.glob("*/*.png"))[0], (64, 64), used))


def test_images_that_nothing_prepares_change_no_record(recorded: FusedSource, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 64, 64), np.float32))
    nothing = ImageWords(None, "0.5", None, None, None, None)
    assert choice(nothing, "fp32").prepared(recorded) is recorded
    assert choice(replace(nothing, path=tmp_path / "a.npy")).prepared(recorded) is recorded


def test_a_normalisation_that_int8_merely_assumes_is_told(recorded: FusedSource) -> None:
    bare = replace(recorded, provenance=replace(recorded.provenance, preprocessing={}), notes=())
    opened = choice(ImageWords(DIGITS)).prepared(bare)
    assert opened.notes == (MERELY_ASSUMED,)
    assert opened.provenance.preprocessing == IMAGENET.to_record()
    again = choice(ImageWords(DIGITS)).prepared(bare, noted=True)
    assert (again.notes, again.provenance) == ((), opened.provenance)


def test_so_is_one_that_freezing_assumes_and_arrays_need_none(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 64, 64), np.float32))
    for path, notes in ((DIGITS, [MERELY_ASSUMED]), (tmp_path / "a.npy", [])):
        heard, words = Recorded(), AttentionWords("freeze", None, ImageWords(path))
        attention = words.request(heard)
        assert callable(attention) and attention((3, 64, 64), None).images == (50 if notes else 1)
        assert (heard.notes, words.prepares) == (notes, bool(notes))


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    content = {
        "state_dict": Gated().state_dict(),
        "args": {"img_size": 16, "mean": [0.5] * 3},
        "classes": list("abcde"),
    }
    torch.save(content, tmp_path / "gated.pth")
    return tmp_path / "gated.pth"


def test_freezing_prepares_images_as_recorded_and_records_how(gated: Path) -> None:
    """What was said goes into the record in place of the checkpoint's."""
    given: list[object] = []

    def attention(shape: tuple[int, int, int], recorded: Preprocessing | None) -> AttentionOptions:
        given.append((shape, recorded))
        return AttentionOptions("freeze", ImageSource(DIGITS / "0", shape).batches, preprocessing=WRONG)

    opened = open_fused_source(gated, Request(factory="tests.gated:Gated", attention=attention))
    assert given == [((3, 16, 16), Preprocessing((0.5,) * 3, STD))]
    made = opened.provenance
    assert (made.preprocessing, made.num_classes, made.class_names) == (WRONG.to_record(), 5, list("abcde"))
    plain = open_fused_source(gated, Request(factory="tests.gated:Gated"))
    assert plain.provenance.preprocessing == Preprocessing((0.5,) * 3, STD).to_record()


@pytest.mark.parametrize("words", [(), ("--precision", "int8")])
def test_a_command_that_freezes_and_takes_pixels_tells_once_what_it_assumes(
    folder: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(folder)
    torch.manual_seed(0)
    torch.save(Gated().state_dict(), "bare.pth")
    network = ("export", "bare.pth", "--model", "tests.gated:Gated", "--input-size", "16", "-o", "bare.onnx")
    _, told = run(*network, "--attention", "freeze", "--calibration", DIGITS, "--preprocess", "nhwc", *words)
    assert told.count("assumed for images") == 1 and "images are prepared" not in told
    assert provenance_in(folder / "bare.onnx").preprocessing == IMAGENET.to_record()


def test_recorded_class_names_tell_the_labels(tmp_path: Path, gated: Path) -> None:
    """Folders of two of five classes, which without the names could not be placed."""
    for name in ("d", "b"):
        shutil.copytree(DIGITS / "0", tmp_path / "data" / name)
    done = evaluated(gated, data=tmp_path / "data", factory="tests.gated:Gated")
    assert done.class_names == {1: "b", 3: "d"}


def test_fuse_says_that_a_size_was_assumed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    torch.save(Gated().state_dict(), "gated.pth")
    printed, told = run("fuse", "gated.pth", "--model", "tests.gated:Gated", "-o", f"net{FUSED}", "--json")
    assert "note: " + ASSUMED.replace("`input_size`", "--input-size") in told
    assert json.loads(printed)["size_assumed"] is True
