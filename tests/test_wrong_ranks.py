"""Every node type, with placeholders of unknown shape as inputs, fed arrays of any rank.

What does not fit must be an error of ``tf.errors`` that names the node, never an exception of
Python or of NumPy from inside. The nodes are those that the cases of the other tests make.
"""

from __future__ import annotations

import contextlib
import importlib
import itertools
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.frontend import api
from stepforge.frontend.extract.program import FeedKey, Request, extract
from stepforge.frontend.graph import create_op
from stepforge.frontend.nodedefs.base import NODES, NodeDef, lookup_node
from stepforge.ir.errors import OpError
from stepforge.ir.evaluate import evaluate
from stepforge.ir.philox import Stream

DATA = Path(__file__).parent / "data"
sys.path.insert(0, str(DATA))
sys.path.insert(0, str(Path(__file__).parent))
ARRAY_CASES = importlib.import_module("make_array_reference").CASES
MATH = importlib.import_module("math_reference")
CONVOLUTIONS = json.loads((DATA / "conv_reference.json").read_text())
DRAWN = {
    "RandomUniform": "tf.random_uniform([2])",
    "RandomUniformInt": "tf.random_uniform([2], 0, 5, tf.int32)",
    "RandomStandardNormal": "tf.random_normal([2])",
    "TruncatedNormal": "tf.truncated_normal([2])",
    "RandomShuffle": "tf.random_shuffle([1, 2])",
    "Multinomial": "tf.multinomial([[1.0, 2.0]], 2)",
    "Assert": "tf.Assert(True, [1])",
    "CheckNumerics": "tf.check_numerics(1.0, 'text')",
}
F, N = "float32", "int32"
POOL = {"ksize": [1, 2, 2, 1], "strides": [1, 1, 1, 1], "padding": "VALID"}
POOL_3D = {"ksize": [1, 2, 2, 2, 1], "strides": [1, 1, 1, 1, 1], "padding": "VALID"}
BARE: dict[str, tuple[list[str], dict[str, Any]]] = {  # dtypes of inputs, attributes
    **{type_: ([F], {}) for type_ in (
        "Inv", "MatrixDiag", "MatrixDiagPart", "OnesLike", "PreventGradient", "Rank"
    )},
    **{type_: ([F, F], {}) for type_ in (
        "Add", "ApproximateEqual", "BatchMatMul", "BiasAddV1", "Div", "MatrixSetDiag", "Mod",
        "SoftplusGrad", "SparseMatMul"
    )},
    **{type_: ([F] * 5, {}) for type_ in (
        "FusedBatchNorm", "FusedBatchNormV2", "FusedBatchNormV3"
    )},
    "BroadcastGradientArgs": ([N, N], {}),
    "Gather": ([F, N], {}),
    "IdentityN": ([F, N], {}),
    "PlaceholderWithDefault": ([F], {"dtype": "f32", "shape": None}),
    "SliceGrad": ([F, N, F], {}),
    "SparseToDense": ([N, N, F, F], {}),
    "MaxPoolGradGrad": ([F, F, F], POOL),
    "MaxPool3DGradGrad": ([F, F, F], POOL_3D),
}  # fmt: skip
CALLS_OF_USERS = {"NumbaOp", "Print", "PyFunc", "PyFuncStateless"}
OF_HANDLES = {"DeleteSessionTensor", "GetSessionHandle", "GetSessionTensor"}  # any value will do
RANKS = (0, 1, 2, 3, 4)
MOST_RUNS = 30  # of one node


class Sample:
    """A node that some case makes: enough to make it again from other inputs."""

    def __init__(
        self, type_: str, attrs: dict[str, Any], dtypes: list[Any], constants: list[Any]
    ) -> None:
        self.type, self.attrs, self.dtypes, self.constants = type_, attrs, dtypes, constants


