"""``tf.nn.fused_batch_norm`` against the same in single operations, with its gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import stepforge as tf


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


pytestmark = pytest.mark.usefixtures("own_graph")


def in_steps(x: Any, scale: Any, offset: Any, given: Any, layout: str) -> Any:
    axes, column = ([0, 1, 2], [4]) if layout == "NHWC" else ([0, 2, 3], [4, 1, 1])
    mean, variance = given or tf.nn.moments(x, axes)
    parts = [tf.reshape(part, column) for part in (mean, variance, offset, scale)]
    return tf.nn.batch_normalization(x, *parts, 0.01), mean, variance


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients(layout: str, training: bool) -> None:
    shape = (2, 3, 5, 4) if layout == "NHWC" else (2, 4, 3, 5)
    x = tf.placeholder(tf.float32, shape if training else (None, *shape[1:]), "x")
    scale, offset = tf.constant(numbers(4, seed=1)), tf.constant(numbers(4, seed=2))
    given = None if training else (tf.constant(numbers(4, seed=3)), tf.constant([1.0, 2, 3, 4]))
    fused = tf.nn.fused_batch_norm(
        x, scale, offset, *(given or ()), epsilon=0.01, data_format=layout, is_training=training
    )
    steps = in_steps(x, scale, offset, given, layout)
    weight = tf.constant(numbers(*shape, seed=4))
    slopes = [tf.gradients(y * weight, [x, scale, offset]) for y in (fused[0], steps[0])]
    with tf.Session() as session:
        found, wanted, slopes = session.run([fused, steps, slopes], {x: numbers(*shape)})
    bias = 30 / 29 if training else 1  # of the variance that a running average gets
    for a, b in zip(found, (wanted[0], wanted[1], wanted[2] * bias), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    for a, b in zip(*slopes, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_a_running_average() -> None:
    x = numbers(3, 2, 2, 4)
    start = np.ones(4, np.float32)
    mixed = tf.nn.fused_batch_norm(x, start, start, start, start, exponential_avg_factor=0.25)
    with tf.Session() as session:
        _, mean, variance = session.run(mixed)
    flat = x.reshape(-1, 4)
    np.testing.assert_allclose(mean, 0.75 + 0.25 * flat.mean(0), rtol=1e-5)
    np.testing.assert_allclose(variance, 0.75 + 0.25 * flat.var(0, ddof=1), rtol=1e-5)


def test_what_is_wrong() -> None:
    one = np.ones(4, np.float32)
    with pytest.raises(ValueError, match="must be a 1D tensor when `is_training` is False"):
        tf.nn.fused_batch_norm(numbers(1, 2, 2, 4), one, one, is_training=False)
    with pytest.raises(ValueError, match="Shape must be rank 4 but is rank 2"):
        tf.nn.fused_batch_norm(numbers(2, 4), one, one)
