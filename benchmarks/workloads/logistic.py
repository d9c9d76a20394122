"""A step of gradient descent on a logistic regression: so little that overhead is most of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import contest
from cases import Arrays, Case, Program
from harness import Row

FEATURES, BATCH, RATE = 20, 64, 0.1
TOLERANCE = 1e-5
BOUNDS: contest.Bounds = ((0.8, ("numba",)),)


def train(tf: Any, arrays: Arrays) -> Program:
    x = tf.placeholder(tf.float32, [None, FEATURES], name="x")
    y = tf.placeholder(tf.float32, [None, 1], name="y")
    z = tf.matmul(x, tf.Variable(arrays["w"])) + tf.Variable(arrays["b"])
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=z))
    step = tf.train.GradientDescentOptimizer(RATE).minimize(loss)
    return Program({"x": x, "y": y}, [loss, step])


def cases() -> Iterator[Case]:
    random = np.random.RandomState(0)
    x = random.standard_normal((BATCH, FEATURES)).astype(np.float32)
    y = (x @ random.standard_normal((FEATURES, 1)) > 0).astype(np.float32)
    w, b = np.zeros((FEATURES, 1), np.float32), np.zeros(1, np.float32)
    arrays = {"x": x, "y": y, "w": w, "b": b, "rate": np.array(RATE)}
    wide_w, wide_b, calls = w.astype(np.float64), b.astype(np.float64), 3
    for _ in range(calls):
        z = x.astype(np.float64) @ wide_w + wide_b
        loss = (np.maximum(z, 0) - z * y + np.log1p(np.exp(-abs(z)))).mean()
        force = (1 / (1 + np.exp(-z)) - y) / BATCH
        wide_w, wide_b = wide_w - RATE * x.T @ force, wide_b - RATE * force.sum()
    name = f"logistic regression, training step, {FEATURES} features, batch {BATCH}"
    yield Case(name, "logistic.train", arrays, (loss,), TOLERANCE, calls)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    for case in cases():
        yield from contest.rows(tf, peers, case, BOUNDS)
