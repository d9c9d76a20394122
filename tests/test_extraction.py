"""Sizes that must be equal are written as one: the part of a graph that never met them is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.frontend.extract.program import ProgramExtractor
from stepforge.ir.text import print_function


@pytest.fixture(autouse=True)
def graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every attempt at an extraction from now on."""
    made: list[Any] = []
    run = ProgramExtractor.run

    def counted(self: ProgramExtractor, nodes: Any) -> Any:
        made.append(self)
        return run(self, nodes)

    monkeypatch.setattr(ProgramExtractor, "run", counted)
    return made


def inputs(count: int, *rest: int) -> list[Any]:
    return [tf.placeholder(tf.float32, [None, *rest], name=f"x{i}") for i in range(count)]


# Graphs of feeds whose first sizes must be equal; each gives fetches of feeds of 3 rows.
def last_meets(*x: Any) -> Any:
    return tf.exp(x[0]) + tf.exp(x[1]), x[1] * 2


def at_once(*x: Any) -> Any:
    return tf.exp(x[0]) + x[1]


def one_after_another(*x: Any) -> Any:
    return (tf.exp(x[0]) + x[1]) * x[2]


def together(*x: Any) -> Any:
    return tf.stack(x), tf.shape(tf.stack(x))


def with_a_size(*x: Any) -> Any:
    return tf.reshape(x[0], [tf.shape(x[1])[0], -1]) + x[1]


def with_a_variable(*x: Any) -> Any:
    total = tf.get_local_variable(
        "total", initializer=np.zeros((3, 2), np.float32), validate_shape=False
    )
    return tf.assign_add(total, x[0] + x[1]) * x[2]


GRAPHS = (last_meets, at_once, one_after_another, together, with_a_size, with_a_variable)


def outcome(build: Callable[..., Any]) -> tuple[str, list[Any]]:
    """The extracted function of a graph, and what it computes."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x = inputs(3, 2)
        fetches = build(*x)
        sess.run(tf.local_variables_initializer())
        rows = [np.arange(6, dtype=np.float32).reshape(3, 2) + i for i in range(3)]
        values = sess.run(fetches, dict(zip(x, rows, strict=True)))
        program = list(sess._programs.values())[-1]
        function = program.variants[0].extraction.function
        return print_function(function, sites=True), [np.asarray(v).tolist() for v in values]


@pytest.mark.parametrize("build", GRAPHS)
def test_what_is_kept_is_what_a_second_attempt_gives(
    build: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = outcome(build)
    monkeypatch.setattr(ProgramExtractor, "_taken", lambda *given: True)
    assert outcome(build) == kept


@pytest.mark.parametrize(
    ("build", "count"), [(at_once, 1), (one_after_another, 1), (last_meets, 2)]
)
def test_one_attempt_is_enough_where_a_size_is_new(
    build: Callable[..., Any], count: int, attempts: list[Any]
) -> None:
    fetches = build(*(x := inputs(3, 2)))
    with tf.Session() as sess:
        sess.run(fetches, dict.fromkeys(x, np.ones((3, 2), np.float32)))
    assert len(attempts) == count


def test_sizes_that_differ_are_an_error_still() -> None:
    x, y = inputs(2, 2)
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError, match=r"\[2,2\] vs"):
        sess.run(tf.exp(x) + y, {x: np.ones((2, 2)), y: np.ones((3, 2))})


def test_a_feed_that_is_one_row_broadcasts_after_others_did_not() -> None:
    x, y = inputs(2, 2)
    z = tf.exp(x) * 0 + y
    with tf.Session() as sess:
        for count, rows in ((3, 3), (4, 1), (4, 4)):
            given = {x: np.ones((count, 2)), y: np.full((rows, 2), rows)}
            assert np.all(sess.run(z, given) == rows)
