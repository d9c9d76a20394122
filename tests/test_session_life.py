"""The life of sessions: construction, default stacks, closing, threads, collection."""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    """A default graph for each test."""
    with tf.Graph().as_default() as made:
        yield made


def in_thread(function: Any) -> Any:
    """What ``function`` gives in a thread of its own."""
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(function()))
    thread.start()
    thread.join(20)
    return found[0]


# ---- construction --------------------------------------------------------------------------------


def test_the_default_graph_is_taken_when_a_session_is_made(graph: Any) -> None:
    session = tf.Session()
    with tf.Graph().as_default():
        assert session.graph is graph
        assert tf.Session().graph is not graph
    other = tf.Graph()
    assert tf.Session(graph=other).graph is other
    assert tf.Session("", other).graph is other


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"graph": 3}, "graph must be a tf.Graph"),
        ({"config": 3}, "config must be a tf.ConfigProto"),
        ({"target": 3}, "target must be a string"),
        ({"target": tf.ConfigProto()}, "config="),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        tf.Session(**arguments)


def test_a_target_elsewhere_is_not_found() -> None:
    with pytest.raises(tf.errors.NotFoundError, match="No session factory registered"):
        tf.Session("grpc://localhost:2222")
    with pytest.raises(tf.errors.NotFoundError, match="No session factory registered"):
        tf.Session.reset("grpc://localhost:2222")


def test_properties() -> None:
    session = tf.Session()
    assert session.sess_str == b""
    assert [node.name for node in session.graph_def.node] == []
    tf.constant(1, name="b")
    tf.constant(1, name="a")
    assert [node.name for node in session.graph_def.node] == ["b", "a"]


def test_the_graph_may_grow_after_the_session_is_made() -> None:
    session = tf.Session()
    assert session.run(tf.constant(1) + 1) == 2
    v = tf.Variable(3.0)
    session.run(v.initializer)
    assert session.run(v.assign_add(1.0)) == 4


def test_sessions_share_a_graph_but_no_variables() -> None:
    v = tf.Variable(1.0)
    first, second = tf.Session(), tf.Session()
    first.run(v.initializer)
    second.run(v.assign(5.0))
    assert (first.run(v), second.run(v)) == (1, 5)


# ---- default sessions ----------------------------------------------------------------------------


def test_entering_makes_session_and_graph_the_default() -> None:
    other = tf.Graph()
    with tf.Session(graph=other) as session:
        assert tf.get_default_session() is session
        assert tf.get_default_graph() is other
        assert tf.constant(2).eval() == 2
    assert tf.get_default_session() is None
    assert tf.get_default_graph() is not other
    with pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
        session.run("Const:0")


def test_leaving_by_an_exception_closes() -> None:
    with pytest.raises(KeyError), tf.Session() as session:
        raise KeyError
    assert tf.get_default_session() is None
    tf.constant(1)
    with pytest.raises(RuntimeError, match="closed"):
        session.run("Const:0")


def test_entering_twice() -> None:
    session = tf.Session()
    with session, pytest.raises(RuntimeError, match="not re-entrant"), session:
        pass
    c = tf.constant(1)
    with session, pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
        session.run(c)  # a closed session may be entered


def test_as_default_leaves_the_graph_and_does_not_close(graph: Any) -> None:
    other = tf.Graph()
    with other.as_default():
        c = tf.constant(1)
    session = tf.Session(graph=other)
    for _ in range(2):
        with session.as_default() as entered, session.as_default():
            assert entered is session
            assert tf.get_default_session() is session
            assert tf.get_default_graph() is graph
            assert c.eval() == 1
    assert session.run(c) == 1


def test_as_default_keeps_the_session() -> None:
    c = tf.constant(1)
    with tf.Session().as_default():
        gc.collect()
        assert c.eval() == 1


def test_a_session_lives_while_its_run_is_held() -> None:
    c = tf.constant(1)
    assert tf.Session().run(c) == 1
    run = tf.Session().run
    gc.collect()
    assert run(c) == run(c) == 1


def test_leaving_out_of_order() -> None:
    def leave() -> str:
        first, second = tf.Session().as_default(), tf.Session().as_default()
        first.__enter__()
        second.__enter__()
        with pytest.raises(AssertionError) as found:
            first.__exit__(None, None, None)
        return str(found.value)

    assert in_thread(leave).startswith("Nesting violated")  # a thread has stacks of its own


