"""Compiles an online learner: a network that a C program trains while its rows come in.

Nothing is trained here.  Written are ``libonline.so`` and ``online.h`` for ``main.c``,
``online.py`` for ``learn.py``, and ``stream.bin``, the rows that both read: 64 pixels (f32) and a
label (i32).
Then, wherever there is a C compiler::

    cc main.c -o main -L. -lonline -Wl,-rpath,. && ./main stream.bin
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import stepforge as tf

sys.path.insert(0, str(Path(__file__).parents[1]))
import digits

HIDDEN = 32
RATE, DECAY = 0.01, 0.995


class Learner(NamedTuple):
    """What the steps are made of: ``loss`` and ``right`` are of a batch before it is learned."""

    pixels: Any
    labels: Any
    loss: Any
    right: Any
    train: Any
    predictions: Any


def build() -> Learner:
    """The network and one step of Adam, whose rate is a variable that falls; in the default graph.
    """
    tf.set_random_seed(digits.SEED)
    pixels = tf.placeholder(tf.float32, [None, 64], name="pixels")
    labels = tf.placeholder(tf.int32, [None], name="labels")
    hidden = tf.tanh(digits.dense(pixels, HIDDEN, "hidden"))
    logits = digits.dense(hidden, 10, "logits")
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    loss = tf.reduce_mean(losses, name="loss")
    predictions = tf.argmax(logits, axis=1, output_type=tf.int32, name="predictions")
    right = tf.reduce_sum(tf.cast(tf.equal(predictions, labels), tf.int32), name="right")
    rate = tf.get_variable("rate", [], initializer=tf.constant_initializer(RATE), trainable=False)
    with tf.control_dependencies([loss, right]):
        update = tf.train.AdamOptimizer(rate).minimize(loss)
    with tf.control_dependencies([update]):
        train = tf.group(rate.assign(rate * DECAY), name="train")
    return Learner(pixels, labels, loss, right, train, predictions)


def compiled(learner: Learner, cpu: str) -> Any:
    """The library: ``learn``, ``classify``, and what keeps their variables."""
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    steps = [
        tf.ahead.Step(
            "learn", [learner.loss, learner.right, learner.train],
            ["pixels:f32[n,64]", "labels:i32[n]"],
        ),
        tf.ahead.Step("classify", learner.predictions, ["pixels:f32[n,64]"]),
    ]  # fmt: skip
    return tf.ahead.compile(steps, session=session, name="online", target=tf.ahead.target(cpu=cpu))


def rows() -> np.ndarray:
    """The stream: every image three times, in random order."""
    images, _ = digits.load()
    kind = np.dtype([("pixels", np.float32, 64), ("label", np.int32)])
    order = np.random.RandomState(0).permutation(np.repeat(np.arange(len(images.labels)), 3))
    found = np.empty(len(order), kind)
    found["pixels"], found["label"] = images.pixels[order], images.labels[order]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--target-cpu", default="", help="native, or a name of LLVM's")
    options = parser.parse_args()
    library = compiled(build(), options.target_cpu)
    for name in ("libonline.so", "online.h", "online.py"):
        tf.ahead.write(library, options.folder / name)
    stream = rows()
    stream.tofile(options.folder / "stream.bin")
    print(f"{len(stream)} rows, a state of {library.library.state_bytes} bytes")


if __name__ == "__main__":
    main()
