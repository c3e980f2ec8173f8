"""The layers that int8 harms: attributed to their parents, and shown when even the best is not enough."""

from __future__ import annotations

import io
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest
from rich.console import Console

from kdna_deploy.errors import AccuracyError
from kdna_deploy.evaluation.workers import opened
from kdna_deploy.evaluation.workers.opened import Workers
from kdna_deploy.evaluation.workers.pool import Pool
from kdna_deploy.images.folder import Preprocessing
from kdna_deploy.images.split import Split, split_images
from kdna_deploy.progress import SILENT
from kdna_deploy.reports.cells import rich_table
from kdna_deploy.reports.guarded import sensitivity_cells
from kdna_deploy.runtimes.ort import OrtSession
from kdna_deploy.targets.onnx.int8.calibration import calibrate
from kdna_deploy.targets.onnx.int8.quantize import quantise
from kdna_deploy.targets.onnx.sensitivity import Guard, Sensitivity, drop, within_limit
from tests.conftest import SAMPLES
from tests.samples import RESNET, SIZE, exported_sample, fused_sample
from tests.targets.onnx.int8.quantised import Array, chain

DIGITS = SAMPLES / "digits"
CLASSES, EDGE = 4, 6


def split(count: int = 40) -> Split:
    random = np.random.default_rng(0)
    images = random.standard_normal((count, CLASSES, EDGE, EDGE)).astype(np.float32)
    batches = [(images[i : i + 8], None) for i in range(0, count, 8)]
    return Split(lambda: [batch for batch, _ in batches], lambda: batches, False, {})


def pooled(layers: int) -> onnx.ModelProto:
    """Convolutions "a", "b", … and a mean over the image: logits of four classes."""
    random = np.random.default_rng(1)
    model = chain({n: random.standard_normal((CLASSES, CLASSES, 1, 1)).astype(np.float32) for n in "abcdefgh"[:layers]})
    last = model.graph.output[0].name
    model.graph.node.append(onnx.helper.make_node("GlobalAveragePool", [last], ["p"], name="p"))
    model.graph.node.append(onnx.helper.make_node("Flatten", ["p"], ["logits"], name="logits"))
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["n", CLASSES]))
    return model


class Rounding:
    """Builds candidates in which every layer that is not kept has errors, as large as `harm` says."""

    def __init__(self, model: onnx.ModelProto, harm: dict[str, float]) -> None:
        self.model, self.harm = model, harm
        self.built: list[tuple[str, ...]] = []

    def __call__(self, keep_float: Iterable[str]) -> onnx.ModelProto:
        kept = tuple(keep_float)
        self.built.append(kept)
        changed = onnx.ModelProto()
        changed.CopyFrom(self.model)
        for tensor in changed.graph.initializer:
            layer = tensor.name.removesuffix(".weight")
            if layer in self.harm and layer not in kept:
                noise = np.random.default_rng(2).standard_normal(tuple(tensor.dims))
                values: Array = onnx.numpy_helper.to_array(tensor) + self.harm[layer] * noise
                tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))
        return changed


def guard(model: onnx.ModelProto, folder: Path) -> Guard:
    onnx.save_model(model, folder / "float.onnx")
    return Guard(folder / "float.onnx", split(), folder, SILENT, Workers(1))


HARM = {"a": 1e-6, "b": 5.0, "c": 1e-5, "d": 1.0, "e": 3.0, "f": 1e-4, "g": 1e-7, "h": 1e-3}


def test_the_fewest_of_the_most_sensitive_layers_are_kept(tmp_path: Path) -> None:
    """Three of eight layers do harm; the first two of them are not enough."""
    model = pooled(8)
    build = Rounding(model, HARM)
    judged = within_limit(build, guard(model, tmp_path), list(HARM), 0.0)
    assert set(judged.kept_float) == {"b", "d", "e"}
    assert [s.sqnr for s in judged.sensitivities] == sorted(s.sqnr for s in judged.sensitivities)
    assert judged.kept_float == tuple(s.layer for s in judged.sensitivities[:3])
    # All in int8; each layer alone; then 1, 2 and 4 layers, and 3 between the last two.
    assert [len(kept) for kept in build.built] == [0, *[7] * 8, 1, 2, 4, 3]
    assert judged.evaluation.agreement is not None
    assert judged.evaluation.agreement.same_top1 == 1.0


