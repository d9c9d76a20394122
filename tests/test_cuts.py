"""Slices that only arithmetic uses are not stored: every kind of slice, broadcast and reduced."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepforge as tf

CUTS = [
    np.s_[1:],
    np.s_[:-1],
    np.s_[::2],
    np.s_[::-1],
    np.s_[:, 1:],
    np.s_[:, ::-3],
    np.s_[1:-1, 2:-2],
    np.s_[2:3],
    np.s_[:, 1:2],
    np.s_[3:0:-2, 1:2, :],
    np.s_[:, 1:3, ::2],
    np.s_[1:, :, 1:],
    np.s_[:, 2:3, 1:],
    np.s_[0:0],
]


def _run(build: Any, *arrays: Any) -> tuple[Any, str]:
    with tf.Graph().as_default(), tf.Session() as sess:
        feeds = [tf.placeholder(a.dtype, [None] * a.ndim) for a in arrays]
        step = sess.make_callable(build(*feeds), feeds)
        result = step(*arrays)
        return result, step.text("loops")


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("cut", CUTS, ids=str)
def test_arithmetic_on_slices(cut: Any, known: bool) -> None:
    rng = np.random.default_rng(3)
    shapes = [(4, 9, 40)] if known else [(5, 6, 7), (4, 9, 40), (5, 3, 1)]
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y, row = (tf.placeholder(tf.float32, [None] * 3) for _ in "xyr")
        if known:
            x.set_shape(shapes[0])
        part = x[cut]
        step = sess.make_callable([part - row, tf.reduce_sum(part * y, 1)], [x, y, row])
        for shape in shapes:
            value = rng.integers(-50, 50, shape).astype(np.float32)
            cutout = value[cut]
            other = rng.integers(-50, 50, cutout.shape).astype(np.float32)
            first = other[:, :1, :]
            sums, differences = (cutout * other).sum(1), cutout - first
            got = step(value, other, first)
            np.testing.assert_array_equal(got[0], differences)
            np.testing.assert_array_equal(got[1], sums)


def test_a_slice_that_broadcasts() -> None:
    x = np.arange(35, dtype=np.float64).reshape(5, 7)
    y = np.arange(140, dtype=np.float64).reshape(4, 5, 7)
    got, _ = _run(lambda x, y: [y + x[2:3], y * x[:, 3:4], y - x[1:2, 4:5], x[:, 1:2] + y], x, y)
    for result, value in zip(
        got, [y + x[2:3], y * x[:, 3:4], y - x[1:2, 4:5], x[:, 1:2] + y], strict=True
    ):
        np.testing.assert_array_equal(result, value)


def test_differences_need_no_memory_and_one_loop_nest() -> None:
    x = np.random.default_rng(0).random((40, 50)).astype(np.float32)
    got, loops = _run(lambda x: x[1:] - x[:-1], x)
    np.testing.assert_array_equal(got, x[1:] - x[:-1])
    assert "alloc" not in loops
    assert "place" not in loops
    got, loops = _run(lambda x: x[1:, 2:] * x[:-1, :-2] - x[1:, 1:-1], x)
    np.testing.assert_array_equal(got, x[1:, 2:] * x[:-1, :-2] - x[1:, 1:-1])
    assert "place" not in loops


def test_an_update_in_place_does_not_disturb_slices_of_the_old_value() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        start = np.arange(64, dtype=np.float32)
        v = tf.Variable(start)
        w = tf.Variable(np.zeros(63, np.float32))
        shifted = tf.concat([v[1:], v[:1]], 0)
        smooth = v.assign(v * 0.5 + shifted * 0.5)
        other = w.assign(v[1:] - v[:-1])
        sess.run(tf.global_variables_initializer())
        old = start.copy()
        for _ in range(3):
            new, _ = sess.run([smooth, other])
            np.testing.assert_array_equal(new, old * 0.5 + np.roll(old, -1) * 0.5)
            old = new
        np.testing.assert_array_equal(sess.run(v), old)


def test_a_slice_that_is_fetched_too() -> None:
    x = np.arange(30, dtype=np.int32).reshape(5, 6)
    got, _ = _run(lambda x: [x[1:], x[1:] * 3], x)
    np.testing.assert_array_equal(got[0], x[1:])
    np.testing.assert_array_equal(got[1], x[1:] * 3)
