"""Transposes of rank 4 natively: every permutation, for elements of every size."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from native import NativeModule

from stepforge.ir.parser import parse_function
from stepforge.ir.types import numpy_dtype

PERMUTATIONS = list(itertools.permutations(range(4)))


@pytest.mark.parametrize("dtype", ["u8", "f16", "f32", "f64"])
def test_every_permutation(dtype: str) -> None:
    names = ("a", "b", "c", "d")
    functions = [
        parse_function(
            f"func @f(%x: {dtype}[{', '.join(names)}]) -> "
            f"{dtype}[{', '.join(names[axis] for axis in perm)}] {{\n"
            f"  %r = transpose(%x, perm={list(perm)}) : "
            f"{dtype}[{', '.join(names[axis] for axis in perm)}]\n  return(%r)\n}}"
        )
        for perm in PERMUTATIONS
    ]
    module = NativeModule(functions)
    rng = np.random.default_rng(4)
    for shape in [(3, 5, 2, 7), (1, 17, 19, 33), (4, 1, 35, 3), (2, 0, 3, 4)]:
        x = rng.integers(0, 99, shape).astype(numpy_dtype(dtype))
        for number, perm in enumerate(PERMUTATIONS):
            np.testing.assert_array_equal(module.run(number, [x])[0], x.transpose(perm), str(perm))