def sample_of(op: Any) -> Sample:
    """The sample of a node; inputs that are constants have their values."""
    dtypes = [tensor.dtype.base_dtype for tensor in op.inputs]
    values = [api.constant_value(t) if t.op.type == "Const" else None for t in op.inputs]
    return Sample(op.type, dict(op.attrs), dtypes, values)


def wanted(definition: NodeDef) -> bool:
    """True for node types whose inputs are values."""
    return bool(definition.inputs) and not definition.ref_inputs


def graphs() -> Any:
    """The graphs of all cases and their gradients."""
    for code in DRAWN.values():
        with tf.Graph().as_default() as graph:
            eval(code, {"tf": tf})
        yield graph
    for case in ARRAY_CASES.values():
        with tf.Graph().as_default() as graph, contextlib.suppress(Exception):
            inputs = {k: tf.placeholder(v.dtype, v.shape, k) for k, v in case.feeds.items()}
            built = case.build(tf, **inputs)
            tf.gradients(built, list(inputs.values()))
        yield graph
    for entry in [*MATH.entries(), *CONVOLUTIONS]:
        built = MATH.Built(entry)
        with built.graph.as_default(), contextlib.suppress(Exception):
            tf.gradients(built.output, list(built.inputs.values()))
        yield built.graph


@lru_cache(maxsize=1)
def samples() -> dict[str, list[Sample]]:
    """Up to two nodes of each type."""
    found = {
        type_: [Sample(type_, attrs, list(map(tf.as_dtype, dtypes)), [None] * len(dtypes))]
        for type_, (dtypes, attrs) in BARE.items()
    }
    for graph in graphs():
        for op in graph.get_operations():
            kept = found.setdefault(op.type, [])
            if wanted(op.definition) and len(kept) < 2:
                sample = sample_of(op)
                if all(sample.dtypes != other.dtypes for other in kept):
                    kept.append(sample)
    return {type_: kept for type_, kept in found.items() if kept}


def value(dtype: Any, rank: int) -> np.ndarray[Any, Any]:
    """An array of ones, or of text."""
    if dtype == tf.string:
        return np.full((2,) * rank, b"text", object)
    return np.ones((2,) * rank, dtype.as_numpy_dtype)


def runs(sample: Sample, fed: list[int]) -> Any:
    """Ranks for the inputs ``fed``."""
    combinations = list(itertools.product(RANKS, repeat=len(fed)))
    step = max(1, -(-len(combinations) // MOST_RUNS))
    return combinations[::step]


def attempt(sample: Sample, fed: list[int], ranks: tuple[int, ...]) -> None:
    """Make the node and run it. Raises: OpError."""
    with tf.Graph().as_default():
        inputs = [
            tf.placeholder(dtype) if i in fed else tf.constant(sample.constants[i])
            for i, dtype in enumerate(sample.dtypes)
        ]
        node = create_op(sample.type, inputs, sample.attrs)
        arrays = [value(sample.dtypes[i], rank) for i, rank in zip(fed, ranks, strict=True)]
        keys = [
            FeedKey(inputs[i], inputs[i].dtype.ir, None, array.shape)
            for i, array in zip(fed, arrays, strict=True)
        ]
        found = extract(Request(node.outputs or [node], keys, lambda variable: None))
        streams = {name: Stream(1, 2) for name in found.streams}
        evaluate(found.function, arrays, dict(streams))


@pytest.mark.parametrize("type_", sorted(samples()))
def test_arrays_of_any_rank(type_: str) -> None:
    for sample in samples()[type_]:
        everything = list(range(len(sample.dtypes)))
        values = [i for i in everything if sample.constants[i] is None]
        for fed in [everything] + ([values] if values != everything else []):
            for ranks in runs(sample, fed):
                with contextlib.suppress(OpError):
                    attempt(sample, fed, ranks)


def test_every_node_type_is_among_them() -> None:
    with contextlib.suppress(ValueError):
        lookup_node("a miss, which imports all")
    missing = {type_ for type_, d in NODES.items() if wanted(d)} - samples().keys()
    assert missing == CALLS_OF_USERS | OF_HANDLES
