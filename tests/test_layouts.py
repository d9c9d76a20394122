"""Elementwise nests over strided arrays and short rows: every size about that of vectors.

The arrays lie between pages that may not be touched.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from fenced import about, both_ways, numbers
from native import NativeModule

import stepforge as tf
from stepforge.codegen import target
from stepforge.ir.core import Function
from stepforge.ir.ops.loops import STREAM_BYTES
from stepforge.ir.parser import parse_function
from stepforge.ir.types import numpy_dtype

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs mprotect")

DTYPES = ("f32", "f64", "i32", "i8", "bool", "f16")
STEPS = (2, 3, 5, 8, 9, -1, -2, -3, -7)
LENGTHS = (2, 3, 5, 6, 7, 8, 10, 12, 15, 17, 24, 31, 33)
HOST = target.host()
PROCESSORS = {"host": HOST}
if HOST.triple.startswith("x86_64") and HOST.has("avx2"):
    PROCESSORS["avx2"] = target.chosen(HOST.triple, "x86-64-v3")
    PROCESSORS["sse"] = target.chosen(HOST.triple, "x86-64")


def function(text: str, dtype: str) -> Function:
    """A function of ``dtype``; what adds is ``or`` for bools."""
    op = "logical_or" if dtype == "bool" else "add"
    return parse_function(text.replace("T", dtype).replace("plus", op))


def check(
    module: NativeModule, number: int, values: Sequence[np.ndarray[Any, Any]], want: Any
) -> None:
    for arrays in both_ways(values):
        (got,) = module.run(number, arrays)
        np.testing.assert_array_equal(got, want, err_msg=str([v.shape for v in values]))


# ---- strides -------------------------------------------------------------------------------------
STRIDED = """func @f(%x: T[n]) -> T[floordiv(n + {up}, {apart})] {{
  %c = slice(%x, begin=[{begin}], size=[floordiv(n + {up}, {apart})], strides=[{step}]) : \
T[floordiv(n + {up}, {apart})]
  %r = plus(%c, %c) : T[floordiv(n + {up}, {apart})]
  return(%r)
}}"""


@cache
def strided(processor: str, dtype: str) -> NativeModule:
    functions = []
    for step in STEPS:
        apart, begin = abs(step), "0" if step > 0 else "n - 1"
        text = STRIDED.format(up=apart - 1, apart=apart, begin=begin, step=step)
        functions.append(function(text, dtype))
    return NativeModule(functions, processor=PROCESSORS[processor])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_steps_between_elements(processor: str, dtype: str) -> None:
    kind = numpy_dtype(dtype)
    module = strided(processor, dtype)
    assert "shufflevector" in module.text
    for number, step in enumerate(STEPS):
        for count in about(64 // kind.itemsize):
            for more in {0, abs(step) - 1}:  # elements behind the last that is taken
                if count or not more:
                    size = max((count - 1) * abs(step) + 1 + more, 0) if count else 0
                    x = numbers(kind, size)
                    taken = x[::step]
                    check(module, number, [x], taken + taken)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i8", "f16"])
@pytest.mark.parametrize("processor", PROCESSORS)
def test_long_steps_begin_aligned(processor: str, dtype: str) -> None:
    """From every place that the elements, and the result, may have."""
    kind = numpy_dtype(dtype)
    module, lanes = strided(processor, dtype), 64 // kind.itemsize
    for number, step in enumerate(STEPS):
        for count in (16 * lanes - 1, *range(16 * lanes, 17 * lanes + 2, max(1, lanes // 16))):
            for more in {0, abs(step) - 1}:
                x = numbers(kind, (count - 1) * abs(step) + 1 + more)
                taken = x[::step]
                check(module, number, [x], taken + taken)


@pytest.mark.parametrize("n", [1000, 1 << 21])
def test_several_steps_in_one_loop(n: int) -> None:
    """Small, where the loads are aligned; large, where the stores are, and stream."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y, z = (tf.placeholder(tf.float32, [None]) for _ in "xyz")
        step = sess.make_callable([x[::2] + y[::3] * z, x[1::2] - z[::-1]], [x, y, z])
        for shift in range(4):
            a, b, c = (np.arange(k * n + shift, dtype=np.float32)[shift:] for k in (2, 3, 1))
            total, less = step(a, b, c)
            np.testing.assert_array_equal(total, a[::2] + b[::3] * c)
            np.testing.assert_array_equal(less, a[1::2] - c[::-1])


