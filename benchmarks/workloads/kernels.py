"""Kernels where arithmetic is all: a fused float32 map, and softmax over rows, against gcc."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np

import peers
from harness import Row, Side, check_equal, side

TOLERANCE = 2e-6  # a few units in the last place of float32, for either side
TIMED_ELEMENTS = 2_000_000  # in one measurement of C's own loop


@dataclass(frozen=True)
class Kernel:
    """A step: its graph, what it is fed, its result in float64, and the C function of the same."""

    step: str
    build: Callable[[Any], tuple[Any, list[Any]]]
    feeds: tuple[np.ndarray, ...]
    expected: np.ndarray
    c_name: str
    sizes: tuple[int, ...]


def fused(size: int) -> Kernel:
    def build(tf: Any) -> tuple[Any, list[Any]]:
        a, b = (tf.placeholder(tf.float32, [], name=name) for name in "ab")
        x, y = (tf.placeholder(tf.float32, [None], name=name) for name in "xy")
        return tf.tanh(a * x + b) * tf.exp(-x * x) + tf.sqrt(tf.abs(y)), [a, b, x, y]

    a, b = np.array(1.25, np.float32), np.array(-0.5, np.float32)
    x, y = np.random.RandomState(0).standard_normal((2, size)).astype(np.float32)
    wide = x.astype(np.float64)
    expected = np.tanh(a * wide + b) * np.exp(-wide * wide) + np.sqrt(np.abs(y))
    step = f"tanh(a*x+b)*exp(-x*x)+sqrt(abs(y)), f32, n = {size}"
    return Kernel(step, build, (a, b, x, y), expected, "fused", (size,))


def softmax(height: int, width: int) -> Kernel:
    def build(tf: Any) -> tuple[Any, list[Any]]:
        x = tf.placeholder(tf.float32, [None, width], name="x")
        return tf.nn.softmax(x), [x]

    x = 3 * np.random.RandomState(0).standard_normal((height, width)).astype(np.float32)
    powers = np.exp(x.astype(np.float64) - x.max(axis=1, keepdims=True))
    expected = powers / powers.sum(axis=1, keepdims=True)
    step = f"softmax ({height}, {width}), f32"
    return Kernel(step, build, (x,), expected, "softmax", (height, width))


def rows(tf: Any) -> Iterator[Row]:
    for kernel in (fused(1_000), fused(100_000), softmax(512, 1000)):
        in_c = c_sides(kernel)
        with tf.Graph().as_default():
            result, feeds = kernel.build(tf)
        with closing(tf.Session(graph=result.graph)) as sess:
            call = sess.make_callable(result, feeds)
            check_equal(kernel.step, call(*kernel.feeds), kernel.expected, TOLERANCE)
            ours = called("stepforge", call, kernel.feeds)
            missing = "gcc, cffi or Python's headers are missing"
            yield Row(kernel.step, ours, next(iter(in_c), None), 1.1, in_c[1:], missing)


def c_sides(kernel: Kernel) -> tuple[Side, ...]:
    """The C function through cffi and in its own loop; none where it cannot be compiled."""
    library = peers.c_library()
    if library is None:
        return ()
    out = np.empty(kernel.expected.shape, np.float32)
    memory = [float(a) if a.ndim == 0 else library.pointer(a) for a in (*kernel.feeds, out)]
    arguments = (*memory, *kernel.sizes)
    function = getattr(library.lib, kernel.c_name)
    loop = getattr(library.lib, kernel.c_name + "_loop")
    function(*arguments)
    check_equal(kernel.step, out, kernel.expected, TOLERANCE)
    count = 1 + TIMED_ELEMENTS // out.size
    return (
        called("gcc through cffi", function, arguments),
        Side("gcc in its own loop", (lambda: float(loop(*arguments, count)),)),
    )


def called(label: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Side:
    """A side that calls ``function`` with ``arguments``, each of them a local name of the loop."""
    names = {f"argument{place}": value for place, value in enumerate(arguments)}
    return side(label, f"function({', '.join(names)})", function=function, **names)
