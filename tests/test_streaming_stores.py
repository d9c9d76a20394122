"""Stores that go past the caches: the same values for all sizes, alignments, dtypes and ranks."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from native import NativeModule

import stepforge as tf
from stepforge.codegen import jit, target
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.loop_streams import Place, turns_before
from stepforge.ir.ops.loops import STREAM_BYTES
from stepforge.ir.parser import parse_function
from stepforge.ir.types import item_bytes, numpy_dtype

DTYPES = ("u8", "i16", "i32", "i64", "f16", "bf16", "f32", "f64")


def _least(dtype: str) -> int:
    """The elements from which stores stream."""
    return STREAM_BYTES // item_bytes(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_vectors_just_below_and_above_the_limit(dtype: str) -> None:
    function = parse_function(
        f"func @f(%x: {dtype}[n], %y: {dtype}[n]) -> {dtype}[n] {{\n"
        f"  %r = add(%x, %y) : {dtype}[n]\n  return(%r)\n}}"
    )
    module = NativeModule([function])
    assert "!nontemporal" in module.text
    rng = np.random.default_rng(2)
    least = _least(dtype)
    x, y = (rng.integers(0, 50, least + 200).astype(numpy_dtype(dtype)) for _ in "xy")
    for count in (0, 1, 63, least - 1, least, least + 1, least + 63, least + 130):
        for shift in (0, 1):
            a, b = x[shift : shift + count], y[:count]
            (got,) = module.run(0, [a, b])
            np.testing.assert_array_equal(got, a + b)


def test_rows_that_begin_anywhere() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, None])
        row = tf.placeholder(tf.float32, [None])
        step = sess.make_callable([x * 2.0 + row, x > row], [x, row])
        for columns in (5, 63, 64, 100, 1000, 1001, 4096):
            rows = STREAM_BYTES // (4 * columns) + 3
            value = np.random.default_rng(columns).random((rows, columns), np.float32)
            other = np.linspace(0, 1, columns, dtype=np.float32)
            scaled, above = step(value, other)
            np.testing.assert_array_equal(scaled, value * 2 + other)
            np.testing.assert_array_equal(above, value > other)


def test_known_sizes_stream_only_where_they_are_large() -> None:
    text = (
        "func @f(%x: f32[{n}]) -> f32[{n}] {{\n  %r = sqrt(%x) : f32[{n}]\n  return(%r)\n}}"
    )
    small, large = (
        parse_function(text.format(n=n)) for n in (_least("f32") - 1, _least("f32") + 37)
    )
    assert "!nontemporal" not in NativeModule([small]).text
    module = NativeModule([large])
    assert "!nontemporal" in module.text
    x = np.random.default_rng(0).random(_least("f32") + 37, np.float32)
    np.testing.assert_array_equal(module.run(0, [x])[0], np.sqrt(x))


def _text(build: Any) -> str:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 8])
        v = tf.Variable(np.zeros(8, np.float32))
        sess.run(tf.global_variables_initializer())
        return sess.make_callable(build(x, v), [x]).text("loops")


def test_what_the_step_reads_again_does_not_stream() -> None:
    assert "stream=true" in _text(lambda x, v: x + 1.0)
    assert "stream" not in _text(lambda x, v: v.assign_add(tf.reduce_sum(x, 0)))

    def read_again(x: Any, v: Any) -> list[Any]:
        y = tf.exp(x)
        return [y, tf.matmul(y, y, transpose_a=True)]

    assert "stream" not in _text(read_again)


@pytest.mark.parametrize(("width", "size"), [(16, 4), (8, 8), (64, 1), (4, 4)])
def test_turns_before_an_aligned_one(width: int, size: int) -> None:
    """Those of the first place that has one, by trial; of whole elements at any address."""
    steps = (1, 2, 3, 4, 5, 6, 12, 16, 33, 64)
    module = ModuleWriter(target.host().triple)
    for step in steps:
        fn = FunctionWriter(module, f"turns{step}", "i64", [("ptr", "a"), ("ptr", "b")])
        places = [Place("%a", size, "0", step), Place("%b", size, "0")]
        fn.do(f"ret i64 {turns_before(fn, places, width)}")
        fn.define()
    library = jit.build(module.text(), "O0", {}, [f"turns{step}" for step in steps])

    def trial(address: int, step: int) -> int | None:
        aligned = [t for t in range(width) if (address + t * step * size) % (width * size) == 0]
        return min(aligned, default=None)

    for step in steps:
        turns = ctypes.CFUNCTYPE(*[ctypes.c_int64] * 3)(library[f"turns{step}"])
        for a in range(0, width * size, size):
            for b in (0, 5 * size, (width - 1) * size):
                first, second = trial(4096 + a, step), trial(b, 1)
                assert turns(4096 + a, b) == (second if first is None else first)