# ---- short rows ----------------------------------------------------------------------------------
Rule = Callable[..., Any]
ROWS: tuple[tuple[str, Rule], ...] = (
    (
        "func @f(%x: T[n, {m}], %y: T[{m}]) -> T[n, {m}] {{\n"
        "  %r = plus(%x, %y) : T[n, {m}]\n  return(%r)\n}}",
        lambda x, y: x + y,
    ),
    (
        "func @f(%x: T[n, {m}], %y: T[n, 1]) -> T[n, {m}] {{\n"
        "  %r = plus(%x, %y) : T[n, {m}]\n  return(%r)\n}}",
        lambda x, y: x + y,
    ),
    (
        "func @f(%x: T[n, 1], %y: T[1, {m}]) -> T[n, {m}] {{\n"
        "  %r = plus(%x, %y) : T[n, {m}]\n  return(%r)\n}}",
        lambda x, y: x + y,
    ),
    (
        "func @f(%x: T[n, {more}], %y: T[{m}]) -> T[n, {m}] {{\n"
        "  %c = slice(%x, begin=[0, 1], size=[n, {m}]) : T[n, {m}]\n"
        "  %r = plus(%c, %y) : T[n, {m}]\n  return(%r)\n}}",
        lambda x, y: x[:, 1:-1] + y,
    ),
    (
        "func @f(%x: T[n, {m}], %y: T[{m}]) -> T[n, {m}] {{\n"
        "  %c = slice(%x, begin=[n - 1, {last}], size=[n, {m}], strides=[-1, -1]) : T[n, {m}]\n"
        "  %r = plus(%c, %y) : T[n, {m}]\n  return(%r)\n}}",
        lambda x, y: x[::-1, ::-1] + y,
    ),
)
SHAPES: tuple[Callable[[int, int], list[tuple[int, ...]]], ...] = (
    lambda n, m: [(n, m), (m,)],
    lambda n, m: [(n, m), (n, 1)],
    lambda n, m: [(n, 1), (1, m)],
    lambda n, m: [(n, m + 2), (m,)],
    lambda n, m: [(n, m), (m,)],
)


@cache
def rows(processor: str, dtype: str) -> NativeModule:
    functions = [
        function(text.format(m=m, more=m + 2, last=m - 1), dtype)
        for m in LENGTHS
        for text, _ in ROWS
    ]
    return NativeModule(functions, processor=PROCESSORS[processor])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("processor", PROCESSORS)
