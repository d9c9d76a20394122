"""A feed of another dtype: what real programs do all the time, and must not fall off a cliff."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from contest import Peers
from harness import Against, Row, Side, check_equal, side, statement


def rows(tf: Any, peers: Peers) -> Iterator[Row]:
    if peers.interpreter:
        return
    with tf.Graph().as_default():
        feeds = [tf.placeholder(tf.float32, [None], name=name) for name in "axb"]
        a, x, b = feeds
        y = a * x + b
    vectors = [np.arange(8, dtype=np.float32) + place for place in range(3)]
    names = dict(zip(("va", "vx", "vb"), vectors, strict=True))
    wide = vectors[1].astype(np.float64)
    step = "a*x+b, float32 8-vectors, x fed as float64"
    with closing(tf.Session(graph=y.graph)) as sess:
        call = sess.make_callable(y, feeds)
        check_equal(step, call(vectors[0], wide, vectors[2]), vectors[0] * vectors[1] + vectors[2])
        exact = statement("call(va, vx, vb)", call=call, **names)
        convert = statement("wide.astype(float32)", wide=wide, float32=np.float32)
        yield Row(
            step,
            side("stepforge", "call(va, wide, vb)", call=call, wide=wide, **names),
            (Against(2.0, (Side("exact-dtype call + astype", (exact, convert)),)),),
        )
