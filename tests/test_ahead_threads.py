"""Compiled steps and threads: many callers at once, and loops that the caller shares out."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ahead_testing import RANDOM, Loaded, compile_ahead, network, python_module

import stepforge as tf
from stepforge.runtime.ahead_steps import Step

Module = Callable[..., Any]


@pytest.fixture
def module(tmp_path: Path) -> Module:
    """Writes the Python module of a library and runs it."""
    return functools.partial(python_module, tmp_path)


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


def test_the_caller_may_hand_in_a_parallel_for(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    compiled = compile_ahead(Step("f", tf.exp(tf.sin(x)), [x]))
    assert compiled.parallel == {"f"}
    loaded = Loaded(compiled, tmp_path)
    chunks: list[int] = []

    def run(pool: Any, job: Any, arguments: Any, count: int) -> None:
        assert loaded.ffi.cast("intptr_t", pool) == 77
        for index in reversed(range(count)):
            chunks.append(index)
            job(arguments, index)

    callback = loaded.ffi.callback("f_parallel_for", run)
    given = RANDOM.normal(size=500_000).astype(np.float32)
    alone, shared = np.empty_like(given), np.empty_like(given)
    assert loaded.call("f", given, given.size, alone, sizes=(given.size,)) == 0
    workspace = loaded.pointer(loaded.memory)
    status = loaded.code.f_parallel(
        loaded.pointer(given), given.size, loaded.pointer(shared), workspace, callback,
        loaded.ffi.cast("void *", 77),
    )
    assert status == 0
    assert len(chunks) > 1
    np.testing.assert_array_equal(alone, shared)
    np.testing.assert_allclose(alone, np.exp(np.sin(given)), rtol=1e-6)


def test_calls_from_many_threads(module: Module) -> None:
    x, y, session = network()
    predict = module(compile_ahead(Step("predict", y, [x]), session=session)).predict
    given = RANDOM.normal(size=(50, 30)).astype(np.float32)
    want, wrong = predict(given), []

    def work() -> None:
        results = [predict(given) for _ in range(50)]
        wrong.extend(result for result in results if not np.array_equal(result, want))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
