"""The plain backbone beside a network: its widths, classes and ends, exported as the network's file was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from kdna_deploy.benchmark.plan import images_for
from kdna_deploy.benchmark.subject import Subject, given, same_options
from kdna_deploy.benchmark.untrained import plain_backbone, plain_identity
from kdna_deploy.errors import UsageError
from kdna_deploy.images.interface import PLAIN, Interface
from kdna_deploy.images.preprocessing import Preprocessing
from kdna_deploy.network.cost import count
from kdna_deploy.runtimes.open import provenance_in
from kdna_deploy.runtimes.ort import OrtSession
from tests.benchmark.test_subject import KINDS, logits, some_images
from tests.samples import RESNET, SIZE, exported_sample, fused_sample

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
