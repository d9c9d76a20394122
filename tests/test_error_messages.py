"""Errors of values that only a run knows, in the words that TensorFlow 2.21 was seen to use.

Each case runs three times: compiled for the sizes at hand, compiled before any are known, and with
nothing known of the shapes at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir.core import Site
from stepforge.ir.errors import quote

F, N, B = tf.float32, tf.int32, tf.bool


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as made:
        yield made


def p(*values: Any, dtype: Any = F) -> tuple[Any, Any]:
    """A placeholder's dtype and what is fed: one vector or matrix."""
    return dtype, np.array(values, dtype.as_numpy_dtype)


def i(*values: Any) -> tuple[Any, Any]:
    """Integers."""
    return p(*values, dtype=N)


def n(value: Any, dtype: Any = N) -> tuple[Any, Any]:
    """A scalar."""
    return dtype, np.array(value, dtype.as_numpy_dtype)


PAIR, ROW = p(1, 2), p([1, 2])
CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "range up": (tf.range, (n(5), n(3), n(1)), "Requires start <= limit when delta > 0: 5/3"),
    "range down": (tf.range, (n(1), n(3), n(-1)), "Requires start >= limit when delta < 0: 1/3"),
    "range 0": (tf.range, (n(1), n(3), n(0)), "Requires delta != 0: 0"),
    "range float 0": (tf.range, (n(1, F), n(3, F), n(0, F)), "Requires delta != 0: 0"),
    "range float": (tf.range, (n(5.5, F), n(3, F), n(0.5, F)),
                    "Requires start <= limit when delta > 0: 5.5/3"),
    "range known delta": (lambda a, b: tf.range(a, b), (n(5), n(3)),
                          "Requires start <= limit when delta > 0: 5/3"),
    "gather": (tf.gather, (PAIR, i(0, 5)), "indices[1] = 5 is not in [0, 2)"),
    "gather scalar": (tf.gather, (PAIR, n(5)), "indices = 5 is not in [0, 2)"),
    "gather negative": (tf.gather, (PAIR, n(-1)), "indices = -1 is not in [0, 2)"),
    "gather matrix": (tf.gather, (PAIR, i([0, 1], [1, 7])), "indices[1,1] = 7 is not in [0, 2)"),
    "gather axis": (lambda x, at: tf.gather(x, at, axis=1), (ROW, i(0, 3)),
                    "indices[1] = 3 is not in [0, 2)"),
    "gather axis scalar": (lambda x, at: tf.gather(x, at, axis=1), (ROW, n(3)),
                           "indices = 3 is not in [0, 2)"),
    "gather batch": (lambda x, at: tf.gather(x, at, batch_dims=1),
                     (p([1, 2], [3, 4]), i([0], [3])), "indices[1,0] = 3 is not in [0, 2)"),
    "gather batches": (lambda x, at: tf.gather(x, at, batch_dims=1),
                       (p([1, 2], [3, 4]), i([0])),
                       "params.shape[0]: 2 should be equal to indices.shape[0]: 1"),
    "gather_nd": (tf.gather_nd, (ROW, i([0, 0], [0, 5])),
                  "indices[1] = [0, 5] does not index into param shape [1,2], node name: GatherNd"),
    "gather_nd one": (tf.gather_nd, (ROW, i(0, 5)),
                      "indices = [0, 5] does not index into param shape [1,2], "
                      "node name: GatherNd"),
    "gather_nd many": (tf.gather_nd, (ROW, i([[0, 0], [1, 0]])),
                       "indices[0,1] = [1, 0] does not index into param shape [1,2], "
                       "node name: GatherNd"),
    "gather_nd rows": (tf.gather_nd, (ROW, i([0], [-2])),
                       "indices[1] = [-2] does not index into param shape [1,2], "
                       "node name: GatherNd"),
    "scatter_nd": (lambda at, x: tf.scatter_nd(at, x, [2, 3]), (i([0, 0], [0, 5]), PAIR),
                   "indices[1] = [0, 5] does not index into shape [2,3]"),
    "scatter_nd negative": (lambda at, x: tf.scatter_nd(at, x, [2]), (i([0], [-1]), PAIR),
                            "indices[1] = [-1] does not index into shape [2]"),
    "scatter_nd count": (lambda at, x: tf.scatter_nd(at, x, [2]), (i([0], [1]), p(1, 2, 3)),
                         "Dimensions [0,1) of indices[shape=[2,1]] must match "
                         "dimensions [0,1) of updates[shape=[3]]"),
    "tensor_scatter": (tf.tensor_scatter_update, (PAIR, i([5]), p(1)),
                       "indices[0] = [5] does not index into shape [2]"),
    "add": (lambda x, y: x + y, (p(1, 2, 3), p(1, 2)), "Incompatible shapes: [3] vs. [2]"),
    "add late": (lambda x, y: tf.where(x) + tf.where(y), (p(1, 1, 1, dtype=B), p(1, 1, dtype=B)),
                 "Incompatible shapes: [3,1] vs. [2,1]"),
    "add_n": (lambda x, y: tf.add_n([x, y]), (p(1, 2, 3), p(1, 2)),
              "Inputs to operation AddN of type AddN must have the same size and shape.  "
              "Input 0: [3] != input 1: [2]"),
    "add_n one": (lambda x, y: tf.add_n([x, y]), (p(1, 2, 3), p(1)),
                  "must have the same size and shape.  Input 0: [3] != input 1: [1]"),
    "add_n late": (lambda x, y: tf.add_n([tf.where(x), tf.where(y)]),
                   (p(1, 1, 1, dtype=B), p(1, dtype=B)),
                   "must have the same size and shape.  Input 0: [3,1] != input 1: [1,1]"),
    "broadcast_to": (tf.broadcast_to, (p(1, 1, 1), i(2)), "Incompatible shapes: [3] vs. [2]"),
    "broadcast_to 1": (tf.broadcast_to, (p(1, 1, 1), i(1)), "Incompatible shapes: [3] vs. [1]"),
    "broadcast_to rank": (tf.broadcast_to, (p([1, 1, 1]), i(3)),
                          "Rank of input (2) must be no greater than rank of output shape (1)."),
    "slice size": (tf.slice, (p(1, 2, 3), i(1), i(3)), "Expected size[0] in [0, 2], but got 3"),
    "slice size -2": (tf.slice, (p(1, 2, 3), i(1), i(-2)),
                      "Expected size[0] in [0, 2], but got -2"),
    "slice begin": (tf.slice, (p(1, 2, 3), i(4), i(0)), "Expected begin[0] in [0, 3], but got 4"),
    "slice begin -1": (tf.slice, (p(1, 2, 3), i(-1), i(1)),
                       "Expected begin[0] in [0, 3], but got -1"),
    "slice rank": (tf.slice, (p(1, 2, 3), i(1), i(1, 0)),
                   "Expected begin and size arguments to be 1-D tensors of size 1, but got shapes "
                   "[1] and [2] instead."),
    "permutation": (tf.invert_permutation, (i(0, 0),), "0 is duplicated in the input."),
    "permutation range": (tf.invert_permutation, (i(0, 5),), "5 is not between 0 and 2"),
    "int range": (lambda a, b: tf.random_uniform([3], a, b, tf.int32), (n(5), n(5)),
                  "Need minval < maxval, got 5 >= 5"),
    "crop": (lambda x: tf.random_crop(x, [4, 4]), (p([1, 2], [3, 4]),),
             "assertion failed: [Need value.shape >= size, got ] [2 2] [4 4]"),
}  # fmt: skip
# What TensorFlow says of a rank is found out only by a run where the graph says nothing of it.
RANKS: dict[str, tuple[Callable[..., Any], tuple[Any, ...], str]] = {
    "range": (tf.range, (n(5), i(3, 3), n(1)), "limit must be a scalar, not shape [2]"),
    "gather": (tf.gather, (n(1, F), n(0)), "params must be at least 1 dimensional"),
    "gather_nd": (tf.gather_nd, (PAIR, i([0, 0])),
                  "index innermost dimension length must be <= params rank; saw: 2 vs. 1"),
    "scatter_nd": (tf.scatter_nd, (i([0], [1]), p(1, 2, 3), i(4)),
                   "Dimensions [0,1) of indices[shape=[2,1]] must match "
                   "dimensions [0,1) of updates[shape=[3]]"),
    "add_n": (lambda x, y: tf.add_n([x, y]), (p(1, 2, 3), ROW),
              "must have the same size and shape.  Input 0: [3] != input 1: [1,2]"),
    "permutation": (tf.invert_permutation, (i([1, 0]),), "invert_permutation expects a 1D vector."),
    "matrix_diag": (tf.matrix_diag, (n(5, F),),
                    "diagonal must be at least 1-dim, received shape: []"),
    "slice": (tf.slice, (p(1, 2, 3), i(1, 0), i(1, 0)),
              "Expected begin and size arguments to be 1-D tensors of size 1, but got shapes "
              "[2] and [2] instead."),
    "normal": (tf.random_normal, (i(-2),), "Dimension -2 must be >= 0"),
}  # fmt: skip


