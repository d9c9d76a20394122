"""Reductions over rows that run together with what else is done row by row: values, also in blocks
and on several threads, how exact sums are, and what is left where nothing else wants the rows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir import dims
from stepforge.ir.core import Function, Operation
from stepforge.ir.parser import parse_function
from stepforge.passes.block_rows import ROWS
from stepforge.passes.fuse import fuse
from stepforge.passes.lower import lower
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead_steps import Step, compile_ahead

RNG = np.random.default_rng(0)
COLUMNS = (1, 7, 16, 17, 64, 67)  # around the widths of vectors, and of what is too short
HEIGHTS = (0, 1, 5, ROWS - 1, ROWS, ROWS + 1, 3 * ROWS + 7)


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-3) * scale + shift


def gradients(dtype: Any, shape: tuple[Any, Any], *, threads: int = 1) -> Any:
    """A callable of (x, scale, shift, dy) that gives all gradients of layer norm."""
    with tf.Graph().as_default():
        x, dy = (tf.placeholder(dtype, shape) for _ in range(2))
        scale, shift = (tf.placeholder(dtype, shape[1:]) for _ in range(2))
        made = tf.gradients(layer_norm(x, scale, shift), [x, scale, shift], dy)
        config = tf.ConfigProto(intra_op_parallelism_threads=threads)
        return tf.Session(config=config).make_callable(made, [x, scale, shift, dy])


def arguments(dtype: Any, rows: int, columns: int) -> list[Any]:
    shapes = (rows, columns), (columns,), (columns,), (rows, columns)
    return [RNG.normal(size=shape).astype(dtype) for shape in shapes]


def expected(x: Any, scale: Any, _: Any, dy: Any) -> tuple[Any, ...]:
    x, scale, dy = (value.astype(np.float64) for value in (x, scale, dy))
    deviation = np.sqrt(x.var(axis=1, keepdims=True) + 1e-3)
    normal = (x - x.mean(axis=1, keepdims=True)) / deviation
    force = dy * scale
    product = (force * normal).mean(axis=1, keepdims=True)
    dx = (force - force.mean(axis=1, keepdims=True) - normal * product) / deviation
    return dx, (dy * normal).sum(axis=0), dy.sum(axis=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 2e-4), (np.float64, 1e-11)])
@pytest.mark.parametrize("columns", COLUMNS)
def test_gradients_of_layer_norm_are_those_of_numpy(
    dtype: Any, tolerance: float, columns: int
) -> None:
    symbolic = gradients(dtype, (None, None))
    for rows in HEIGHTS:
        given = arguments(dtype, rows, columns)
        steps = [symbolic]
        if rows in (5, ROWS + 1):
            steps += [gradients(dtype, (None, columns)), gradients(dtype, (rows, columns))]
        for step in steps:
            for got, want in zip(step(*given), expected(*given), strict=True):
                np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


KINDS = {
    "sum": (tf.reduce_sum, np.sum),
    "mean": (tf.reduce_mean, np.mean),
    "max": (tf.reduce_max, np.max),
    "min": (tf.reduce_min, np.min),
    "prod": (tf.reduce_prod, np.prod),
}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int32, np.int64])
@pytest.mark.parametrize("shape", [(None, None), (None, 33), (2 * ROWS + 3, 33), (9, 33)])
def test_every_kind_and_dtype_beside_what_rows_give(dtype: Any, shape: Any) -> None:
    """Rows that are computed and fetched, and columns of them that are reduced."""
    integers = np.issubdtype(dtype, np.integer)
    kinds = [k for k in KINDS if not (integers and k == "mean")]
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(dtype, shape)
        rows = x * x - tf.reduce_max(x, 1, keep_dims=True)
        step = sess.make_callable([rows, *[KINDS[k][0](rows, 0) for k in kinds]], [x])
        for height in [shape[0]] if shape[0] else [1, ROWS, 2 * ROWS + 3]:
            value = RNG.integers(0, 3, (height, 33)).astype(dtype)
            got, *reduced = step(value)
            want = value * value - value.max(axis=1, keepdims=True)
            np.testing.assert_array_equal(got, want)
            wide = want if integers else want.astype(np.float64)
            for kind, found in zip(kinds, reduced, strict=True):
                with np.errstate(over="ignore"):
                    exact = KINDS[kind][1](wide, axis=0).astype(dtype)
                rounds = 1e-3 if dtype == np.float16 else 1e-6
                np.testing.assert_allclose(found, exact, rtol=rounds, err_msg=kind)


@pytest.mark.parametrize("shape", [(0, 20), (ROWS + 1, 0), (0, 0)])
def test_nothing_adds_up_to_nothing(shape: tuple[int, int]) -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, None])
        y = tf.nn.softmax(x)
        step = sess.make_callable([y, tf.reduce_sum(y, 0), tf.reduce_max(x, 0)], [x])
        rows, total, largest = step(np.ones(shape, np.float32))
    assert rows.shape == shape
    np.testing.assert_array_equal(total, np.zeros(shape[1], np.float32))
    np.testing.assert_array_equal(largest, np.full(shape[1], -np.inf if not shape[0] else 1))


def test_all_axes_but_the_last_and_some_axes_in_front() -> None:
    value = RNG.normal(size=(5, 19, 3, 18)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, None, 3, 18])
        y = tf.exp(x)
        axes = ([0, 1, 2], [0], [0, 1], [0, 2], [0, 1, 3], [0, 3], [1], [1, 2])
        step = sess.make_callable([y, *[tf.reduce_sum(y, each) for each in axes]], [x])
        got = step(value)
    exact = np.exp(value.astype(np.float64))
    for found, each in zip(got[1:], axes, strict=True):
        np.testing.assert_allclose(found, exact.sum(axis=tuple(each)), rtol=1e-5)


def test_bias_gradients_beside_softmax_and_rectifiers() -> None:
    rows, columns = 3 * ROWS + 1, 40
    x, labels = (RNG.normal(size=(rows, columns)).astype(np.float32) for _ in range(2))
    bias = RNG.normal(size=columns).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        feeds = [tf.placeholder(tf.float32, s) for s in ([None, columns], [columns])]
        target = tf.placeholder(tf.float32, [None, columns])
        logits = tf.nn.relu(feeds[0]) + feeds[1]
        loss = tf.nn.softmax_cross_entropy_with_logits(logits=logits, labels=target)
        step = sess.make_callable(tf.gradients(loss, feeds), [*feeds, target])
        dx, db = step(x, bias, labels)
    logits = np.maximum(x, 0).astype(np.float64) + bias
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    total = labels.astype(np.float64)
    back = powers / powers.sum(axis=1, keepdims=True) - total
    np.testing.assert_allclose(db, back.sum(axis=0), rtol=2e-4, atol=2e-4)
    np.testing.assert_allclose(dx, back * (x > 0), rtol=2e-4, atol=2e-4)


def test_sums_of_many_rows_are_as_exact_as_blocks_of_them() -> None:
    """A sum in single precision alone is off by some 1e-3 here."""
    value = np.full((300_000, 16), 0.1, np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 16])
        y = x * tf.reduce_max(x, 1, keep_dims=True)
        step = sess.make_callable([y, tf.reduce_sum(y, 0), tf.reduce_mean(x, 0)], [x])
        rows, total, mean = step(value)
    np.testing.assert_allclose(total, rows.astype(np.float64).sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(mean, value.astype(np.float64).mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize("shape", [(None, None), (None, 771), (1501, 771), (20, 30_000)])
def test_the_number_of_threads_does_not_change_a_bit(shape: Any) -> None:
    given = arguments(np.float32, shape[0] or 1501, shape[1] or 771)
    alone, shared = (gradients(np.float32, shape, threads=n)(*given) for n in (1, 0))
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_numba_back_end_has_the_same_blocks() -> None:
    pytest.importorskip("numba", reason="numba is not installed")
    given = arguments(np.float32, 2 * ROWS + 3, 33)
    with tf.Graph().as_default():
        x, dy = (tf.placeholder(tf.float32, (None, 33)) for _ in range(2))
        scale, shift = (tf.placeholder(tf.float32, (33,)) for _ in range(2))
        made = tf.gradients(layer_norm(x, scale, shift), [x, scale, shift], dy)
        results = [*made, tf.reduce_max(x, 0), tf.reduce_sum(x * dy, 0)]
        config = tf.ConfigProto(experimental={"executor_type": "numba"})
        with tf.Session(config=config) as sess:
            step = sess.make_callable(results, [x, scale, shift, dy])
            got = step(*given)
            assert "block1" in step.text("loops")
            assert sess.cache_info()["history"][0]["backend"] == "numba"
    want = [*expected(*given), given[0].max(axis=0), (given[0] * given[3]).sum(axis=0)]
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-4, atol=2e-4)


def test_ahead_of_time_code_has_parts_in_its_workspace(tmp_path: Path) -> None:
    given = RNG.normal(size=(5 * ROWS + 3, 33)).astype(np.float32)
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 33], name="x")
        y = tf.nn.softmax(x)
        compiled = compile_ahead(Step("sums", [y, tf.reduce_sum(y, 0, name="total")], [x]))
        with tf.Session() as sess:
            rows, total = sess.run([y, "total:0"], {x: given})
    ahead_files.write(compiled, tmp_path / "made.py")
    names: dict[str, Any] = {"__file__": str(tmp_path / "made.py"), "__name__": "made"}
    exec((tmp_path / "made.py").read_text(), names)
    got = names["sums"](given)
    np.testing.assert_allclose(got[0], rows, rtol=2e-6)
    np.testing.assert_allclose(got[1], total, rtol=2e-6)
    np.testing.assert_allclose(total, rows.astype(np.float64).sum(axis=0), rtol=1e-6)


# ---- what becomes of the loops ------------------------------------------------------------------
def nests(text: str) -> list[Operation]:
    function: Function = run_passes(lower(fuse(parse_function(text))).function, ORDER["loops"])
    assert all(not op.attrs.get("combine") for op in function.body.ops if op.name == "alloc")
    return [op for op in function.body.ops if op.name == "for"]


BESIDE = """
func @f(%x: f32[n, 96]) -> f32[n, 96], f32[96] {
  %m = reduce_max(%x, axes=[1], keep_dims=true) : f32[n, 1]
  %y = sub(%x, %m) : f32[n, 96]
  %s = reduce_sum(%y, axes=[0]) : f32[96]
  return(%y, %s)
}"""


def test_rows_are_visited_once() -> None:
    rows, total = nests(BESIDE)
    assert rows.attr("binds")
    assert rows.attr("high") == dims.floor_div(dims.named("n") + ROWS - 1, ROWS)
    assert [op.name for op in rows.regions[0].ops] == ["for", "for", "yield"]
    assert total.attr("high") == 96


def test_sums_stay_apart_from_results_of_the_same_row() -> None:
    """Stores to both in turn would be slow."""
    rows, _ = nests(BESIDE)
    *_, row, _ = rows.regions[0].ops
    stored = [
        len({inner.operands[1] for inner in op.regions[0].ops if inner.name == "store"})
        for op in row.regions[0].ops
        if op.name == "for"
    ]
    assert stored == [0, 1, 1]


def test_blocks_of_rows_are_shared_among_threads() -> None:
    rows, _ = nests(BESIDE)
    assert rows.attr("parallel")
    assert dims.evaluate(rows.attr("work"), {"n": 10_000}) > 100_000


def test_a_few_long_rows_are_several_blocks() -> None:
    rows, _ = nests(BESIDE.replace("[n,", "[60,").replace("96", "65536"))
    assert rows.attr("parallel")
    assert rows.attr("high") == 15


def test_blocks_have_memory_of_their_own_in_the_arena() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 96])
        y = tf.nn.softmax(x)
        step = sess.make_callable([y, tf.reduce_sum(y, 0)], [x])
        text = step.text("loops")
    assert "alloc(" not in text
    assert "place(shape=[floordiv(" in text


@pytest.mark.parametrize("name", ["block", "chunk"])
def test_a_size_may_be_called_like_a_block(name: str) -> None:
    value = RNG.random(size=(2 * ROWS + 1, 4100)).astype(np.float32)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, None], name=name)
        y = x - tf.reduce_sum(x, 1, keep_dims=True)
        step = sess.make_callable([y, tf.reduce_sum(y, 0)], [x])
        rows, total = step(value)
    np.testing.assert_allclose(rows, value - value.sum(1, np.float64, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(total, rows.astype(np.float64).sum(axis=0), rtol=1e-5)
