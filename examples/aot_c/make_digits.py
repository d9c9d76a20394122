"""Trains the classifier of ``examples/digits.py`` and compiles it ahead of time, for ``main.c``.

Writes ``libdigits.so``, ``digits.h`` and ``held_out.bin``, the images that ``main.c`` reads: their
number (i64), their pixels (f32), their labels (i64).  Then, wherever there is a C compiler::

    cc main.c -o main -L. -ldigits -Wl,-rpath,. && ./main held_out.bin
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import stepforge as tf

sys.path.insert(0, str(Path(__file__).parents[1]))
import digits


def train(model: digits.Model, epochs: int) -> tf.Session:
    """A session that holds trained weights."""
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    step = session.make_callable([model.train, model.loss], [model.pixels, model.labels])
    images, _ = digits.load()
    for epoch in range(epochs):
        for pixels, labels in images.batches(epoch):
            step(pixels, labels)
    return session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=40, help="passes over the 1437 images")
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    model = digits.build()
    session = train(model, options.epochs)
    step = tf.ahead.Step("predict", model.predictions, ["pixels:f32[n,64]"])
    compiled = tf.ahead.compile(step, session=session, name="digits")
    for name in ("libdigits.so", "digits.h"):
        tf.ahead.write(compiled, options.folder / name)
    _, held_out = digits.load()
    parts = [np.int64(len(held_out.labels)), held_out.pixels, held_out.labels.astype(np.int64)]
    (options.folder / "held_out.bin").write_bytes(b"".join(part.tobytes() for part in parts))
    guessed = session.run(model.predictions, {model.pixels: held_out.pixels})
    print(f"in Python: {(guessed == held_out.labels).mean():.2%} of {len(guessed)} images")


if __name__ == "__main__":
    main()
