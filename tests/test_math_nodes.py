"""Elementwise functions, operators and reductions against what TensorFlow was recorded to do.

Each recorded case checks the nodes that are made (names, types, inputs), the static shape, the
values, and gradients of first and second order. What has no value, errors above all, is checked
below.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from math_reference import Built, describe, entries, failures

import stepforge as tf

GROUPS = (
    "unary_cases",
    "binary_cases",
    "integer_cases",
    "special_cases",
    "operator_cases",
    "cast_cases",
    "reduction_cases",
)
CASES = [entry for entry in entries() if entry["group"] in GROUPS]


@pytest.mark.parametrize("entry", CASES, ids=describe)
def test_agrees_with_tensorflow(entry: dict[str, Any]) -> None:
    assert vars(failures(Built(entry))) == dict.fromkeys(
        ("nodes", "static", "value", "gradients", "second"), ""
    )


@pytest.fixture
def inputs() -> Any:
    """Placeholders of several shapes and dtypes, in a graph of their own."""
    with tf.Graph().as_default():
        yield {
            "tf": tf,
            "np": np,
            "x": tf.placeholder(tf.float32, [2, 3], "x"),
            "any": tf.placeholder(tf.float32, None, "any"),
            "rows": tf.placeholder(tf.float32, [None, 3], "rows"),
            "i": tf.placeholder(tf.int32, [2, 3], "i"),
            "v": tf.placeholder(tf.float32, [2], "v"),
            "b": tf.placeholder(tf.bool, [2], "b"),
            "d": tf.placeholder(tf.float64, [3], "d"),
            "axis": tf.placeholder(tf.int32, [], "axis"),
            "axes": tf.placeholder(tf.int32, [None], "axes"),
        }


MISTAKES = [
    ("x + v", ValueError, "3 and 2"),
    (
        "x + d",
        TypeError,
        "Input 'y' of 'AddV2' Op has type float64 that does not match type float32",
    ),
    ("x + i", TypeError, "Input 'y' of 'AddV2' Op has type int32"),
    ("tf.add(1, x)", TypeError, "does not match type int32 of argument 'x'"),
    ("tf.maximum(0.0, d)", TypeError, "Input 'y' of 'Maximum' Op has type float64"),
    ("i * 2.5", TypeError, "Expected int32"),
    ("2.5 * i", TypeError, "Expected int32"),
    ("x + None", ValueError, "None values not supported"),
    ("x + 'a'", TypeError, "string"),
    ("tf.sqrt(i)", TypeError, "i32"),
    ("tf.log(3)", TypeError, "i32"),
    ("-b", TypeError, "bool"),
    ("tf.logical_and(x, x)", TypeError, "bool"),
    ("tf.truediv(x, i)", TypeError, "must have the same dtype"),
    ("tf.complex(x, d)", TypeError, "incorrect types: float32 float64"),
    ("tf.equal(x, v)", ValueError, "3 and 2"),
    (
        "tf.reduce_sum(x, 2)",
        ValueError,
        "Invalid reduction dimension 2 for input with 2 dimensions",
    ),
    ("tf.reduce_sum(x, [0, -2])", ValueError, "duplicate dimension: 0"),
    ("tf.reduce_sum(x, axis=1.0)", TypeError, "reduction_indices"),
    ("tf.reduce_sum(x, axis=0, reduction_indices=1)", ValueError, "Cannot specify both"),
    ("tf.reduce_sum(b)", TypeError, "bool"),
    ("tf.reduce_all(x)", TypeError, "f32"),
    ("tf.argmax(x, 5)", ValueError, r"Dimension \(5\) must be in the range \[-2, 2\)"),
    ("tf.cumsum(x, 3)", ValueError, r"Expected scan axis in the range \[-2, 2\), but got 3"),
    ("tf.add_n([x, v])", ValueError, "Shapes must be equal rank, but are 2 and 1"),
    ("tf.add_n([])", ValueError, "at least one Tensor"),
    ("tf.add_n(x)", ValueError, "at least one Tensor"),
    ("tf.accumulate_n([x, i])", ValueError, "same dtype and shape"),
    ("tf.scalar_mul(v, x)", ValueError, "0-D"),
    ("tf.math.polyval(x, x)", ValueError, "list"),
    ("tf.math.reduce_variance(i)", TypeError, "integer"),
]


@pytest.mark.parametrize(("code", "error", "text"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistake_is_found_while_building(
    inputs: Any, code: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        eval(code, {}, inputs)


FAILING_STEPS = [
    ("i // i", {"i": np.zeros((2, 3))}, "Integer division by zero"),
    ("tf.mod(i, 0)", {"i": np.zeros((2, 3))}, "Integer division by zero"),
    ("tf.truncatediv(1, i)", {"i": np.eye(2, 3)}, "Integer division by zero"),
    ("tf.pow(i, -1)", {"i": np.ones((2, 3))}, "negative integer powers"),
    ("tf.pow(2, i)", {"i": -np.ones((2, 3))}, "negative integer powers"),
    ("tf.reduce_sum(any, 3)", {"any": np.ones((2, 3))}, "Invalid reduction dimension 3"),
    (
        "tf.add_n([rows, x])",
        {"rows": np.ones((3, 3)), "x": np.ones((2, 3))},
        r"must have the same size and shape.  Input 0: \[3,3\] != input 1: \[2,3\]",
    ),
    ("rows + any", {"rows": np.ones((2, 3)), "any": np.ones((4, 3))}, "Incompatible shapes"),
]


@pytest.mark.parametrize(
    ("code", "feeds", "text"), FAILING_STEPS, ids=[step[0] for step in FAILING_STEPS]
)
def test_mistake_is_found_by_the_step(
    inputs: Any, code: str, feeds: dict[str, Any], text: str
) -> None:
    output = eval(code, {}, inputs)
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match=text):
        session.run(output, {inputs[name]: value for name, value in feeds.items()})


def test_parameters_have_tensorflows_names(inputs: Any) -> None:
    x, y = inputs["x"], inputs["rows"]
    for output in (
        tf.atan2(x=y, y=x),
        tf.igamma(x=y, a=x),
        tf.igammac(x=y, a=x),
        tf.polygamma(x=y, a=x),
        tf.zeta(q=y, x=x),
        tf.add(y=y, x=x),
    ):
        assert output.op.inputs == (x, y), output
    assert tf.nn.l2_loss(t=x).op.inputs == (x,)
    assert tf.exp.__name__ == "exp"


def test_unknown_rank_reduces_to_a_scalar(inputs: Any) -> None:
    mean = tf.reduce_mean(inputs["any"])
    (slope,) = tf.gradients(mean, inputs["any"])
    assert mean.shape.as_list() == []
    with tf.Session() as session:
        for value in (np.float32(3.0), np.arange(6.0).reshape(2, 3)):
            found = session.run([mean, slope], {inputs["any"]: value})
            np.testing.assert_allclose(found[0], np.mean(value))
            np.testing.assert_allclose(found[1], np.full(np.shape(value), 1 / np.size(value)), 1e-6)


def test_unknown_rank_of_every_reduction(inputs: Any) -> None:
    value = np.array([[1.0, 2.0], [2.0, 0.5]], np.float32)
    for name in ("sum", "max", "min", "prod", "logsumexp"):
        output = getattr(tf, f"reduce_{name}")(inputs["any"])
        slope = tf.gradients(output, inputs["any"])[0]
        with tf.Session() as session:
            got = session.run(slope, {inputs["any"]: value})
        assert got.shape == value.shape, name


def test_axes_that_are_not_known_leave_sizes_open(inputs: Any) -> None:
    x = inputs["x"]
    assert tf.reduce_sum(x, inputs["axes"]).shape.ndims is None
    assert tf.reduce_sum(x, inputs["axes"], keepdims=True).shape.as_list() == [None, None]
    assert tf.argmax(x, inputs["axis"]).shape.as_list() == [None]
    assert tf.cumsum(x, inputs["axis"]).shape.ndims == 2


def test_axis_that_the_graph_computes(inputs: Any) -> None:
    last = tf.rank(inputs["x"]) - 1
    value = np.arange(6.0).reshape(2, 3)
    with tf.Session() as session:
        found = session.run(tf.reduce_sum(inputs["x"], last), {inputs["x"]: value})
    np.testing.assert_array_equal(found, value.sum(1))


def test_equality_and_hash_of_tensors_stay_pythons(inputs: Any) -> None:
    x, v = inputs["x"], inputs["v"]
    assert x == x
    assert x != v
    assert len({x, v, x}) == 2


def test_arrays_leave_operators_to_tensors(inputs: Any) -> None:
    product = np.ones(3, np.float32) * inputs["x"]
    assert product.op.type == "Mul"
    assert product.op.inputs[0].op.name == "mul/x"


def test_operand_that_knows_tensors_may_answer(inputs: Any) -> None:
    class Sparse:
        def __radd__(self, other: Any) -> str:
            return f"answered {other.op.name}"

    assert inputs["x"] + Sparse() == "answered x"


def test_integers_wrap_around() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        big = tf.constant([2**31 - 1, -(2**31)], tf.int32)
        assert session.run(big + 1).tolist() == [-(2**31), -(2**31) + 1]
        assert session.run(tf.abs(big))[1] == -(2**31)
        assert session.run(big // -1)[1] == -(2**31)


def test_casts_of_what_does_not_fit() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        wild = tf.constant([np.nan, np.inf, -np.inf, 300.7, -1.5], tf.float32)
        narrow = session.run(tf.saturate_cast(wild[3:], tf.uint8))
        assert narrow.tolist() == [255, 0]
        assert session.run(tf.cast(wild, tf.int32)).tolist()[3:] == [300, -1]
        assert session.run(tf.cast(wild, tf.bool)).all()


def test_node_without_change_is_not_made(inputs: Any) -> None:
    x, i = inputs["x"], inputs["i"]
    assert tf.cast(x, tf.float32) is x
    assert tf.to_float(x) is x
    assert tf.conj(x) is x
    assert tf.real(x) is x
    assert tf.round(i) is i
    assert tf.add_n([x]) is x


def test_slices_are_scaled_in_place(inputs: Any) -> None:
    rows = tf.IndexedSlices(inputs["x"], tf.constant([0, 1]))
    scaled = tf.scalar_mul(2.0, rows)
    assert isinstance(scaled, tf.IndexedSlices)
    assert scaled.indices is rows.indices
    assert isinstance(tf.cast(rows, tf.float64), tf.IndexedSlices)


def test_igamma_says_what_it_cannot_differentiate(inputs: Any) -> None:
    powers = tf.igamma(inputs["d"], inputs["d"])
    with pytest.raises(NotImplementedError, match="igamma"):
        tf.gradients(powers, inputs["d"])


@pytest.mark.parametrize(("function", "axis"), [("argmax", 0), ("argmin", 1)])
def test_nothing_has_no_largest_element(function: str, axis: int) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None, None])
        position = getattr(tf, function)(x, axis)
        for other in (0, 3):
            shape = (0, other) if axis == 0 else (other, 0)
            with pytest.raises(tf.errors.InvalidArgumentError, match=f"axis {axis} is empty"):
                session.run(position, {x: np.zeros(shape)})
        shape = (3, 0) if axis == 0 else (0, 3)
        assert session.run(position, {x: np.zeros(shape)}).shape == (0,)
