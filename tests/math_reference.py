"""Runs the recorded cases of ``data/math_reference.json`` with stepforge, for the tests that
compare.
"""

from __future__ import annotations

import json
import pathlib
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

import stepforge as tf
from stepforge.frontend.extract.program import FeedKey, Request, extract
from stepforge.ir.evaluate import evaluate
from stepforge.ir.types import numpy_dtype

RELATIVE = {"float16": 2e-3, "bfloat16": 2e-2, "float32": 4e-6, "complex64": 4e-6}  # others 1e-11


@lru_cache(maxsize=1)
def entries() -> list[dict[str, Any]]:
    """All recorded cases."""
    path = pathlib.Path(__file__).parent / "data" / "math_reference.json"
    loaded: list[dict[str, Any]] = json.loads(path.read_text())
    return loaded


def array(recorded: dict[str, Any]) -> np.ndarray[Any, Any]:
    """A recorded array."""
    name = recorded["dtype"]
    dtype = numpy_dtype(tf.as_dtype(name).ir)
    data = recorded["data"]
    if dtype.kind == "c":
        data = np.asarray(data[0::2]) + 1j * np.asarray(data[1::2])
    return np.asarray(data).astype(dtype).reshape(recorded["shape"])


def weights(shape: tuple[int, ...], dtype: np.dtype[Any], shift: int) -> np.ndarray[Any, Any]:
    """The weights of an output that its gradient was recorded with."""
    size = int(np.prod(shape))
    phase = np.arange(size).reshape(shape) + 1.0 + shift
    return (np.cos(phase) + (1j * np.sin(phase) if dtype.kind == "c" else 0)).astype(dtype)


class Built:
    """A case as a graph of stepforge."""

    def __init__(self, entry: dict[str, Any]) -> None:
        self.entry = entry
        self.graph = tf.Graph()
        self.feeds = {name: array(given) for name, given in entry["inputs"].items()}
        with self.graph.as_default():
            self.inputs = {
                name: tf.placeholder(given["dtype"], given["static"], name)
                for name, given in entry["inputs"].items()
            }
            names = {"tf": tf, "np": np, "abs": abs}
            self.output = eval(entry["code"], names, dict(self.inputs))
        self.nodes = [
            " ".join([op.name, op.type, *[t.name for t in op.inputs]])
            for op in self.graph.get_operations()
            if op.name not in self.inputs
        ]

    def run(self, tensors: list[Any]) -> list[Any]:
        """The values of tensors, by the reference evaluator."""
        feeds = [
            FeedKey(tensor, tensor.dtype.ir, tensor.shape.sizes, self.feeds[name].shape)
            for name, tensor in self.inputs.items()
        ]
        extraction = extract(Request(tensors, feeds, lambda variable: None))
        values = evaluate(extraction.function, list(self.feeds.values()))
        found = []
        for fetched in extraction.fetches:
            source = values if fetched.kind == "value" else list(self.feeds.values())
            found.append(source[fetched.index])
        return found

    def gradients(self, ys: list[Any], names: list[str]) -> list[Any]:
        """Gradients of weighted ``ys`` in the named inputs; None where there is none."""
        values = self.run(ys)
        with self.graph.as_default():
            seeds = [
                tf.constant(weights(value.shape, value.dtype, i)) for i, value in enumerate(values)
            ]
            found = tf.gradients(ys, [self.inputs[name] for name in names], grad_ys=seeds)
            return [None if g is None else tf.convert_to_tensor(g) for g in found]


def close(have: Any, want: np.ndarray[Any, Any], factor: float = 1.0) -> str:
    """An empty text where two values agree as well as their dtype allows, else how they differ."""
    have = np.asarray(have)
    if have.dtype != want.dtype or have.shape != want.shape:
        return f"{have.dtype}{list(have.shape)} is not {want.dtype}{list(want.shape)}"
    if want.dtype.kind in "biu":
        return "" if np.array_equal(have, want) else f"{have} is not {want}"
    tolerance = RELATIVE.get(want.dtype.name, 1e-11) * factor
    wide = complex if want.dtype.kind == "c" else np.float64
    left, right = have.astype(wide), want.astype(wide)
    finite = np.abs(right[np.isfinite(right)])
    scale = float(finite.max()) if finite.size else 1.0
    fine = np.allclose(
        left, right, rtol=tolerance, atol=tolerance * max(scale, 1e-3), equal_nan=True
    )
    return "" if fine else f"{have} is not {want}"


def describe(entry: dict[str, Any]) -> str:
    """The expression and the dtypes of a case."""
    given = ", ".join(f"{n}: {v['dtype']}{v['static']}" for n, v in entry["inputs"].items())
    return f"{entry['code']} [{given}]"


def failures(built: Built) -> SimpleNamespace:
    """What differs from the recording: nodes, static shape, value, gradients of both orders."""
    entry = built.entry
    factor = entry.get("tolerance", 1)
    found = SimpleNamespace(nodes="", static="", value="", gradients="", second="")
    if "nodes" in entry and built.nodes != entry["nodes"]:
        found.nodes = f"{built.nodes}\n   not {entry['nodes']}"
    static = None if built.output.shape.ndims is None else built.output.shape.as_list()
    if static != entry["static"]:
        found.static = f"{static} is not {entry['static']}"
    found.value = close(built.run([built.output])[0], array(entry["output"]), factor)
    if "gradients" in entry:
        names = list(entry["gradients"])
        first = built.gradients([built.output], names)
        found.gradients = _compare(built, names, first, entry["gradients"], 4 * factor)
        if "second" in entry and not found.gradients:
            made = [g for g in first if g is not None]
            second = built.gradients(made, names)
            found.second = _compare(built, names, second, entry["second"], 16 * factor)
    return found


def _compare(
    built: Built, names: list[str], have: list[Any], want: dict[str, Any], factor: float
) -> str:
    problems = []
    values = iter(built.run([g for g in have if g is not None]))
    for name, tensor in zip(names, have, strict=True):
        value = None if tensor is None else next(values)
        recorded = want[name]
        if recorded is None:
            problem = "" if value is None or not np.any(value) else f"{value} is not None"
        else:
            problem = "None" if value is None else close(value, array(recorded), factor)
        problems += [f"d{name}: {problem}"] if problem else []
    return "; ".join(problems)