def test_short_rows(processor: str, dtype: str) -> None:
    kind = numpy_dtype(dtype)
    module = rows(processor, dtype)
    for place, m in enumerate(LENGTHS):
        for count in about(64 // kind.itemsize)[:14]:
            for number, (_, rule) in enumerate(ROWS):
                values = [numbers(kind, *shape) for shape in SHAPES[number](count, m)]
                check(module, place * len(ROWS) + number, values, rule(*values))


def test_rows_of_several_dtypes_and_counters() -> None:
    """A mask of bytes beside wider elements, and a body that computes with the counters."""
    text = """func @f(%x: f64[n, 5], %m: bool[n, 5], %y: f32[5], %z: bool[n, 1]) -> f64[n, 5] {
  %w = cast(%y, dtype="f64") : f64[5]
  %s = add(%x, %w) : f64[n, 5]
  %both = logical_and(%m, %z) : bool[n, 5]
  %r = select(%both, %s, %x) : f64[n, 5]
  return(%r)
}"""
    module = NativeModule([parse_function(text)])
    for n in (0, 1, 7, 8, 9, 16, 23, 100):
        x, y = numbers(np.dtype("f8"), n, 5), np.linspace(0, 1, 5, dtype=np.float32)
        m, z = numbers(np.dtype(bool), n, 5), numbers(np.dtype(bool), n, 1)
        check(module, 0, [x, m, y, z], np.where(m & z, x + y, x))


@pytest.mark.parametrize("n", [8, 16, 17, 40])
def test_known_numbers_of_rows(n: int) -> None:
    text = f"""func @f(%x: f32[{n}, 3], %y: f32[3]) -> f32[{n}, 3] {{
  %r = mul(%x, %y) : f32[{n}, 3]
  return(%r)
}}"""
    x, y = numbers(np.dtype("f4"), n, 3), np.array([1, 2, 3], np.float32)
    check(NativeModule([parse_function(text)]), 0, [x, y], x * y)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i8", "f16"])
def test_long_rows_that_begin_anywhere(dtype: str) -> None:
    """Their whole vectors begin where stores are aligned."""
    text = """func @f(%x: T[n, m], %y: T[m]) -> T[n, m] {
  %r = plus(%x, %y) : T[n, m]
  return(%r)
}"""
    kind = numpy_dtype(dtype)
    module = NativeModule([function(text, dtype)])
    lanes = 64 // kind.itemsize
    for m in (16 * lanes + more for more in (-1, 0, 1, 2, 3, lanes - 1, lanes + 5)):
        x, y = numbers(kind, 5, m), numbers(kind, m)
        check(module, 0, [x, y], x + y)


def test_rows_inside_of_another_loop() -> None:
    text = """func @f(%x: f32[a, n, 3], %y: f32[a, 1, 3], %z: f32[n, 1]) -> f32[a, n, 3] {
  %s = add(%x, %y) : f32[a, n, 3]
  %r = mul(%s, %z) : f32[a, n, 3]
  return(%r)
}"""
    module = NativeModule([parse_function(text)])
    assert "shufflevector" in module.text
    kind = np.dtype("f4")
    for n in about(16):
        x, y, z = numbers(kind, 3, n, 3), numbers(kind, 3, 1, 3), numbers(kind, n, 1)
        check(module, 0, [x, y, z], (x + y) * z)


@pytest.mark.parametrize("dtype", ["f32", "f64", "i8", "f16"])
@pytest.mark.parametrize("m", [3, 4, 5, 6, 12])
def test_many_short_rows_begin_aligned(m: int, dtype: str) -> None:
    """From every place that the result may have."""
    text = f"""func @f(%x: T[n, {m}], %y: T[{m}], %z: T[n, 1]) -> T[n, {m}] {{
  %s = plus(%x, %y) : T[n, {m}]
  %r = plus(%s, %z) : T[n, {m}]
  return(%r)
}}"""
    kind = numpy_dtype(dtype)
    module = NativeModule([function(text, dtype)])
    rows = 64 // kind.itemsize
    for n in (16 * rows - 1, *range(16 * rows, 17 * rows + 2)):
        x, y, z = numbers(kind, n, m), numbers(kind, m), numbers(kind, n, 1)
        check(module, 0, [x, y, z], x + y + z)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("m", [3, 5, 8, 17])
def test_large_results_of_short_rows_stream(m: int, threads: int) -> None:
    """Where sessions put them they are aligned."""
    config = tf.ConfigProto(intra_op_parallelism_threads=threads)
    least = -(-STREAM_BYTES // (4 * m))
    with tf.Graph().as_default(), tf.Session(config=config) as sess:
        x, y = (tf.placeholder(tf.float32, shape) for shape in ([None, m], [m]))
        step = sess.make_callable([x + y, x * y], [x, y])
        text = step.text("llvm")
        assert ("!nontemporal" in text) == (m < 17)  # a second copy of the body
        for n in (least // 2 - 1, least, least + 15, 5 * least + 100):
            values = numbers(np.dtype("f4"), n, m), np.arange(m, dtype=np.float32)
            total, product = step(*values)
            np.testing.assert_array_equal(total, values[0] + values[1])
            np.testing.assert_array_equal(product, values[0] * values[1])
