"""Print nodes: what they write is what TensorFlow 2.21 wrote for the same values."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import stepforge as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    """A default graph for each test."""
    with tf.Graph().as_default() as made:
        yield made


@pytest.mark.parametrize(
    ("value", "dtype", "summarize", "printed"),
    [
        (1.0, "f4", None, "[1]"),
        ([1.5, 2, 3, 4], "f4", None, "[1.5 2 3...]"),
        ([[1, 2], [3, 4]], "i4", 3, "[[1 2][3...]...]"),
        ([[1, 2], [3, 4]], "i4", 2, "[[1 2]...]"),
        ([[1, 2], [3, 4]], "i4", -1, "[[1 2][3 4]]"),
        ([[[0, 1], [2, 3]], [[4, 5], [6, 7]]], "i4", 5, "[[[0 1][2 3]][[4...]]...]"),
        ([[[0, 1], [2, 3]], [[4, 5], [6, 7]]], "f8", 6, "[[[0 1][2 3]][[4 5]]...]"),
        ([[0, 1, 2, 3, 4, 5]], "i4", 4, "[[0 1 2 3...]...]"),
        ([1, 2], "i8", 0, "[...]"),
        ([], "f4", None, "[]"),
        (np.zeros((2, 0)), "f4", None, "[]"),
        ([True, False], "?", None, "[1 0]"),
        ([[False] * 3] * 2, "?", 4, "[[0 0 0][0...]...]"),
        ([200, 3], "u1", None, "[200 3]"),
        ([-3], "i1", None, "[-3]"),
        ([b"a", "b\xff".encode()], "O", None, "[a b\xff]"),
        ([["a", "b"], ["c", "d"]], "U", 3, "[[a b][c...]...]"),
        ([1e-8, 1e20, 1 / 3, 123456789.0], "f4", 9, "[1e-08 1e+20 0.333333343 123456792]"),
        ([1e-8, 1 / 3, 123456789.0], "f8", 9, "[1e-08 0.33333333333333331 123456789]"),
        ([0.1, 1e5, 1e6, 123456.7], "f4", 9, "[0.1 100000 1e+06 123456.703]"),
        ([0.1, 1e5, 1e15, 123456.7], "f8", 9, "[0.1 100000 1e+15 123456.7]"),
        ([np.nan, np.inf, -np.inf, -0.0], "f4", 9, "[nan inf -inf -0]"),
        ([1.1, 2.2, 65504], "f2", None, "[1.09960938 2.19921875 65504]"),
        ([1.1, 2.0], ml_dtypes.bfloat16, None, "[1.1015625 2]"),
    ],
)
def test_what_is_printed(
    value: Any, dtype: Any, summarize: int | None, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    array = np.array(value, dtype)
    data = tf.constant(array.tolist() if array.dtype.kind in "OU" else array)
    x = tf.placeholder(tf.float32, [2])
    node = tf.Print(x, [data, tf.constant(7)], "so: ", summarize=summarize)
    with tf.Session() as session:
        assert session.run(node, {x: [3, 4]}).tolist() == [3, 4]
    assert capsys.readouterr().err == f"so: {printed}[{'...' if summarize == 0 else 7}]\n"


def test_the_first_times_only(graph: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each node counts for itself; those of an imported graph do so too."""
    x = tf.constant(1.0)
    tf.add(tf.Print(x, [x], "a", first_n=2), tf.Print(x, [x], "b", first_n=1), name="y")
    message = graph.as_graph_def()
    with tf.Graph().as_default():
        (imported,) = tf.import_graph_def(message, return_elements=["y:0"])
        for tensor in (graph.get_tensor_by_name("y:0"), imported):
            with tf.Session(graph=tensor.graph) as session:
                for _ in range(4):
                    assert session.run(tensor) == 2.0
            assert sorted(capsys.readouterr().err.split()) == ["a[1]", "a[1]", "b[1]"]


def test_none_of_the_times(capsys: pytest.CaptureFixture[str]) -> None:
    x = tf.constant(1.0)
    with tf.Session() as session:
        assert session.run(tf.Print(x, [x], first_n=0)) == 1.0
    assert not capsys.readouterr().err
