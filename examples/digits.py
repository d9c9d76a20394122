"""Handwritten digits: a small network trained in plain TensorFlow-1 style, and timed against NumPy.

The program trains the same network three times on the same batches: with ``sess.run``, with
``make_callable``, and with the step written out by hand in NumPy; over the first epoch the losses
of the three must agree.  It prints progress, held-out accuracy and microseconds per step, and draws
the loss curve and the digits that were misread (with matplotlib, where that is installed).

Nothing here is particular to stepforge: with ``import tensorflow.compat.v1 as tf`` in place of the
import below, the same file runs on TensorFlow.  The data are described in ``data/README.md``.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import stepforge as tf

SEED = 1
HELD_OUT = 360
BATCH = 32
STEPS = 45  # of an epoch: 1437 images, the last batch short
HIDDEN = 64
RATE = 0.003
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Split(NamedTuple):
    """Images as rows of 64 floats in [0, 1], and their labels."""

    pixels: np.ndarray
    labels: np.ndarray

    def batches(self, epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Every image once, in an order that depends only on ``epoch``; the last batch is short."""
        order = np.random.RandomState(epoch).permutation(len(self.labels))
        pixels, labels = self.pixels[order], self.labels[order]
        for start in range(0, len(order), BATCH):
            yield pixels[start : start + BATCH], labels[start : start + BATCH]


class Model(NamedTuple):
    """The tensors and operations that a training loop names."""

    pixels: Any
    labels: Any
    loss: Any
    train: Any
    predictions: Any
    weights: list[Any]


class History(NamedTuple):
    """What one training gave: the loss of each step, held-out accuracy, the time of a step."""

    losses: list[float]
    accuracy: float
    microseconds: float


class Trained(NamedTuple):
    """A training, the weights it started from, and what it reads in the held-out images."""

    history: History
    start: list[np.ndarray]
    predictions: np.ndarray


def load() -> tuple[Split, Split]:
    """The training images and the held-out ones."""
    with np.load(Path(__file__).parent / "data" / "digits.npz") as data:
        pixels = data["images"].reshape(-1, 64).astype(np.float32) / 16
        labels = data["labels"].astype(np.int32)
    order = np.random.RandomState(0).permutation(len(labels))
    train, test = order[HELD_OUT:], order[:HELD_OUT]
    return Split(pixels[train], labels[train]), Split(pixels[test], labels[test])


def dense(inputs: Any, width: int, name: str) -> Any:
    """A fully connected layer without activation."""
    depth = int(inputs.shape[1])
    with tf.variable_scope(name):
        start = tf.truncated_normal_initializer(stddev=depth**-0.5, seed=SEED)
        weights = tf.get_variable("weights", [depth, width], initializer=start)
        bias = tf.get_variable("bias", [width], initializer=tf.zeros_initializer())
    return tf.matmul(inputs, weights) + bias


def build() -> Model:
    """The network, its loss and one step of Adam, in the default graph."""
    tf.set_random_seed(SEED)
    pixels = tf.placeholder(tf.float32, [None, 64], name="pixels")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    hidden = tf.nn.relu(dense(pixels, HIDDEN, "hidden"))
    logits = dense(hidden, 10, "logits")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses)
    train = tf.train.AdamOptimizer(RATE, BETA1, BETA2, EPSILON).minimize(loss)
    predictions = tf.argmax(logits, axis=1)
    return Model(pixels, labels, loss, train, predictions, tf.trainable_variables())


