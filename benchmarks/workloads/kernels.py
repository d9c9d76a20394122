"""A fused float32 map, where arithmetic is all, against gcc.

The C function is also timed in a loop of its own, where a call from Python costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import contest
from cases import Arrays, Case, Program
from harness import Row, Side
from peers import gcc

TOLERANCE = 2e-6  # a few units in the last place of float32, for either side
BOUNDS: contest.Bounds = ((1.1, ("gcc",)),)


def chain(tf: Any, arrays: Arrays) -> Program:
    a, b = (tf.placeholder(tf.float32, [], name=name) for name in "ab")
    x, y = (tf.placeholder(tf.float32, [None], name=name) for name in "xy")
    result = tf.tanh(a * x + b) * tf.exp(-x * x) + tf.sqrt(tf.abs(y))
    return Program({"a": a, "b": b, "x": x, "y": y}, [result])


def cases() -> Iterator[Case]:
    for size in (1_000, 100_000):
        a, b = np.array(1.25, np.float32), np.array(-0.5, np.float32)
        x, y = np.random.RandomState(0).standard_normal((2, size)).astype(np.float32)
        wide = x.astype(np.float64)
        expected = np.tanh(a * wide + b) * np.exp(-wide * wide) + np.sqrt(np.abs(y))
        step = f"tanh(a*x+b)*exp(-x*x)+sqrt(abs(y)), f32, n = {size}"
        arrays = {"a": a, "b": b, "x": x, "y": y}
        yield Case(step, "kernels.chain", arrays, (expected,), TOLERANCE)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    for case in cases():
        for row in contest.rows(tf, peers, case, BOUNDS):
            yield Row(row.step, row.ours, row.against, own_loop(case))


def own_loop(case: Case) -> tuple[Side, ...]:
    """The C function in a loop of C; none where it cannot be compiled."""
    measurement = gcc.own_loop(case.arrays)
    return () if measurement is None else (Side("gcc in its own loop", (measurement,)),)
