"""Order: what a step reads and in which order it writes; each test is a sentence of the rules.

They hold with native entries, with the plain Python entry, and for steps that the evaluator runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf


@pytest.fixture(autouse=True, params=["native", "python", "evaluated"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A default graph for each test, and how its steps run."""
    if request.param == "python":
        monkeypatch.setenv("STEPFORGE_ENTRY", "python")
    if request.param == "evaluated":
        monkeypatch.setattr("stepforge.runtime.pipeline.lowerable", lambda function: False)
    with tf.Graph().as_default():
        yield request.param


@pytest.fixture
def session(way: str) -> Iterator[Any]:
    with tf.Session() as made:
        yield made


def variable(session: Any, value: Any, *, resource: bool = False, **keywords: Any) -> Any:
    """An initialised variable."""
    v = tf.Variable(value, use_resource=resource, **keywords)
    session.run(v.initializer)
    return v


def lists(values: Any) -> Any:
    return [value.tolist() if value is not None else None for value in values]


# ---- reads and writes ----------------------------------------------------------------------------


def test_reads_come_before_writes(session: Any) -> None:
    v = variable(session, 1.0)
    assign = v.assign(5.0)
    y = v + 0.0  # made after the assignment
    for _ in range(2):
        session.run(v.initializer)
        assert session.run([assign, y]) == [5, 1]
        session.run(v.initializer)
        assert session.run([y, assign.op]) == [1, None]
        assert session.run(v) == 5


def test_a_read_that_depends_on_a_write_sees_it(session: Any) -> None:
    v = variable(session, 1.0)
    assign = v.assign(5.0)
    with tf.control_dependencies([assign]):
        by_control = [v + 0.0, tf.identity(v), v.read_value(), v * 1.0]
    by_data = assign * v
    assert session.run(by_control) == [5] * 4
    session.run(v.initializer)
    assert session.run(by_data) == 25


def test_a_dependency_through_other_nodes_counts(session: Any) -> None:
    v = variable(session, 1.0)
    with tf.control_dependencies([tf.group(v.assign(5.0))]):
        gate = tf.no_op()
    with tf.control_dependencies([gate]):
        c = tf.constant(2.0)
    assert session.run([v * c, v + 0.0]) == [10, 1]


def test_the_read_of_a_variable_is_no_read_point(session: Any) -> None:
    v = variable(session, 1.0)
    assert v.value().op.name.endswith("/read")
    with tf.control_dependencies([v.assign(5.0)]):
        y = v.value() + 0.0  # v/read was made with the variable
    assert session.run([y, v.value()]) == [5, 1]


def test_any_other_identity_is_a_read_point(session: Any) -> None:
    v = variable(session, 1.0)
    kept, explicit = tf.identity(v), v.read_value()
    with tf.control_dependencies([kept, explicit]):
        assign = v.assign(5.0)
    with tf.control_dependencies([assign]):
        new = tf.identity(v)
    assert session.run([new - kept, new - explicit, kept, new]) == [4, 4, 1, 5]


def test_control_dependencies_hold_for_what_is_made_inside(session: Any) -> None:
    v = variable(session, 1.0)
    before = v + 0.0
    with tf.control_dependencies([v.assign(5.0)]):
        inside = v + 0.0
        passed = before  # made outside: it does not wait
        with tf.control_dependencies(None):
            cleared = v + 0.0
        with tf.control_dependencies([v.op]):
            nested = v + 0.0
    assert session.run([before, inside, passed, cleared, nested]) == [1, 5, 1, 1, 5]


def test_waiting_for_a_placeholder_is_waiting_for_its_feed(session: Any) -> None:
    x = tf.placeholder(tf.float32, [])
    with tf.control_dependencies([x]):
        y = tf.constant(3.0) * 2.0
    assert session.run(y, {x: 1.0}) == 6
    assert session.make_callable(y, [x])(1.0) == 6
    with pytest.raises(tf.errors.InvalidArgumentError, match="You must feed a value"):
        session.run(y)


def test_writes_run_in_creation_order(session: Any) -> None:
    v = variable(session, 1.0)
    first, second, third = v.assign(10.0), v.assign_add(5.0), v.assign_sub(1.0)
    for fetches in ([first, second, third], [third, second, first]):
        session.run(v.initializer)
        assert sorted(session.run(fetches)) == [10, 14, 15]
        assert session.run(v) == 14


def test_a_write_that_is_not_fetched_does_not_run(session: Any) -> None:
    v = variable(session, 1.0)
    add = v.assign_add(1.0)
    v.assign(100.0)
    assert session.run([add, v]) == [2, 2]


def test_the_result_of_an_assignment_is_its_value(session: Any) -> None:
    v = variable(session, 1.0)
    first = v.assign(10.0)
    second = v.assign_add(5.0)
    assert session.run([first, second, first * 2.0, v]) == [10, 15, 20, 15]


