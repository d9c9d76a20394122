"""Operands that are not one contiguous vector: broadcast, strided, transposed.

The peer is the best of several ways to write the loop in C, and NumPy: with sizes that the compiler
knows and with sizes that it does not, as a nest and as one loop, by elements and by tiles.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import contest
from cases import Array, Program, opened
from harness import Against, Row, Side, called, check_equal
from peers import gcc

BOUND = 1.15
KNOWN_ROWS = (3, 8, 32)
SHAPES = ((20000, 3), (8192, 8), (2048, 32), (600, 100), (256, 256), (64, 1000))
STRIDED = 65536


@dataclass(frozen=True)
class Layout:
    """A step of two arrays: how TensorFlow and NumPy write it, and the C functions with sizes.

    ``known`` are the sizes of the arrays that the program is told, None for what varies.  ``start``
    is the element where C finds the first array.
    """

    name: str
    feeds: tuple[Array, Array]
    known: tuple[tuple[int | None, ...], tuple[int | None, ...]]
    graph: Callable[[Any, Any, Any], Any]
    numpy: Callable[[Array, Array, Array], Any]
    in_c: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)


def array(*shape: int) -> Array:
    return np.random.RandomState(sum(shape)).standard_normal(shape).astype(np.float32)


def broadcast() -> Iterator[Layout]:
    for n, m in SHAPES:
        in_c = {"gcc": ("add_row", (n, m))}
        if m in KNOWN_ROWS:
            in_c[f"gcc, rows of {m}"] = (f"add_row_{m}", (n, m))
        yield Layout(
            f"x + row, ({n}, {m})",
            (array(n, m), array(m)),
            ((None, m), (m,)),
            lambda tf, x, y: x + y,
            lambda x, y, out: np.add(x, y, out=out),
            in_c,
        )
    yield Layout(
        "column * row, (500, 300)",
        (array(500, 1), array(1, 300)),
        ((None, 1), (1, None)),
        lambda tf, x, y: x * y,
        lambda x, y, out: np.multiply(x, y, out=out),
        {"gcc": ("outer", (500, 300))},
    )
    shape = (16, 16, 16, 16)
    yield Layout(
        "x + y, (16, 16, 16, 16)",
        (array(*shape), array(*shape)),
        ((None,) * 4, (None,) * 4),
        lambda tf, x, y: x + y,
        lambda x, y, out: np.add(x, y, out=out),
        {"gcc": ("add", (16**4,)), "gcc, four loops": ("add_nest", shape)},
    )


def strided() -> Iterator[Layout]:
    n = STRIDED
    for step, known in ((2, "add_strided_2"), (5, "add_strided_5"), (-1, "add_strided_reverse")):
        in_c = {f"gcc, stride {step}": (known, (n, step))}
        if step > 0:
            in_c["gcc"] = ("add_strided", (n, step))
        yield Layout(
            f"x[::{step}] + y, n = {n}",
            (array(n * abs(step)), array(n)),
            ((None,), (None,)),
            lambda tf, x, y, step=step: x[::step] + y,
            lambda x, y, out, step=step: np.add(x[::step], y, out=out),
            in_c,
        )


def transposed() -> Iterator[Layout]:
    for n in (256, 2048):
        yield Layout(
            f"transpose(x) + y, ({n}, {n})",
            (array(n, n), array(n, n)),
            ((None, None), (None, None)),
            lambda tf, x, y: tf.transpose(x) + y,
            lambda x, y, out: np.add(x.T, y, out=out),
            {"gcc": ("add_transposed", (n, n)), "gcc, tiles": ("add_transposed_tiles", (n, n))},
        )


def sides(layout: Layout, expected: Array) -> Iterator[Side]:
    """NumPy into an array that it has, and every C function; their results checked."""
    out = np.empty(expected.shape, np.float32)
    yield called("NumPy", layout.numpy, (*layout.feeds, out))
    for label, (function, sizes) in layout.in_c.items() if gcc.library() else ():
        out = np.empty(expected.shape, np.float32)
        step = gcc.call(function, layout.feeds, (out,), *sizes)
        check_equal(f"{layout.name}, {label}", step.last(1)[0], expected)
        yield called(label, step.function, step.arguments)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    if peers.interpreter:
        return
    for layout in (*broadcast(), *strided(), *transposed()):
        yield from compared(tf, layout)


def compared(tf: Any, layout: Layout) -> Iterator[Row]:
    feeds = dict(zip("xy", layout.feeds, strict=True))
    expected = layout.numpy(*layout.feeds, None)

    def build(tf: Any, _: Any) -> Program:
        shapes = zip("xy", layout.known, strict=True)
        x, y = (tf.placeholder(tf.float32, shape, name=name) for name, shape in shapes)
        return Program({"x": x, "y": y}, [layout.graph(tf, x, y)])

    with opened(tf, build, feeds) as step:
        check_equal(layout.name, step.last(1)[0], expected)
        ours = called("stepforge", step.function, step.arguments)
        yield Row(layout.name, ours, (Against(BOUND, tuple(sides(layout, expected))),))
