"""An op of one's own: a recurrence, written as a numba function, inside a trained graph.

An exponential average ``y[t] = d * y[t - 1] + (1 - d) * x[t]`` is a loop over time, which no op of
a graph expresses in one go. Here it is a numba function on arrays, and so is its gradient; the
compiled step calls both. Gradient descent then finds the decay ``d`` that smoothed a signal.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np

import stepforge as tf


def smooth_gradient(op: Any, dy: Any) -> list[Any]:
    """The gradients in both inputs of ``smooth``: the recurrence runs backwards."""
    x, decay = op.inputs
    (y,) = op.outputs
    dx, parts = smooth_backwards(x, decay, y, dy)
    return [dx, tf.reduce_sum(parts)]


@tf.numba_op(shape=lambda x, decay: x.shape, gradient=smooth_gradient)
def smooth(x, decay, y):
    """Smooth the rows of ``x`` into ``y``; ``decay`` is a scalar, an array without axes."""
    d = decay[()]
    for row in range(x.shape[0]):
        state = 0 * d
        for t in range(x.shape[1]):
            state = d * state + (1 - d) * x[row, t]
            y[row, t] = state


@tf.numba_op(
    shape=lambda x, decay, y, dy: [x.shape, x.shape[:1]],
    dtype=lambda x, decay, y, dy: [x.dtype, x.dtype],
)
def smooth_backwards(x, decay, y, dy, dx, ddecay):
    """What flows back to ``x``, and to the decay from each row."""
    d = decay[()]
    for row in range(x.shape[0]):
        flow, total = 0 * d, 0 * d
        for t in range(x.shape[1] - 1, -1, -1):
            flow = dy[row, t] + d * flow
            before = y[row, t - 1] if t > 0 else 0 * d
            total += flow * (before - x[row, t])
            dx[row, t] = (1 - d) * flow
        ddecay[row] = total


def smoothed(signal: np.ndarray, decay: float) -> np.ndarray:
    """The same by NumPy, a column at a time."""
    out = np.zeros_like(signal)
    state = np.zeros(len(signal))
    for t in range(signal.shape[1]):
        state = decay * state + (1 - decay) * signal[:, t]
        out[:, t] = state
    return out


def microseconds(call: Any, *arguments: Any) -> float:
    """Of one call, the best of several rounds."""
    rounds = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(20):
            call(*arguments)
        rounds.append((time.perf_counter() - began) / 20)
    return min(rounds) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=300, help="steps of gradient descent")
    parser.add_argument("--decay", type=float, default=0.85, help="the decay to be found")
    options = parser.parse_args()
    random = np.random.RandomState(0)
    signal = random.normal(size=(16, 200))
    wanted = smoothed(signal, options.decay)

    x = tf.placeholder(tf.float64, [None, None], name="x")
    target = tf.placeholder(tf.float64, [None, None], name="target")
    logit = tf.Variable(np.float64(0.0), name="logit")
    decay = tf.sigmoid(logit, name="decay")
    error = tf.reduce_mean(tf.square(smooth(x, decay) - target), name="error")
    train = tf.train.AdamOptimizer(0.05).minimize(error)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        step = sess.make_callable([train, error], [x, target])
        for _ in range(options.steps):
            _, last = step(signal, wanted)
        found = float(sess.run(decay))
        average = sess.make_callable(smooth(x, decay), [x])
        difference = np.abs(average(signal) - smoothed(signal, found)).max()
        print(f"decay {found:.4f}, wanted {options.decay}; mean squared error {last:.2e}")
        print(f"largest difference to NumPy: {difference:.1e}")
        times = microseconds(average, signal), microseconds(smoothed, signal, found)
        print(f"{times[0]:.1f} us per call, by NumPy {times[1]:.1f} us")
    if abs(found - options.decay) > 1e-2 or difference > 1e-12:
        print("the decay was not found", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
