"""Loops on several threads:

the same numbers as on one, many callers at once, and forked children.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

import stepforge as tf
from stepforge.ir.parser import parse_function
from stepforge.ir.verify import verify
from stepforge.passes.contract import contract
from stepforge.passes.fuse import fuse
from stepforge.passes.lower import lower
from stepforge.passes.merge_loops import merge_loops
from stepforge.passes.parallelize import parallelize
from stepforge.runtime import threads

RNG = np.random.default_rng(0)
VECTOR = RNG.normal(size=1_500_017).astype(np.float32)
ROWS = RNG.normal(size=(1201, 1003)).astype(np.float32)
WORKLOADS = {
    "map": (VECTOR, lambda x: tf.tanh(x) * 2.0 + tf.exp(-x * x)),
    "rows": (ROWS, lambda x: tf.nn.softmax(x)),
    "layer norm": (ROWS, lambda x: layer_norm(x)),
    "columns": (ROWS, lambda x: tf.reduce_sum(tf.square(x), axis=0)),
    "total": (VECTOR, lambda x: tf.reduce_sum(x)),
    "product": (ROWS, lambda x: tf.nn.relu(tf.matmul(x, ROWS[:70, :].T) + ROWS[0, :70])),
}


def layer_norm(x):
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    return (x - mean) * tf.rsqrt(variance + 1e-5)


def result(name: str, count: int):
    value, build = WORKLOADS[name]
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None] * value.ndim)
        config = tf.ConfigProto(intra_op_parallelism_threads=count)
        with tf.Session(config=config) as sess:
            step = sess.make_callable(build(x), [x])
            return [step(value) for _ in range(3)]


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_number_of_threads_does_not_change_a_bit(name):
    alone, shared = result(name, 1), result(name, 0)
    for one, other in zip(alone, shared, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["map", "rows", "columns", "product"])
@pytest.mark.skipif(threads.available() == 1, reason="there is one processor")
def test_a_session_of_one_thread_has_no_code_for_others(name):
    value, build = WORKLOADS[name]
    with tf.Graph().as_default():
        x = tf.placeholder(tf.float32, [None] * value.ndim)
        fetches, texts = build(x), []
        for count in (0, 1):
            config = tf.ConfigProto(intra_op_parallelism_threads=count)
            with tf.Session(config=config) as sess:
                texts.append(sess.make_callable(fetches, [x]).text("llvm"))
    several, one = texts
    assert "(ptr %arguments, i64 %first, i64 %behind)" in several
    assert "%arguments" not in one


def test_many_callers_share_the_pool():
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, None])
        step = sess.make_callable(tf.nn.softmax(x), [x])
        want = step(ROWS)
        right = []

        def work() -> None:
            right.extend(np.array_equal(step(ROWS), want) for _ in range(10))

        workers = [threading.Thread(target=work) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(60)
            assert not worker.is_alive()
        assert right == [True] * 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_computes_alone():
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, None])
        step = sess.make_callable(tf.nn.softmax(x), [x])
        want = step(ROWS)
        child = os.fork()
        if child == 0:
            signal.alarm(20)
            os._exit(0 if np.array_equal(step(ROWS), want) else 1)
        assert os.waitpid(child, 0)[1] == 0


LAZY = """
import sys, threading
import numpy as np
import stepforge as tf

def start(thread):
    if sys.argv[1] == "none" and thread.name.startswith("stepforge"):
        raise RuntimeError("can't start new thread")
    begin(thread)

begin, threading.Thread.start = threading.Thread.start, start
x = tf.placeholder(tf.float32, [None, None])
with tf.Session() as sess:
    step = sess.make_callable(tf.nn.softmax(x), [x])
    for shape in ((2, 3), (1200, 1000)):
        assert np.allclose(step(np.zeros(shape, np.float32)), 1 / shape[1])
        print(sum(t.name.startswith("stepforge") for t in threading.enumerate()))
"""


@pytest.mark.skipif(threads.available() < 2, reason="one processor has no pool")
@pytest.mark.parametrize(("those", "started"), [("all", threads.available() - 1), ("none", 0)])
def test_workers_start_when_a_loop_is_worth_it(those: str, started: int) -> None:
    command = [sys.executable, "-c", LAZY, those]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert [int(line) for line in done.stdout.split()] == [0, started]


@pytest.mark.skipif(threads.available() < 2, reason="one processor has no pool")
def test_the_pool_has_one_thread_for_each_other_processor():
    result("map", 0)
    pool = threads.pool()
    assert pool is not None
    assert len(pool.workers) == threads.available() - 1
    assert set(pool.workers) <= set(threading.enumerate())
    assert {worker.name[:17] for worker in pool.workers} == {"stepforge-worker-"}


def test_only_independent_nests_are_parallel():
    function = parse_function("""
func @f(%x: f32[n, 24]) -> f32[n, 24], f32 {
  %m = reduce_max(%x, axes=[1], keep_dims=true) : f32[n, 1]
  %y = sub(%x, %m) : f32[n, 24]
  %s = reduce_sum(%x, axes=[0, 1]) : f32
  return(%y, %s)
}
""")
    loops = parallelize(contract(merge_loops(lower(fuse(function)).function)))
    verify(loops)
    nests = [op for op in loops.body.ops if op.name == "for"]
    assert [op.attr("parallel") for op in nests] == [True, False]