class NumpyModel:
    """The same network, gradient and Adam update by hand, in float32."""

    def __init__(self, weights: list[np.ndarray]) -> None:
        self.weights = [w.copy() for w in weights]
        self.means = [np.zeros_like(w) for w in weights]
        self.squares = [np.zeros_like(w) for w in weights]
        self.power1, self.power2 = BETA1, BETA2

    def logits(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        w1, b1, w2, b2 = self.weights
        hidden = np.maximum(pixels @ w1 + b1, 0)
        return hidden, hidden @ w2 + b2

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        return np.asarray(self.logits(pixels)[1].argmax(axis=1))

    def step(self, pixels: np.ndarray, labels: np.ndarray) -> float:
        """One update; returns the loss before it."""
        hidden, logits = self.logits(pixels)
        rows = np.arange(len(labels))
        logits -= logits.max(axis=1, keepdims=True)
        scores = np.exp(logits)
        sums = scores.sum(axis=1, keepdims=True)
        loss = (np.log(sums[:, 0]) - logits[rows, labels]).mean()
        scores /= sums
        scores[rows, labels] -= 1
        scores /= np.float32(len(labels))
        hidden_gradient = scores @ self.weights[2].T
        hidden_gradient *= hidden > 0
        self.update(
            [
                pixels.T @ hidden_gradient,
                hidden_gradient.sum(axis=0),
                hidden.T @ scores,
                scores.sum(axis=0),
            ]
        )
        return float(loss)

    def update(self, gradients: list[np.ndarray]) -> None:
        """Adam in the order of operations that TensorFlow uses."""
        rate = np.float32(RATE * np.sqrt(1 - self.power2) / (1 - self.power1))
        self.power1 *= BETA1
        self.power2 *= BETA2
        moments = zip(self.weights, self.means, self.squares, gradients, strict=True)
        for weight, mean, square, gradient in moments:
            mean += (gradient - mean) * np.float32(1 - BETA1)
            square += (gradient * gradient - square) * np.float32(1 - BETA2)
            weight -= rate * mean / (np.sqrt(square) + np.float32(EPSILON))


def train(
    title: str,
    step: Callable[[np.ndarray, np.ndarray], float],
    predict: Callable[[np.ndarray], np.ndarray],
    epochs: int,
) -> History:
    """Train for ``epochs`` passes over the images. The time of a step is the median of all."""
    images, held_out = load()
    losses: list[float] = []
    seconds: list[float] = []
    accuracy = 0.0
    for epoch in range(epochs):
        for pixels, labels in images.batches(epoch):
            began = time.perf_counter()
            loss = step(pixels, labels)
            seconds.append(time.perf_counter() - began)
            losses.append(float(loss))
        if epoch % 5 == 4 or epoch == epochs - 1:
            accuracy = float((predict(held_out.pixels) == held_out.labels).mean())
            mean = sum(losses[-STEPS:]) / STEPS
            print(f"{title:14} epoch {epoch + 1:3}  loss {mean:.4f}  held out {accuracy:.2%}")
    return History(losses, accuracy, float(np.median(seconds)) * 1e6)


def train_in_session(title: str, model: Model, epochs: int) -> Trained:
    """Train in a session of its own: a new session starts from the same weights again."""
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        start = sess.run(model.weights)

        def run(pixels: np.ndarray, labels: np.ndarray) -> Any:
            feeds = {model.pixels: pixels, model.labels: labels}
            return sess.run([model.train, model.loss], feed_dict=feeds)[1]

        def predict(pixels: np.ndarray) -> Any:
            return sess.run(model.predictions, feed_dict={model.pixels: pixels})

        call = sess.make_callable([model.train, model.loss], [model.pixels, model.labels])
        step = run if title == "sess.run" else lambda pixels, labels: call(pixels, labels)[1]
        history = train(title, step, predict, epochs)
        return Trained(history, start, predict(load()[1].pixels))


def train_in_numpy(start: list[np.ndarray], epochs: int) -> Trained:
    """Train by hand from the weights ``start``."""
    model = NumpyModel(start)
    history = train("NumPy", model.step, model.predict, epochs)
    return Trained(history, start, model.predict(load()[1].pixels))


def check_same(histories: list[History]) -> None:
    """The first epoch must agree; later ones drift apart as rounding errors grow."""
    first = histories[0].losses[:STEPS]
    for history in histories[1:]:
        np.testing.assert_allclose(history.losses[:STEPS], first, rtol=2e-4, atol=1e-6)
    print(f"the first {STEPS} losses of all three agree to 2e-4")


def draw(path: Path, histories: dict[str, History], predictions: np.ndarray) -> None:
    """The loss curves, and up to 12 held-out digits that were misread."""
    try:
        import matplotlib
    except ImportError:
        print("no picture: matplotlib is not installed (pip install 'stepforge[plot]')")
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    held_out = load()[1]
    wrong = np.flatnonzero(predictions != held_out.labels)[:12]
    figure = pyplot.figure(figsize=(9, 6))
    curves = figure.add_subplot(2, 1, 1, yscale="log", xlabel="epoch", ylabel="mean loss")
    for (title, history), width in zip(histories.items(), (6, 3.5, 1), strict=True):
        by_epoch = np.reshape(history.losses, (-1, STEPS)).mean(axis=1)
        curves.plot(range(1, len(by_epoch) + 1), by_epoch, linewidth=width, label=title)
    curves.legend()
    for place, index in enumerate(wrong):
        image = figure.add_subplot(4, 6, 13 + place)
        image.imshow(held_out.pixels[index].reshape(8, 8), cmap="gray_r")
        image.set_title(f"{held_out.labels[index]} read as {predictions[index]}", fontsize=8)
        image.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    print(f"picture: {path}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40, help="passes over the 1437 images")
    parser.add_argument("--target", type=float, default=0.96, help="held-out accuracy to reach")
    parser.add_argument("--picture", type=Path, default=Path("digits.png"))
    options = parser.parse_args()
    with tf.Graph().as_default():
        model = build()
        trained = {
            title: train_in_session(title, model, options.epochs)
            for title in ("sess.run", "make_callable")
        }
    trained["NumPy"] = train_in_numpy(trained["sess.run"].start, options.epochs)
    histories = {title: one.history for title, one in trained.items()}
    check_same(list(histories.values()))
    for title, history in histories.items():
        ratio = history.microseconds / histories["NumPy"].microseconds
        print(
            f"{title:14} {history.microseconds:8.1f} us per step, {ratio:.2f} x NumPy, "
            f"held out {history.accuracy:.2%}"
        )
    draw(options.picture, histories, trained["make_callable"].predictions)
    worst = min(history.accuracy for history in histories.values())
    if worst < options.target:
        print(f"accuracy {worst:.2%} is below {options.target:.2%}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
