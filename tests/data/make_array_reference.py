"""Records what TensorFlow makes of the array cases: ``python tests/data/make_array_reference.py``.

It writes ``array_reference.json``; ``test_array_nodes.py`` runs the same cases on stepforge and
compares nodes, values, gradients and errors.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import indexing_cases
import numpy as np
from array_cases import CASES, Case

OUTPUT = Path(__file__).with_name("array_reference.json")
SOURCES = (indexing_cases,)  # importing it completes CASES


def weights(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The gradient that comes from above: one number for each element of an output."""
    return ((np.arange(int(np.prod(shape))) * 5 % 7 - 3) / 2).reshape(shape)


def as_list(result: Any) -> list[Any]:
    """One output or several as a list."""
    return list(result) if isinstance(result, (list, tuple)) else [result]


def as_json(value: Any) -> Any:
    """An array as dtype, shape and elements."""
    array = np.asarray(value)
    flat = array.reshape(-1)
    if array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": flat.tolist()}


def placeholders(tf: Any, entry: Case, static: bool) -> dict[str, Any]:
    """A placeholder for each feed, of its shape or of what is known of it."""
    found = {}
    for name, array in entry.feeds.items():
        shape = array.shape if static else entry.shapes.get(name, [None] * array.ndim)
        found[name] = tf.placeholder(str(array.dtype), shape, name=name)
    return found


def described(ops: list[Any]) -> list[Any]:
    """Name, type and inputs of nodes."""
    return [[op.name, op.type, [t.name for t in op.inputs]] for op in ops]


def record(tf: Any, entry: Case) -> dict[str, Any]:
    """What TensorFlow makes of a case."""
    found: dict[str, Any] = {}
    with tf.Graph().as_default() as graph:
        inputs = placeholders(tf, entry, static=False)
        count = len(graph.get_operations())
        outputs = as_list(entry.build(tf, **inputs))
        if entry.nodes:
            found["nodes"] = described(graph.get_operations()[count:])
        feed = {inputs[name]: array for name, array in entry.feeds.items()}
        with tf.Session() as session:
            try:
                values = session.run(outputs, feed)
            except tf.errors.OpError as error:
                message = re.sub(
                    r"(?s)^Graph execution error:.*?\nNode: [^\n]*\n", "", error.message
                )
                found["error"] = [type(error).__name__, message.split("\n\t [[")[0]]
                return found
            found["values"] = [as_json(value) for value in values]
            found["gradients"] = gradients(tf, session, entry, inputs, outputs, values, feed)
    return found


def gradients(
    tf: Any, session: Any, entry: Case, inputs: Any, outputs: Any, values: Any, feed: Any
) -> dict[str, Any]:
    """The gradients of all floating outputs for each floating input."""
    wanted = {k: t for k, t in inputs.items() if t.dtype.is_floating}
    ys = [(t, v) for t, v in zip(outputs, values, strict=True) if t.dtype.is_floating]
    if not entry.gradient or not wanted or not ys:
        return {}
    above = [tf.constant(weights(np.shape(v)), t.dtype) for t, v in ys]
    slopes = tf.gradients([t for t, _ in ys], list(wanted.values()), above)
    found = {}
    for name, slope in zip(wanted, slopes, strict=True):
        if slope is not None:
            found[name] = as_json(session.run(tf.convert_to_tensor(slope), feed))
            found[name]["sparse"] = isinstance(slope, tf.IndexedSlices)
    return found


def main() -> None:
    """Write the reference."""
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.ERROR)
    found = {name: record(tf, entry) for name, entry in CASES.items()}
    for name, entry in CASES.items():
        if ("error" in found[name]) != (entry.error is not None):
            sys.exit(f"{name}: {found[name].get('error')}")
        if entry.error and entry.error[1] not in found[name]["error"][1]:
            sys.exit(f"{name}: {found[name]['error']}")
    OUTPUT.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
