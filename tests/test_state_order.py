"""Order and failure: what a step reads, in which order it writes, and what an error leaves behind.

Each test is a sentence of the rules; all of them hold with native entries and with the plain Python
entry, and for steps that the evaluator runs.
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


def test_an_integer_state_machine(session: Any) -> None:
    step = variable(session, np.int64(0))
    a, b = variable(session, 0), variable(session, 1)
    following = a + b
    advance = tf.group(a.assign(b), b.assign(following), step.assign_add(1))
    for _ in range(10):
        session.run(advance)
    assert session.run([a, b, step]) == [55, 89, 10]


# ---- initial values ------------------------------------------------------------------------------


def test_initial_values_come_in_the_order_of_dependency(session: Any) -> None:
    w = tf.Variable([1.0, 2.0])
    safe, raw = tf.Variable(w.initialized_value() * 2.0), tf.Variable(w + 1.0)
    chain = tf.Variable(raw.initialized_value() + safe.initialized_value())
    session.run(tf.global_variables_initializer())
    assert lists(session.run([w, safe, raw, chain])) == [[1, 2], [2, 4], [2, 3], [4, 7]]


def test_an_initial_value_uses_a_variable_that_has_none_yet(session: Any) -> None:
    w = tf.Variable([1.0, 2.0])
    v = tf.Variable(w.initialized_value() * 2.0)
    session.run(v.initializer)
    assert session.run(v).tolist() == [2, 4]
    with pytest.raises(tf.errors.FailedPreconditionError):
        session.run(w)
    session.run(w.assign([5.0, 6.0]))
    session.run(v.initializer)
    assert session.run(v).tolist() == [10, 12]


def test_initializers_run_again_reset(session: Any) -> None:
    v = tf.Variable(1.0)
    start = tf.global_variables_initializer()
    session.run(start)
    session.run(v.assign_add(5.0))
    session.run(start)
    assert session.run(v) == 1


def test_who_has_a_value(session: Any) -> None:
    a, b = tf.Variable(1.0, name="a"), tf.Variable(1.0, name="b", use_resource=True)
    known = [tf.is_variable_initialized(a), tf.is_variable_initialized(b)]
    missing = tf.report_uninitialized_variables()
    assert session.run([*known, missing])[:2] == [False, False]
    assert session.run(missing).tolist() == [b"a", b"b"]
    session.run(a.initializer)
    assert session.run(known) == [True, False]
    assert session.run(missing).tolist() == [b"b"]
    with tf.control_dependencies([b.initializer]):
        after = tf.is_variable_initialized(b)
    assert session.run(after)
    assert session.run(missing).tolist() == []


def test_load_and_eval(session: Any) -> None:
    v = tf.Variable([1.0, 2.0])
    v.load([5.0, 6.0], session)
    assert v.eval(session).tolist() == [5, 6]
    with session.as_default():
        v.load([7, 8])
        assert v.eval().tolist() == [7, 8]


# ---- shapes --------------------------------------------------------------------------------------


def test_an_unvalidated_assignment_changes_the_stored_shape(session: Any) -> None:
    x = tf.placeholder(tf.float32)
    v = variable(session, [1.0, 2.0])
    assign, y = tf.assign(v, x, validate_shape=False), v * 2.0
    assert v.shape.as_list() == [2]
    for value in ([1, 2, 3], [[4, 5]], 6, [7, 8], np.zeros((0, 3))):
        want = np.asarray(value)
        assert session.run(assign, {x: value}).tolist() == want.tolist()
        assert session.run(v).tolist() == want.tolist()
        assert session.run(y).tolist() == (want * 2).tolist()
        assert session.run(v).shape == want.shape
    assert v.shape.as_list() == [2]
    session.run(v.initializer)
    assert session.run(y).tolist() == [2, 4]


def test_a_variable_that_grows(session: Any) -> None:
    v = variable(session, [1.0], validate_shape=False)
    grow = tf.assign(v, tf.concat([v, v + 1.0], 0), validate_shape=False)
    for size in (2, 4, 8):
        assert session.run(grow).shape == (size,)
    assert session.run(v).tolist() == [1, 2, 2, 3, 2, 3, 3, 4]


def test_a_variable_of_unknown_shape(session: Any) -> None:
    x = tf.placeholder(tf.float32)
    v = tf.Variable(x, validate_shape=False)
    assert v.shape.ndims is None
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value"):
        session.run(v + 1.0)
    for value in ([1, 2], [[1], [2]], 3):
        session.run(v.initializer, {x: value})
        assert session.run(v + 1.0).tolist() == (np.asarray(value) + 1.0).tolist()


def test_wrong_assignments(session: Any) -> None:
    v = variable(session, [1.0, 2.0])
    x = tf.placeholder(tf.float32, [None])
    with pytest.raises(ValueError, match="must be equal"):
        tf.assign(v, [1.0, 2.0, 3.0])
    with pytest.raises((TypeError, ValueError)):
        tf.assign(v, tf.constant([1, 2]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be equal"):
        session.run(tf.assign(v, x), {x: [1, 2, 3]})
    assert session.run(tf.assign(v, [3, 4])).tolist() == [3, 4]


# ---- failure -------------------------------------------------------------------------------------


def failures() -> dict[str, Any]:
    """What fails, by name: functions of a placeholder that is fed 0 (good) or 3 (bad)."""

    def called(i: Any) -> Any:
        def check(n: Any) -> Any:
            if n == 3:
                raise ValueError("three")
            return n

        result = tf.py_func(check, [i], tf.int32)
        result.set_shape([])
        return result

    def asserted(i: Any) -> Any:
        with tf.control_dependencies([tf.Assert(i < 3, [i])]):
            return tf.identity(i)

    return {
        "gather": lambda i: tf.gather(tf.constant([0, 1]), i),
        "division": lambda i: tf.constant(6) // (3 - i),
        "assertion": asserted,
        "python function": called,
        "numerics": lambda i: tf.to_int32(tf.check_numerics(1.0 / tf.to_float(3 - i), "bad")),
    }


@pytest.mark.parametrize("kind", failures())
@pytest.mark.parametrize("resource", [False, True])
def test_a_step_that_fails_changes_nothing(session: Any, kind: str, resource: bool) -> None:
    i = tf.placeholder(tf.int32, [])
    a = variable(session, [1.0, 2.0], resource=resource)
    b = variable(session, [3.0, 4.0], resource=resource)
    first = a.assign_add([10.0, 10.0])
    with tf.control_dependencies([first.op]):
        amount = tf.to_float(failures()[kind](i))
        second = b.assign_add([amount, amount])
    both = tf.group(first, second)
    step = session.make_callable(both, [i])
    for run in (lambda: session.run(both, {i: 3}), lambda: step(3)):
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError):
                run()
            assert lists(session.run([a, b])) == [[1, 2], [3, 4]]
    step(0)
    assert session.run(a).tolist() == [11, 12]


def test_a_failing_scatter_changes_nothing(session: Any) -> None:
    rows = tf.placeholder(tf.int32, [None])
    a = variable(session, [1.0, 2.0])
    b = variable(session, np.zeros((3, 2), np.float32))
    both = tf.group(a.assign_add([1.0, 1.0]), tf.scatter_add(b, rows, tf.ones([2, 2])))
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"indices\[1\] = 3 is not in"):
        session.run(both, {rows: [0, 3]})
    assert lists(session.run([a, b])) == [[1, 2], [[0, 0]] * 3]
    session.run(both, {rows: [0, 2]})
    assert lists(session.run([a, b])) == [[2, 3], [[1, 1], [0, 0], [1, 1]]]


def test_a_failing_initializer_initialises_nothing(session: Any) -> None:
    i = tf.placeholder(tf.int32, [])
    a = tf.Variable([1.0])
    b = tf.Variable(tf.gather(tf.constant([5.0]), i))
    start = tf.global_variables_initializer()
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run(start, {i: 1})
    assert session.run(tf.report_uninitialized_variables()).shape == (2,)
    session.run(start, {i: 0})
    assert lists(session.run([a, b])) == [[1], 5]


def test_an_uninitialised_variable_stops_the_whole_step(session: Any) -> None:
    a, b = variable(session, 1.0), tf.Variable(2.0, name="b")
    both = tf.group(a.assign_add(1.0), b.assign_add(1.0))
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value b") as error:
        session.run(both)
    assert error.value.op.type == "AssignAdd"
    assert session.run(a) == 1
