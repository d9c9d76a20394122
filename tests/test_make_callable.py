"""Callables: structures, feeds, errors, options, and what they outlive."""

from __future__ import annotations

import collections
import gc
import weakref
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

import stepforge as tf
from stepforge.runtime.config import RunMetadata, RunOptions


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    """A default graph for each test."""
    with tf.Graph().as_default() as made:
        yield made


@pytest.fixture
def session() -> Iterator[Any]:
    with tf.Session() as made:
        yield made


class Pair(NamedTuple):
    """A named tuple of fetches."""

    left: Any
    right: Any


# ---- results -------------------------------------------------------------------------------------


def test_structures_are_those_of_run(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.multiply(x, 2.0, name="y")
    total = tf.reduce_sum(x)
    v = tf.Variable(5.0)
    session.run(v.initializer)
    structures: list[Any] = [
        y, total, "y:0", b"y:0", "y", y.op, v, [y, total], (y,), Pair(y, [total]),
        {"a": y, "b": (total, v)}, collections.OrderedDict(z=y, a=total), [[], {"a": ()}, y],
        collections.defaultdict(list, a=y), [y, y, "y:0"], [tf.IndexedSlices(y, tf.constant([1]))],
        [x, y],
    ]  # fmt: skip
    value = np.array([1.0, 2.0], np.float32)
    for fetches in structures:
        step = session.make_callable(fetches, [x])
        want = session.run(fetches, {x: value})
        for _ in range(3):
            found = step(value)
            assert type(found) is type(want)
            assert repr(found) == repr(want)


def test_results_are_arrays_scalars_and_none(session: Any) -> None:
    x = tf.placeholder(tf.float32, [2])
    v = tf.Variable([0.0, 0.0])
    array, number, nothing = (
        session.make_callable(f, [x]) for f in (x * 2, tf.reduce_sum(x), v.assign(x).op)
    )
    assert type(array([1, 2])) is np.ndarray
    assert type(number([1, 2])) is np.float32
    assert nothing([1, 2]) is None
    assert v.eval(session).tolist() == [1, 2]
    first, second = session.make_callable([x * 2] * 2, [x])([1, 2])
    assert first is second


def test_results_belong_to_the_caller(session: Any) -> None:
    v = tf.Variable([1.0, 2.0])
    session.run(v.initializer)
    step = session.make_callable([v, v.value()])
    for value in step():
        value[:] = 9
    assert [f.tolist() for f in step()] == [[1, 2], [1, 2]]


# ---- feeds ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("feed_list", ["x:0", {}, 3, np.ones(1)])
def test_a_feed_list_is_a_list_or_tuple(session: Any, feed_list: Any) -> None:
    x = tf.placeholder(tf.float32, name="x")
    with pytest.raises(TypeError, match="`feed_list` must be a list or tuple"):
        session.make_callable(x, feed_list)


def test_feeds_of_every_kind_in_order(session: Any) -> None:
    a, b = tf.placeholder(tf.float32, [], name="a"), tf.placeholder(tf.float32, [], name="b")
    v = tf.Variable(1.0)
    session.run(v.initializer)
    c = tf.constant(100.0)
    y = a + 10 * b + v + c
    for keys in ([a, "b:0", v, c], (b"a:0", b, v.value(), "Const:0")):
        assert session.make_callable(y, keys)(1.0, 2.0, 3.0, 4.0) == 28
    assert session.make_callable(y, [v, b, a])(3.0, 2.0, 1.0) == 124


def test_one_argument_for_each_key(session: Any) -> None:
    a, b, c = (tf.placeholder(tf.float32, [None], name=n) for n in "abc")
    slices = tf.IndexedSlices(c, tf.placeholder(tf.int32, [None]))
    step = session.make_callable([a + b, c * 2, slices.indices], [(a, "b:0"), slices])
    found = step(([1.0], np.array([2.0])), ([3.0], [7]))
    assert [f.tolist() for f in found] == [[3], [6], [7]]
    for wrong in ((), (([1.0], [2.0]),), (([1.0], [2.0]), ([3.0], [7]), 1)):
        with pytest.raises(TypeError, match="takes 2 values"):
            step(*wrong)
    with pytest.raises(ValueError, match="Could not flatten"):
        step([1.0], ([3.0], [7]))
    assert "matmul" not in step.text("tensor")


def test_no_feeds(session: Any) -> None:
    c = tf.constant(1)
    for keys in (None, [], ()):
        step = session.make_callable(c + 1, keys)
        assert step() == 2
        with pytest.raises(TypeError, match="takes 0 feeds"):
            step(1)


def test_wrong_counts(session: Any) -> None:
    a = tf.placeholder(tf.float32, [None, 2], name="a")
    b = tf.placeholder(tf.float32, [], name="b")
    step = session.make_callable(a * b, [a, b])
    assert step([[1, 2]], 3.0).tolist() == [[3, 6]]
    with pytest.raises(TypeError, match=r"takes 2 feeds \(a:0, b:0\) but 3 were given"):
        step([[1, 2]], 3.0, 4.0)
    text = "You must feed a value for placeholder tensor 'b' with dtype float"
    with pytest.raises(tf.errors.InvalidArgumentError, match=text) as few:
        step([[1, 2]])
    assert few.value.op is b.op
    text = r"'a' with dtype float and shape \[\?,2\]"
    with pytest.raises(tf.errors.InvalidArgumentError, match=text):
        step()


def test_a_placeholder_that_is_not_among_the_feeds(session: Any) -> None:
    a = tf.placeholder(tf.float32, name="a")
    b = tf.placeholder(tf.float64, [3], name="b")
    step = session.make_callable(a + tf.cast(b, tf.float32), [a])
    for _ in range(2):
        with pytest.raises(
            tf.errors.InvalidArgumentError, match=r"'b' with dtype double and shape \[3\]"
        ) as error:
            step(1.0)
        assert error.value.op is b.op


def test_a_feed_that_is_not_needed(session: Any) -> None:
    a, b = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [2])
    step = session.make_callable(a + 1, [a, b])
    assert step([1], [1, 2]).tolist() == [2]
    with pytest.raises(ValueError, match="Cannot feed value of shape"):
        step([1], [1, 2, 3])