def test_each_thread_has_its_own_defaults(graph: Any) -> None:
    with tf.Session():
        assert in_thread(tf.get_default_session) is None
        assert in_thread(tf.get_default_graph) is not graph


def test_eval_and_run_need_a_session() -> None:
    c, op = tf.constant(1), tf.no_op()
    for call in (c.eval, op.run):
        with pytest.raises(ValueError, match="No default session is registered"):
            call()
    with tf.Graph().as_default(), tf.Session():
        for call in (c.eval, op.run):
            with pytest.raises(ValueError, match="graph is different from the session's graph"):
                call()
    other = tf.Session(graph=tf.Graph())
    with pytest.raises(ValueError, match="graph is different"):
        c.eval(session=other)
    with pytest.raises(ValueError, match="graph is different"):
        op.run(session=other)


def test_eval_and_run_take_feeds_and_a_session() -> None:
    x = tf.placeholder(tf.float32)
    v = tf.Variable(0.0)
    session = tf.Session()
    assert (x + 1).eval({x: 2}, session) == 3
    assert v.assign(x).op.run({x: 4}, session) is None
    assert v.eval(session) == 4


# ---- closing -------------------------------------------------------------------------------------


def test_closing_twice_is_fine() -> None:
    session = tf.Session()
    session.close()
    session.close()


def test_a_closed_session_and_its_callables_do_not_run() -> None:
    x = tf.placeholder(tf.float32, [])
    y = x + 1
    session = tf.Session()
    calls = [
        lambda: session.run(y, {x: 1.0}),
        lambda: session.run([]),
        lambda: session.make_callable(y, [x])(1.0),
    ]
    held = [session.make_callable(y, [x]), session.make_callable(tf.constant(1))]
    assert session.run(y, {x: 1.0}) == session.run(y, {x: 1.0}) == held[0](1.0) == 2
    session.close()
    calls += [lambda: held[0](1.0), lambda: held[0]([1.0]), lambda: held[1]()]
    for call in calls:
        with pytest.raises(RuntimeError, match="Attempted to use a closed Session"):
            call()
    with pytest.raises(tf.errors.CancelledError, match="Session has been closed"):
        session.list_devices()


@pytest.mark.parametrize("kind", ["run", "callable", "new steps"])
def test_a_thread_in_a_loop_ends_when_the_session_is_closed(kind: str) -> None:
    x = tf.placeholder(tf.float32, [None])
    ys = [x + float(i) for i in range(50)]
    session = tf.Session()
    step = session.make_callable(ys[0], [x])
    calls = {
        "run": lambda i: session.run(ys[0], {x: [1.0]}),
        "callable": lambda i: step([1.0]),
        "new steps": lambda i: session.run(ys[i % 50], {x: np.ones(2, np.float32)}),
    }
    started = threading.Event()

    def loop() -> str:
        number = 0
        try:
            while True:
                calls[kind](number)
                number += 1
                if number == 3:
                    started.set()
        except RuntimeError as error:
            return str(error)

    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(loop())) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(20)
    session.close()
    for thread in threads:
        thread.join(20)
    assert found == ["Attempted to use a closed Session."] * 3


def test_closing_releases_variables() -> None:
    v = tf.Variable(np.zeros(1000, np.float32))
    session = tf.Session()
    session.run(v.initializer)
    cell = weakref.ref(session.store.cell(v.op, "f32"))
    session.close()
    gc.collect()
    assert cell() is None


def test_a_forgotten_session_is_collected_with_its_variables() -> None:
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable(np.zeros(10, np.float32))
    session = tf.Session()
    session.run(v.initializer)
    session.run(v.assign_add(tf.ones(10)))
    session.run([x + v, v], {x: np.ones(10)})
    session.run(tf.py_func(lambda z: z, [v], tf.float32))
    session.make_callable({"y": x * v}, [x])(np.ones(10))
    watched = [weakref.ref(session), weakref.ref(session.store.cell(v.op, "f32"))]
    del session
    gc.collect()
    assert [reference() for reference in watched] == [None, None]


def test_a_callable_keeps_its_session() -> None:
    v = tf.Variable(2.0)

    def made() -> Any:
        session = tf.Session()
        session.run(v.initializer)
        return session.make_callable(v * 2.0)

    step = made()
    gc.collect()
    assert step() == 4


