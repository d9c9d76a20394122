"""A tour of stepforge, the file to open first: one small program followed through every stage.

A graph is built as in TensorFlow 1, extracted into IR, rewritten by passes, lowered to loops,
emitted as LLVM and called. Each test is one stop on that way.
"""

from __future__ import annotations

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir.evaluate import evaluate
from stepforge.ir.parser import parse_function
from stepforge.ir.text import print_function
from stepforge.ir.verify import verify
from stepforge.passes.fuse import fuse


@pytest.fixture
def layer():
    """``tanh(x @ w + b)`` for any number of rows, in a graph of its own."""
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        w = tf.get_variable("w", initializer=tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]))
        b = tf.get_variable("b", initializer=tf.constant([0.5, -0.5]))
        y = tf.tanh(tf.matmul(x, w) + b, name="y")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            yield sess, x, y


ROWS = np.array([[0.1, 0.2, 0.3], [0.0, 0.0, 0.0]], dtype=np.float32)
WEIGHTS = np.array([[1, 2], [3, 4], [5, 6]], dtype=np.float32)
WANT = np.tanh(ROWS @ WEIGHTS + np.array([0.5, -0.5], dtype=np.float32))


def test_a_graph_is_made_of_named_nodes(layer):
    sess, _, y = layer
    names = [op.name for op in sess.graph.get_operations()]
    assert names[0] == "x"
    start = names.index("MatMul")
    assert names[start : start + 3] == ["MatMul", "add", "y"]
    assert (y.shape.as_list(), y.dtype) == ([None, 2], tf.float32)


def test_run_and_make_callable_give_numpys_numbers(layer):
    sess, x, y = layer
    np.testing.assert_allclose(sess.run(y, {x: ROWS}), WANT, rtol=1e-6)
    step = sess.make_callable(y, [x])
    np.testing.assert_allclose(step(ROWS), WANT, rtol=1e-6)
    np.testing.assert_allclose(step(ROWS.tolist()), WANT, rtol=1e-6)


def test_a_new_batch_size_compiles_nothing(layer):
    sess, x, y = layer
    step = sess.make_callable(y, [x])
    before = sess.cache_info()["compiles"]
    for rows in range(20):
        assert step(np.ones((rows, 3), np.float32)).shape == (rows, 2)
    assert sess.cache_info()["compiles"] == before


def test_the_tensor_level_is_what_extraction_and_passes_leave(layer):
    sess, x, y = layer
    text = sess.make_callable(y, [x]).text("tensor")
    assert "%x: f32[x_0, 3]" in text  # the unknown size has a name
    assert "matmul(%x, " in text
    function = parse_function(text)  # the text is the IR: it reads back
    verify(function)
    assert print_function(function) == text
    state = {"w": WEIGHTS, "b": np.array([0.5, -0.5], np.float32)}
    (value,) = evaluate(function, [ROWS], state)  # and the evaluator says what it means
    np.testing.assert_allclose(value, WANT, rtol=1e-6)


def test_fusion_makes_one_loop_of_elementwise_work():
    function = parse_function("""
func @f(%x: f32[n], %b: f32) -> f32[n] {
  %0 = mul(%x, %x) : f32[n]
  %1 = add(%0, %b) : f32[n]
  %2 = exp(%1) : f32[n]
  return(%2)
}
""")
    fused = fuse(function)
    assert [op.name for op in fused.body.ops] == ["fused", "return"]
    assert [op.name for op in fused.body.ops[0].regions[0].ops] == ["mul", "add", "exp", "yield"]


def test_loops_llvm_and_machine_code_can_be_read(layer):
    sess, x, y = layer
    step = sess.make_callable(y, [x])
    step(ROWS)
    assert "gemm(%x, " in step.text("loops")
    assert "tanh(" in step.text("loops")  # in the region of the product
    assert "define ptr @entry" in step.text("llvm")
    assert "ret" in step.text("asm")


def test_errors_name_the_node_and_the_users_line(layer):
    sess, x, y = layer
    with pytest.raises(ValueError, match=r"Cannot feed value of shape \(2, 4\) for Tensor x:0"):
        sess.run(y, {x: np.ones((2, 4))})
    with pytest.raises(tf.errors.InvalidArgumentError, match="must feed a value") as caught:
        sess.run(y)
    assert "test_tour.py" in str(caught.value)
    assert caught.value.op.name == "x"


def test_a_training_step_is_one_call_too():
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float64, [None, 2])
        target = tf.placeholder(tf.float64, [None])
        w = tf.Variable(np.zeros((2, 1)))
        error = tf.matmul(x, w)[:, 0] - target
        loss = tf.reduce_mean(tf.square(error))
        train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
        sess.run(tf.global_variables_initializer())
        step = sess.make_callable([train, loss], [x, target])
        rng = np.random.default_rng(0)
        points = rng.normal(size=(64, 2))
        losses = [step(points, points @ [1.5, -2.0])[1] for _ in range(200)]
        assert losses[-1] < 1e-6 < losses[0]
        np.testing.assert_allclose(sess.run(w)[:, 0], [1.5, -2.0], atol=1e-3)
