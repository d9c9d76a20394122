"""Records what TensorFlow makes of every function of math and nn: nodes, values, gradients of two
orders.

Run it where TensorFlow is installed; it writes ``math_reference.json`` beside itself. A case is an
expression in ``tf`` and named inputs, so that the tests evaluate the very same text with stepforge.
"""

from __future__ import annotations

import json
import pathlib
import re
import warnings
from typing import Any

import math_cases
import matrix_cases
import numpy as np

DTYPES = {
    "f16": "float16",
    "bf16": "bfloat16",
    "f32": "float32",
    "f64": "float64",
    "c64": "complex64",
    "c128": "complex128",
    "i8": "int8",
    "i16": "int16",
    "i32": "int32",
    "i64": "int64",
    "u8": "uint8",
    "bool": "bool",
}
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, float("inf"), -float("inf"), float("nan")]


_INPUT = re.compile(r"(\w+)\[(.*)\](.*)")


def make_input(name: str, text: str) -> dict[str, Any]:
    """The dtype, static shape and numbers that an input's text stands for."""
    match = _INPUT.fullmatch(text)
    assert match is not None, text
    kind, sizes, numbers = match.groups()
    parts = [part for part in sizes.split(",") if part]
    shape = [int(part.lstrip("?")) for part in parts]
    seed = sum(map(ord, name + text))
    values = _numbers(np.random.RandomState(seed), kind, shape, numbers)
    static = [None if part.startswith("?") else int(part) for part in parts]
    return {"dtype": DTYPES[kind], "static": static, "array": values}


def _numbers(random: Any, kind: str, shape: list[int], numbers: str) -> np.ndarray[Any, Any]:
    import ml_dtypes

    dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bf16" else DTYPES[kind])
    if numbers == "edge":
        return np.array(EDGES, dtype)
    if ".." in numbers:
        low, high = map(int, numbers.split(".."))
        return np.asarray(random.randint(low, high, shape)).astype(dtype)
    if kind == "bool":
        return np.asarray(random.rand(*shape) < 0.5)
    if dtype.kind in "iu":
        return np.asarray(random.randint(-5 if dtype.kind == "i" else 0, 6, shape)).astype(dtype)
    normal = np.asarray(random.randn(*shape))
    if dtype.kind == "c":
        return (normal + 1j * random.randn(*shape)).astype(dtype)
    if numbers == "spd":
        return (normal @ np.swapaxes(normal, -1, -2) + 2 * np.eye(shape[-1])).astype(dtype)
    made = {
        "": lambda: normal,
        "+": lambda: np.abs(normal) + 0.25,
        "g": lambda: np.abs(normal) + 1.25,
        "u": lambda: np.tanh(normal) * 0.9,
        "tri": lambda: normal + 3 * np.eye(shape[-1]),
    }
    return np.asarray(made[numbers]()).astype(dtype)


def weights(array: np.ndarray[Any, Any], shift: int) -> np.ndarray[Any, Any]:
    """Fixed numbers of an output's shape, to weight its gradient with."""
    phase = np.arange(array.size).reshape(array.shape) + 1.0 + shift
    return (np.cos(phase) + (1j * np.sin(phase) if array.dtype.kind == "c" else 0)).astype(
        array.dtype
    )


def plain(array: Any) -> dict[str, Any]:
    """An array as JSON."""
    array = np.asarray(array)
    flat = array.reshape(-1)
    if array.dtype.kind == "c":
        flat = np.stack([flat.real, flat.imag], -1).reshape(-1)
    if flat.dtype.name in ("float16", "bfloat16"):
        flat = flat.astype(np.float32)
    if flat.dtype.kind == "f":
        numbers: list[Any] = [_shortened(value) for value in flat]
    else:
        numbers = flat.tolist()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": numbers}


def _shortened(value: Any) -> float:
    """A float32 as the shortest number that is it, a float64 to 13 digits."""
    return float(f"{value:.13g}") if value.dtype == np.float64 else float(str(value))


def record(tf: Any, item: math_cases.Case) -> dict[str, Any]:
    """What TensorFlow makes of one case."""
    given = {name: make_input(name, text) for name, text in item.inputs.items()}
    with tf.Graph().as_default() as graph, tf.Session() as session:
        xs = {n: tf.placeholder(v["dtype"], v["static"], n) for n, v in given.items()}
        feeds = {xs[name]: value["array"] for name, value in given.items()}
        output = eval(item.code, {"tf": tf, "np": np, "abs": abs}, dict(xs))
        nodes = [
            " ".join([op.name, op.type, *[t.name for t in op.inputs]])
            for op in graph.get_operations()
            if op.name not in given
        ]
        value = session.run(output, feeds)
        entry = {
            "code": item.code,
            "inputs": {n: {"static": v["static"], **plain(v["array"])} for n, v in given.items()},
            "static": output.shape.as_list() if output.shape.dims is not None else None,
            "output": plain(value),
        }
        if item.nodes:
            entry["nodes"] = nodes
        if item.tolerance != 1:
            entry["tolerance"] = item.tolerance
        smooth = [n for n in xs if xs[n].dtype.is_floating or xs[n].dtype.is_complex]
        if smooth and (output.dtype.is_floating or output.dtype.is_complex):
            sources = [xs[name] for name in smooth]
            first = _gradients(tf, [output], sources, feeds, session)
            if first is not None:
                entry["gradients"] = _named(smooth, first, feeds, session)
                made = [g for g in first if g is not None]
                second = made and _gradients(tf, made, sources, feeds, session)
                if second:
                    entry["second"] = _named(smooth, second, feeds, session)
        return entry


def _gradients(tf: Any, ys: list[Any], xs: list[Any], feeds: Any, session: Any) -> Any:
    """The gradients of weighted ``ys``; None where TensorFlow has none for a node."""
    scale = [
        tf.constant(weights(np.asarray(value), i)) for i, value in enumerate(session.run(ys, feeds))
    ]
    try:
        found = tf.gradients(ys, xs, grad_ys=scale)
        session.run([tf.convert_to_tensor(g) for g in found if g is not None], feeds)
        return [None if g is None else tf.convert_to_tensor(g) for g in found]
    except (LookupError, NotImplementedError, tf.errors.OpError, TypeError, ValueError):
        return None


def _named(names: list[str], tensors: list[Any], feeds: Any, session: Any) -> dict[str, Any]:
    return {
        name: None if tensor is None else plain(session.run(tensor, feeds))
        for name, tensor in zip(names, tensors, strict=True)
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    tf.get_logger().setLevel("ERROR")
    entries = [
        {"group": group.__name__, **record(tf, item)}
        for group in (*math_cases.GROUPS, *matrix_cases.GROUPS)
        for item in group()
    ]
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    target = pathlib.Path(__file__).with_name("math_reference.json")
    target.write_text(f"[\n{lines}\n]\n")
    print(len(entries), "cases,", target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
