"""Eight schools: log-density and gradient over ten parameters, against numba by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

import peers
from harness import Row, check_equal, side


def build(tf: Any) -> tuple[Any, list[Any]]:
    """The placeholder q = [eta (8), mu / 5, log tau] and [log-density, gradient]."""
    with tf.Graph().as_default():
        q = tf.placeholder(tf.float64, [10], name="q")
        eta, mu, tau = q[:8], 5.0 * q[8], tf.exp(q[9])
        misfit = (peers.EFFECT - (mu + tau * eta)) / peers.ERROR
        total = tf.reduce_sum(tf.square(misfit)) + tf.reduce_sum(tf.square(eta)) + tf.square(q[8])
        value = -0.5 * total - tf.log1p(tf.square(tau / 5.0)) + q[9]
        return q, [value, tf.gradients(value, q)[0]]


def rows(tf: Any) -> Iterator[Row]:
    q, fetches = build(tf)
    point = np.linspace(-0.5, 0.5, 10)
    step = "eight schools, log-density and gradient"
    with closing(tf.Session(graph=q.graph)) as sess:
        call = sess.make_callable(fetches, [q])
        expected = peers.eight_schools(point)
        for ours, theirs in zip(call(point), expected, strict=True):
            check_equal(step, ours, theirs, 1e-12)
        by_hand = peers.with_numba(peers.eight_schools)
        if by_hand is not None:
            check_equal(step, by_hand(point)[1], expected[1], 1e-12)
        yield Row(
            step,
            side("stepforge", "call(point)", call=call, point=point),
            by_hand and side("numba", "by_hand(point)", by_hand=by_hand, point=point),
            0.6,
            missing="numba is not installed",
        )