def test_chained_assignments(session: Any) -> None:
    v = variable(session, [1.0, 1.0])
    chain = tf.assign_add(tf.assign_sub(tf.assign(v, [10.0, 20.0]), [1.0, 1.0]), [5.0, 5.0])
    assert chain.dtype.is_ref_dtype
    assert lists(session.run([chain, v])) == [[14, 24], [14, 24]]
    scattered = tf.scatter_add(chain, [0], [100.0])
    assert lists(session.run([scattered, v])) == [[114, 24], [114, 24]]


def test_a_fetched_variable_is_read_at_the_end(session: Any) -> None:
    v = variable(session, 1.0)
    assign = v.assign(5.0)
    for fetches in ([v, assign], [assign, v], [v, assign.op], ["Variable:0", assign]):
        session.run(v.initializer)
        assert session.run(fetches)[0 if fetches[0] is not assign else 1] == 5


def test_a_resource_is_read_at_its_own_place(session: Any) -> None:
    v = variable(session, 1.0, resource=True)
    before = v + 0.0
    add = v.assign_add(5.0)
    after = v + 0.0
    assert session.run([v, add]) == [1, 6]
    session.run(v.initializer)
    assert session.run([before, after, add.op]) == [1, 6, None]
    session.run(v.initializer)
    assert session.run([before, after]) == [1, 1]  # without the assignment


def test_a_resource_read_after_an_assignment(session: Any) -> None:
    v = variable(session, 1.0, resource=True)
    with tf.control_dependencies([v.assign(5.0)]):
        after = v.read_value()
    assert session.run([after, v.value(), v]) == [5, 5, 1]
    assert session.run([v.assign(7.0), v.assign_add(1.0)]) == [7, 8]


def test_two_variables_swap(session: Any) -> None:
    a, b = variable(session, [1.0, 2.0]), variable(session, [3.0, 4.0])
    swap = tf.group(a.assign(b), b.assign(a))
    session.run(swap)
    assert lists(session.run([a, b])) == [[3, 4], [1, 2]]
    session.run(swap)
    assert lists(session.run([a, b])) == [[1, 2], [3, 4]]


def test_one_value_for_two_variables(session: Any) -> None:
    a, b = variable(session, [1.0, 2.0]), variable(session, [3.0, 4.0])
    total = a + b
    session.run([a.assign(total), b.assign(total)])
    session.run(a.assign_add([1.0, 1.0]))
    assert lists(session.run([a, b])) == [[5, 7], [4, 6]]


def test_updates_of_rows(session: Any) -> None:
    v = variable(session, np.zeros((3, 2), np.float32))
    first = tf.scatter_add(v, [0, 0, 2], np.ones((3, 2), np.float32))
    second = tf.scatter_update(v, [1], [[7.0, 8.0]])
    old = v + 0.0
    found = session.run([first, second, old, v])
    assert lists(found) == [
        [[2, 2], [0, 0], [1, 1]],
        [[2, 2], [7, 8], [1, 1]],
        [[0, 0], [0, 0], [0, 0]],
        [[2, 2], [7, 8], [1, 1]],
    ]


@pytest.mark.parametrize("shapes", [[(2, 3), (2, 3)], [(6,)], [(6,), (6,)], [(2, 3), (6,), (3, 2)]])
def test_what_an_update_gives_besides_is_fetched_in_many_ways(
    session: Any, shapes: list[tuple[int, ...]]
) -> None:
    start = np.arange(-3, 3, dtype=np.float32).reshape(2, 3)
    v = variable(session, start)
    positive = tf.nn.relu(tf.assign(v, -v))
    views = [tf.reshape(positive, shape) if shape != (2, 3) else positive for shape in shapes]
    found = session.run(views)
    for view, shape in zip(found, shapes, strict=True):
        assert view.tolist() == np.maximum(-start, 0).reshape(shape).tolist()
    assert session.run(v).tolist() == (-start).tolist()


def test_an_integer_state_machine(session: Any) -> None:
    step = variable(session, np.int64(0))
    a, b = variable(session, 0), variable(session, 1)
    following = a + b
    advance = tf.group(a.assign(b), b.assign(following), step.assign_add(1))
    for _ in range(10):
        session.run(advance)
    assert session.run([a, b, step]) == [55, 89, 10]


def test_redundant_and_named_control_dependencies(session: Any) -> None:
    v = variable(session, 1.0)
    assign = tf.assign(v, 5.0, name="assign")
    with tf.control_dependencies([assign, "assign", "assign:0", assign.op]):
        double = assign * 2.0
        y, gate = v + 0.0, tf.no_op()
    assert double.op.control_inputs == []  # it takes what it would wait for
    assert gate.control_inputs == [assign.op]
    assert session.run([double, y]) == [10, 5]
    with pytest.raises(TypeError), tf.control_dependencies([1.0]):
        pass


def test_groups_and_tuples(session: Any) -> None:
    a, b = variable(session, 1.0), variable(session, 2.0)
    group = tf.group(a.assign(10.0), b.assign(20.0))
    assert session.run(group) is None
    assert session.run([a, b]) == [10, 20]
    first, second = tf.tuple([tf.identity(a), b + 0.0], control_inputs=[a.assign(7.0)])
    assert session.run([first, second, a]) == [10, 20, 7]
    assert session.run(tf.group()) is None
