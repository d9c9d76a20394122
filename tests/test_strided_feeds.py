"""Large strided arrays as feeds: the copy that is made for them, and steps that use it."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.codegen import jit, strided_copy, target
from stepforge.codegen.llvm import ModuleWriter

COPY = ctypes.CFUNCTYPE(
    ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, *[ctypes.c_void_p] * 2,
    ctypes.c_int64,
)  # fmt: skip


@pytest.fixture(scope="module")
def copy() -> Any:
    module = ModuleWriter(target.host().triple, target.host().attributes)
    name = strided_copy.emit(module, target.host())[1:]
    library = jit.load(jit.compile_text(module.text(), "O1"), {}, [name])

    def run(x: Any) -> Any:
        out = np.empty(x.shape, x.dtype)
        guarded = np.full(out.nbytes + 128, 0xA5, np.uint8)
        shape = (ctypes.c_int64 * x.ndim)(*x.shape)
        strides = (ctypes.c_int64 * x.ndim)(*x.strides)
        start = guarded.ctypes.data + 64
        sizes = ctypes.addressof(shape), ctypes.addressof(strides)
        end = COPY(library[name])(start, x.ctypes.data, x.ndim, *sizes, x.itemsize)
        assert end == start + out.nbytes
        assert (guarded[:64] == 0xA5).all()
        assert (guarded[-64:] == 0xA5).all()
        return guarded[64:-64].view(x.dtype).reshape(x.shape)

    run.keep = library  # type: ignore[attr-defined]
    return run


@pytest.mark.parametrize("dtype", ["u1", "i2", "f4", "f8", "c16"])
def test_the_copy_of_any_strides(copy: Any, dtype: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 99, (37, 41, 23)).astype(dtype)
    views = [x, x[::2], x[:, ::-1], x[..., ::3], x[3:, 5:, 7:], x[:0], x[..., 0], x[0, 0, ::-1]]
    views += [x.transpose(p) for p in [(0, 2, 1), (2, 1, 0), (1, 0, 2), (2, 0, 1), (1, 2, 0)]]
    views += [x[:, 0].T, x[0].T, x[0].T[::-1], x[1, ::2].T, x[::-1, 3, ::-2].T]
    views += [np.broadcast_to(x[:, :1], x.shape), np.broadcast_to(x[0, 0, 0], (3, 4))]
    for view in views:
        np.testing.assert_array_equal(copy(view), view)


def test_elements_that_are_not_aligned(copy: Any) -> None:
    memory = np.arange(8 * 30 * 40 + 8, dtype=np.uint8)
    x = np.ndarray((30, 40), np.float64, memory, 3)
    for view in (x, x.T, x[:, ::2], x[::-1].T):
        assert view.tobytes() == np.asarray(copy(view)).tobytes()


def test_steps_take_large_strided_feeds_again_and_again() -> None:
    base = np.random.default_rng(1).random((300, 400)).astype(np.float32)
    feeds = [base.T, base[:, ::2], base[::-1], base[10:, 10:], base.T[::-2]]
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, None])
        step = sess.make_callable(x * 3.0, [x])
        for _ in range(3):
            for feed in feeds:
                np.testing.assert_array_equal(step(feed), feed * 3)
                np.testing.assert_array_equal(sess.run(x * 3.0, {x: feed}), feed * 3)
