"""Loops by lanes at sizes about those of vectors: full vectors, tails, partial results, NaN."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from native import NativeModule

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Function, Value
from stepforge.ir.types import Type, numpy_dtype
from stepforge.passes.expand import expand

SIZES = (1, 2, 3, 9, 16, 33, 64, 100, 261)
STATIC = ((3, 10), (10, 3), (5, 64), (9, 200))
TOLERANCE = {"f16": 2e-3, "f32": 3e-6, "f64": 3e-15}

# op, attributes, dtypes, NumPy's function
OPS: tuple[tuple[str, dict[str, Any], str, Callable[..., Any]], ...] = (
    ("reduce_sum", {"axes": (0,)}, "f32 f64 i32 f16", lambda x: x.sum(0, dtype=x.dtype)),
    ("reduce_sum", {"axes": (1,)}, "f32 f64 u8", lambda x: x.sum(1, dtype=x.dtype)),
    ("reduce_sum", {"axes": (0, 1)}, "f32", lambda x: x.sum()),
    ("reduce_max", {"axes": (0,)}, "f32 i64 u8", lambda x: x.max(0)),
    ("reduce_min", {"axes": (1,)}, "f32 f64 i32", lambda x: x.min(1)),
    ("reduce_any", {"axes": (0,)}, "bool", lambda x: x.any(0)),
    ("cumsum", {"axis": 0}, "f32 i32", lambda x: x.cumsum(0, dtype=x.dtype)),
    ("cumsum", {"axis": 1}, "f32", lambda x: x.cumsum(1)),
    ("abs", {}, "f32 f64 f16 i32", np.abs),
)
CASES = [(op, attrs, dtype, rule) for op, attrs, ds, rule in OPS for dtype in ds.split()]


def function(op: str, attrs: dict[str, Any], type_: Type) -> Function:
    b = Builder()
    x = Value(type_, "x")
    b.emit("return", b.emit(op, x, **attrs))
    return expand(b.function("f", [x]))


@cache
def dynamic() -> NativeModule:
    """All cases with sizes that only the call knows."""
    shape = (dims.named("n"), dims.named("m"))
    return NativeModule([function(op, attrs, Type(d, shape)) for op, attrs, d, _ in CASES])


def values(dtype: str, *shape: int) -> np.ndarray[Any, Any]:
    numbers = np.random.default_rng(shape).integers(-9, 10, shape)
    return np.abs(numbers).astype("u1") if dtype == "u8" else numbers.astype(numpy_dtype(dtype))


def check(module: NativeModule, number: int, case: int, *shape: int) -> None:
    _, _, dtype, rule = CASES[case]
    x = values(dtype, *shape)
    (got,) = module.run(number, [x])
    rtol = TOLERANCE.get(dtype, 0)
    np.testing.assert_allclose(got, rule(x), rtol=rtol, atol=rtol, err_msg=f"{CASES[case]} {shape}")


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: "{0} {2}".format(*CASES[i]))
def test_sizes_that_the_call_knows(case: int) -> None:
    for shape in itertools.product(SIZES, SIZES):
        check(dynamic(), case, case, *shape)


@pytest.mark.parametrize("shape", STATIC)
def test_sizes_that_the_code_knows(shape: tuple[int, int]) -> None:
    module = NativeModule([function(op, attrs, Type(d, shape)) for op, attrs, d, _ in CASES])
    for case in range(len(CASES)):
        check(module, case, case, *shape)


def test_every_column_adds_in_the_same_order() -> None:
    """Wherever in a vector it is, and whether that is a full one."""
    column = np.random.default_rng(1).standard_normal((37, 1)).astype(np.float32)
    for width in SIZES:
        (got,) = dynamic().run(0, [np.repeat(column, width, axis=1)])
        (alone,) = dynamic().run(0, [column])
        np.testing.assert_array_equal(got, np.repeat(alone, width))


@pytest.mark.parametrize("op", ["reduce_max", "reduce_min"])
def test_a_nan_comes_through_from_everywhere(op: str) -> None:
    case = next(i for i, c in enumerate(CASES) if c[0] == op and c[2] == "f32")
    for place in range(70):
        x = values("f32", 70, 70)
        x[place, place] = np.nan
        (got,) = dynamic().run(case, [x])
        np.testing.assert_array_equal(np.isnan(got), np.arange(70) == place)
