"""Softmax, logarithms of sums of exponentials, layer norm, and their gradients: passes over rows.

How often a row is read, and how exponentials are computed, is all there is to win.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import contest
from cases import Array, Arrays, Case, Program
from harness import Row

TOLERANCE = 2e-5  # of float32; sums of 512 rows are among the results
BOUNDS: contest.Bounds = ((1.0, ("gcc", "numba", "JAX")), (1.1, ("onnxruntime",)))
EPSILON = 1e-5


# ---- programs -----------------------------------------------------------------------------------
def placeholders(tf: Any, arrays: Arrays, *names: str) -> dict[str, Any]:
    """Placeholders like the arrays of these names, with an unknown number of rows for matrices."""
    shapes = {n: arrays[n].shape if n in ("scale", "shift") else (None, *arrays[n].shape[1:])
              for n in names}  # fmt: skip
    return {name: tf.placeholder(tf.float32, shape, name=name) for name, shape in shapes.items()}


def softmax(tf: Any, arrays: Arrays) -> Program:
    feeds = placeholders(tf, arrays, "x")
    return Program(feeds, [tf.nn.softmax(feeds["x"])])


def softmax_gradient(tf: Any, arrays: Arrays) -> Program:
    feeds = placeholders(tf, arrays, "x", "dy")
    y = tf.nn.softmax(feeds["x"])
    return Program(feeds, tf.gradients(y, [feeds["x"]], feeds["dy"]))


def logsumexp(tf: Any, arrays: Arrays) -> Program:
    feeds = placeholders(tf, arrays, "x")
    return Program(feeds, [tf.reduce_logsumexp(feeds["x"], axis=-1)])


def logsumexp_gradient(tf: Any, arrays: Arrays) -> Program:
    feeds = placeholders(tf, arrays, "x", "dy")
    y = tf.reduce_logsumexp(feeds["x"], axis=-1)
    return Program(feeds, tf.gradients(y, [feeds["x"]], feeds["dy"]))


def normalised(tf: Any, x: Any, scale: Any, shift: Any) -> Any:
    mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + EPSILON) * scale + shift


def layer_norm(tf: Any, arrays: Arrays) -> Program:
    feeds = placeholders(tf, arrays, "x", "scale", "shift")
    return Program(feeds, [normalised(tf, *feeds.values())])


def layer_norm_gradient(tf: Any, arrays: Arrays) -> Program:
    feeds = placeholders(tf, arrays, "x", "scale", "shift", "dy")
    *operands, dy = feeds.values()
    y = normalised(tf, *operands)
    return Program(feeds, tf.gradients(y, operands, dy))


# ---- what they give, in float64 -----------------------------------------------------------------
def chances(x: Array) -> Array:
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def expect_softmax_gradient(x: Array, dy: Array) -> tuple[Array, ...]:
    y = chances(x)
    return (y * (dy - (dy * y).sum(axis=1, keepdims=True)),)


def expect_logsumexp(x: Array) -> tuple[Array, ...]:
    top = x.max(axis=1)
    return (top + np.log(np.exp(x - top[:, None]).sum(axis=1)),)


def normal(x: Array) -> tuple[Array, Array]:
    """What layer norm makes of ``x`` before it is scaled, and the deviations."""
    deviation = np.sqrt(x.var(axis=1, keepdims=True) + EPSILON)
    return (x - x.mean(axis=1, keepdims=True)) / deviation, deviation


def expect_layer_norm_gradient(x: Array, scale: Array, _: Array, dy: Array) -> tuple[Array, ...]:
    found, deviation = normal(x)
    force = dy * scale
    mean = force.mean(axis=1, keepdims=True)
    product = (force * found).mean(axis=1, keepdims=True)
    dx = (force - mean - found * product) / deviation
    return dx, (dy * found).sum(axis=0), dy.sum(axis=0)


# name, kind, shape, feeds, expected results
Expected = Callable[..., tuple[Array, ...]]
STEPS: tuple[tuple[str, str, tuple[int, int], tuple[str, ...], Expected], ...] = (
    ("softmax", "softmax", (512, 1000), ("x",), lambda x: (chances(x),)),
    ("softmax, gradient", "softmax_gradient", (512, 1000), ("x", "dy"), expect_softmax_gradient),
    ("logsumexp", "logsumexp", (512, 1000), ("x",), expect_logsumexp),
    ("logsumexp, gradient", "logsumexp_gradient", (512, 1000), ("x", "rows"),
     lambda x, dy: (chances(x) * dy[:, None],)),
    ("layer norm", "layer_norm", (512, 1024), ("x", "scale", "shift"),
     lambda x, scale, shift: (normal(x)[0] * scale + shift,)),
    ("layer norm, gradient", "layer_norm_gradient", (512, 1024), ("x", "scale", "shift", "dy"),
     expect_layer_norm_gradient),
)  # fmt: skip


def cases() -> Iterator[Case]:
    for name, kind, shape, feeds, expect in STEPS:
        random = np.random.RandomState(0)
        sizes = {"scale": shape[1:], "shift": shape[1:], "rows": shape[:1]}
        values = [random.standard_normal(sizes.get(n, shape)).astype(np.float32) for n in feeds]
        values[0] *= 3
        names = ["dy" if n == "rows" else n for n in feeds]
        expected = expect(*(v.astype(np.float64) for v in values))
        step = f"{name} {shape}, f32"
        arrays = dict(zip(names, values, strict=True))
        yield Case(step, f"normalisation.{kind}", arrays, expected, TOLERANCE)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    for case in cases():
        yield from contest.rows(tf, peers, case, BOUNDS)
