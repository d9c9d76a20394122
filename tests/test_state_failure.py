"""State from step to step: initial values, stored shapes, and what an error leaves behind.

Each test is a sentence of the rules; all of them hold with native entries, with the plain Python
entry, and for steps that the evaluator runs.
"""

from __future__ import annotations

import threading
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


def test_what_python_functions_did_is_not_taken_back(session: Any) -> None:
    i = tf.placeholder(tf.int32, [])
    calls: list[int] = []
    v = variable(session, 1.0)

    def count(n: Any) -> Any:
        calls.append(int(n))
        return np.float32(n)

    amount = tf.py_func(count, [i], tf.float32)
    amount.set_shape([])
    with tf.control_dependencies([v.assign_add(amount)]):
        last = tf.gather(tf.constant([1.0]), i)
    with pytest.raises(tf.errors.InvalidArgumentError):
        session.run(last, {i: 3})
    assert (calls, session.run(v)) == ([3], 1)


# ---- threads -------------------------------------------------------------------------------------


def test_no_update_of_any_thread_is_lost(session: Any) -> None:
    a, b = variable(session, 0.0), variable(session, np.zeros(50, np.float32))
    both = tf.group(a.assign_add(1.0), b.assign_add(tf.ones(50)))
    step = session.make_callable(both)
    unequal: list[Any] = []

    def work(number: int) -> None:
        for k in range(40):
            session.run(both) if (number + k) % 2 else step()
            if k % 10 == 0:
                one, many = session.run([a + 0.0, b + 0.0])
                if not np.all(many == many[0]):
                    unequal.append((one, many))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert lists(session.run([a, b])) == [160, [160] * 50]
    assert unequal == []


def test_a_python_function_may_run_the_session(session: Any) -> None:
    v, w = variable(session, 1.0), variable(session, 1.0)
    add = v.assign_add(1.0)
    inner = tf.py_func(lambda: session.run(add), [], tf.float32)
    inner.set_shape([])
    assert session.run(w.assign_add(inner)) == 3
    assert session.run([v, w]) == [2, 3]


def test_random_numbers_that_a_failing_step_drew_are_gone(session: Any) -> None:
    """As in TensorFlow: the next step draws the numbers that follow."""
    scale = tf.placeholder(tf.float32, [])
    draws, same = tf.random_uniform([3], seed=5), tf.random_uniform([3], seed=5)
    checked = tf.check_numerics(draws / scale, "scaled")
    batches = [session.run(same) for _ in range(4)]
    step = session.make_callable(checked, [scale])
    assert step(1.0).tolist() == batches[0].tolist()
    for run in (lambda: step(0.0), lambda: session.run(checked, {scale: 0.0})):
        with pytest.raises(tf.errors.InvalidArgumentError, match="scaled : Tensor had Inf"):
            run()
    assert step(1.0).tolist() == batches[3].tolist()
