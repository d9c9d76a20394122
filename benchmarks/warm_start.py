"""Prints the milliseconds that the first training step of the digits program takes in this process.

    STEPFORGE_CACHE=DIR python benchmarks/warm_start.py

Where an earlier process ran it with the same ``DIR``, nothing is compiled. Building the graph, the
session and the initial values come before.
"""

from __future__ import annotations

import importlib.util
import time
from pathlib import Path
from typing import Any

EXAMPLE = Path(__file__).parent.parent / "examples" / "digits.py"


def digits() -> Any:
    """The example as a module."""
    spec = importlib.util.spec_from_file_location("digits", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    example = digits()
    tf = example.tf
    train, _ = example.load()
    model = example.build()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        pixels, labels = next(train.batches(0))
        began = time.perf_counter()
        sess.run([model.loss, model.train], {model.pixels: pixels, model.labels: labels})
        print((time.perf_counter() - began) * 1e3)


if __name__ == "__main__":
    main()
