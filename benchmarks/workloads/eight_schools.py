"""Eight schools: log-density and gradient over ten parameters, against numba by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

import contest
from cases import Array, Arrays, Case, Program
from harness import Row

EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
BOUNDS: contest.Bounds = ((0.6, ("numba",)),)


def by_hand(q: Array) -> tuple[float, Array]:
    """Log-density and gradient of the non-centered model at q = [eta (8), mu / 5, log tau]."""
    mu, tau = 5.0 * q[8], math.exp(q[9])
    gradient = np.empty(10)
    total, pull, stretch = q[8] * q[8], 0.0, 0.0
    for i in range(8):
        misfit = (EFFECT[i] - (mu + tau * q[i])) / ERROR[i]
        total += misfit * misfit + q[i] * q[i]
        force = misfit / ERROR[i]
        gradient[i] = tau * force - q[i]
        pull += force
        stretch += force * q[i]
    ratio = tau / 5.0 * (tau / 5.0)
    gradient[8] = 5.0 * pull - q[8]
    gradient[9] = tau * stretch - 2.0 * ratio / (1.0 + ratio) + 1.0
    return -0.5 * total - math.log1p(ratio) + q[9], gradient


def density(tf: Any, arrays: Arrays) -> Program:
    """The log-density and its gradient."""
    q = tf.placeholder(tf.float64, [10], name="q")
    eta, mu, tau = q[:8], 5.0 * q[8], tf.exp(q[9])
    misfit = (EFFECT - (mu + tau * eta)) / ERROR
    total = tf.reduce_sum(tf.square(misfit)) + tf.reduce_sum(tf.square(eta)) + tf.square(q[8])
    value = -0.5 * total - tf.log1p(tf.square(tau / 5.0)) + q[9]
    return Program({"q": q}, [value, tf.gradients(value, q)[0]])


def cases() -> Iterator[Case]:
    q = np.linspace(-0.5, 0.5, 10)
    step, kind = "eight schools, log-density and gradient", "eight_schools.density"
    yield Case(step, kind, {"q": q}, by_hand(q), 1e-12)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    for case in cases():
        yield from contest.rows(tf, peers, case, BOUNDS)
