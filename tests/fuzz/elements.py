"""Makers of elementwise ops: what each does to exactness is in the tables."""

from __future__ import annotations

from typing import Any

from fuzz.pool import DTYPES, FULL, MANTISSA, Known, Pool, bits_of, is_exact

KEEPING = ("neg", "abs", "square", "relu", "relu6", "reciprocal", "sqrt", "softsign")
SMOOTH = (
    "exp", "expm1", "log", "log1p", "rsqrt", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
    "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "softplus", "elu", "selu", "erf", "erfc",
)  # fmt: skip
HOSTED = ("lgamma", "digamma")
JUMPING = ("sign", "floor", "ceil", "round", "is_nan", "is_inf", "is_finite")
INTEGER_UNARY = ("neg", "abs", "square", "sign", "relu", "relu6", "bitwise_not", "round")
ARITHMETIC = ("add", "sub", "mul", "div", "maximum", "minimum", "squared_difference")
JUMPING_BINARY = ("floor_div", "floor_mod", "trunc_div", "trunc_mod", "pow", "atan2")
INTEGER_BINARY = (
    "add", "sub", "mul", "maximum", "minimum", "squared_difference", "floor_div", "floor_mod",
    "trunc_div", "trunc_mod", "pow", "bitwise_and", "bitwise_or", "bitwise_xor", "shift_left",
    "shift_right",
)  # fmt: skip
COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
LOGIC = ("logical_and", "logical_or", "logical_xor")


def unary(pool: Pool) -> None:
    x = pool.pick(lambda each: True)
    if x is None:
        return
    if x.kind == "b":
        pool.emit("logical_not", x)
    elif x.kind in "iu":
        pool.emit(pool.choose(INTEGER_UNARY), x)
    elif x.kind == "f":
        options = KEEPING + SMOOTH + (JUMPING if x.exact else ()) + HOSTED
        name = pool.choose(options)
        bits = {"neg": x.bits, "abs": x.bits, "relu": x.bits, "square": 2 * x.bits}.get(name, FULL)
        pool.emit(name, x, exact=x.exact and name not in SMOOTH + HOSTED, bits=bits)


def partner(pool: Pool, x: Known) -> Any:
    """Something of the dtype of ``x``: a value, or a constant."""
    if pool.number(0, 3) == 0:
        return pool.constant(x.type.dtype)
    return pool.pick(lambda each: each.type.dtype == x.type.dtype)


def binary(pool: Pool) -> None:
    x = pool.pick(lambda each: each.kind != "c")
    if x is None:
        return
    y = partner(pool, x)
    pair = (x, y) if pool.flag() else (y, x)
    exact = is_exact(x) and is_exact(y)
    if x.kind == "b":
        pool.emit(pool.choose((*LOGIC, "equal", "not_equal")), *pair)
    elif x.kind in "iu":
        pool.emit(pool.choose(INTEGER_BINARY + COMPARISONS), *pair)
    else:
        name = pool.choose(ARITHMETIC + ((*COMPARISONS, *JUMPING_BINARY) if exact else ()))
        bits = {
            "mul": x.bits + bits_of(y),
            "squared_difference": 2 * max(x.bits, bits_of(y)) + 2,
            "div": FULL,
        }.get(name, max(x.bits, bits_of(y)) + 1)
        pool.emit(name, *pair, exact=exact and name not in ("pow", "atan2"), bits=bits)


def select(pool: Pool) -> None:
    condition = pool.pick(lambda each: each.kind == "b")
    x = pool.pick(lambda each: True)
    if condition is None or x is None:
        return
    y = partner(pool, x)
    pair = (x, y) if pool.flag() else (y, x)
    exact = is_exact(x) and is_exact(y)
    pool.emit("select", condition, *pair, exact=exact, bits=max(x.bits, bits_of(y)))


def cast(pool: Pool) -> None:
    target = pool.choose((*DTYPES, "u16", "u64"))
    continuous = target in MANTISSA
    x = pool.pick(lambda each: each.exact or continuous)
    if x is not None and x.kind != "c":
        pool.emit("cast", x, dtype=target)
