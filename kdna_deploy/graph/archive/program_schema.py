"""The form of the program and of the list of weights in a ``.pt2``: what each field may hold, a table.

What fits is made anew of its known fields; a `Forbidden` value could run code, any other `Misfit` is damaged.
"""

from __future__ import annotations

import json
from typing import Any

from kdna_deploy.graph.archive.size_expression import is_size_expression
from kdna_deploy.json_schema import (
    INT64,
    Misfit,
    boolean,
    integer,
    list_of,
    mapping,
    number,
    one_of,
    optional,
    record,
    text,
    union,
)
from kdna_deploy.network.stages import STAGES

MAX_DIMENSIONS = 16
MAX_NODES = 50_000

# Bytes of a number of each type, by torch's number for the type; neither quantised ones nor those of 8-bit floats.
ITEM_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 2, 7: 4, 8: 8, 9: 4, 10: 8, 11: 16, 12: 1, 13: 2}
_STRIDED = 7

# Names that the Python written by torch.fx uses for something else.
_RESERVED = frozenset({"self", "torch", "device", "inf", "nan", "NoneType", "fx_pytree", "pytree", "getattr", "math"})
_IMAGE_TREE = [
    1,
    {
        "type": "builtins.tuple",
        "context": "null",
        "children_spec": [
            {
                "type": "builtins.tuple",
                "context": "null",
                "children_spec": [{"type": None, "context": None, "children_spec": []}],
            },
            {"type": "builtins.dict", "context": "[]", "children_spec": []},
        ],
    },
]
_LEAF: dict[str, Any] = {"type": None, "context": None, "children_spec": []}
# One tensor, or a tuple of stage outputs.
_RETURNED_TREES = [
    [1, _LEAF],
    *(
        [1, {"type": "builtins.tuple", "context": "null", "children_spec": [_LEAF] * outputs}]
        for outputs in range(2, len(STAGES) + 1)
    ),
]


class Forbidden(Misfit):
    """A value that could run code, rather than one that is damaged."""


def _name(value: Any) -> str:
    name: str = _NAME_TEXT(value)
    if name in _RESERVED:
        raise Forbidden("a name that Python uses")
    return name


def _attribute(value: Any) -> str:
    name: str = _ATTRIBUTE_TEXT(value)
    if any(part.startswith("__") or not part for part in name.split(".")):
        raise Forbidden("a name that Python uses")
    return name


def _expression(value: Any) -> str:
    if not isinstance(value, str):
        raise Misfit("no text")
    if not is_size_expression(value):
        raise Forbidden(f"the expression {value[:60]!r}")
    return value


def _forbidding(kind: Any) -> Any:
    """`kind`, where what does not fit could run code."""

    def check(value: Any) -> Any:
        try:
            return kind(value)
        except Misfit as misfit:
            raise Forbidden(misfit.reason, misfit.where) from None

    return check


def _tree(known: list[Any]) -> Any:
    def check(value: Any) -> str:
        try:
            told = json.loads(value) if isinstance(value, str) and len(value) <= 2000 else None
        except (ValueError, RecursionError):
            told = None
        same = next((one for one in known if one == told), None)
        if same is None:
            raise Forbidden("another structure of inputs or outputs")
        return json.dumps(same)

    return check


def _metadata(value: Any) -> dict[str, str]:
    """Where a node came from, which reports name it by; everything else about it is left out."""
    stack = record({}, {"nn_module_stack": _STACK})(value)
    return {key: entry for key, entry in stack.items() if entry}


def _real(value: Any) -> Any:
    """A number as torch writes it: those that JSON does not have as a word."""
    return value if value in ("Infinity", "-Infinity", "NaN") else number(value)


def _calls(value: Any) -> list[Any]:
    """Of the modules that were called, the network itself."""
    entries = list_of(record({"fqn": text(most=1000)}, {"signature": lambda entry: entry}), least=1)(value)
    own = [entry for entry in entries if entry["fqn"] == ""]
    return [_MODULE_CALL(entry) for entry in own]


def _nothing(kind: type) -> Any:
    """An empty collection, whatever the file has there."""
    return lambda _: kind()


