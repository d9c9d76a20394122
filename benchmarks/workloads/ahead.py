"""Steps compiled ahead of time, against the same steps in a session and against C.

Neither side of the first rows calls a library for its matrix products, so that both are the same
kernels; the session with the library stands beside.  The last row is what a call costs from C.
"""

from __future__ import annotations

import os
import runpy
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

import contest
from cases import Arrays, Case, Program, Step, build_of, check, opened
from harness import Against, Row, Side, called, check_equal
from peers import gcc
from workloads import axb, perceptron

SLOWEST = 1.05  # times the session's
CALL = 20.0  # nanoseconds of a call from C, above what it computes
SIZE = 512  # of a product that a session would leave to the library
TIMED = ("training step, batch 32", "training step, batch 256", "forward, batch 256")


def product(tf: Any, arrays: Arrays) -> Program:
    feeds = {name: tf.placeholder(tf.float32, arrays[name].shape, name=name) for name in "xy"}
    return Program(feeds, [tf.matmul(*feeds.values())])


def cases() -> Iterator[Case]:
    yield from (case for case in perceptron.cases() if case.name.endswith(TIMED))
    x, y = np.random.RandomState(0).standard_normal((2, SIZE, SIZE)).astype(np.float32)
    expected = x.astype(np.float64) @ y.astype(np.float64)
    name = f"matrix product, {SIZE} by {SIZE}, f32"
    yield Case(name, "ahead.product", {"x": x, "y": y}, (expected,), 1e-3)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    if peers.interpreter or tf.__name__ != "stepforge":
        return
    for case in cases():
        yield from against_a_session(tf, case)
    yield from a_call(tf)


def against_a_session(tf: Any, case: Case) -> Iterator[Row]:
    build = build_of(case.kind)
    with ExitStack() as open_sessions:
        with without_library():
            alone = open_sessions.enter_context(opened(tf, build, case.arrays))
            check(case, "without a library", alone.last(case.calls))
        usual = open_sessions.enter_context(opened(tf, build, case.arrays))
        check(case, "stepforge", usual.last(case.calls))
        step = compiled(tf, case)
        check(case, "ahead of time", step.last(case.calls))
        theirs = called("session without library", alone.function, alone.arguments)
        beside = called("session", usual.function, usual.arguments)
        ours = called("stepforge", step.function, step.arguments)
        yield Row(f"{case.name}, ahead of time", ours, (Against(SLOWEST, (theirs,)),), (beside,))


@contextmanager
def without_library() -> Iterator[None]:
    """Steps that are made inside multiply matrices by stepforge's own kernels."""
    os.environ["STEPFORGE_BLAS"] = "off"
    try:
        yield
    finally:
        del os.environ["STEPFORGE_BLAS"]


def compiled(tf: Any, case: Case) -> Step:
    """The program of a case as a function of C, with memory for its results."""
    with tf.Graph().as_default() as graph:
        program = build_of(case.kind)(tf, case.arrays)
        start = tf.global_variables_initializer()
    with closing(tf.Session(graph=graph)) as sess:
        sess.run(start)
        step = tf.ahead.Step("step", program.fetches, list(program.feeds.values()))
        made, module = library(tf, step, session=sess, variables="file")
    names, outs = iter(program.feeds), [np.empty(e.shape, np.float32) for e in case.expected]
    results, sizes = iter(outs), [len(case.arrays["x"])] * len(made.library.steps[0].sizes)
    memory = np.empty(module.function("step_workspace")(*sizes), np.uint8)
    arguments: list[Any] = []
    for parameter in made.library.steps[0].parameters:
        if parameter.role == "size":
            arguments.append(sizes[0])
        elif parameter.role == "state":
            arguments.append(module.address(module.state.memory))
        else:
            array = case.arrays[next(names)] if parameter.role == "feed" else next(results)
            arguments.append(module.address(array))
    arguments.append(module.address(memory))
    kept = module, memory  # C has addresses only
    return Step(module.function("step"), tuple(arguments), lambda _, kept=kept: outs)


def library(tf: Any, step: Any, **how: Any) -> tuple[Any, Any]:
    """A step compiled for this processor, and its library as the Python module has it."""
    made = tf.ahead.compile(step, name="bench", target=tf.ahead.target(cpu="native"), **how)
    with tempfile.TemporaryDirectory() as folder:
        tf.ahead.write(made, Path(folder, "bench.py"))
        module = runpy.run_path(str(Path(folder, "bench.py")))["library"]
        if made.library.has_state:
            assert module.state is not None  # read while its file is there
    return made, module


def a_call(tf: Any) -> Iterator[Row]:
    y, feeds = axb.build(tf, [8])
    _, module = library(tf, tf.ahead.Step("step", y, feeds), graph=y.graph)
    a, x, b = np.arange(8.0), np.arange(8.0) + 1, np.arange(8.0) + 2
    out = np.zeros(8)
    arrays = (a, x, b, out)
    address = int(module.ffi.cast("intptr_t", module.function("step")))
    ours, theirs = (gcc.axb_loop(function, arrays) for function in (address, 0))
    name = "a*x+b, float64 8-vectors, ahead of time, called from C"
    if ours is None or theirs is None:
        return
    check_equal(name, ours() >= 0, True)
    check_equal(name, out, a * x + b)
    limit = Side(f"gcc + {CALL:g} ns", (theirs, lambda: CALL))
    beside = Side("gcc", (theirs,))
    yield Row(name, Side("stepforge", (ours,)), (Against(1.0, (limit,)),), (beside,))