def test_what_is_fed_twice_has_what_it_was_fed_last(session: Any) -> None:
    """To those who use it, and where it is fetched; as in TensorFlow 2.21."""
    x = tf.placeholder(tf.float32, [None])
    y = x * 2.0
    zero, one, two = (np.full(1 + i, i, np.float32) for i in range(3))
    twice = session.make_callable([y, x], [x, tf.cast(x, tf.float32)])
    assert [f.tolist() for f in twice(zero, one)] == [[2, 2], [1, 1]]
    thrice = session.make_callable([x, y, x + y], [x, y, x.name])
    assert [f.tolist() for f in thrice(zero, two, two)] == [[2] * 3, [2] * 3, [4] * 3]


def test_keys_and_fetches_are_looked_at_at_once(session: Any) -> None:
    x = tf.placeholder(tf.float32, name="x")
    for keys in ([3], ["x"], [None], ["nothing:0"], [x.op], [(x, 3)]):
        with pytest.raises(TypeError, match="Cannot interpret feed_dict key as Tensor"):
            session.make_callable(x, keys)
    for fetches in (None, 3, {x}):
        with pytest.raises(TypeError, match="has invalid type"):
            session.make_callable(fetches, [x])
    with pytest.raises(ValueError, match="cannot be interpreted as a Tensor"):
        session.make_callable("nothing:0", [x])


def test_nothing_to_fetch(session: Any) -> None:
    tf.constant(1)
    for fetches in ([], {}, [()]):
        step = session.make_callable(fetches)
        with pytest.raises(tf.errors.InvalidArgumentError, match="specify at least one target"):
            step()
    session.close()
    with pytest.raises(RuntimeError, match="closed Session"):
        step()