@pytest.mark.slow
def test_labels_judge_where_there_are_some_and_agreement_where_there_are_none(tmp_path: Path) -> None:
    """Labels that both files miss: int8 loses nothing by them, however far it departs from float32."""
    model = pooled(3)
    onnx.save_model(model, tmp_path / "float.onnx")
    build = Rounding(model, {"a": 5.0})
    unlabelled = split()
    answers = [
        {int(answer) for path in (model, build(())) for answer in logits(path, images, tmp_path).argmax(1)[[n]]}
        for images in unlabelled.calibration()
        for n in range(len(images))
    ]
    assert any(len(given) == 2 for given in answers)
    missed = np.asarray([next(label for label in range(CLASSES) if label not in given) for given in answers])
    labelled = Split(
        unlabelled.calibration,
        lambda: [(images, missed[8 * n : 8 * n + 8]) for n, images in enumerate(unlabelled.calibration())],
        True,
        {},
    )
    for images, lost in ((labelled, False), (unlabelled, True)):
        judge = Guard(tmp_path / "float.onnx", images, tmp_path, SILENT, Workers(1))
        kept = within_limit(Rounding(model, {"a": 5.0}), judge, ["a", "b", "c"], 0.0).kept_float
        assert kept == (("a",) if lost else ())


def logits(model: onnx.ModelProto, images: Array, folder: Path) -> Array:
    onnx.save_model(model, folder / "some.onnx")
    return OrtSession(folder / "some.onnx", threads=1).run(images)


def test_without_a_limit_or_within_it_nothing_is_searched(tmp_path: Path) -> None:
    model = pooled(3)
    for harm, limit in (({"a": 5.0}, None), ({"a": 1e-7}, 0.0), ({"a": 5.0}, 100.0)):
        build = Rounding(model, harm)
        judged = within_limit(build, guard(model, tmp_path), ["a", "b", "c"], limit)
        assert (judged.kept_float, judged.sensitivities, build.built) == ((), (), [()])


def mislabelled(model: onnx.ModelProto, folder: Path, wrong: int) -> tuple[Split, np.ndarray]:
    """Labelled images: what the model says of each, but for the first `wrong`, whose label is the next class."""
    onnx.save_model(model, folder / "labels.onnx")
    images = np.concatenate([images for images, _ in split().held_out()])
    labels = OrtSession(folder / "labels.onnx", threads=1).run(images).argmax(axis=1)
    labels[:wrong] = (labels[:wrong] + 1) % CLASSES
    calibration = np.zeros_like(images)  # judging by these would show
    held = [(images[i : i + 8], labels[i : i + 8]) for i in range(0, len(images), 8)]
    return Split(lambda: [calibration], lambda: held, True, {}), labels


def test_labels_judge_where_there_are_some_and_the_float_files_answers_where_there_are_none(tmp_path: Path) -> None:
    """A fifth of the labels is wrong: by labels the float file itself has 80 % of top-1."""
    model = pooled(3)
    onnx.save_model(model, tmp_path / "float.onnx")
    images, labels = mislabelled(model, tmp_path, wrong=8)
    found = []
    for one in (images, split()):
        judge = Guard(tmp_path / "float.onnx", one, tmp_path, SILENT, Workers(1))
        evaluation = judge.evaluate(model)
        assert evaluation.agreement is not None and evaluation.agreement.same_top1 == 1.0
        assert (evaluation.images, drop(evaluation)) == (len(labels), 0.0)
        found.append((evaluation.top1, evaluation.agreement.reference_top1))
    assert found == [(0.8, 0.8), (1.0, 1.0)]


def test_a_candidate_that_gains_by_the_labels_loses_nothing_however_little_it_agrees(tmp_path: Path) -> None:
    """It answers the next class on every image, which the labels of eight say too."""
    model = pooled(3)
    other = pooled(3)
    rolled = next(tensor for tensor in other.graph.initializer if tensor.name == "c.weight")
    values = np.roll(onnx.numpy_helper.to_array(rolled), 1, axis=0)
    rolled.CopyFrom(onnx.numpy_helper.from_array(values, rolled.name))
    onnx.save_model(model, tmp_path / "float.onnx")
    for wrong, lost in ((40, -100.0), (8, 60.0)):
        images, _ = mislabelled(model, tmp_path, wrong)
        judge = Guard(tmp_path / "float.onnx", images, tmp_path, SILENT, Workers(1))
        evaluation = judge.evaluate(other)
        assert drop(evaluation) == pytest.approx(lost)
        if wrong == 40:
            assert within_limit(lambda _: other, judge, ["a", "b", "c"], 0.0).kept_float == ()


