"""The multi-layer perceptron 784-256-128-10: its logits, and a step of gradient descent."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

import contest
from cases import Array, Arrays, Case, Program
from harness import Row

SIZES = (784, 256, 128, 10)
LAYERS = tuple(range(len(SIZES) - 1))
RATE = 0.01
TOLERANCE = 2e-5  # of float32 sums over up to 784 products, in another order
FORWARD: contest.Bounds = ((1.05, ("numba", "onnxruntime")),)
TRAIN: contest.Bounds = ((1.0, ("JAX", "TensorFlow")),)


def logits(tf: Any, x: Any, arrays: Arrays) -> Any:
    value = x
    for place in LAYERS:
        weights, bias = (tf.Variable(arrays[f"{name}{place}"]) for name in "wb")
        value = tf.matmul(value, weights) + bias
        value = value if place == LAYERS[-1] else tf.nn.relu(value)
    return value


def forward(tf: Any, arrays: Arrays) -> Program:
    x = tf.placeholder(tf.float32, [None, SIZES[0]], name="x")
    return Program({"x": x}, [logits(tf, x, arrays)])


def train(tf: Any, arrays: Arrays) -> Program:
    x = tf.placeholder(tf.float32, [None, SIZES[0]], name="x")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=labels, logits=logits(tf, x, arrays)
    )
    loss = tf.reduce_mean(losses)
    step = tf.train.GradientDescentOptimizer(RATE).minimize(loss)
    return Program({"x": x, "labels": labels}, [loss, step])


def values_of(x: Array, parameters: Sequence[tuple[Array, Array]]) -> list[Array]:
    """The input and what each layer makes of it."""
    values = [x]
    for place, (w, b) in enumerate(parameters):
        sums = values[-1] @ w + b
        values.append(sums if place == LAYERS[-1] else np.maximum(sums, 0))
    return values


def descend(x: Array, labels: Array, parameters: list[tuple[Array, Array]]) -> float:
    """The loss, and a step of gradient descent on ``parameters``."""
    values = values_of(x, parameters)
    powers = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
    chances = powers / powers.sum(axis=1, keepdims=True)
    loss = -np.log(chances[np.arange(len(x)), labels]).mean()
    force = (chances - np.eye(SIZES[-1])[labels]) / len(x)
    for place in reversed(LAYERS):
        w, b = parameters[place]
        parameters[place] = (w - RATE * values[place].T @ force, b - RATE * force.sum(axis=0))
        force = (force @ w.T) * (values[place] > 0)
    return float(loss)


def arrays_of(batch: int) -> dict[str, Array]:
    random = np.random.RandomState(0)
    arrays = {"x": random.standard_normal((batch, SIZES[0])).astype(np.float32)}
    for place in LAYERS:
        depth, units = SIZES[place : place + 2]
        weights = random.standard_normal((depth, units)) / np.sqrt(depth)
        arrays[f"w{place}"] = weights.astype(np.float32)
        arrays[f"b{place}"] = (0.1 * random.standard_normal(units)).astype(np.float32)
    return arrays


def cases() -> Iterator[Case]:
    for batch in (32, 1, 256):
        arrays = arrays_of(batch)
        wide = {name: array.astype(np.float64) for name, array in arrays.items()}
        parameters = [(wide[f"w{place}"], wide[f"b{place}"]) for place in LAYERS]
        expected = values_of(wide["x"], parameters)[-1]
        name = f"MLP 784-256-128-10, forward, batch {batch}"
        yield Case(name, "perceptron.forward", arrays, (expected,), TOLERANCE)
        if batch > 1:
            labels = np.random.RandomState(1).randint(SIZES[-1], size=batch).astype(np.int32)
            calls = 3
            loss = [descend(wide["x"], labels, parameters) for _ in range(calls)][-1]
            given = {**arrays, "labels": labels, "rate": np.array(RATE)}
            name = f"MLP 784-256-128-10, training step, batch {batch}"
            yield Case(name, "perceptron.train", given, (np.array(loss),), TOLERANCE, calls)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    for case in sorted(cases(), key=lambda case: case.kind):
        bounds = FORWARD if case.kind == "perceptron.forward" else TRAIN
        yield from contest.rows(tf, peers, case, bounds)
