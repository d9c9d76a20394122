"""Matrix products by tiles on several threads: the same bits as on one, whatever runs the chunks,
and no thread for products that are small.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
from native import NativeModule

from stepforge.codegen import signature as abi
from stepforge.codegen.sharing import PARALLEL_WORK
from stepforge.ir.parser import parse_function
from stepforge.ir.types import numpy_dtype
from stepforge.runtime.threads import Pool

Job = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
Parallel = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 4)
KINDS = [
    (dtype, a, b, epilogue)
    for dtype in ("f32", "f64")
    for a, b in itertools.product((False, True), repeat=2)
    for epilogue in ("none", "light", "heavy")
]
# Rows, columns, depth: odd sizes, few rows, few columns, deep, nothing to cut, whole tiles.
SHAPES = (
    (131, 257, 211), (5, 1031, 1301), (2003, 10, 400), (47, 96, 1500), (9, 20, 40000),
    (512, 64, 256),
)
EPILOGUES = {
    "none": "  %r = add(%c, %c) : {0}[m, n]\n",
    "light": "  %d = add(%c, %row) : {0}[m, n]\n  %e = relu(%d) : {0}[m, n]\n"
    "  %r = mul(%e, %whole) : {0}[m, n]\n",
    "heavy": "  %d = add(%c, %column) : {0}[m, n]\n  %r = tanh(%d) : {0}[m, n]\n",
}


def text_of(dtype: str, a: bool, b: bool, epilogue: str, sizes: str = "m n k") -> str:
    m, n, k = sizes.split()
    left = f"{dtype}[{k}, {m}]" if a else f"{dtype}[{m}, {k}]"
    right = f"{dtype}[{n}, {k}]" if b else f"{dtype}[{k}, {n}]"
    others = f"%row: {dtype}[{n}], %column: {dtype}[{m}, 1], %whole: {dtype}[{m}, {n}]"
    flags = f"transpose_a={str(a).lower()}, transpose_b={str(b).lower()}"
    body = EPILOGUES[epilogue].format(dtype).replace("[m, n]", f"[{m}, {n}]")
    return (
        f"func @f(%a: {left}, %b: {right}, {others}) -> {dtype}[{m}, {n}] {{\n"
        f"  %c = matmul(%a, %b, {flags}) : {dtype}[{m}, {n}]\n{body}  return(%r)\n}}"
    )


@cache
def any_size() -> NativeModule:
    return NativeModule([parse_function(text_of(*kind)) for kind in KINDS], "O1")


@cache
def pool(threads: int) -> Pool:
    return Pool(threads - 1)


def feeds(dtype: str, a: bool, b: bool, shape: tuple[int, int, int]) -> list[Any]:
    m, n, k = shape
    rng = np.random.default_rng(sum(shape))
    shapes = [(k, m) if a else (m, k), (n, k) if b else (k, n), (n,), (m, 1), (m, n)]
    return [rng.uniform(-1, 1, shape).astype(numpy_dtype(dtype)) for shape in shapes]


def expected(epilogue: str, a: bool, b: bool, arrays: list[Any]) -> Any:
    left, right, row, column, whole = (x.astype(np.float64) for x in arrays)
    c = (left.T if a else left) @ (right.T if b else right)
    if epilogue == "none":
        return c + c
    return np.maximum(c + row, 0) * whole if epilogue == "light" else np.tanh(c + column)


@contextmanager
def shared_by(module: NativeModule, function: int, pool: int) -> Iterator[None]:
    """``module`` with these in its table."""
    table = module._table
    table[abi.TABLE_PARALLEL_FOR], table[abi.TABLE_POOL] = function, pool
    try:
        yield
    finally:
        table[abi.TABLE_PARALLEL_FOR] = table[abi.TABLE_POOL] = None


@contextmanager
def recorded(module: NativeModule) -> Iterator[list[int]]:
    """The numbers of chunks that are asked for; the last of them runs first."""
    counts: list[int] = []

    def run(
        pool: int, job: int, arguments: int, low: int, high: int, work: int, least: int
    ) -> None:
        assert work >= PARALLEL_WORK
        firsts = range(low, high, least)
        counts.append(len(firsts))
        for first in reversed(firsts):
            Job(job)(arguments, first, min(first + least, high))

    callback = Parallel(run)
    function = ctypes.cast(callback, ctypes.c_void_p).value
    assert function is not None
    with shared_by(module, function, 1):
        yield counts


@pytest.mark.parametrize("number", range(len(KINDS)))
def test_threads_do_not_change_a_bit(number: int) -> None:
    (dtype, a, b, epilogue), module = KINDS[number], any_size()
    for shape in SHAPES:
        arrays = feeds(dtype, a, b, shape)
        (alone,) = module.run(number, arrays)
        limit = 1e-3 if dtype == "f32" else 1e-10
        np.testing.assert_allclose(alone, expected(epilogue, a, b, arrays), limit, limit)
        with recorded(module) as counts:
            (parts,) = module.run(number, arrays)
        assert len(counts) == 1
        assert (2 if max(shape[:2]) > 128 else 1) <= counts[0] <= 32
        np.testing.assert_array_equal(parts, alone)
        for threads in (2, 4):
            with shared_by(module, pool(threads).function, pool(threads).address):
                (shared,) = module.run(number, arrays)
            np.testing.assert_array_equal(shared, alone)


def test_chunks_depend_on_sizes_alone_and_are_never_small() -> None:
    module, number = any_size(), 0
    for m in (1, 2, 7, 48, 100, 1000, 5000):
        with recorded(module) as counts:
            module.run(number, feeds("f32", False, False, (m, 100, 100)))
        pieces = m * 100 * 100 // (6_400_000 // 2)
        assert len(counts) == (pieces >= 2)
        assert all(count <= min(pieces, 32) for count in counts)


@pytest.mark.parametrize("sizes", ["300 100 210", "1 n k", "m 1 k"])
def test_no_code_for_products_that_nobody_shares(sizes: str) -> None:
    module = NativeModule([parse_function(text_of("f32", False, False, "none", sizes))], link=False)
    assert "@products" not in module.text
    assert not module.shares[0]


@pytest.mark.parametrize("sizes", ["320 100 210", "m n k", "m 10 300"])
def test_code_for_products_that_may_be_shared(sizes: str) -> None:
    module = NativeModule([parse_function(text_of("f32", False, False, "none", sizes))], link=False)
    assert module.text.count("define internal void @products_") == 2
    assert module.shares[0]


def test_products_of_known_sizes() -> None:
    kinds = [("f32", a, b, "light") for a, b in itertools.product((False, True), repeat=2)]
    shapes = [(2000, 10, 350), (300, 96, 300)]
    cases = [(kind, shape) for kind in kinds for shape in shapes]
    functions = [parse_function(text_of(*kind, " ".join(map(str, s)))) for kind, s in cases]
    module = NativeModule(functions, "O1")
    for number, ((_, a, b, epilogue), shape) in enumerate(cases):
        arrays = feeds("f32", a, b, shape)
        (alone,) = module.run(number, arrays)
        np.testing.assert_allclose(alone, expected(epilogue, a, b, arrays), 1e-3, 1e-3)
        with recorded(module) as counts:
            (parts,) = module.run(number, arrays)
        assert counts
        np.testing.assert_array_equal(parts, alone)
