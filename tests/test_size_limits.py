"""Sizes that are made to be expanded: refused before they take all memory and time."""

from __future__ import annotations

import pytest

import stepforge as tf
from stepforge.ir import dims
from stepforge.ir.dims import Dim, TooComplex
from stepforge.ir.errors import ResourceExhaustedError

NAMES = [dims.named(f"n{i}") for i in range(40)]


def test_products_of_sums() -> None:
    total: Dim = 1
    with pytest.raises(TooComplex, match="an expression of more than 20000 parts"):
        for a, b in zip(NAMES[::2], NAMES[1::2], strict=True):
            total = total * (a + b)
    assert len(str(total)) < 2_000_000


def test_applications_in_each_other() -> None:
    """Each level has the one below twice: a tree whose text doubles."""
    size: Dim = NAMES[0]
    with pytest.raises(TooComplex):
        for _ in range(100):
            size = dims.floor_div(size, 2) + dims.floor_div(size + 1, 3)


def test_sums_of_many_names_are_sizes_like_others() -> None:
    total = sum((dims.named(f"m{i}") for i in range(1000)), start=dims.named("m"))
    assert dims.evaluate(total, dict.fromkeys(dims.names(total), 2)) == 2002


def test_a_graph_of_such_sizes() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        parts = [tf.placeholder(tf.float32, [None]) for _ in range(12)]
        flat = tf.concat(parts, 0)
        square = tf.reshape(flat[:, None] * flat[None, :], [-1])
        assert session.run(square, dict.fromkeys(parts, [1.0])).shape == (144,)
        flat = tf.reshape(square[:, None] * square[None, :], [-1])
        with pytest.raises(ValueError, match="more than 20000 parts"):
            tf.reshape(flat[:, None] * flat[None, :], [-1])


@pytest.mark.parametrize("backend", ["native", "evaluator"])
def test_memory_that_is_not_there(backend: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        x = tf.placeholder(tf.float32, [None])
        y = x[:, None, None] + x[None, :, None] + x[None, None, :]
        beside = tf.constant(["text"] if backend == "evaluator" else [1])
        step = session.make_callable([y, beside], [x])
        assert step([1.0, 1.0])[0].shape == (2, 2, 2)
        for _ in range(3):
            with pytest.raises(ResourceExhaustedError):
                step([1.0] * 2**17)
        assert step([1.0, 1.0])[0].shape == (2, 2, 2)
