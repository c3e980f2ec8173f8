"""The operators that a fused graph may call are those that only compute."""

from __future__ import annotations

import torch

from kdna_deploy.graph.archive.operators import NAMES, overload


def test_every_name_is_an_operator_that_is_admitted() -> None:
    for name in NAMES:
        packet = getattr(torch.ops.aten, name)
        assert any(overload(f"torch.ops.aten.{name}.{one}") for one in packet.overloads()), name


def test_no_operator_that_is_admitted_writes_reads_files_or_draws_numbers() -> None:
    for name in NAMES:
        assert not name.endswith("_")
        for one in getattr(torch.ops.aten, name).overloads():
            found = overload(f"torch.ops.aten.{name}.{one}")
            if found is None:
                continue
            assert not found._schema.is_mutable
            assert not any(argument.name == "out" for argument in found._schema.arguments)
            assert not any("file" in argument.name for argument in found._schema.arguments)
            assert not any("Generator" in str(a.type) for a in found._schema.arguments) or name == "rrelu"


# Of ATen's core and its pointwise operators: random ones, gradients, distances, number theory, what is no tensor.
LEFT_OUT = ("backward", "rand", "dropout", "special_", "igamma", "_distance", "_forward", "nonzero", "_bag", "scalar")
RARE = {"copy", "equal", "frexp", "gcd", "lcm", "mvlgamma", "nextafter"}


def test_what_pytorch_calls_basic_is_admitted_but_for_what_is_named_here() -> None:
    missing = set()
    for schema in torch._C._jit_get_all_schemas():
        space, _, name = schema.name.partition("::")
        if space != "aten" or name.endswith("_") or name in NAMES or any(word in name for word in LEFT_OUT):
            continue
        found = getattr(getattr(torch.ops.aten, name), schema.overload_name or "default", None)
        tags = getattr(found, "tags", ())
        if not schema.is_mutable and (torch.Tag.core in tags or torch.Tag.pointwise in tags):
            missing.add(name)
    assert missing <= RARE
