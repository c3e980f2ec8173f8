"""The operators that a fused graph may call: an allow-list, and what their arguments may be.

    admitted = named below ∧ changes none of its arguments ∧ has no `out` ∧ draws no random numbers
               ∧ returns tensors, or the size of one

They compute tensors from tensors. Whatever reads or writes files, allocates by content, or takes memory for larger
than it is, is not among them, nor are operators of other libraries: their code would have to be found and run.

Does not apply: memory. `activation_memory` bounds what the operators allocate.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from kdna_deploy.json_schema import Misfit

_LAYERS = """
conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d convolution linear bilinear embedding
matmul mm bmm addmm baddbmm addbmm mv addmv dot vdot inner outer ger addr einsum tensordot kron chain_matmul
lstm gru rnn_tanh rnn_relu lstm_cell gru_cell rnn_tanh_cell rnn_relu_cell scaled_dot_product_attention
_scaled_dot_product_flash_attention_for_cpu
dropout feature_dropout alpha_dropout feature_alpha_dropout
batch_norm instance_norm layer_norm group_norm rms_norm native_layer_norm native_group_norm
_native_batch_norm_legit_no_training _native_batch_norm_legit norm_except_dim
"""
_ACTIVATIONS = """
relu relu6 elu selu celu gelu silu mish leaky_relu prelu _prelu_kernel rrelu hardtanh hardsigmoid hardswish hardshrink
softshrink softplus softmax log_softmax _softmax _log_softmax _safe_softmax log_sigmoid log_sigmoid_forward sigmoid tanh
threshold glu
"""
_SPATIAL = """
avg_pool1d avg_pool2d avg_pool3d max_pool1d max_pool2d max_pool3d max_pool1d_with_indices max_pool2d_with_indices
max_pool3d_with_indices max_unpool2d max_unpool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d
_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
pad constant_pad_nd reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d replication_pad2d
replication_pad3d upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact1d
_upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d upsample_trilinear3d
upsample_bicubic2d _upsample_bilinear2d_aa _upsample_bicubic2d_aa grid_sampler grid_sampler_2d grid_sampler_3d
affine_grid_generator im2col col2im pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle
"""
_ELEMENTWISE = """
abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan
atan2 atanh bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max
clamp_min clip conj conj_physical _conj _conj_physical copysign cos cosh deg2rad digamma div divide eq erf erfc
erfinv exp exp2 expm1 float_power floor floor_divide fmax fmin fmod frac ge greater greater_equal gt heaviside hypot i0
isfinite isinf isnan isneginf isposinf ldexp le lerp less less_equal lgamma log log10 log1p log2 logaddexp logaddexp2
logical_and logical_not logical_or logical_xor logit lt masked_fill maximum minimum mul multiply nan_to_num ne neg
negative not_equal polygamma positive pow rad2deg real imag reciprocal remainder round rsqrt rsub sgn sign signbit sin
sinc sinh sqrt square sub subtract tan true_divide trunc fix where xlogy special_expit special_entr special_log_ndtr
special_ndtri special_erfcx special_i0e special_i1 special_i1e special_xlog1py special_zeta
"""
_REDUCTIONS = """
all any amax amin aminmax argmax argmin argsort cosine_similarity count_nonzero cummax cummin cumprod cumsum dist
frobenius_norm kthvalue linalg_matrix_norm linalg_norm linalg_vector_norm logcumsumexp logsumexp max mean median min
mode msort nanmean nanmedian nansum norm nuclear_norm pairwise_distance cdist prod quantile nanquantile renorm
sort std std_mean sum topk trace trapezoid trapz var var_mean diff bucketize searchsorted
linalg_cross linalg_det linalg_inv linalg_inv_ex linalg_matmul linalg_multi_dot linalg_matrix_power linalg_qr linalg_svd
linalg_eigh linalg_solve linalg_cholesky linalg_cholesky_ex matrix_exp matrix_power inverse cross
fft_fft fft_fft2 fft_fftn fft_ifft fft_ifft2 fft_ifftn fft_rfft fft_rfft2 fft_rfftn fft_irfft fft_irfft2 fft_irfftn
fft_fftshift fft_ifftshift _fft_r2c _fft_c2r _fft_c2c complex polar view_as_complex view_as_real
l1_loss mse_loss smooth_l1_loss huber_loss
"""
_SHAPES = """
adjoint alias as_strided atleast_1d atleast_2d atleast_3d block_diag broadcast_tensors broadcast_to cartesian_prod cat
chunk clone column_stack concat concatenate contiguous detach diag diag_embed diagflat diagonal diagonal_scatter dsplit
dstack expand expand_as fill flatten flip fliplr flipud gather hsplit hstack index index_add index_copy index_fill
index_put index_reduce index_select _unsafe_index lift_fresh_copy lift_fresh masked_scatter meshgrid moveaxis movedim
narrow numpy_T mT mH permute ravel repeat repeat_interleave reshape reshape_as resolve_conj resolve_neg
roll rot90 row_stack scatter scatter_add scatter_reduce select select_scatter slice slice_scatter split
split_with_sizes squeeze stack swapaxes swapdims t take take_along_dim tensor_split tile transpose tril triu unbind
unflatten unfold unsafe_chunk unsafe_split unsafe_split_with_sizes _unsafe_view unsqueeze vander view view_as vsplit
vstack to type_as _to_copy one_hot squeeze_copy view_copy expand_copy permute_copy slice_copy select_copy
transpose_copy unsqueeze_copy t_copy alias_copy detach_copy diagonal_copy split_copy split_with_sizes_copy unbind_copy
unfold_copy float_power sum_to_size
"""
_FACTORIES = """
arange empty empty_like empty_permuted empty_strided eye full full_like linspace logspace new_empty new_full new_ones
new_zeros ones ones_like scalar_tensor tril_indices triu_indices zeros zeros_like bartlett_window blackman_window
hamming_window hann_window
"""
_SIZES = """
sym_size sym_stride sym_numel sym_storage_offset sym_is_contiguous sym_constrain_range sym_constrain_range_for_size
_assert_scalar _assert_tensor_metadata size numel dim
"""
_SIZE_NAMES = frozenset(_SIZES.split())
NAMES = _SIZE_NAMES | frozenset(
    " ".join((_LAYERS, _ACTIVATIONS, _SPATIAL, _ELEMENTWISE, _REDUCTIONS, _SHAPES, _FACTORIES)).split()
)

# Arithmetic on sizes. No power: repeated, it would never end; nor would products of two that are not written out.
_ARITHMETIC = """
_operator.add _operator.sub _operator.mul _operator.truediv _operator.floordiv _operator.mod _operator.neg _operator.pos
_operator.eq _operator.ne _operator.lt _operator.le _operator.gt _operator.ge _operator.and_ _operator.or_
torch.sym_max torch.sym_min torch.sym_not torch.sym_ite torch.sym_float torch.sym_int torch.sym_sum
math.ceil math.floor math.trunc
"""
SCALAR_OPERATORS = frozenset(_ARITHMETIC.split())

_ATEN = re.compile(r"torch\.ops\.aten\.(?P<name>\w+)\.(?P<overload>\w+)")

_EQUATION = re.compile(r"[A-Za-z, .]{1,200}(->[A-Za-z .]{0,60})?")
_REDUCE = ("sum", "prod", "mean", "amax", "amin")
_NORMS = ("forward", "backward", "ortho")
_TEXTS: Mapping[str, tuple[str, ...]] = {
    "padding": ("same", "valid"),
    "approximate": ("none", "tanh"),
    "rounding_mode": ("floor", "trunc"),
    "mode": ("constant", "reflect", "replicate", "circular", "reduced", "complete", "r"),
    "indexing": ("ij", "xy"),
    "reduce": _REDUCE,
    "norm": _NORMS,
    "ord": ("fro", "nuc"),
    "side": ("left", "right"),
    "interpolation": ("linear", "lower", "higher", "midpoint", "nearest"),
    "UPLO": ("L", "U"),
    "driver": ("gesvd", "gesvdj", "gesvda"),
}

# Random in training alone: what must be given so that nothing is drawn.
_QUIET: Mapping[str, tuple[str, Any]] = {
    **dict.fromkeys(("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout"), ("train", False)),
    **dict.fromkeys(("lstm", "gru", "rnn_tanh", "rnn_relu"), ("train", False)),
    "rrelu": ("training", False),
    **dict.fromkeys(("scaled_dot_product_attention", "_scaled_dot_product_flash_attention_for_cpu"), ("dropout_p", 0)),
}

_TENSORS = frozenset({"as_tensor", "as_none"})
_INTEGERS = frozenset({"as_int", "as_sym_int", "as_none"})
_LISTS = frozenset({"as_ints", "as_sym_ints", "as_none"})
_NUMBERS = frozenset(
    {"as_int", "as_sym_int", "as_float", "as_sym_float", "as_bool", "as_sym_bool", "as_complex", "as_none"}
)
# dtypes, layouts and memory formats are integers in a schema.
_ENUMERATIONS = frozenset({"as_scalar_type", "as_memory_format", "as_layout"})
_SCHEMA: Mapping[str, frozenset[str]] = {
    "Tensor": _TENSORS | _NUMBERS,  # a number is as good as a tensor of it
    "List[Tensor]": frozenset({"as_tensors"}),
    "List[Optional[Tensor]]": frozenset({"as_optional_tensors", "as_tensors"}),
    "int": _INTEGERS | _ENUMERATIONS,
    "List[int]": _LISTS,
    "float": frozenset({"as_float", "as_int", "as_sym_float", "as_sym_int", "as_none"}),
    "List[float]": frozenset({"as_floats", "as_ints", "as_none"}),
    "number": _NUMBERS,
    "bool": frozenset({"as_bool", "as_sym_bool", "as_none"}),
    "List[bool]": frozenset({"as_bools"}),
    "str": frozenset({"as_string", "as_none"}),
    "Device": frozenset({"as_device", "as_none"}),
}


def overload(target: str) -> torch._ops.OpOverload | None:
    """The operator that `target`, as ``torch.ops.aten.relu.default``, names; None where it is not admitted."""
    match = _ATEN.fullmatch(target)
    if match is None or match["name"] not in NAMES:
        return None
    found = getattr(getattr(torch.ops.aten, match["name"], None), match["overload"], None)
    return found if isinstance(found, torch._ops.OpOverload) and _is_functional(found) else None


def _is_functional(operator: torch._ops.OpOverload) -> bool:
    schema = operator._schema
    sides = [*schema.arguments, *schema.returns]
    # The same names have overloads for plain numbers, texts and lists, which TorchScript computes with.
    returns = {str(side.type) for side in schema.returns} <= {"Tensor", "List[Tensor]"}
    computes = returns if schema.returns else schema.name.removeprefix("aten::") in _SIZE_NAMES
    measures = schema.name.removeprefix("aten::") in _SIZE_NAMES and str(schema.arguments[0].type) == "Tensor"
    writes = schema.is_mutable or any(side.alias_info and side.alias_info.is_write for side in sides)
    return (computes or measures) and not writes


def check_call(target: str, arguments: list[tuple[str, str, Any]]) -> None:
    """Refuse a call of the operator `target` with `arguments`: name, kind and value of each, as a ``.pt2`` has them.

    Raises:
        Misfit: with what is wrong.
    """
    if target in SCALAR_OPERATORS:
        if target == "_operator.mul" and not any(_is_written_out(kind, value) for _, kind, value in arguments):
            raise Misfit("a product of two sizes, which could grow without end")
        return
    operator = overload(target)
    if operator is None:
        raise Misfit("no operator of a fused graph")
    kinds = {argument.name: _plain(str(argument.type)) for argument in operator._schema.arguments}
    for name, kind, value in arguments:
        if name not in kinds:
            raise Misfit("no argument of its operator", (name,))
        if kind not in _SCHEMA.get(kinds[name], ()):
            raise Misfit(f"no {kinds[name]}", (name,))
        if kind == "as_string":
            _check_text(name, value)
    _check_quiet(operator, {name: value for name, _, value in arguments})


def _is_written_out(kind: str, value: Any) -> bool:
    return kind in ("as_int", "as_float") or (isinstance(value, Mapping) and bool({"as_int", "as_float"} & set(value)))


def _plain(kind: str) -> str:
    """A type without its ``Optional``."""
    return kind.removeprefix("Optional[").removesuffix("]") if kind.startswith("Optional[") else kind


def _check_text(name: str, value: str) -> None:
    if name == "equation":
        known = _EQUATION.fullmatch(value) is not None
    elif name == "assert_msg":
        known = len(value) <= 500
    else:
        known = value in _TEXTS.get(name, ())
    if not known:
        raise Misfit("an unknown word", (name,))


def _check_quiet(operator: torch._ops.OpOverload, arguments: Mapping[str, Any]) -> None:
    name = operator._schema.name.removeprefix("aten::")
    if name in _QUIET:
        switch, quiet = _QUIET[name]
        default = next((a.default_value for a in operator._schema.arguments if a.name == switch), None)
        if arguments.get(switch, quiet if default is None else default) != quiet:
            raise Misfit("random", (switch,))
    elif torch.Tag.nondeterministic_seeded in operator.tags:
        raise Misfit("an operator that draws random numbers")
