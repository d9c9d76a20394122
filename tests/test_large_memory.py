"""Memory of large results is used again: values, ownership, bounds, threads and forks."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.codegen import jit, large_memory, layout, target
from stepforge.codegen.llvm import ModuleWriter

try:
    from numpy._core.multiarray import get_handler_name as handler_name
except ImportError:  # NumPy 1
    from numpy.core.multiarray import get_handler_name as handler_name

LARGE = 1 << 18  # f32 elements of a large result
ALLOC = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_int64)
FREE = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

native_only = pytest.mark.skipif(not layout.native_entry(), reason="plain Python entry")


@pytest.fixture
def doubled() -> Iterator[Any]:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None])
        yield sess.make_callable(x * 2.0, [x])


def _functions() -> tuple[Any, Any]:
    library = large_memory.library()
    return ALLOC(library["stepforge_alloc"]), FREE(library["stepforge_free"])


def _resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@native_only
def test_the_memory_of_a_dropped_result_is_the_next_one(doubled: Any) -> None:
    x = np.arange(4 * LARGE, dtype=np.float32)
    first = doubled(x)
    assert first.flags.owndata
    assert first.base is None
    address = first.ctypes.data
    assert address % 64 == 0
    np.testing.assert_array_equal(first, x * 2)
    kept = first[5:]  # a view keeps the array, and the array its memory
    del first
    second = doubled(x + 1)
    assert second.ctypes.data != address
    np.testing.assert_array_equal(kept, (x * 2)[5:])
    del kept
    assert doubled(x).ctypes.data == address


@native_only
def test_results_behave_like_any_array(doubled: Any) -> None:
    x = np.arange(2 * LARGE, dtype=np.float32)
    result = doubled(x)
    result.resize(10, refcheck=False)
    np.testing.assert_array_equal(result, x[:10] * 2)
    result.resize(LARGE, refcheck=False)
    np.testing.assert_array_equal(result[:10], x[:10] * 2)
    assert not result[10:].any()
    again = doubled(x)
    gone = weakref.ref(again)
    again.sort()
    np.testing.assert_array_equal(again.copy(), np.sort(x * 2))
    del again
    assert gone() is None
    assert handler_name(np.empty(9)) == "default_allocator"


@native_only
def test_results_whose_size_only_the_step_knows() -> None:
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None])
        step = sess.make_callable(tf.boolean_mask(x, x > 0.5) * 2.0, [x])
        value = np.linspace(0, 1, 4 * LARGE, dtype=np.float32)
        first = step(value)
        np.testing.assert_array_equal(first, value[value > 0.5] * 2)
        assert handler_name(first) == "stepforge"
        np.testing.assert_array_equal(step(value[:9]), value[:9][value[:9] > 0.5] * 2)


def test_memory_does_not_grow(doubled: Any) -> None:
    sizes = [LARGE + 4099 * k for k in range(40)]
    arrays = [np.ones(n, np.float32) for n in sizes]
    for array in arrays:
        doubled(array)
    gc.collect()
    before = _resident()
    for _ in range(5):
        for array in arrays:
            doubled(array)
    assert _resident() - before < 32 << 20


def test_what_waits_is_bounded_and_given_back() -> None:
    module = ModuleWriter(target.host().triple)
    most, size = 32 << 20, 6 << 20
    large_memory.write(module, most, large_memory.this_system())
    library = jit.load(jit.compile_text(module.text(), "O0"), {}, large_memory.FUNCTIONS)
    alloc, free = ALLOC(library["stepforge_alloc"]), FREE(library["stepforge_free"])
    before = _resident()
    blocks = [alloc(size) for _ in range(20)]
    for block in blocks:
        ctypes.memset(block, 1, size)
    assert _resident() - before > 100 << 20
    for block in blocks:
        free(block)
    assert _resident() - before < most + (4 << 20)
    assert alloc(size) in blocks
    too_large = alloc(most)
    ctypes.memset(too_large, 1, most)
    free(too_large)
    assert _resident() - before < most + (4 << 20)
    ctypes.CFUNCTYPE(None)(library["stepforge_trim"])()
    assert _resident() - before < 12 << 20


def test_blocks_of_all_sizes_are_apart_and_aligned() -> None:
    alloc, free = _functions()
    rng = np.random.default_rng(1)
    held: list[tuple[int, int, int]] = []
    for turn in range(3000):
        size = int(rng.choice([0, 1, 64, 5000, 1 << 20, (1 << 20) - 1, 3 << 20, 5 << 20]))
        block = alloc(size)
        assert block
        assert block % 64 == 0
        mark = turn % 251
        for part in (0, max(size - 1, 0)):
            if size:
                ctypes.memset(block + part, mark, 1)
        held.append((block, size, mark))
        if len(held) > 30:
            block, size, mark = held.pop(int(rng.integers(len(held))))
            for part in (0, size - 1):
                if size:
                    assert ctypes.string_at(block + part, 1)[0] == mark
            free(block)
    for block, _, _ in held:
        free(block)
    free(None)
    large_memory.trim()


def test_threads_never_share_a_block() -> None:
    alloc, free = _functions()
    wrong: list[int] = []

    def work(mark: int) -> None:
        rng = np.random.default_rng(mark)
        for _ in range(300):
            sizes = [int(n) for n in rng.integers(1 << 20, 3 << 20, 3)]
            blocks = [alloc(size) for size in sizes]
            for block, size in zip(blocks, sizes, strict=True):
                ctypes.memset(block, mark, 8)
                ctypes.memset(block + size - 8, mark, 8)
            for block, size in zip(blocks, sizes, strict=True):
                seen = ctypes.string_at(block, 8) + ctypes.string_at(block + size - 8, 8)
                if seen != bytes([mark]) * 16:
                    wrong.append(mark)
                free(block)

    threads = [threading.Thread(target=work, args=(mark,)) for mark in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    large_memory.trim()


def _in_child(step: Any, x: Any, queue: Any) -> None:
    queue.put([float(step(x)[-1]) for _ in range(5)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_uses_memory_of_its_own(doubled: Any) -> None:
    x = np.full(2 * LARGE, 3, np.float32)
    doubled(x)
    held = doubled(x)
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_in_child, args=(doubled, x + 1, queue))
    child.start()
    assert queue.get() == [8.0] * 5
    child.join()
    assert (held == 6).all()
    assert (doubled(x) == 6).all()


def test_closing_a_session_gives_memory_back() -> None:
    with tf.Graph().as_default():
        sess = tf.Session()
        x = tf.placeholder(tf.float32, [None])
        step = sess.make_callable(x + 1.0, [x])
        value = np.zeros(16 << 20, np.float32)
        step(value)
        before = _resident()
        sess.close()
        assert before - _resident() > 32 << 20