# ---- options -------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_options(session: Any, packed: bool) -> None:
    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.multiply(x, 2.0, name="y")
    step = session.make_callable({"y": y} if packed else y, [x], accept_options=True)

    def value(*args: Any, **keywords: Any) -> Any:
        found = step(*args, **keywords)
        return (found["y"] if packed else found).tolist()

    metadata = RunMetadata()
    trace = RunOptions(trace_level=RunOptions.FULL_TRACE)
    assert value([1]) == [2]
    assert value([1], options=None, run_metadata=None) == [2]
    assert value([1], options=RunOptions()) == [2]
    assert value([1], run_metadata=metadata) == [2]
    assert metadata.step_stats.dev_stats == []
    assert value([1], options=trace, run_metadata=metadata) == [2]
    (device,) = metadata.step_stats.dev_stats
    assert device.device == "/job:localhost/replica:0/task:0/device:CPU:0"
    (stats,) = device.node_stats
    assert stats.timeline_label == "y = Step(x)"
    assert stats.all_end_rel_micros > 0
    with pytest.raises(TypeError, match="unexpected keyword argument 'feed'"):
        step([1], feed=1)
    assert "mul" in step.text("tensor")


def test_options_are_refused_where_they_were_not_asked_for(session: Any) -> None:
    x = tf.placeholder(tf.float32, [])
    for step in (session.make_callable(x + 1, [x]), session.make_callable({"y": x + 1}, [x])):
        with pytest.raises(TypeError, match=r"keyword argument 'options': .*accept_options=True"):
            step(1.0, options=RunOptions())
    with pytest.raises(TypeError, match="unexpected keyword argument 'x'"):
        session.make_callable(x + 1, [x])(x=1.0)
    with pytest.raises(TypeError, match="unexpected keyword argument 'run_metadata'"):
        session.make_callable(x, [(x, x)])((1.0, 1.0), run_metadata=None)


# ---- what callables outlive ----------------------------------------------------------------------


def test_a_callable_sees_present_variables_and_repeats_effects(session: Any) -> None:
    v = tf.Variable(1.0)
    calls: list[int] = []
    noisy = tf.py_func(lambda: calls.append(1) or np.float32(0), [], tf.float32)
    read = session.make_callable(v + noisy)
    add = session.make_callable(v.assign_add(1.0))
    with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value"):
        read()
    session.run(v.initializer)
    assert [add(), read(), add(), read(), session.run(v)] == [2, 2, 3, 3, 3]
    assert calls == [1, 1]


def test_a_callable_survives_growth_and_the_end_of_it(session: Any, graph: Any) -> None:
    x = tf.placeholder(tf.float32, [])
    step = session.make_callable(x + 1, [x])
    assert step(1.0) == 2
    v = tf.Variable(x, validate_shape=False)
    y = v + 1
    assert step(1.0) == 2
    session.run(v.initializer, {x: 3.0})
    graph.finalize()
    assert step(1.0) == 2
    assert session.make_callable(y)() == 4


def test_a_callable_is_made_before_its_variables_have_values(session: Any) -> None:
    w = tf.Variable(np.ones((3, 2), np.float32))
    x = tf.placeholder(tf.float32, [None, 3])
    step = session.make_callable(tf.matmul(x, w), [x])
    compiles = session.cache_info()["compiles"]
    session.run(w.initializer)
    for size in (1, 5, 0):
        assert step(np.ones((size, 3), np.float32)).tolist() == [[3, 3]] * size
    assert session.cache_info()["compiles"] == compiles + 1  # the initializer


def test_errors_that_wait_for_the_call(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    step = session.make_callable(tf.reshape(x, [3]), [x])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Input to reshape is a tensor with 2"):
        step([1, 2])
    assert step([1, 2, 3]).tolist() == [1, 2, 3]
    with tf.device("/device:GPU:0"):
        placed = x + 1
    gpu = session.make_callable(placed, [x])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Cannot assign a device"):
        gpu([1])


def test_a_dropped_callable_is_forgotten(session: Any) -> None:
    x = tf.placeholder(tf.float32, [])
    step = session.make_callable({"y": x + 1}, [x])
    assert step(1.0) == {"y": 2}
    watched = weakref.ref(step.program)
    assert session.cache_info()["steps"] == 1
    del step
    gc.collect()
    assert watched() is None
    assert session.cache_info()["steps"] == 0


def test_run_and_callables_share_steps(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    y = x * 2
    for _ in range(3):
        session.run(y, {x: [1]})
        session.make_callable(y, [x])([1])
        session.make_callable(y, ["Placeholder:0"])([1])
    assert session.cache_info()["compiles"] == 1
    assert session.cache_info()["steps"] == 1
