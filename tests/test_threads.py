"""Many threads on one session, forked children, millions of calls: nothing lost, nothing leaked."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable

import numpy as np
import pytest

import stepforge as tf
from stepforge.runtime.threads import Pool


def run_all(*workers: Callable[[], None]) -> None:
    """Run each worker in a thread of its own; raise the first error of any."""
    errors: list[BaseException] = []

    def guarded(worker: Callable[[], None]) -> None:
        try:
            worker()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(w,)) for w in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if errors:
        raise errors[0]


@pytest.fixture
def session():
    with tf.Graph().as_default(), tf.Session() as sess:
        yield sess


def test_more_workers_than_processors_that_sleep_between_jobs():
    """One that wakes up late finds its token taken by another: nobody may wait for it."""
    pool = Pool(3)
    job_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
    sizes = [ctypes.c_int64] * 4
    run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, job_type, ctypes.c_void_p, *sizes)(pool.function)
    done: list[int] = []
    job = job_type(lambda arguments, first, behind: done.extend(range(first, behind)))
    for turn in range(300):
        run(pool.address, job, None, 0, 5, 1_000_000, 1)
        assert sorted(done) == [0, 1, 2, 3, 4]
        done.clear()
        time.sleep(turn % 3 * 1e-4)


def test_readers_writers_and_graph_growth_agree_with_a_serial_oracle(session):
    total = tf.Variable(np.zeros(16), name="total")
    x = tf.placeholder(tf.float64, [16], name="x")
    add = tf.assign_add(total, x)
    y = x * 2.0 + 1.0
    session.run(tf.global_variables_initializer())
    rounds = 300

    def writer(k: int) -> Callable[[], None]:
        step = session.make_callable(add, [x])

        def work() -> None:
            for i in range(rounds):
                step(np.full(16, float(k * rounds + i)))

        return work

    def reader(k: int) -> Callable[[], None]:
        def work() -> None:
            for i in range(rounds):
                value = np.full(16, float(i + k))
                np.testing.assert_array_equal(session.run(y, {x: value}), value * 2 + 1)
                seen = session.run(total)
                assert (seen == seen[0]).all(), "a torn read"

        return work

    def grower() -> None:
        with session.graph.as_default():
            for i in range(40):
                z = x + float(i)
                np.testing.assert_array_equal(session.run(z, {x: np.zeros(16)}), np.full(16, i))

    run_all(*[writer(k) for k in range(4)], *[reader(k) for k in range(3)], grower)
    want = sum(float(k * rounds + i) for k in range(4) for i in range(rounds))
    np.testing.assert_array_equal(session.run(total), np.full(16, want))


def test_large_updates_from_many_threads_are_each_whole(session):
    """Long steps run without the interpreter lock; the writer lock keeps updates apart."""
    n = 200_000
    v = tf.Variable(np.zeros(n, np.float32))
    step = session.make_callable(tf.assign(v, v * 1.0 + 1.0).op, [])
    session.run(tf.global_variables_initializer())
    run_all(*[lambda: [step() for _ in range(50)] for _ in range(4)])
    np.testing.assert_array_equal(session.run(v), np.full(n, 200, np.float32))


def test_a_writer_waits_while_another_holds_the_lock(session):
    """The waiting thread does not hold the interpreter lock: Python code goes on meanwhile."""
    n = 3_000_000
    v = tf.Variable(np.zeros(n, np.float32))
    slow = session.make_callable(tf.assign_add(v, tf.tanh(v) + 1.0).op, [])
    session.run(tf.global_variables_initializer())
    slow()
    ticks = 0
    done = threading.Event()

    def count() -> None:
        nonlocal ticks
        while not done.is_set():
            ticks += 1
            time.sleep(0.0005)

    counter = threading.Thread(target=count)
    counter.start()
    run_all(*[lambda: [slow() for _ in range(20)] for _ in range(3)])
    done.set()
    counter.join()
    assert ticks > 5


def test_a_python_function_may_run_the_session_again(session):
    v = tf.Variable(1.0)
    bump = tf.assign_add(v, 1.0)
    session.run(tf.global_variables_initializer())

    def inner(a: np.ndarray) -> np.ndarray:
        return np.float32(session.run(bump) + a)

    outer = tf.py_func(inner, [tf.constant(10.0)], tf.float32)
    with tf.control_dependencies([outer]):
        both = tf.assign_add(v, 100.0)
    session.run(both)
    assert session.run(v) > 100.0


def test_closing_while_others_run_ends_them_with_the_right_error(session):
    x = tf.placeholder(tf.float32, [])
    y = x + 1.0
    started = threading.Event()
    outcome: list[BaseException] = []

    def loop() -> None:
        try:
            while True:
                session.run(y, {x: 1.0})
                started.set()
        except RuntimeError as error:
            outcome.append(error)

    thread = threading.Thread(target=loop)
    thread.start()
    started.wait(20)
    session.close()
    thread.join(20)
    assert not thread.is_alive()
    assert "closed Session" in str(outcome[0])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_runs_steps_and_updates(session):
    v = tf.Variable(np.arange(4.0))
    step = session.make_callable(tf.assign_add(v, tf.ones([4], tf.float64)), [])
    session.run(tf.global_variables_initializer())
    step()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        good = np.array_equal(step(), np.arange(4.0) + 2)
        os._exit(0 if good else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    np.testing.assert_array_equal(session.run(v), np.arange(4.0) + 1)


def resident() -> int:
    """Bytes of memory that this process has in use."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("calls", [200_000, pytest.param(10_000_000, marks=pytest.mark.slow)])
def test_calls_leave_no_memory_and_no_references_behind(session, calls):
    x = tf.placeholder(tf.float64, [None])
    s = tf.placeholder(tf.float64, [])
    v = tf.Variable(np.ones(8))
    fetches = [x * s + v, tf.reduce_sum(x), tf.assign_add(v, x)]
    session.run(tf.global_variables_initializer())
    step = session.make_callable(fetches, [x, s])
    vector, scalar = np.zeros(8), np.float64(2.0)
    feed = {x: vector, s: scalar}

    def work(n: int) -> None:
        for _ in range(n // 4):
            step(vector, scalar)
            step(vector, 2.0)
            step([0.0] * 8, 2) if n < 1000 else step(vector, 2)
            session.run(fetches, feed)

    work(400)
    gc.collect()
    references = [sys.getrefcount(o) for o in (vector, scalar, step, None)][:3]
    before = resident()
    work(calls)
    gc.collect()
    assert [sys.getrefcount(o) for o in (vector, scalar, step)] == references
    assert resident() - before < 4 << 20


def test_programs_and_their_code_go_with_the_session():
    import weakref

    def once() -> weakref.ref:
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float32, [])
            sess = tf.Session()
            sess.run(x + 1.0, {x: 1.0})
            sess.make_callable([x * 2.0], [x])(1.0)
            return weakref.ref(sess)

    gone = once()
    gc.collect()
    assert gone() is None
