"""Positions of extremes natively: every dtype and axis, odd sizes, ties, NaN, no elements."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from native import NativeModule

from stepforge.ir.parser import parse_function
from stepforge.ir.types import numpy_dtype

DTYPES = ("bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64", "f16", "bf16", "f32", "f64")
SHAPES = [(1,), (7,), (255,), (256,), (257,), (1000,), (5, 3), (3, 300), (300, 3), (2, 5, 4),
          (2, 300, 17), (2, 9, 70), (0, 3), (3, 0, 2)]  # fmt: skip


def _programs(dtype: str) -> list[str]:
    found = []
    for name in ("argmax", "argmin"):
        for rank in (1, 2, 3):
            for axis in range(rank):
                sizes = ["n", "m", "k"][:rank]
                rest = [n for a, n in enumerate(sizes) if a != axis]
                kept = f"i64[{', '.join(rest)}]" if rest else "i64"
                found.append(
                    f"func @f(%x: {dtype}[{', '.join(sizes)}]) -> {kept} {{\n"
                    f"  %r = {name}(%x, axis={axis}) : {kept}\n  return(%r)\n}}"
                )
    return found


def _values(rng: Any, shape: tuple[int, ...], dtype: str) -> Any:
    """Few different numbers, so that there are ties; NaN and infinities among the floats."""
    values = rng.integers(0 if dtype[0] in "ub" else -3, 4, shape)
    array = values.astype(numpy_dtype(dtype))
    if dtype[0] in "f" or dtype == "bf16":
        array[rng.random(shape) < 0.2] = np.nan
        array[rng.random(shape) < 0.1] = -np.inf
    return array


@pytest.mark.parametrize("dtype", DTYPES)
def test_positions_of_every_size_are_those_of_the_reference(dtype: str) -> None:
    functions = [parse_function(text) for text in _programs(dtype)]
    compiled = NativeModule(functions)
    rng = np.random.default_rng(5)
    for number, function in enumerate(functions):
        op = function.body.ops[0]
        for shape in SHAPES:
            if len(shape) != op.operands[0].type.rank:
                continue
            for turn in range(3):
                x = _values(rng, shape, dtype)
                if turn == 1:
                    x[...] = x.reshape(-1)[:1].repeat(x.size).reshape(shape) if x.size else x
                elif turn == 2 and x.size:
                    x.reshape(-1)[-1] = 5 if dtype != "bool" else True
                assert op.defn.numpy is not None
                wanted = op.defn.numpy(x, **op.all_attrs)
                (got,) = compiled.run(number, [x])
                np.testing.assert_array_equal(got, wanted, f"{op.name} {shape} {op.all_attrs}")


def test_integers_at_their_limits() -> None:
    function = parse_function(
        "func @f(%x: i8[n]) -> i64 {\n  %r = argmax(%x, axis=0) : i64\n  return(%r)\n}"
    )
    compiled = NativeModule([function])
    for values in ([-128] * 300, [-128] * 299 + [-127], [127] * 5, [-128, 127, 127]):
        x = np.array(values, np.int8)
        assert compiled.run(0, [x])[0] == np.argmax(x)
