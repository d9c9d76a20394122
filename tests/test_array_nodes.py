"""Array functions against TensorFlow: names and inputs of nodes, static shapes, values, gradients,
errors.

The cases are those of ``data/make_array_reference.py``. Each is built twice, with all sizes known
and with none, extracted and evaluated; what TensorFlow gave is in ``data/array_reference.json``.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.frontend import api, check_ops, math_ops, slicing
from stepforge.frontend.extract.program import FeedKey, Request, extract
from stepforge.ir.errors import InvalidArgumentError, OpError
from stepforge.ir.evaluate import evaluate
from stepforge.ir.verify import verify

DATA = Path(__file__).parent / "data"
OPERATORS = (math_ops, slicing)  # importing them defines ``x + y`` and ``x[i]``


sys.path.insert(0, str(DATA))
cases = importlib.import_module("make_array_reference")
REFERENCE = json.loads((DATA / "array_reference.json").read_text())


def run(fetches: list[Any], feeds: dict[Any, Any]) -> list[Any]:
    """The values of ``fetches`` by the reference evaluator."""
    keys = [
        FeedKey(tensor, tensor.dtype.ir, tensor.shape.sizes, value.shape)
        for tensor, value in feeds.items()
    ]
    found = extract(Request(fetches, keys, lambda node: None))
    verify(found.function)
    arguments = list(feeds.values())
    results = evaluate(found.function, arguments)
    return [arguments[at.index] if at.kind == "feed" else results[at.index] for at in found.fetches]


def array(entry: dict[str, Any]) -> Any:
    """An array of the reference file."""
    dtype = np.dtype(entry["dtype"])
    if dtype.kind == "c":
        flat = np.array(entry["values"], dtype=np.zeros((), dtype).real.dtype).view(dtype)
    else:
        flat = np.array(entry["values"], dtype=dtype)
    return flat.reshape(entry["shape"])


def compare(found: Any, wanted: Any, what: str) -> None:
    """Equal dtype and shape; equal values, floats to a few units in the last place."""
    assert found.dtype == wanted.dtype, what
    assert found.shape == wanted.shape, what
    if wanted.dtype.kind in "fc":
        np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=1e-6, err_msg=what)
    else:
        np.testing.assert_array_equal(found, wanted, err_msg=what)


def names(static: bool, *, error: bool) -> list[str]:
    """The cases that fail in a run, or those that do not."""
    return [
        name
        for name, entry in cases.CASES.items()
        if (entry.error is not None) == error and not (static and entry.static_error)
    ]


def build(name: str, static: bool) -> tuple[Any, list[Any], dict[Any, Any]]:
    """The graph of a case: its nodes, outputs and feeds."""
    entry = cases.CASES[name]
    graph = api.Graph()
    with graph.as_default():
        inputs = cases.placeholders(api, entry, static)
        count = len(graph.get_operations())
        outputs = cases.as_list(entry.build(api, **inputs))
    feeds = {inputs[key]: value for key, value in entry.feeds.items()}
    return graph.get_operations()[count:], outputs, feeds


@pytest.mark.parametrize("static", [True, False], ids=["static", "symbolic"])
@pytest.mark.parametrize("name", names(static=False, error=False))
def test_values_and_gradients(name: str, static: bool) -> None:
    _, outputs, feeds = build(name, static)
    wanted = [array(value) for value in REFERENCE[name]["values"]]
    for tensor, value in zip(outputs, wanted, strict=True):
        assert tensor.shape.is_compatible_with(value.shape), tensor
        assert tensor.dtype.as_numpy_dtype == value.dtype, tensor
    for found, value in zip(run(outputs, feeds), wanted, strict=True):
        compare(found, value, name)
    if not static:
        _compare_gradients(name, outputs, wanted, feeds)


def _compare_gradients(name: str, outputs: list[Any], values: list[Any], feeds: Any) -> None:
    wanted = REFERENCE[name]["gradients"]
    inputs = {t.op.name: t for t in feeds if t.op.name in wanted}
    if not inputs:
        return
    with outputs[0].graph.as_default():
        ys = [(t, v) for t, v in zip(outputs, values, strict=True) if t.dtype.is_floating]
        above = [api.constant(cases.weights(v.shape), t.dtype) for t, v in ys]
        slopes = api.gradients([t for t, _ in ys], list(inputs.values()), above)
        sparse = [isinstance(slope, api.IndexedSlices) for slope in slopes]
        dense = [api.convert_to_tensor(slope) for slope in slopes]
    for key, is_sparse, found in zip(inputs, sparse, run(dense, feeds), strict=True):
        compare(found, array(wanted[key]), f"gradient of {name} in {key}")
        assert is_sparse == wanted[key]["sparse"], name


@pytest.mark.parametrize(
    "name", [n for n in names(static=False, error=False) if cases.CASES[n].nodes]
)
def test_nodes(name: str) -> None:
    ops, _, _ = build(name, static=False)
    assert cases.described(ops) == REFERENCE[name]["nodes"]


@pytest.mark.parametrize("name", names(static=False, error=True))
def test_errors(name: str) -> None:
    entry = cases.CASES[name]
    kind, fragment = entry.error
    with pytest.raises(OpError) as caught:
        run(*build(name, static=False)[1:])
    assert type(caught.value).__name__ == kind
    assert fragment in str(caught.value)
    if entry.static_error:
        with pytest.raises(ValueError, match=r".") as built:
            build(name, static=True)
        assert isinstance(built.value, ValueError)


def graph_function(build_outputs: Any, **shapes: Any) -> Any:
    """The IR of what a function makes of float placeholders of the given shapes."""
    with api.Graph().as_default():
        inputs = {k: api.placeholder(api.float32, s, name=k) for k, s in shapes.items()}
        outputs = cases.as_list(build_outputs(**inputs))
        keys = [FeedKey(t, "f32", t.shape.sizes) for t in inputs.values()]
        return extract(Request(outputs, keys, lambda node: None)).function


def computing(function: Any) -> list[str]:
    """The ops that the results depend on, in order."""
    needed = set(function.results)
    found = []
    for op in reversed(function.body.ops[:-1]):
        if needed.intersection(op.results):
            needed.update(op.operands)
            found.append(op.name)
    return found[::-1]


def shape_text(function: Any) -> str:
    return str(function.results[0].type)


class TestSymbolicSizes:
    """Shape arithmetic leaves no op behind and keeps sizes as expressions."""

    def test_reshape_by_shape_is_one_op(self) -> None:
        function = graph_function(lambda x: api.reshape(x, [api.shape(x)[0], -1]), x=[None, 3, 4])
        assert computing(function) == ["reshape"]
        assert shape_text(function) == "f32[x_0, 12]"

    def test_zeros_by_size(self) -> None:
        function = graph_function(lambda x: api.zeros([api.shape(x)[0], 128]), x=[None, 3])
        assert computing(function) == ["fill"]
        assert shape_text(function) == "f32[x_0, 128]"

    @pytest.mark.parametrize(
        ("item", "text"),
        [
            (np.s_[:-1], "f32[max(0, x_0 - 1)]"),
            (np.s_[1:], "f32[max(0, x_0 - 1)]"),
            (np.s_[1:-1], "f32[max(0, x_0 - 2)]"),
            (np.s_[:10], "f32[min(10, x_0)]"),
            (np.s_[-3:], "f32[min(3, x_0)]"),
            (np.s_[::-1], "f32[x_0]"),
            (np.s_[::2], "f32[floordiv(x_0 + 1, 2)]"),
        ],
        ids=str,
    )
    def test_slices(self, item: Any, text: str) -> None:
        assert shape_text(graph_function(lambda x: x[item], x=[None])) == text

    def test_shifted_slices_fit_without_assumption(self) -> None:
        function = graph_function(lambda x: x[1:] - x[:-1], x=[None])
        assert computing(function) == ["slice", "slice", "sub"]

    def test_split_and_concat_cancel(self) -> None:
        function = graph_function(lambda x: api.concat(api.split(x, [2, -1], 1), 1), x=[None, None])
        assert shape_text(function) == "f32[x_0, x_1]"

    def test_range_of_a_size(self) -> None:
        function = graph_function(lambda x: api.range(api.shape(x)[0]), x=[None])
        assert shape_text(function) == "i32[x_0]"


def test_empty_axis_slices() -> None:
    """Slices of an axis without elements are empty, whatever the bounds."""
    with api.Graph().as_default():
        x = api.placeholder(api.float32, [None])
        fetches = [x[1:], x[:-1], x[-2:], x[::-1], x[:5:2], x[3:1:-1]]
        for value in run(fetches, {x: np.zeros(0, np.float32)}):
            assert value.shape == (0,)


@pytest.mark.parametrize("count", [0, 1, 2, 4])
@pytest.mark.parametrize("step", [-3, -1, 1, 2])
def test_every_range_of_a_slice(count: int, step: int) -> None:
    """All starts and stops around a short axis, as NumPy slices it."""
    data = np.arange(count, dtype=np.float32)
    bounds = [None, *range(-count - 2, count + 3)]
    with api.Graph().as_default():
        x = api.placeholder(api.float32, [None])
        specs = [(a, b) for a in bounds for b in bounds][:: 2 if count > 2 else 1]
        found = run([x[a:b:step] for a, b in specs], {x: data})
    for (a, b), value in zip(specs, found, strict=True):
        np.testing.assert_array_equal(value, data[a:b:step], err_msg=f"[{a}:{b}:{step}] of {count}")


@pytest.mark.parametrize("index", [-4, 3])
def test_fed_index_out_of_range(index: int) -> None:
    with api.Graph().as_default():
        x = api.placeholder(api.float32, [None])
        i = api.placeholder(api.int32, [])
        with pytest.raises(InvalidArgumentError, match="of dimension 0 out of bounds"):
            run([x[i]], {x: np.zeros(3, np.float32), i: np.int32(index)})


def test_squeeze_of_unknown_sizes() -> None:
    """What is squeezed depends on the sizes of each run, and so does the rank of the result."""
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, 1])
        squeezed = tf.squeeze(x)
        assert squeezed.shape.ndims is None
        for count, shape in ((3, (3,)), (1, ()), (5, (5,)), (1, ())):
            assert np.shape(session.run(squeezed, {x: np.zeros((count, 1))})) == shape


RANKLESS = {
    "transpose": (lambda x: tf.transpose(x), lambda v: v.T),
    "index": (lambda x: x[1], lambda v: v[1]),
    "new axis": (lambda x: x[..., None], lambda v: v[..., None]),
    "reshape": (lambda x: tf.reshape(x, [-1, 2]), lambda v: v.reshape(-1, 2)),
    "shape": (lambda x: tf.shape(x), lambda v: np.int32(v.shape)),
    "rank": (lambda x: tf.rank(x), lambda v: np.int32(v.ndim)),
    "concat": (lambda x: tf.concat([x, x], 0), lambda v: np.concatenate([v, v])),
    "gather": (lambda x: tf.gather(x, [2, 0]), lambda v: v[[2, 0]]),
    "pad": (lambda x: tf.pad(x, [[1, 0], [0, 2]]), lambda v: np.pad(v, [[1, 0], [0, 2]])),
}


@pytest.mark.parametrize("name", RANKLESS)
def test_feeds_of_unknown_rank(name: str) -> None:
    build_output, expected = RANKLESS[name]
    value = np.arange(12, dtype=np.float32).reshape(3, 4)
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32)
        np.testing.assert_array_equal(session.run(build_output(x), {x: value}), expected(value))


def test_reshape_of_unknown_rank_has_a_rank() -> None:
    with tf.Graph().as_default():
        assert tf.reshape(tf.placeholder(tf.float32), [-1, 2]).shape.as_list() == [None, 2]


def test_gradient_of_a_lookup_touches_only_its_rows() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        table = tf.Variable(np.ones((4, 2), np.float32))
        rows = tf.nn.embedding_lookup(table, [2, 0, 2])
        (slope,) = tf.gradients(tf.reduce_sum(rows * rows), [table])
        assert isinstance(slope, tf.IndexedSlices)
        step = tf.train.GradientDescentOptimizer(0.25).minimize(tf.reduce_sum(rows * rows))
        session.run(tf.global_variables_initializer())
        session.run(step)
        assert session.run(table).tolist() == [[0.5, 0.5], [1, 1], [0, 0], [1, 1]]


ASSERTIONS = {
    "assert_equal": (3, [3, 3], "[Condition x == y did not hold element-wise:] [x (x:0) = ] [1 3]"),
    "assert_less": (3, [2], "[Condition x < y did not hold element-wise:]"),
    "assert_greater_equal": (2, [2, 5], "[Condition x >= y did not hold element-wise:]"),
    "assert_negative": (
        None,
        [-1],
        "[] [Condition x < 0 did not hold element-wise:] [x (x:0) = ] [1 3]",
    ),
}


@pytest.mark.parametrize("name", ASSERTIONS)
def test_assertions(name: str) -> None:
    bound, good, fragment = ASSERTIONS[name]
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.int32, [None], name="x")
        check = getattr(check_ops, name)(*([x] if bound is None else [x, bound]))
        session.run(check, {x: good})
        with pytest.raises(tf.errors.InvalidArgumentError) as caught:
            session.run(check, {x: [1, 3]})
    assert f"assertion failed: {fragment}" in str(caught.value)


def test_assertions_of_known_values() -> None:
    with tf.Graph().as_default():
        assert check_ops.assert_equal(3, 3).type == "NoOp"
        with pytest.raises(tf.errors.InvalidArgumentError, match="Condition x == y did not hold"):
            check_ops.assert_equal(2, 3)
        x = tf.placeholder(tf.float32, [None], name="x")
        assert check_ops.assert_rank(x, 1).type == "NoOp"
        with pytest.raises(ValueError, match=r"must have rank at least 2\.  Received rank 1"):
            check_ops.assert_rank_at_least(x, 2)
        with pytest.raises(TypeError, match=r"x:0 must be of type tf\.int32; got tf\.float32"):
            check_ops.assert_type(x, tf.int32)


@pytest.mark.parametrize("key", [1.5, "a", [0.5], np.array([0, 1])])
def test_what_is_no_index(key: Any) -> None:
    with api.Graph().as_default():
        x = api.placeholder(api.float32, [3])
        with pytest.raises(TypeError, match="Only integers, slices"):
            x[key]


def test_one_hot_of_two_dtypes() -> None:
    with api.Graph().as_default(), pytest.raises(TypeError, match="of on_value does not match"):
        api.one_hot([0], 3, on_value=1.0, off_value=2)


def test_range_of_float_steps_counts_like_tensorflow() -> None:
    """TensorFlow divides in double: 50 / float32(0.1) is 500 steps, not 501."""
    with api.Graph().as_default():
        limit = api.placeholder(api.float32, [])
        (value,) = run([api.range(0.0, limit, 0.1)], {limit: np.float32(50)})
    assert value.shape == (500,)
    assert value[499] == np.float32(499) * np.float32(0.1)
    assert math.isclose(value[1], 0.1, rel_tol=1e-6)
