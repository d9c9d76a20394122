"""Compiled steps and threads: many callers at once, and loops that the caller shares out."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ahead_testing import RANDOM, Loaded, Module, compile_ahead, network

import stepforge as tf
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead_steps import Step

pytestmark = pytest.mark.usefixtures("own_graph")


def shared_out(loaded: Loaded, given: Any, shared: Any) -> int:
    """Call ``f_parallel`` with a ``parallel_for`` that runs the last chunk first; how many chunks.
    """
    chunks: list[int] = []

    def run(pool: Any, job: Any, arguments: Any, count: int) -> None:
        assert loaded.ffi.cast("intptr_t", pool) == 77
        for index in reversed(range(count)):
            chunks.append(index)
            job(arguments, index)

    callback = loaded.ffi.callback("f_parallel_for", run)
    status = loaded.code.f_parallel(
        loaded.pointer(given), len(given), loaded.pointer(shared), loaded.pointer(loaded.memory),
        callback, loaded.ffi.cast("void *", 77),
    )
    assert status == 0
    return len(chunks)


def test_the_caller_may_hand_in_a_parallel_for(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    compiled = compile_ahead(Step("f", tf.exp(tf.sin(x)), [x]))
    assert compiled.parallel == {"f"}
    loaded = Loaded(compiled, tmp_path)
    given = RANDOM.normal(size=500_000).astype(np.float32)
    alone, shared = np.empty_like(given), np.empty_like(given)
    assert loaded.call("f", given, given.size, alone, sizes=(given.size,)) == 0
    assert shared_out(loaded, given, shared) > 1
    np.testing.assert_array_equal(alone, shared)
    np.testing.assert_allclose(alone, np.exp(np.sin(given)), rtol=1e-6)


def test_the_caller_may_share_out_a_product(tmp_path: Path) -> None:
    weights = RANDOM.normal(size=(300, 40)).astype(np.float32)
    x = tf.placeholder(tf.float32, [None, 300], "x")
    compiled = compile_ahead(Step("f", tf.nn.relu(tf.matmul(x, weights)), [x]))
    assert compiled.parallel == {"f"}
    loaded = Loaded(compiled, tmp_path)
    given = RANDOM.normal(size=(1500, 300)).astype(np.float32)
    alone, shared = np.empty((2, 1500, 40), np.float32)
    assert loaded.call("f", given, len(given), alone, sizes=(len(given),)) == 0
    assert shared_out(loaded, given, shared) > 1
    np.testing.assert_array_equal(alone, shared)
    np.testing.assert_allclose(alone, np.maximum(given @ weights, 0), rtol=1e-4, atol=1e-4)
    assert shared_out(loaded, given[:50], shared) == 0


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


# A pool as one would write it in C: threads that take the next task until there is none.
MAIN = r"""
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib.h"

enum { SIZE = 400000, THREADS = 3 };

typedef struct {
    void (*job)(void *arguments, int64_t i);
    void *arguments;
    int64_t next, count;
    pthread_mutex_t lock;
    int *calls;
} Work;

static void *take(void *given)
{
    Work *work = given;
    for (;;) {
        pthread_mutex_lock(&work->lock);
        int64_t i = work->next++;
        pthread_mutex_unlock(&work->lock);
        if (i >= work->count)
            return NULL;
        work->job(work->arguments, i);
    }
}

static void parallel_for(
    void *pool, void (*job)(void *arguments, int64_t i), void *arguments, int64_t count)
{
    Work work = {job, arguments, 0, count, PTHREAD_MUTEX_INITIALIZER, NULL};
    pthread_t threads[THREADS];
    ++*(int *)pool;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, take, &work);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    float *x = malloc(SIZE * sizeof *x);
    float *alone = malloc(SIZE * sizeof *x), *shared = malloc(SIZE * sizeof *x);
    float total, again;
    void *workspace = malloc((size_t)f_workspace(SIZE));
    int calls = 0;
    for (int i = 0; i < SIZE; i++)
        x[i] = (float)(i % 1000) / 500 - 1;
    int32_t status = f(x, SIZE, alone, &total, workspace);
    status |= f_parallel(x, SIZE, shared, &again, workspace, parallel_for, &calls);
    int same = memcmp(alone, shared, SIZE * sizeof *x) == 0 && total == again;
    printf("status %d, same %d, shared %d\n", (int)status, same, calls > 0);
    status = f_parallel(x, SIZE, shared, &again, workspace, NULL, NULL);
    printf("status %d, same %d\n", (int)status, total == again);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_threads_of_a_c_program_share_a_step(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    y = tf.exp(tf.sin(x))
    compiled = compile_ahead(Step("f", [y, tf.reduce_sum(y)], [x]), name="lib")
    assert compiled.parallel == {"f"}
    for name in ("lib.o", "lib.h"):
        ahead_files.write(compiled, tmp_path / name)
    (tmp_path / "main.c").write_text(MAIN)
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    command = ["cc", *warnings, "main.c", "lib.o", "-o", "main", "-lm", "-lpthread"]
    subprocess.run(command, cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True)
    assert done.stdout == "status 0, same 1, shared 1\nstatus 0, same 1\n"