def test_too_much_lost_with_all_layers_but_one_in_float32_is_refused_with_the_table(tmp_path: Path) -> None:
    model = pooled(5)
    build = Rounding(model, dict.fromkeys("abcde", 4.0))
    with pytest.raises(AccuracyError, match="even with all layers but one in float32") as raised:
        within_limit(build, guard(model, tmp_path), list("abcde"), 0.5, bits="int4")
    assert {s.layer for s in raised.value.sensitivities} == set("abcde") and raised.value.bits == "int4"
    assert max(map(len, build.built)) == 4  # never all of them: that would be no int8 file


@pytest.mark.slow
def test_a_search_by_other_processes_finds_the_same_and_leaves_no_candidate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = pooled(8)
    onnx.save_model(model, tmp_path / "float.onnx")
    monkeypatch.setattr(opened, "Pool", lambda own, workers, *rest: Pool(None if workers else own, workers, *rest))
    found = []
    for workers in (Workers(1), Workers(2)):
        with closing(Guard(tmp_path / "float.onnx", split(), tmp_path, SILENT, workers)) as judge:
            judged = within_limit(Rounding(model, HARM), judge, list(HARM), 0.0)
        found.append((judged.evaluation, judged.kept_float, judged.sensitivities))
    assert found[0] == found[1] and len(found[0][1]) == 3
    assert [path.name for path in tmp_path.iterdir()] == ["float.onnx"]


@pytest.mark.slow
def test_layers_are_attributed_to_parents_children_and_prescales(tmp_path: Path) -> None:
    """A search over some layers of the ResNet sample, whose classifier is spoilt whatever is kept."""
    images = split_images(DIGITS, None, (3, *SIZE), Preprocessing(), 10)
    exported_sample(tmp_path / "float.onnx", RESNET, target="any")
    model = quantise(tmp_path / "float.onnx", calibrate(tmp_path / "float.onnx", images.calibration(), "minmax"))
    spoilt = next(t for t in model.graph.initializer if t.name == "fc.bias_quantized")
    codes = onnx.numpy_helper.to_array(spoilt).copy()
    codes[0] = 2**30
    spoilt.CopyFrom(onnx.numpy_helper.from_array(codes, spoilt.name))
    parents = fused_sample().provenance.shared_kernels
    expected = {f"{child}/Conv": (p.name, "child") for p in parents for child in p.children}
    expected |= {f"{p.layer}/Conv": (p.name, "parent") for p in parents}
    for stage in ("layer3", "layer4"):
        for number, parent in enumerate(("conv2", "conv2", "conv3")):
            expected[f"{stage}.se.{number}/Mul"] = (f"{stage}.{parent}.weight", "pre-scale")
    expected |= {"conv1/Conv": ("", ""), "layer3/Add": ("", "")}
    judge = Guard(tmp_path / "float.onnx", images, tmp_path, SILENT, Workers(1))
    with pytest.raises(AccuracyError) as raised:
        within_limit(lambda _: model, judge, list(expected), 0.0, parents)
    assert {s.layer: (s.parent, s.role) for s in raised.value.sensitivities} == expected


def test_the_table_names_the_parent_of_each_layer_and_what_stays_in_float32() -> None:
    found = (
        Sensitivity("a.bns.0/Conv", 3.21, "a.conv2.weight", "child"),
        Sensitivity("a.se.0/Mul", 9.0, "a.conv2.weight", "pre-scale"),
        Sensitivity("fc/Gemm", 20.0),
    )
    stream = io.StringIO()
    Console(file=stream, width=100).print(rich_table(sensitivity_cells(found, ("a.bns.0/Conv",))))
    rows = [line.split() for line in stream.getvalue().splitlines()]
    assert ["a.bns.0/Conv", "child", "of", "a.conv2.weight", "3.2", "float32"] in rows
    assert ["a.se.0/Mul", "pre-scale,", "a.conv2.weight", "9.0", "int8"] in rows
    assert ["fc/Gemm", "20.0", "int8"] in rows
