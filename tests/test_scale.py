"""Large graphs: what keeps their compile linear, looked at by structure and never by time."""

from __future__ import annotations

import gc
import re
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.codegen import jit, parts
from stepforge.codegen.llvm import EXPANDED_CALLS
from stepforge.runtime import pipeline

pytestmark = pytest.mark.usefixtures("own_graph")


def sum_of_functions(count: int) -> tuple[Any, Any]:
    x = tf.placeholder(tf.float32, [None, 16], name="x")
    return x, tf.add_n([tf.tanh(x + 0.01 * i) for i in range(count)])


def test_functions_in_many_places_are_called_out_of_line() -> None:
    heads = []
    for count in (2, EXPANDED_CALLS + 1):
        x, y = sum_of_functions(count)
        with tf.Session() as sess:
            step = sess.make_callable(y, [x])
            value = np.linspace(-1, 1, 80, dtype=np.float32).reshape(5, 16)
            want = sum(np.tanh(value + np.float32(0.01 * i)) for i in range(count))
            np.testing.assert_allclose(step(value), want, rtol=1e-5, atol=1e-5)
            heads.append(re.search(r"define internal .*@tanh\..*", step.text("llvm")).group())
    assert " alwaysinline " in heads[0]
    assert " noinline " in heads[1]


def test_a_sum_of_functions_is_cut_into_sums() -> None:
    x, y = sum_of_functions(60)
    with tf.Session() as sess:
        fused = sess.make_callable(y, [x]).text("fused")
    results = sum(line.count("f32[x_0, 16]") for line in fused.splitlines() if "= fused(" in line)
    # each piece leaves its sum, and what it needs of the next function at most
    assert results <= 14


def layers(count: int) -> tuple[Any, Any, Any]:
    x = tf.placeholder(tf.float32, [None, 8], name="x")
    scale = tf.Variable(np.float32(0.5), name="scale")
    y = x
    for i in range(count):
        weights = tf.constant(np.eye(8, dtype=np.float32) * (1 + i % 3))
        y = tf.nn.relu(tf.matmul(y, weights) - 0.1) * scale
        if i % 10 == 9:
            y = y / (1.0 + tf.reduce_sum(y))  # a scalar that other parts use
    return x, y, scale


def test_long_drivers_come_in_parts() -> None:
    x, y, scale = layers(120)
    value = np.linspace(0, 1, 24, dtype=np.float32).reshape(3, 8)
    want = value
    for i in range(120):
        want = np.maximum(want @ (np.eye(8, dtype=np.float32) * (1 + i % 3)) - 0.1, 0) * 0.5
        if i % 10 == 9:
            want = want / (1 + want.sum())
    with tf.Session() as sess:
        sess.run(scale.initializer)
        step = sess.make_callable(y, [x])
        np.testing.assert_allclose(step(value), want, rtol=1e-4)
        np.testing.assert_allclose(step(value[:1]).shape, (1, 8))
        text = step.text("llvm")
    assert len(re.findall(r"define internal i32 @kernel_part_\d+", text)) > 1


def test_errors_in_a_part_end_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "LONGEST", 0)
    monkeypatch.setattr(parts, "PART", 1)
    params = tf.placeholder(tf.float32, [None, 4], name="params")
    indices = tf.placeholder(tf.int32, [None], name="indices")
    total = tf.Variable(np.zeros(4, np.float32), name="total")
    rows = tf.gather(tf.exp(params) * 2.0, indices)
    kept = tf.boolean_mask(rows, rows[:, 0] > 2.0)  # a size that only the step knows
    update = total.assign_add(tf.reduce_sum(kept, 0))
    with tf.Session() as sess:
        sess.run(total.initializer)
        values = np.arange(8, dtype=np.float32).reshape(2, 4) / 8
        for _ in range(2):
            want = (np.exp(values) * 2)[[1, 1, 0]]
            got = sess.run([kept, update], {params: values, indices: [1, 1, 0]})
            np.testing.assert_allclose(got[0], want[want[:, 0] > 2.0], rtol=1e-6)
        before = sess.run(total)
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(update, {params: values, indices: [2]})
        np.testing.assert_array_equal(sess.run(total), before)


def test_large_steps_are_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "LARGE", 1000)
    compiled: list[str] = []

    def noted(text: str, level: jit.Level = "O2", *rest: Any, **given: Any) -> Any:
        compiled.append(level)
        return compile_text(text, level, *rest, **given)

    compile_text = jit.compile_text
    x, y = sum_of_functions(3)
    variable = tf.Variable(np.zeros(3, np.float32), name="once")
    with tf.Session() as sess:
        sess.run(y, {x: np.ones((2, 16), np.float32)})  # and what a process compiles once
        monkeypatch.setattr(jit, "compile_text", noted)
        sess.run(variable.initializer)
        for _ in range(3):
            sess.run([y, x], {x: np.ones((2, 16), np.float32)})
    assert compiled == ["O0", pipeline.FINAL_LEVEL]  # the initialiser, then the step
    assert gc.isenabled()


def test_gradients_look_only_at_what_their_targets_are_made_from() -> None:
    x = tf.placeholder(tf.float32, [3], name="x")
    y = tf.reduce_sum(tf.square(x))
    for _ in range(50):
        tf.sin(x)
    visited: list[str] = []

    class Watched(type(x)):  # type: ignore[misc]
        def consumers(self) -> list[Any]:
            visited.append(self.name)
            return super().consumers()

    x.__class__ = Watched
    tf.gradients(y, x)
    assert visited == []
