"""Attention, ``softmax(q @ k') @ v``, and its gradient: products around a pass over rows.

The scores are the largest array by far, and no more than a step on the way.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import contest
from cases import Array, Arrays, Case, Program
from harness import Row

TOLERANCE = 2e-5  # of float32
FORWARD: contest.Bounds = ((1.0, ("NumPy",)), (1.0, ("JAX", "torch")))
GRADIENT: contest.Bounds = ((1.0, ("JAX",)),)
DEPTH = 64
SCALE = DEPTH**-0.5


def forward(tf: Any, arrays: Arrays) -> Program:
    feeds = {name: tf.placeholder(tf.float32, [None, DEPTH], name=name) for name in "qkv"}
    scores = tf.matmul(feeds["q"], feeds["k"], transpose_b=True) * SCALE
    return Program(feeds, [tf.matmul(tf.nn.softmax(scores), feeds["v"])])


def gradient(tf: Any, arrays: Arrays) -> Program:
    program = forward(tf, arrays)
    dy = tf.placeholder(tf.float32, [None, DEPTH], name="dy")
    feeds = dict(program.feeds)
    return Program({**feeds, "dy": dy}, tf.gradients(program.fetches, list(feeds.values()), [dy]))


def weights(q: Array, k: Array) -> Array:
    """What the scores become: rows that add up to 1."""
    scores = q @ k.T * SCALE
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def in_numpy(arrays: Arrays) -> Array:
    return weights(arrays["q"], arrays["k"]) @ arrays["v"]


def expect_gradient(q: Array, k: Array, v: Array, dy: Array) -> tuple[Array, ...]:
    chances = weights(q, k)
    force = dy @ v.T
    scores = chances * (force - (force * chances).sum(axis=1, keepdims=True)) * SCALE
    return scores @ k, scores.T @ q, chances.T @ dy


def cases() -> Iterator[Case]:
    for count in (512, 2048):
        random = np.random.RandomState(0)
        arrays = {n: random.standard_normal((count, DEPTH)) for n in ("q", "k", "v", "dy")}
        given = {name: array.astype(np.float32) for name, array in arrays.items()}
        wide = [array.astype(np.float64) for array in given.values()]
        out = weights(*wide[:2]) @ wide[2]
        name = f"attention ({count}, {DEPTH}), f32"
        yield Case(name, "attention.forward", given, (out,), TOLERANCE)
        expected = expect_gradient(*wide)
        name = f"attention, gradient ({count}, {DEPTH}), f32"
        yield Case(name, "attention.gradient", given, expected, TOLERANCE)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    for case in cases():
        bounds = FORWARD if case.kind == "attention.forward" else GRADIENT
        yield from contest.rows(tf, peers, case, bounds)
