"""Hamiltonian Monte Carlo on eight schools: 100 000 calls of one small step from a Python loop.

Ten numbers go in, a log-density and its gradient (from ``tf.gradients``) come out, and the sampler
around them is ordinary Python and NumPy.  This is where the cost of a call decides: the arithmetic
is a few dozen operations.

The model is that of Rubin (1981) as in Gelman et al., Bayesian Data Analysis, section 5.5, in the
non-centered form: theta = mu + tau * eta, eta ~ N(0, 1), mu ~ N(0, 5), tau ~ half-Cauchy(0, 5),
y ~ N(theta, sigma).  The published means are the reference posterior of posteriordb
(https://github.com/stan-dev/posteriordb, eight_schools-eight_schools_noncentered, from long runs of
Stan); the standard deviations follow from the mean squared values that it gives for the same
posterior in centered form.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import stepforge as tf

EFFECT = np.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
ERROR = np.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0])
SCALE = 5.0  # of the priors of mu and tau

# what: (published mean, its Monte Carlo error, published standard deviation)
PUBLISHED = {
    "theta[1]": (6.151, 0.056, 5.62),
    "theta[2]": (4.940, 0.046, 4.65),
    "theta[3]": (3.906, 0.054, 5.28),
    "theta[4]": (4.796, 0.047, 4.77),
    "theta[5]": (3.614, 0.046, 4.61),
    "theta[6]": (4.051, 0.049, 4.80),
    "theta[7]": (6.317, 0.050, 5.00),
    "theta[8]": (4.884, 0.054, 5.32),
    "mu": (4.411, 0.033, 3.31),
    "tau": (3.602, 0.032, 3.20),
}
Density = Callable[[np.ndarray], Any]


def log_density(q: Any) -> Any:
    """The log posterior, up to a constant, of q = [eta (8), mu / 5, log tau]."""
    eta, mu, log_tau = q[:8], SCALE * q[8], q[9]
    tau = tf.exp(log_tau)
    misfit = (EFFECT - (mu + tau * eta)) / ERROR
    likelihood = tf.reduce_sum(tf.square(misfit)) + tf.reduce_sum(tf.square(eta))
    prior_tau = tf.log1p(tf.square(tau / SCALE))
    return -0.5 * (likelihood + tf.square(q[8])) - prior_tau + log_tau


def make_density(sess_graph: Any) -> tuple[Any, Any]:
    """The placeholder q and the fetches [log-density, gradient], made in ``sess_graph``."""
    with sess_graph.as_default():
        q = tf.placeholder(tf.float64, [10], name="q")
        value = log_density(q)
        return q, [value, tf.gradients(value, q)[0]]


def leapfrog(density: Density, start: Any, momentum: np.ndarray, size: float, steps: int) -> Any:
    """Follow the flow from ``start`` = (q, value, gradient); returns its end and the momentum."""
    q, value, gradient = start
    momentum = momentum + 0.5 * size * gradient
    for step in range(steps):
        q = q + size * momentum
        value, gradient = density(q)
        momentum += (size if step < steps - 1 else 0.5 * size) * gradient
    return (q, value, gradient), momentum


def sample(density: Density, calls: int, size: float, steps: int, seed: int) -> np.ndarray:
    """Draws of q, one per ``steps`` calls of ``density``; a tenth of the chain is warm-up."""
    random = np.random.RandomState(seed)
    q = random.normal(size=10)
    state = (q, *density(q))
    draws = []
    for _ in range(calls // steps):
        momentum = random.normal(size=10)
        jitter = size * random.uniform(0.7, 1.3)
        proposal, end = leapfrog(density, state, momentum, jitter, steps)
        gain = proposal[1] - state[1] + 0.5 * (momentum @ momentum - end @ end)
        if np.log(random.uniform()) < gain:
            state = proposal
        draws.append(state[0])
    return np.array(draws[len(draws) // 10 :])


def unpack(draws: np.ndarray) -> dict[str, np.ndarray]:
    """Draws of q as draws of theta, mu and tau."""
    mu, tau = SCALE * draws[:, 8], np.exp(draws[:, 9])
    theta = {f"theta[{i + 1}]": mu + tau * draws[:, i] for i in range(8)}
    return {**theta, "mu": mu, "tau": tau}


def standard_error(values: np.ndarray, batches: int = 30) -> float:
    """Of the mean of a correlated chain, from the means of its batches."""
    means = [batch.mean() for batch in np.array_split(values, batches)]
    return float(np.std(means, ddof=1) / np.sqrt(batches))


def compare(draws: np.ndarray) -> bool:
    """Print the posterior beside the published one; true where all of it fits.

    A mean may differ by four times the Monte Carlo errors of both, a standard deviation by a tenth.
    """
    print(f"{'':10}{'mean':>8}{'published':>11}{'sd':>8}{'published':>11}")
    fits = True
    for name, values in unpack(draws).items():
        mean, error, deviation = PUBLISHED[name]
        here = float(values.mean()), float(values.std())
        bound = 4 * np.hypot(error, standard_error(values))
        fit = abs(here[0] - mean) < bound and abs(here[1] / deviation - 1) < 0.1
        fits = fits and bool(fit)
        mark = "" if fit else "  differs"
        print(f"{name:10}{here[0]:8.3f}{mean:11.3f}{here[1]:8.3f}{deviation:11.3f}{mark}")
    return fits


def time_calls(density: Density, calls: int) -> float:
    """Nanoseconds per call: the best of ten loops, what the loop itself costs included."""
    q = np.linspace(-0.5, 0.5, 10)
    best = float("inf")
    for _ in range(10):
        began = time.perf_counter()
        for _ in range(calls // 10):
            density(q)
        best = min(best, time.perf_counter() - began)
    return best / (calls // 10) * 1e9


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=100_000, help="calls of the gradient")
    parser.add_argument("--size", type=float, default=0.35, help="step size of the integrator")
    parser.add_argument("--steps", type=int, default=6, help="integrator steps per proposal")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    graph = tf.Graph()
    q, fetches = make_density(graph)
    with tf.Session(graph=graph) as sess:
        density = sess.make_callable(fetches, [q])
        density(np.zeros(10))  # compiles
        began = time.perf_counter()
        draws = sample(density, options.calls, options.size, options.steps, options.seed)
        seconds = time.perf_counter() - began
        call = time_calls(density, options.calls)
    print(f"{options.calls} calls: {seconds:.2f} s with the sampler around them in NumPy")
    print(f"{call:.0f} ns per call of log-density and gradient alone")
    if not compare(draws):
        print("the posterior differs from the published one", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
