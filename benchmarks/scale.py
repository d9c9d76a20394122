"""How compile time and memory grow with the graph: a table and a picture.

    python benchmarks/scale.py [--sizes 100 1000 5000] [--picture build/scale.svg]

Four families of graphs, each in several sizes: a chain of elementwise operations, a wide sum, a
deep multi-layer perceptron and an unrolled recurrent network. For each: seconds to build the graph,
to the first result and to the second call (which compiles for speed), microseconds of a call after
that, and the peak of resident memory. Growth is linear where seconds per thousand nodes stay the
same.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
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


# What the picture shows: a title, and the figure in a row.
PANELS: dict[str, Callable[[dict[str, float]], float]] = {
    "seconds to the second result": lambda row: row["first"] + row["second"],
    "microseconds of a call": lambda row: row["call"],
    "MB above the process": lambda row: max(row["memory"] - row["before"], 1.0),
}
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")

FAMILIES: dict[str, Callable[[Any, int], Built]] = {
    "chain": chain,
    "wide": wide,
    "perceptron": perceptron,
    "recurrent": recurrent,
}


def measure(family: str, size: int) -> dict[str, float]:
    """Build, run and call one graph in this process."""
    import stepforge as tf

    tf.Session().run(tf.constant(0.0))  # what is made once in a process
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
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
        began = time.perf_counter()
        sess.run(y, {x: value})
        calls.append(time.perf_counter() - began)
    return {
        "nodes": float(len(tf.get_default_graph().get_operations())),
        "build": built - started,
        "first": first - built,
        "second": second - first,
        "call": min(calls) * 1e6,
        "before": before,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def in_own_process(family: str, size: int) -> dict[str, float]:
    """``measure`` in a process of its own, so that nothing is warm and memory is its own."""
    command = [sys.executable, __file__, "--one", family, str(size)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def draw(rows: list[tuple[str, dict[str, float]]], path: str) -> None:
    """Three panels over the number of nodes, both axes logarithmic: what is linear has slope 1.

    SVG is written as text; for other formats matplotlib has to be installed.
    """
    if path.endswith(".svg"):
        Path(path).write_text(svg(rows), encoding="utf-8")
        return
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(PANELS), figsize=(5 * len(PANELS), 4))
    for axis, (title, measured) in zip(axes, PANELS.items(), strict=True):
        for family in FAMILIES:
            points = [row for name, row in rows if name == family]
            axis.loglog([p["nodes"] for p in points], list(map(measured, points)), "o-",
                        label=family)
        axis.set_xlabel("nodes")
        axis.set_title(title)
    axes[0].legend()
    figure.savefig(path, dpi=120)


def svg(rows: list[tuple[str, dict[str, float]]]) -> str:
    """The picture as SVG."""
    width, height = 360 * len(PANELS), 330
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
    parts = [head + 'font-family="sans-serif" font-size="12">',
             f'<rect width="{width}" height="{height}" fill="white"/>']
    for number, (title, measured) in enumerate(PANELS.items()):
        series = {family: [(row["nodes"], measured(row)) for name, row in rows if name == family]
                  for family in FAMILIES}
        parts.append(f'<g transform="translate({360 * number}, 0)">{panel(title, series)}</g>')
    return "\n".join([*parts, "</svg>\n"])


def panel(title: str, series: dict[str, list[tuple[float, float]]]) -> str:
    """One diagram of 360 x 330 with whole powers of ten at the ends of its axes."""
    points = [point for found in series.values() for point in found]
    decades = [(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))))
               for values in zip(*points, strict=True)]
    (left, right), (bottom, top) = ((low, max(high, low + 1)) for low, high in decades)

    def place(x: float, y: float) -> str:
        across = 60 + 280 * (math.log10(x) - left) / (right - left)
        return f"{across:.1f},{280 - 240 * (math.log10(y) - bottom) / (top - bottom):.1f}"

    out = ['<rect x="60" y="40" width="280" height="240" fill="none" stroke="black"/>',
           f'<text x="200" y="25" text-anchor="middle">{title}</text>',
           '<text x="200" y="315" text-anchor="middle">nodes</text>']
    for decade in range(left, right + 1):
        x = place(10.0**decade, 10.0**bottom).split(",")[0]
        out.append(f'<text x="{x}" y="297" text-anchor="middle">{10**decade:g}</text>')
    for decade in range(bottom, top + 1):
        y = place(10.0**left, 10.0**decade).split(",")[1]
        out.append(f'<text x="54" y="{y}" text-anchor="end">{10.0**decade:g}</text>')
        out.append(f'<path d="M60,{y} H340" stroke="#ddd"/>')
    for row, (family, found) in enumerate(series.items()):
        places = [place(*point) for point in found]
        colour, y = COLOURS[row], 60 + 16 * row
        out.append(f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}"/>')
        out += [f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{colour}"/>'
                for p in places]
        out.append(f'<text x="70" y="{y}" fill="{colour}">{family}</text>')
    return "\n".join(out)


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
