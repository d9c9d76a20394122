"""Sizes that are made to be expanded: refused before they take all memory and time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import stepforge as tf
from stepforge.ir import dims
from stepforge.ir.dims import Dim, TooComplex
from stepforge.ir.errors import ResourceExhaustedError

NAMES = [dims.named(f"n{i}") for i in range(40)]


def product_of_sums() -> Dim:
    return dims.product(a + b for a, b in zip(NAMES[::2], NAMES[1::2], strict=True))


def doubling_tree() -> Dim:
    """Each level has the one below twice."""
    size: Dim = NAMES[0]
    for _ in range(100):
        size = dims.floor_div(size, 2) + dims.floor_div(size + 1, 3)
    return size


@pytest.mark.parametrize("make", [product_of_sums, doubling_tree])
def test_what_grows_without_end(make: Callable[[], Dim]) -> None:
    with pytest.raises(TooComplex, match="an expression of more than 20000 parts"):
        make()


def test_sums_of_many_names_are_sizes_like_others() -> None:
    total = sum((dims.named(f"m{i}") for i in range(1000)), start=dims.named("m"))
    assert dims.evaluate(total, dict.fromkeys(dims.names(total), 2)) == 2002


def test_a_graph_of_such_sizes() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        parts = [tf.placeholder(tf.float32, [None]) for _ in range(12)]
        flat = tf.concat(parts, 0)
        square = tf.reshape(flat[:, None] * flat[None, :], [-1])
        assert session.run(square, {part: [1.0] for part in parts}).shape == (144,)
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
