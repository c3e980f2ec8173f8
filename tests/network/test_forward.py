"""One forward pass: the images, the settings of the process and stdout stay as they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from kdna_deploy.errors import CaptureError, InputError
from kdna_deploy.network.forward import forward, only_tensor
from kdna_deploy.runtimes.pytorch import TorchSession
from tests.odd.flow import TABLE as FLOW
from tests.odd.interfaces import TABLE as INTERFACES

EDITORS = ("multiplies_its_input", "adds_to_its_input", "clears_a_channel")


@pytest.mark.parametrize("name", EDITORS)
def test_a_network_that_edits_its_input_gets_one_of_its_own(name: str) -> None:
    session = TorchSession(INTERFACES[name].build().eval(), name)
    images = np.random.default_rng(0).standard_normal((2, 3, 10, 12)).astype(np.float32)
    before = images.copy()
    first = session.run(images)
    assert np.array_equal(images, before)
    assert np.array_equal(session.run(images), first)


@pytest.mark.parametrize("name", ["leaves_default_dtype", "set_grad_enabled", "enable_grad", "inference_mode"])
def test_settings_are_put_back(name: str) -> None:
    output = forward(FLOW[name].build().eval(), torch.zeros(1, 3, 10, 12)) if name != "leaves_default_dtype" else None
    if name == "leaves_default_dtype":
        forward(nn.Sequential(_Leaves(), nn.Conv2d(3, 2, 3)), torch.zeros(1, 3, 4, 4))
    assert torch.get_default_dtype() == torch.float32
    assert torch.is_grad_enabled()
    assert output is None or not output.requires_grad


class _Leaves(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        return x


def test_what_a_network_prints_does_not_reach_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    forward(FLOW["prints"].build().eval(), torch.zeros(1, 3, 10, 12))
    out, err = capsys.readouterr()
    assert out == ""
    assert "shape:" in err


@pytest.mark.parametrize("name", ["exits", "raises", "endless_recursion"])
def test_whatever_it_raises_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match=r"cannot run on images of shape \(1, 3, 10, 12\)"):
        forward(FLOW[name].build().eval(), torch.zeros(1, 3, 10, 12))


@pytest.mark.parametrize(
    "wrapped", [lambda y: y, lambda y: (y,), lambda y: {"a": [y, None]}, lambda y: ((None, (y,)),)], ids=range(4)
)
def test_the_only_tensor_is_found(wrapped: object) -> None:
    tensor = torch.ones(2, 3)
    assert only_tensor(wrapped(tensor)) is tensor  # type: ignore[operator]


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ((torch.ones(1), torch.ones(1)), "a tuple of 2 tensors"),
        ([torch.ones(1), 3], "a list of 2 items"),
        ({"a": torch.ones(1), "b": torch.ones(1)}, "a dictionary with 'a' and 'b'"),
        ({str(i): torch.ones(1) for i in range(5)}, "a dictionary with 5 entries"),
        ("cat", "an object of type str"),
        (3.5, "a number"),
        (None, "None"),
    ],
)
def test_what_is_returned_instead_is_named(returned: object, said: str) -> None:
    with pytest.raises(CaptureError) as error:
        only_tensor(returned)
    assert said in str(error.value)