def raised(session: Any, case: Any, how: str) -> Any:
    """The error of a case."""
    rule, feeds, _ = case
    inputs = [
        tf.placeholder(dtype, None if how == "unknown" else [None] * array.ndim)
        for dtype, array in feeds
    ]
    node = rule(*inputs)
    arrays = [array for _, array in feeds]
    step = session.make_callable(node, inputs) if how == "before" else None
    with pytest.raises(tf.errors.InvalidArgumentError) as found:
        step(*arrays) if step else session.run(node, dict(zip(inputs, arrays, strict=True)))
    return found.value


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("how", ["at hand", "before", "unknown"])
def test_messages(session: Any, name: str, how: str) -> None:
    error = raised(session, CASES[name], how)
    assert CASES[name][2] in error.message.split("\n")[0]
    assert f"[[{{{{node {error.op.name}}}}}]]" in error.message


@pytest.mark.parametrize("name", RANKS)
def test_messages_about_ranks(session: Any, name: str) -> None:
    error = raised(session, RANKS[name], "unknown")
    assert RANKS[name][2] in error.message.split("\n")[0]


# ---- the same nodes where all is well ------------------------------------------------------------


@pytest.mark.parametrize("shapes", ["ranks", "unknown"])
def test_a_fed_size_of_minus_1_takes_the_rest(session: Any, shapes: str) -> None:
    known = shapes == "ranks"
    x = tf.placeholder(F, [None, None] if known else None)
    begin = tf.placeholder(N, [2] if known else None)
    size = tf.placeholder(N, [2] if known else None)
    y = tf.slice(x, begin, size)
    step = session.make_callable(y, [x, begin, size])
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    for first, count, want in [
        ([0, 1], [1, -1], array[:1, 1:]),
        ([1, 0], [-1, 2], array[1:, :2]),
        ([3, 4], [-1, -1], array[3:, 4:]),
        ([1, 1], [1, 2], array[1:2, 1:3]),
    ]:
        feeds = {x: array, begin: first, size: count}
        assert session.run(y, feeds).tolist() == want.tolist()
        assert step(array, first, count).tolist() == want.tolist()


