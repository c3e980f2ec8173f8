"""The README tells a stranger what runs all of the files, and nothing of what is not there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from kdna_deploy.targets.release.manifest import Manifest, ReleasedModel
from kdna_deploy.targets.release.plan import FILES
from kdna_deploy.targets.release.readme import readme
from tests.targets.release.test_manifest import MANIFEST


def released(*targets: str) -> Manifest:
    models = tuple(
        ReleasedModel(name, target, (name,), "agrees", "kdna-deploy export")
        for target in targets
        if (name := f"net{FILES[target].ending}")
    )
    network = {"architecture": "resnet18", "image_shape": [3, 8, 8], "classes": 3}
    return replace(MANIFEST, network=network, models=models)


@pytest.mark.parametrize(
    ("targets", "install"),
    [
        (("cpu", "cpu-fp16", "cpu-int8", "any", "gpu-fp16"), "`pip install kdna-deploy`; PyTorch is not needed"),
        (
            ("cpu", "openvino", "openvino-int8", "ncnn", "mnn", "litert", "litert-int8"),
            "`pip install 'kdna-deploy[openvino,ncnn,mnn,litert]'`; PyTorch is not needed",
        ),
        (("mnn", "openvino"), "`pip install 'kdna-deploy[openvino,mnn]'`; PyTorch is not needed"),
        (
            ("tensorrt", "tensorrt-rtx"),
            "`pip install 'kdna-deploy[tensorrt,tensorrt-rtx]'`; PyTorch is not needed",
        ),
        (("cpu", "executorch"), "`pip install 'kdna-deploy[executorch]'`"),
    ],
)
def test_what_runs_all_of_the_files_is_named(targets: Sequence[str], install: str) -> None:
    assert f"\nProve all of it, here or elsewhere ({install}):\n" in readme(released(*targets))


def test_folders_for_servers_are_named_where_there_are_some() -> None:
    manifest = released("cpu")
    assert "`net.onnx` (cpu). Folders for servers, each with a README of its own: `triton`.\n" in readme(manifest)
    assert "`net.onnx` (cpu).\nProve" in readme(replace(manifest, packages=()))
