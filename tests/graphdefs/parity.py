"""The programs of ``programs.py`` on TensorFlow and stepforge in one process, GraphDefs exchanged.

For each: TensorFlow imports what stepforge wrote and stepforge what TensorFlow wrote, both frozen,
and the values are compared; and the nodes that both wrote for the same program. ``make parity``
runs this where TensorFlow is installed, and it prints the table of docs/parity.md.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tensorflow
from programs import PROGRAMS, Program

import stepforge

tensorflow.disable_v2_behavior()

STATEFUL = ("counters", "training")  # what has effects is exchanged whole, with its variables
STEPS = 3


@dataclass(frozen=True)
class Written:
    """A program as one side wrote and ran it."""

    graph: bytes
    feeds: dict[str, Any]
    fetches: list[str]
    initializer: str
    values: list[Any]


def write(tf: Any, program: Program, *, frozen: bool) -> Written:
    """Build and run a program, and write its graph."""
    with tf.Graph().as_default() as graph, tf.Session() as session:
        feeds, fetches = program(tf)
        initializer = tf.global_variables_initializer()
        session.run(initializer)
        names = [tensor.name for tensor in fetches]
        message = graph.as_graph_def()
        if frozen:
            nodes = [name.partition(":")[0] for name in names]
            message = tf.graph_util.convert_variables_to_constants(session, message, nodes)
        values = [session.run(fetches, feeds) for _ in range(1 if frozen else STEPS)]
        fed = {tensor.name: value for tensor, value in feeds.items()}
        flat = [value for step in values for value in step]
        data = message.SerializeToString(deterministic=True)
        return Written(data, fed, names, initializer.name, flat)


def read(tf: Any, written: Written, *, frozen: bool) -> list[Any]:
    """Import a graph and run it."""
    message = tf.GraphDef()
    message.ParseFromString(written.graph)
    with tf.Graph().as_default(), tf.Session() as session:
        tf.import_graph_def(message, name="")
        if not frozen:
            session.run(written.initializer)
        steps = range(1 if frozen else STEPS)
        return [v for _ in steps for v in session.run(written.fetches, written.feeds)]


def difference(found: list[Any], wanted: list[Any]) -> float:
    """The largest difference, relative to values over 1; infinite where dtypes or shapes differ."""
    largest = 0.0
    for a, b in zip(map(np.asarray, found), map(np.asarray, wanted), strict=True):
        if a.dtype != b.dtype or a.shape != b.shape:
            return np.inf
        if a.dtype.kind in "OSb":
            largest = max(largest, 0.0 if np.array_equal(a, b) else np.inf)
            continue
        wide = np.result_type(a.dtype, np.float64)
        a, b = a.astype(wide), b.astype(wide)
        if a.size:
            largest = max(largest, float(np.max(np.abs(a - b) / np.maximum(1, np.abs(b)))))
    return largest


def same_nodes(ours: bytes, theirs: bytes) -> tuple[int, int, list[str]]:
    """How many nodes of TensorFlow's graph ours has as they are, of how many; and the others."""
    graphs = []
    for data in (ours, theirs):
        message = tensorflow.GraphDef()
        message.ParseFromString(data)
        with tensorflow.Graph().as_default() as graph:
            tensorflow.import_graph_def(message, name="")
        graphs.append({node.name: node for node in graph.as_graph_def().node})
    mine, wanted = graphs
    for node in (*mine.values(), *wanted.values()):
        for name in [name for name in node.attr if name.startswith("_")]:
            del node.attr[name]
        node.ClearField("experimental_type")
    different = [name for name in wanted if mine.get(name) != wanted[name]]
    return len(wanted) - len(different), len(wanted), different


def main() -> None:
    print("| program | same nodes | TensorFlow runs ours | stepforge runs TensorFlow's |")
    print("|---|---|---|---|")
    failed = []
    for name, program in PROGRAMS.items():
        frozen = name not in STATEFUL
        ours = write(stepforge, program, frozen=frozen)
        theirs = write(tensorflow, program, frozen=frozen)
        exported = difference(read(tensorflow, ours, frozen=frozen), ours.values)
        imported = difference(read(stepforge, theirs, frozen=frozen), theirs.values)
        same, count, different = same_nodes(ours.graph, theirs.graph)
        if "-v" in sys.argv:
            print(different)
        print(f"| {name} | {same} of {count} | {exported:.1e} | {imported:.1e} |")
        failed += [name] * (max(exported, imported) > 1e-4)
    if failed:
        raise SystemExit(f"values differ: {', '.join(failed)}")


if __name__ == "__main__":
    main()