def test_ranges_that_have_a_direction(session: Any) -> None:
    start, limit, delta = (tf.placeholder(dtype, []) for dtype in (F, F, F))
    y = tf.range(start, limit, delta)
    feeds: Any
    ranges = [((5, 3, -0.5), [5, 4.5, 4, 3.5]), ((1, 2, 0.75), [1, 1.75]), ((2, 2, 1), [])]
    for feeds, want in ranges:
        given = dict(zip((start, limit, delta), feeds, strict=True))
        assert session.run(y, given).tolist() == want


def test_inverse_permutations(session: Any) -> None:
    order = tf.placeholder(N)
    inverse = tf.invert_permutation(order)
    for given in ([2, 0, 1], [0], []):
        assert session.run(inverse, {order: np.array(given, np.int32)}).tolist() == list(
            np.argsort(given)
        )


# ---- random numbers of shapes that are fed -------------------------------------------------------

DRAWS: dict[str, Callable[[Any], Any]] = {
    "random_uniform": lambda shape: tf.random_uniform(shape, seed=3),
    "random_uniform_int": lambda shape: tf.random_uniform(shape, 0, 100, tf.int32, seed=3),
    "random_normal": lambda shape: tf.random_normal(shape, seed=3),
    "truncated_normal": lambda shape: tf.truncated_normal(shape, seed=3),
}


@pytest.mark.parametrize("name", DRAWS)
def test_shapes_of_unknown_length(session: Any, name: str) -> None:
    """The numbers are those of the same shape known before; each run draws others."""
    shape = tf.placeholder(N)
    fed, known = DRAWS[name](shape), DRAWS[name]([2, 3])
    step = session.make_callable(fed, [shape])
    first = step([2, 3])
    np.testing.assert_allclose(first, session.run(known), rtol=1e-5)
    second = session.run(fed, {shape: [2, 3]})
    np.testing.assert_allclose(second, session.run(known), rtol=1e-5)
    assert not np.array_equal(first, second)
    assert session.run(fed, {shape: []}).shape == ()
    assert step([4, 0, 2]).shape == (4, 0, 2)


def test_random_nodes_whose_shape_a_python_function_makes(session: Any) -> None:
    shape = tf.py_func(lambda: np.array([2, 3], np.int32), [], tf.int32)
    late, known = tf.random_normal(shape, seed=3), tf.random_normal([2, 3], seed=3)
    for _ in range(2):
        np.testing.assert_allclose(session.run(late), session.run(known), rtol=1e-5)
    logits = tf.py_func(lambda: np.zeros([1, 5], np.float32), [], F)
    draws = tf.multinomial(logits, 4, seed=1), tf.multinomial(np.zeros([1, 5]), 4, seed=1)
    assert session.run(draws[0]).tolist() == session.run(draws[1]).tolist()
    rows = tf.py_func(lambda: np.arange(5), [], tf.int64)
    turned = tf.random_shuffle(rows, seed=2), tf.random_shuffle(np.arange(5), seed=2)
    assert session.run(turned[0]).tolist() == session.run(turned[1]).tolist()


def test_the_line_that_is_quoted_is_the_one_in_the_file_now(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    for text in ("first = 1", "another = 2"):
        path.write_text(text)
        assert quote(Site("node", str(path), 1)).endswith(f"\n      {text}")