# ---- graphs --------------------------------------------------------------------------------------


def test_an_empty_graph_cannot_run() -> None:
    session = tf.Session()
    for fetches in ([], (), {}):
        with pytest.raises(RuntimeError, match="The Session graph is empty"):
            session.run(fetches)
    tf.constant(1)
    assert session.run([]) == []
    assert session.run(()) == ()
    assert session.run({}) == {}


def test_a_finalized_graph_runs_but_does_not_grow(graph: Any) -> None:
    x = tf.placeholder(tf.float32)
    y = x + 1
    session = tf.Session()
    graph.finalize()
    assert graph.finalized
    assert session.run(y, {x: 1}) == session.make_callable(y, [x])(1) == 2
    for grow in (lambda: tf.constant(1), lambda: x + 1):
        with pytest.raises(RuntimeError, match="Graph is finalized and cannot be modified"):
            grow()


def test_resetting_the_default_graph_inside_of_contexts() -> None:
    with pytest.raises(AssertionError, match="nested graphs"):
        tf.reset_default_graph()


def test_nodes_that_are_not_needed_do_no_harm() -> None:
    x = tf.placeholder(tf.float32, [None])
    with tf.device("/device:GPU:7"):
        tf.reshape(x, [3, -1])
    for session in (tf.Session(), tf.InteractiveSession()):
        assert session.run(x + 1, {x: [1, 2]}).tolist() == [2, 3]
        session.close()


# ---- interactive sessions ------------------------------------------------------------------------


def test_an_interactive_session_is_the_default_until_it_is_closed(graph: Any) -> None:
    c = tf.constant(3)
    session = tf.InteractiveSession()
    assert tf.get_default_session() is session
    assert c.eval() == 3
    assert not hasattr(session, "__enter__")
    session.close()
    assert tf.get_default_session() is None


def test_an_interactive_session_installs_the_graph_that_it_is_given(graph: Any) -> None:
    other = tf.Graph()
    session = tf.InteractiveSession(graph=other)
    assert tf.get_default_graph() is other
    session.close()
    assert tf.get_default_graph() is graph


def test_two_interactive_sessions_warn() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tf.InteractiveSession().close()
        first = tf.InteractiveSession()
    with pytest.warns(UserWarning, match="An interactive session is already active"):
        second = tf.InteractiveSession()
    assert tf.get_default_session() is second
    second.close()
    assert tf.get_default_session() is first
    first.close()


def test_interactive_sessions_may_close_in_any_order(graph: Any) -> None:
    first = tf.InteractiveSession(graph=tf.Graph())
    with pytest.warns(UserWarning, match="already active"):
        second = tf.InteractiveSession(graph=tf.Graph())
    first.close()
    assert tf.get_default_session() is second
    second.close()
    assert tf.get_default_session() is None
    assert tf.get_default_graph() is graph


# ---- threads -------------------------------------------------------------------------------------


def test_threads_run_while_another_one_extends_the_graph(graph: Any) -> None:
    x = tf.placeholder(tf.float32, [None])
    y = x * 2
    session = tf.Session()
    wrong: list[Any] = []

    def run(number: int) -> None:
        try:
            for k in range(100):
                size = 1 + (number + k) % 5
                found = session.run(y, {x: np.full(size, number, np.float32)})
                if found.tolist() != [2.0 * number] * size:
                    wrong.append(found)
        except BaseException as error:
            wrong.append(error)

    def grow() -> None:
        with graph.as_default():
            found = [session.run(x + float(k), {x: [1.0]}).item() for k in range(20)]
            wrong.extend([f for k, f in enumerate(found) if f != 1.0 + k])

    threads = [threading.Thread(target=run, args=(n,)) for n in range(6)]
    threads.append(threading.Thread(target=grow))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert wrong == []


def test_threads_that_meet_a_new_shape_at_once_compile_it_once() -> None:
    x = tf.placeholder(tf.float32, [None, None])
    y = tf.matmul(x, x)
    session = tf.Session()
    barrier = threading.Barrier(4)
    found: list[Any] = []

    def run() -> None:
        barrier.wait()
        found.append(session.run(y, {x: [[2.0]]}))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert found == [4.0] * 4
    assert session.cache_info()["compiles"] == 1
