"""Names of PyTorch's operations and element types, and what they are to a GPU."""

from __future__ import annotations

__all__ = ["DTYPE_NAMES", "FREE", "PRODUCTS", "efforts"]

DTYPE_NAMES = {
    "float64": "f64", "float32": "f32", "float16": "f16", "bfloat16": "bf16", "float8_e4m3fn": "f8", "float8_e5m2": "f8",
    "int64": "i64", "int32": "i32", "int16": "i16", "int8": "i8", "uint8": "i8", "bool": "i8",
}  # fmt: skip

FREE = frozenset({
    "_host_tensor", "_get_symnode", "_new_var", "_phi", "_constant_tensor", "getitem", "full", "tile_index", "tile_begin",
    "tile_end", "tile_id", "tile_block_size", "tile_count", "subscript", "sym_size", "sym_stride", "permute", "transpose",
    "view", "reshape", "_unsafe_view", "squeeze", "unsqueeze", "expand", "alias", "detach", "clone", "t", "iota", "scalar_tensor",
})  # fmt: skip
"""Operations that name values, arrange them anew, or say how large they are."""

PRODUCTS = {"mm": (0, 1), "bmm": (0, 1), "addmm": (1, 2), "baddbmm": (1, 2), "dot": (0, 1)}
"""Products of matrices, and which arguments are multiplied."""

_ONE_EACH = frozenset({
    "add", "sub", "rsub", "mul", "neg", "abs", "maximum", "minimum", "relu", "where", "eq", "ne", "lt", "le", "gt", "ge", "clamp",
    "clamp_min", "clamp_max", "logical_and", "logical_or", "logical_not", "bitwise_and", "bitwise_or", "bitwise_xor",
    "bitwise_not", "floor", "ceil", "round", "trunc", "sign", "fma", "addcmul", "square", "_mask_to", "__rshift__", "__lshift__",
    "bitwise_left_shift", "bitwise_right_shift",
})  # fmt: skip
_SPECIAL = {
    "exp": (1, 1), "exp2": (1, 0), "log": (1, 1), "log2": (1, 0), "rsqrt": (1, 0), "sqrt": (1, 0), "reciprocal": (1, 0),
    "sin": (1, 2), "cos": (1, 2), "div": (1, 1), "sigmoid": (2, 2), "silu": (2, 3), "tanh": (2, 4), "expm1": (1, 4),
    "log1p": (1, 4), "erf": (1, 8), "gelu": (1, 12), "pow": (2, 1),
}  # fmt: skip
"""Instructions of the special function unit and others of each element. Inferred from their formulas over ex2, lg2, rcp, rsq."""


def efforts(name: str, dtype: str, integers: bool) -> tuple[tuple[str, str, int], ...] | None:
    """Kind, dtype and number of a pointwise operation's instructions; None for an operation that is not known.

    Args:
        name: PyTorch's, without namespace and overload.
        dtype: of the result.
        integers: whether its operands are integers.
    """
    if name in ("convert_element_type", "_to_copy", "to"):
        return (("convert", dtype, 1),)
    if integers and (name in _ONE_EACH or name in ("div", "remainder", "floor_divide")):
        return (("integer", "i32", 1 if name in _ONE_EACH else 20),)
    if name in _ONE_EACH:
        return (("add", dtype, 1),)
    if name in _SPECIAL:
        special, others = _SPECIAL[name]
        return (("special", "f32", special), *((("add", "f32", others),) if others else ()))
    return None
