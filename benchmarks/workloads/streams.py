"""Vectors far larger than any cache: how few bytes are moved is all there is to win."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import contest
from cases import Arrays, Case, Program
from harness import Row

SIZE = 10_000_000
BOUNDS: contest.Bounds = ((1.05, ("gcc",)),)


def saxpy(tf: Any, arrays: Arrays) -> Program:
    a = tf.placeholder(tf.float32, [], name="a")
    x, y = (tf.placeholder(tf.float32, [None], name=name) for name in "xy")
    return Program({"a": a, "x": x, "y": y}, [a * x + y])


def dot(tf: Any, arrays: Arrays) -> Program:
    x, y = (tf.placeholder(tf.float32, [None], name=name) for name in "xy")
    return Program({"x": x, "y": y}, [tf.reduce_sum(x * y)])


def cases() -> Iterator[Case]:
    # From 1 to 2, so that the sum is large and its relative error says something.
    x, y = 1 + np.random.RandomState(0).random_sample((2, SIZE)).astype(np.float32)
    a = np.array(1.25, np.float32)
    arrays = {"a": a, "x": x, "y": y}
    yield Case("a*x+y, f32, n = 1e7", "streams.saxpy", arrays, (a * x + y,), 1e-6)
    total = np.dot(x.astype(np.float64), y.astype(np.float64))
    yield Case("sum(x*y), f32, n = 1e7", "streams.dot", arrays, (total,), 1e-6)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    if peers.interpreter:
        return
    for case in cases():
        yield from contest.rows(tf, peers, case, BOUNDS)
