"""Sparse tensors: feeds, fetches, dense tensors of them, their errors; as TensorFlow 2.21 does."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf

F = tf.float32
VALUE = tf.SparseTensorValue([[0, 1], [2, 0]], [1.0, 2.0], [3, 4])
DENSE = [[0, 1, 0, 0], [0, 0, 0, 0], [2, 0, 0, 0]]


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as made:
        yield made


def test_fetching(session: Any) -> None:
    sparse = tf.SparseTensor([[0, 1], [2, 0]], [1.0, 2.0], [3, 4])
    for found in (session.run(sparse), session.run({"a": [sparse]})["a"][0], sparse.eval()):
        assert type(found) is tf.SparseTensorValue
        assert [part.tolist() for part in found] == [list(part) for part in VALUE]
        assert [part.dtype.name for part in found] == ["int64", "float32", "int64"]
    assert sparse.get_shape().as_list() == [3, 4]
    assert str(sparse) == (
        'SparseTensor(indices=Tensor("SparseTensor/indices:0", shape=(2, 2), dtype=int64), '
        'values=Tensor("SparseTensor/values:0", shape=(2,), dtype=float32), '
        'dense_shape=Tensor("SparseTensor/dense_shape:0", shape=(2,), dtype=int64))'
    )


def test_feeding(session: Any) -> None:
    sparse = tf.sparse_placeholder(F)
    dense = tf.sparse_tensor_to_dense(sparse)
    assert sparse.get_shape().ndims is None
    assert session.run(dense, {sparse: VALUE}).tolist() == DENSE
    assert session.run(dense, {sparse: tuple(VALUE)}).tolist() == DENSE
    step = session.make_callable(dense, [sparse])
    assert step(VALUE).tolist() == DENSE
    assert step(([[0, 1]], [5.0], [1, 2])).tolist() == [[0, 5]]
    assert step((np.zeros((0, 3)), [], [1, 1, 2])).tolist() == [[[0, 0]]]
    with pytest.raises(ValueError, match="more arrays than the 2 given"):
        step(([[0, 1]], [5.0]))
    fetched = session.run(sparse, {sparse: VALUE})
    assert [np.asarray(part).tolist() for part in fetched] == [list(part) for part in VALUE]


def test_a_placeholder_of_known_shape(session: Any) -> None:
    sparse = tf.sparse_placeholder(F, [3, 4], name="sp")
    dense = tf.sparse.to_dense(sparse)
    assert session.run(dense, {sparse: ([[0, 1]], [5.0])}).tolist()[0] == [0, 5, 0, 0]
    assert session.run(dense, {sparse: VALUE}).tolist() == DENSE
    assert sparse.get_shape().as_list() == [3, 4]
    names = [op.name for op in session.graph.get_operations()]
    assert names == [
        *("sp/shape_default", "sp/shape", "sp/values", "sp/indices", "zeros", "SparseToDense")
    ]
    with pytest.raises(tf.errors.InvalidArgumentError, match="placeholder tensor 'sp/values'"):
        session.run(dense)
    assert tf.sparse_placeholder(F, [None, 4]).get_shape().as_list() == [None, 4]


ERRORS = [
    ([[0, 1], [2, 9]], [1, 2], [3, 4],
     r"indices\[1\] = \[2,9\] is out of bounds: need 0 <= index < \[3,4\]"),
    ([[-1, 1], [0, 2]], [1, 2], [3, 3], r"indices\[0\] = \[-1,1\] is out of bounds"),
    ([[0, 1], [0, 1]], [1, 2], [3, 4], r"indices\[1\] is repeated"),
    ([[0, 1], [0, 0]], [1, 2], [3, 4], r"indices\[1\] is out of order. Many sparse ops require"),
    ([[0, 1], [0, 2]], [1, 2, 3], [3, 4], "sparse_values has incorrect shape"),
    ([[0, 1], [0, 2]], [1, 2], [3], "output_shape has incorrect number of elements: 1 should be"),
]  # fmt: skip


@pytest.mark.parametrize(("indices", "values", "shape", "text"), ERRORS)
def test_errors(session: Any, indices: Any, values: Any, shape: Any, text: str) -> None:
    sparse = tf.sparse_placeholder(F)
    dense = tf.sparse_tensor_to_dense(sparse)
    step = session.make_callable(dense, [sparse])
    for run in (lambda value: session.run(dense, {sparse: value}), step):
        with pytest.raises(tf.errors.InvalidArgumentError, match=text):
            run((indices, values, shape))


def test_indices_that_are_not_validated(session: Any) -> None:
    sparse = tf.SparseTensor([[0, 1], [0, 0]], [1.0, 2.0], [1, 2])
    dense = tf.sparse_tensor_to_dense(sparse, validate_indices=False)
    assert session.run(dense).tolist() == [[2, 1]]


def test_sparse_to_dense(session: Any) -> None:
    assert session.run(tf.sparse_to_dense([1, 3], [5], 1.0)).tolist() == [0, 1, 0, 1, 0]
    assert session.run(tf.sparse_to_dense(2, [4], 7)).tolist() == [0, 0, 7, 0]
    assert session.run(tf.sparse_to_dense([[0], [1]], [3], [1, 2], -1)).tolist() == [1, 2, -1]
    words = tf.SparseTensor([[0], [2]], ["a", "b"], [3])
    assert session.run(tf.sparse_tensor_to_dense(words)).tolist() == [b"a", b"", b"b"]
    values = tf.placeholder(F, [2])
    default = tf.constant(9.0)
    dense = tf.sparse_to_dense([[0], [2]], [3], values, default)
    slopes = tf.gradients(dense * [1.0, 2.0, 3.0], [values, default])
    found = session.run(slopes, {values: [5, 5]})
    assert [part.tolist() for part in found] == [[1, 3], 2]


def test_what_is_no_sparse_tensor() -> None:
    with tf.Graph().as_default():
        with pytest.raises(ValueError, match="Shape"):
            tf.SparseTensor([0, 1], [1.0], [3])
        with pytest.raises(ValueError, match="Dimensions 1 and 2 are not compatible"):
            tf.SparseTensor([[0, 1]], [1.0, 2.0], [3, 3])
        with pytest.raises(TypeError, match="Input must be a SparseTensor"):
            tf.sparse_tensor_to_dense([1.0])