_NAME_TEXT = _forbidding(text(r"[A-Za-z_][A-Za-z0-9_]*", most=500))
_ATTRIBUTE_TEXT = _forbidding(text(r"""[^"'\\{}]+""", most=500))
_STACK = text(most=20_000)
_INT = integer(*INT64)
_HINT = optional(union({"as_int": _INT, "as_bool": boolean, "as_float": _real}))
_SYMBOLIC = record({"expr_str": _expression}, {"hint": _HINT})
_SYM_INT = union({"as_expr": _SYMBOLIC, "as_int": _INT})
_SYM_FLOAT = union({"as_expr": _SYMBOLIC, "as_float": _real})
_SYM_BOOL = union({"as_expr": _SYMBOLIC, "as_bool": boolean})
_DTYPE = one_of(*ITEM_BYTES)
_LAYOUT = one_of(_STRIDED)
_DEVICE = record({"type": one_of("cpu")}, {"index": optional(integer(0, 0))})
_SHAPE = list_of(_SYM_INT, most=MAX_DIMENSIONS)
_TENSOR_META = record(
    {
        "dtype": _DTYPE,
        "sizes": _SHAPE,
        "requires_grad": boolean,
        "device": _DEVICE,
        "strides": _SHAPE,
        "storage_offset": _SYM_INT,
        "layout": _LAYOUT,
    }
)
_TENSOR = record({"name": _name})
_NAMED_INT = union({"as_name": _name, "as_int": _INT})
_NAMED_FLOAT = union({"as_name": _name, "as_float": _real})
_NAMED_BOOL = union({"as_name": _name, "as_bool": boolean})
_MAYBE_TENSOR = union({"as_tensor": _TENSOR, "as_none": boolean})
_OUTPUTS = {
    "as_none": boolean,
    "as_tensor": _TENSOR,
    "as_tensors": list_of(_TENSOR),
    "as_sym_int": _NAMED_INT,
    "as_sym_float": _NAMED_FLOAT,
    "as_sym_bool": _NAMED_BOOL,
}
_ARGUMENT = union(
    {
        **_OUTPUTS,
        "as_int": _INT,
        "as_ints": list_of(_INT),
        "as_float": _real,
        "as_floats": list_of(_real),
        "as_bool": boolean,
        "as_bools": list_of(boolean),
        "as_string": text(),
        "as_sym_ints": list_of(_NAMED_INT),
        "as_sym_floats": list_of(_NAMED_FLOAT),
        "as_sym_bools": list_of(_NAMED_BOOL),
        "as_scalar_type": _DTYPE,
        "as_memory_format": one_of(1, 2, 3, 4),
        "as_layout": _LAYOUT,
        "as_device": _DEVICE,
        "as_optional_tensors": list_of(_MAYBE_TENSOR),
        "as_complex": record({"real": _real, "imag": _real}),
    },
    Forbidden,
)
_NODE = record(
    {
        "target": text(most=200),
        "inputs": list_of(record({"name": text(most=100), "arg": _ARGUMENT}, {"kind": optional(one_of(0, 1, 2))})),
        "outputs": list_of(union(_OUTPUTS, Forbidden)),
        "metadata": _metadata,
    },
    {"is_hop_single_tensor_return": optional(boolean), "name": optional(_name)},
)
_TENSOR_ARGUMENT = union({"as_tensor": _TENSOR}, Forbidden)
_GRAPH = record(
    {
        "inputs": list_of(_TENSOR_ARGUMENT),
        "outputs": list_of(_TENSOR_ARGUMENT, least=1, most=len(STAGES)),
        "nodes": list_of(_NODE, most=MAX_NODES),
        "tensor_values": mapping(_name, _TENSOR_META),
        "sym_int_values": mapping(_name, _SYM_INT),
        "sym_bool_values": mapping(_name, _SYM_BOOL),
    },
    {
        "is_single_tensor_return": boolean,
        "custom_obj_values": _nothing(dict),
        "sym_float_values": mapping(_name, _SYM_FLOAT),
    },
)
_INPUT_SPEC = union(
    {
        "user_input": record({"arg": _TENSOR_ARGUMENT}),
        "parameter": record({"arg": _TENSOR, "parameter_name": _attribute}),
        "buffer": record({"arg": _TENSOR, "buffer_name": _attribute, "persistent": boolean}),
        "tensor_constant": record({"arg": _TENSOR, "tensor_constant_name": _attribute}),
    },
    Forbidden,
)
_OUTPUT_SPEC = union({"user_output": record({"arg": _TENSOR_ARGUMENT})}, Forbidden)
_MODULE_CALL = record(
    {
        "fqn": one_of(""),
        "signature": record(
            {
                "inputs": _nothing(list),
                "outputs": _nothing(list),
                "in_spec": _tree([_IMAGE_TREE]),
                "out_spec": _tree(_RETURNED_TREES),
            },
            {"forward_arg_names": optional(list_of(_name, most=1))},
        ),
    }
)
PROGRAM = record(
    {
        "graph_module": record(
            {
                "graph": _GRAPH,
                "signature": record(
                    {
                        "input_specs": list_of(_INPUT_SPEC),
                        "output_specs": list_of(_OUTPUT_SPEC, least=1, most=len(STAGES)),
                    }
                ),
                "module_call_graph": _calls,
            },
            {"metadata": _nothing(dict), "treespec_namedtuple_fields": _nothing(dict)},
        ),
        "opset_version": mapping(text(r"\w+"), integer(0, 1 << 20)),
        "range_constraints": mapping(_name, record({"min_val": optional(_INT), "max_val": optional(_INT)})),
        "schema_version": record({"major": integer(0, 1 << 20), "minor": integer(0, 1 << 20)}),
    },
    {
        "verifiers": list_of(one_of("TRAINING", "ATEN", ""), most=4),
        "torch_version": text(most=100),
        "guards_code": _nothing(list),
    },
)
WEIGHTS = record(
    {
        "config": mapping(
            _attribute,
            record(
                {
                    "path_name": text(r"(weight|tensor)_\d{1,9}"),
                    "is_param": boolean,
                    "use_pickle": boolean,
                    "tensor_meta": optional(_TENSOR_META),
                }
            ),
        )
    }
)
