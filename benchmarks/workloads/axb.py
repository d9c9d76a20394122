"""a*x+b: nothing to compute, so the cost of a call is all there is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from contest import Peers
from harness import Against, Row, check_equal, side


def build(tf: Any, shape: list[int | None]) -> tuple[Any, list[Any]]:
    """y = a*x+b over three float64 placeholders; returns y and [a, x, b]."""
    with tf.Graph().as_default():
        feeds = [tf.placeholder(tf.float64, shape, name=name) for name in "axb"]
        a, x, b = feeds
        return a * x + b, feeds


def rows(tf: Any, peers: Peers) -> Iterator[Row]:
    if peers.interpreter:
        return
    yield from scalars(tf)
    yield from vectors(tf, [8], "static size")
    yield from vectors(tf, [None], "unknown size")


def scalars(tf: Any) -> Iterator[Row]:
    y, feeds = build(tf, [])
    values = {"va": np.array(2.0), "vx": np.array(3.0), "vb": np.array(4.0)}
    numpy = side("NumPy", "va * vx + vb", **values)
    with closing(tf.Session(graph=y.graph)) as sess:
        call = sess.make_callable(y, feeds)
        step = "a*x+b, 0-d float64, make_callable"
        check_equal(step, call(*values.values()), 10.0)
        ours = side("stepforge", "call(va, vx, vb)", call=call, **values)
        yield Row(step, ours, (Against(0.12, (numpy,)),))

        step = "a*x+b, 0-d float64, sess.run with a dict literal"
        feed_dict = dict(zip(feeds, values.values(), strict=True))
        check_equal(step, sess.run(y, feed_dict=feed_dict), 10.0)
        nodes = dict(zip("axb", feeds, strict=True))
        text = "sess.run(y, feed_dict={a: va, x: vx, b: vb})"
        ours = side("stepforge", text, sess=sess, y=y, **nodes, **values)
        yield Row(step, ours, (Against(0.5, (numpy,)),))


def vectors(tf: Any, shape: list[int | None], what: str) -> Iterator[Row]:
    y, feeds = build(tf, shape)
    values = {"va": np.arange(8.0), "vx": np.arange(8.0) + 1, "vb": np.arange(8.0) + 2}
    with closing(tf.Session(graph=y.graph)) as sess:
        call = sess.make_callable(y, feeds)
        step = f"a*x+b, float64 8-vectors, {what}"
        check_equal(step, call(*values.values()), values["va"] * values["vx"] + values["vb"])
        yield Row(
            step,
            side("stepforge", "call(va, vx, vb)", call=call, **values),
            (Against(0.20, (side("NumPy", "va * vx + vb", **values),)),),
        )
