"""A checkpoint becomes the network it was trained with: from the table, or from a user's own factory."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from kdna_deploy.errors import ArchitectureError, InputError, UsageError
from kdna_deploy.network.checkpoint import load_checkpoint
from kdna_deploy.network.factory import load_factory
from kdna_deploy.network.families import ARCHITECTURES, Architecture
from kdna_deploy.network.load import load_network, network_of

FACTORIES = '''
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

NOT_CALLABLE = 3


def convnet(channels=1):
    return nn.Sequential(nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))


def double_precision():
    return convnet().double()


def without_memory():
    with torch.device("meta"):
        return convnet()


class Centred(nn.Module):
    """On a GPU, of which nothing but the name is needed."""

    def __init__(self):
        super().__init__()
        with FakeTensorMode(allow_non_fake_inputs=True):
            self.register_buffer("mean", torch.empty(3, 1, 1, device="cuda"))

    def forward(self, x):
        return x - self.mean


class Tied(nn.Module):
    """Two layers of one kernel, each under a name of its own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, bias=False)
        self.second = nn.Conv2d(4, 4, 3, bias=False)
        self.second.weight = self.first.weight


def needs_an_argument(channels):
    return convnet(channels)


def a_number():
    return 7


def failing():
    raise KeyError("widths")
'''


def convnet() -> nn.Module:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5))


def small(name: str = "resnet18") -> Architecture:
    """Architecture `name` at an eighth of its width, with 10 classes."""
    entry = ARCHITECTURES[name]
    backbone = replace(entry.backbone, widths=tuple(max(width // 8, 2) for width in entry.backbone.widths))
    return replace(entry, backbone=backbone, num_classes=10)


def saved(folder: Path, weights: dict[str, Tensor], **beside: Any) -> Path:
    torch.save({"state_dict": weights, **beside}, folder / "ckpt.pth")
    return folder / "ckpt.pth"


@pytest.fixture
def own_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder of a user who keeps factories in ``own_models.py``."""
    (tmp_path / "own_models.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("own_models", "broken_models")):
            del sys.modules[name]


# Those of other methods are loaded by the tests of their families, with what has to be said of some.
OF_KERNELDNA = [name for name, entry in ARCHITECTURES.items() if entry.method is None and entry.backbone.stages]


@pytest.mark.slow
@pytest.mark.parametrize("name", OF_KERNELDNA)
def test_a_network_from_the_table_computes_what_the_trained_one_does(tmp_path: Path, name: str) -> None:
    torch.manual_seed(0)
    trained = small(name).build().eval()
    network = load_network(saved(tmp_path, trained.state_dict(), arch=name))
    assert network.architecture == small(name)
    assert (network.name, network.image_shape((32, 32)), network.factory) == (name, (3, 32, 32), None)
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.module(x), trained(x), rtol=0, atol=0)


@pytest.mark.parametrize("factory", [None, "own_models:convnet", "own_models:double_precision"])
def test_networks_are_float32_in_evaluation_mode_and_frozen(own_models: Path, factory: str | None) -> None:
    weights = convnet().state_dict() if factory else small().build().state_dict()
    halved = {name: v.half() if v.is_floating_point() else v for name, v in weights.items()}
    module = load_network(saved(own_models, halved), factory=factory).module
    assert not any(part.training for part in module.modules())
    assert not any(parameter.requires_grad for parameter in module.parameters())
    assert {v.dtype for v in module.state_dict().values()} == {torch.float32, torch.int64}
    assert {v.device.type for v in module.state_dict().values()} == {"cpu"}
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, halved[name].to(value.dtype), rtol=0, atol=0)


@pytest.mark.slow
def test_missing_counters_of_batchnorm_are_tolerated(own_models: Path) -> None:
    for weights, factory in ((small().build().state_dict(), None), (convnet().state_dict(), "own_models:convnet")):
        kept = {name: v for name, v in weights.items() if not name.endswith("num_batches_tracked")}
        assert len(kept) < len(weights)
        module = load_network(saved(own_models, kept), factory=factory).module
        assert set(module.state_dict()) == set(weights)
        for name, value in kept.items():
            torch.testing.assert_close(module.state_dict()[name], value, rtol=0, atol=0)


@pytest.mark.parametrize("factory", ["own_models:convnet", "own_models:double_precision", "own_models:without_memory"])
def test_a_factory_in_the_current_folder_gets_the_checkpoints_weights(own_models: Path, factory: str) -> None:
    trained = convnet().eval()
    network = load_network(saved(own_models, trained.state_dict()), factory=factory)
    assert (network.name, network.factory, network.architecture) == (factory, factory, None)
    assert network.image_shape((9, 8)) == (1, 9, 8)
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network.module(x), trained(x), rtol=0, atol=0)


def test_parameters_that_a_users_module_ties_stay_tied(own_models: Path) -> None:
    kernel = torch.randn(4, 4, 3, 3)
    path = saved(own_models, {"first.weight": kernel, "second.weight": kernel})
    module = load_network(path, factory="own_models:Tied").module
    assert module.get_parameter("first.weight") is module.get_parameter("second.weight")
    torch.testing.assert_close(module.get_parameter("second.weight").data, kernel, rtol=0, atol=0)


def devices(module: nn.Module) -> set[str]:
    return {value.device.type for value in module.state_dict().values()}


def test_what_a_factory_builds_on_a_gpu_is_moved_to_where_all_is_computed(own_models: Path) -> None:
    """Without a GPU, its tensors are shapes that say that they lie on one."""
    path = saved(own_models, {"mean": torch.zeros(3, 1, 1)})
    assert devices(load_network(path, factory="own_models:Centred").module) == {"cpu"}


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_module_on_a_gpu_is_copied_to_where_all_is_computed(own_models: Path) -> None:
    module = load_factory("own_models:Centred")()
    assert (devices(network_of(module).module), devices(module)) == ({"cpu"}, {"cuda"})


@pytest.mark.gpu
def test_a_module_that_was_trained_on_a_gpu_computes_the_same() -> None:
    module = convnet().cuda().eval()
    x = torch.randn(2, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network_of(module).module(x), module(x.cuda()).cpu())
    assert devices(module) == {"cuda"}


def test_a_module_without_memory_is_taken_as_it_is() -> None:
    with torch.device("meta"):
        module = convnet()
    assert devices(network_of(module).module) == {"meta"}


@pytest.mark.slow
@pytest.mark.parametrize("wrap", [lambda module: module, nn.DataParallel, torch.compile])
def test_a_module_keeps_its_compiled_parts_where_a_copy_is_taken(wrap: Callable[[nn.Module], nn.Module]) -> None:
    module = nn.Sequential(convnet(), nn.Flatten())
    module[0][0] = torch.compile(module[0][0])
    whole, part, weights = module[0], module[0][0], module[0][0].weight
    network = network_of(wrap(module)).module
    assert module[0] is whole and module[0][0] is part and part.weight is weights and module.training
    assert [type(layer) for layer in network[0]] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.Dropout]
    assert network[0][0].weight is not weights and network[0][0].weight.equal(weights)


@pytest.mark.parametrize("reference", ["own_models", "own_models:", ":convnet", ":", "own_models.convnet"])
def test_a_factory_of_another_form_is_a_usage_error(own_models: Path, reference: str) -> None:
    with pytest.raises(UsageError, match=r"is not of the form package\.module:factory"):
        load_network(saved(own_models, convnet().state_dict()), factory=reference)


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("absent_models:convnet", "cannot be imported: No module named 'absent_models'"),
        ("own_models:absent", "cannot be imported: .*no attribute 'absent'"),
        ("own_models:needs_an_argument", r"needs_an_argument\(\) failed: .* must build the network without arguments"),
        ("own_models:failing", r"failing\(\) failed: 'widths'"),
        ("own_models:NOT_CALLABLE", "not callable"),
        ("own_models:a_number", r"a_number\(\) returned a int, not a torch.nn.Module"),
    ],
)
def test_a_factory_that_gives_no_network_is_refused_with_the_reason(
    own_models: Path, reference: str, reason: str
) -> None:
    with pytest.raises(InputError, match=reason) as refusal:
        load_network(saved(own_models, convnet().state_dict()), factory=reference)
    assert reference in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("source", ["def convnet(:\n", "undefined_name\n", "1 / 0\n", "import absent_package\n"])
def test_a_factory_whose_module_fails_to_import_is_refused(own_models: Path, source: str) -> None:
    (own_models / "broken_models.py").write_text(source)
    with pytest.raises(InputError, match="`model='broken_models:convnet'` cannot be imported"):
        load_network(saved(own_models, convnet().state_dict()), factory="broken_models:convnet")


def test_a_checkpoint_that_does_not_fit_the_factory_is_refused_with_the_difference(own_models: Path) -> None:
    weights = convnet().state_dict()
    del weights["0.bias"]
    path = saved(own_models, {**weights, "0.weight": torch.ones(4, 3, 3, 3), "4.weight": torch.ones(1)})
    with pytest.raises(ArchitectureError) as refusal:
        load_network(path, factory="own_models:convnet")
    assert str(refusal.value) == (
        f"'{path}' does not fit own_models:convnet: 1 missing (0.bias), 1 unexpected (4.weight), "
        "1 of another shape (0.weight)."
    )


def test_a_named_architecture_must_fit(tmp_path: Path) -> None:
    path = saved(tmp_path, small("resnet18").build().state_dict())
    assert load_network(path, arch="resnet18").name == "resnet18"
    with pytest.raises(ArchitectureError, match="does not fit mobilenet_v2"):
        load_network(path, arch="mobilenet_v2")


def test_an_architecture_and_a_factory_together_are_a_usage_error(tmp_path: Path) -> None:
    path = saved(tmp_path, convnet().state_dict())
    with pytest.raises(UsageError, match="either `arch` or `model`"):
        load_network(path, arch="resnet18", factory="own_models:convnet")


@pytest.mark.slow
def test_averaged_weights_reach_the_network(tmp_path: Path) -> None:
    trained, averaged = small().build().state_dict(), small().build().state_dict()
    path = saved(tmp_path, trained, state_dict_ema=averaged)
    for ema, expected in ((False, trained), (True, averaged)):
        network = load_network(path, ema=ema)
        assert network.checkpoint.ema is ema
        torch.testing.assert_close(network.module.state_dict()["fc.weight"], expected["fc.weight"], rtol=0, atol=0)


@pytest.mark.slow
def test_the_network_keeps_where_its_weights_came_from(published: Callable[[str], Path]) -> None:
    path = published("mobilenet_v2_1d2")
    found = load_network(path).checkpoint
    assert (found.path, found.sha256, found.arch) == (path, load_checkpoint(path).sha256, "mobilenet_v2_1d2")
