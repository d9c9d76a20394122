"""How compile time and memory grow with the graph: a table and, where matplotlib is, a picture.

    python benchmarks/scale.py [--sizes 100 1000 5000] [--picture build/scale.png]

Four families of graphs, each in several sizes: a chain of elementwise operations, a wide sum, a
deep multi-layer perceptron and an unrolled recurrent network. For each: seconds to build the graph,
to the first result and to the second call (which compiles for speed), microseconds of a call after
that, and the peak of resident memory. Growth is linear where seconds per thousand nodes stay the
same.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Built = tuple[Any, Any, np.ndarray[Any, Any]]


def chain(tf: Any, size: int) -> Built:
    x = tf.placeholder(tf.float32, [None, 16])
    y = x
    for _ in range(size // 2):
        y = tf.tanh(y) * 0.5
    return x, y, np.ones((4, 16), np.float32)


def wide(tf: Any, size: int) -> Built:
    x = tf.placeholder(tf.float32, [None, 16])
    return x, tf.add_n([tf.tanh(x + float(i)) for i in range(size // 2)]), np.ones((4, 16), "f4")


def perceptron(tf: Any, size: int) -> Built:
    x = tf.placeholder(tf.float32, [None, 32])
    y = x
    for i in range(size // 3):
        weights = tf.constant(np.eye(32, dtype=np.float32) * (1 + i % 3))
        y = tf.nn.relu(tf.matmul(y, weights) + 0.1)
    return x, y, np.ones((4, 32), np.float32)


def recurrent(tf: Any, size: int) -> Built:
    x = tf.placeholder(tf.float32, [None, 16])
    weights = tf.constant(np.eye(16, dtype=np.float32) * 0.9)
    state = tf.zeros_like(x)
    for _ in range(size // 4):
        state = tf.tanh(tf.matmul(state, weights) + x * 0.1)
    return x, state, np.ones((4, 16), np.float32)


FAMILIES: dict[str, Callable[[Any, int], Built]] = {
    "chain": chain,
    "wide": wide,
    "perceptron": perceptron,
    "recurrent": recurrent,
}


def measure(family: str, size: int) -> dict[str, float]:
    """Build, run and call one graph in this process."""
    import stepforge as tf

    started = time.perf_counter()
    x, y, value = FAMILIES[family](tf, size)
    built = time.perf_counter()
    sess = tf.Session()
    sess.run(y, {x: value})
    first = time.perf_counter()
    sess.run(y, {x: value})
    second = time.perf_counter()
    calls = []
    for _ in range(20):
        before = time.perf_counter()
        sess.run(y, {x: value})
        calls.append(time.perf_counter() - before)
    return {
        "nodes": float(len(tf.get_default_graph().get_operations())),
        "build": built - started,
        "first": first - built,
        "second": second - first,
        "call": min(calls) * 1e6,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_own_process(family: str, size: int) -> dict[str, float]:
    """``measure`` in a process of its own, so that nothing is warm and memory is its own."""
    command = [sys.executable, __file__, "--one", family, str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def draw(rows: list[tuple[str, dict[str, float]]], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 5))
    for family in FAMILIES:
        points = [row for name, row in rows if name == family]
        nodes = [p["nodes"] for p in points]
        axes.loglog(nodes, [p["first"] + p["second"] for p in points], "o-", label=family)
    axes.set_xlabel("nodes")
    axes.set_ylabel("seconds to compile, both levels")
    axes.legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 1000, 5000, 20000])
    parser.add_argument("--picture", default="")
    parser.add_argument("--one", nargs=2, metavar=("FAMILY", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one[0], int(options.one[1]))))
        return
    print("| family | nodes | build s | first s | second s | s per 1000 nodes | call us | MB |")
    print("|---|---|---|---|---|---|---|---|")
    rows = []
    for family in FAMILIES:
        for size in options.sizes:
            row = in_own_process(family, size)
            rows.append((family, row))
            each = (row["first"] + row["second"]) / row["nodes"] * 1000
            print(
                f"| {family} | {row['nodes']:.0f} | {row['build']:.2f} | {row['first']:.2f} | "
                f"{row['second']:.2f} | {each:.2f} | {row['call']:.1f} | {row['memory']:.0f} |",
                flush=True,
            )
    if options.picture:
        draw(rows, options.picture)


if __name__ == "__main__":
    main()
