"""Loops by hand for numba, with its fast arithmetic; matrix products are calls of BLAS.

What a function fills is allocated before, as for C.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from cases import Array, Arrays, Step
from workloads import eight_schools

compiled: Callable[..., Any] = numba.njit(fastmath=True)


# ---- over rows ----------------------------------------------------------------------------------
@compiled
def largest(x: Array) -> float:
    top = x[0]
    for i in range(1, len(x)):
        top = max(top, x[i])
    return top


@compiled
def powers(x: Array, out: Array) -> float:
    """The exponentials of a row below its largest element, and their sum."""
    top, total = largest(x), np.float32(0)
    for i in range(len(x)):
        out[i] = math.exp(x[i] - top)
        total += out[i]
    return total


@compiled
def softmax(x: Array, out: Array) -> None:
    for r in range(len(x)):
        factor = np.float32(1) / powers(x[r], out[r])
        for i in range(x.shape[1]):
            out[r, i] *= factor


@compiled
def softmax_gradient(x: Array, dy: Array, dx: Array) -> None:
    for r in range(len(x)):
        factor, product = np.float32(1) / powers(x[r], dx[r]), np.float32(0)
        for i in range(x.shape[1]):
            product += dx[r, i] * dy[r, i]
        product *= factor
        for i in range(x.shape[1]):
            dx[r, i] *= factor * (dy[r, i] - product)


@compiled
def logsumexp(x: Array, out: Array) -> None:
    for r in range(len(x)):
        top, total = largest(x[r]), np.float32(0)
        for i in range(x.shape[1]):
            total += math.exp(x[r, i] - top)
        out[r] = top + math.log(total)


@compiled
def logsumexp_gradient(x: Array, dy: Array, dx: Array) -> None:
    for r in range(len(x)):
        factor = dy[r] / powers(x[r], dx[r])
        for i in range(x.shape[1]):
            dx[r, i] *= factor


@compiled
def moments(x: Array) -> tuple[float, float]:
    """The mean of a row, and one over its deviation."""
    total, squares, n = np.float32(0), np.float32(0), np.float32(len(x))
    for i in range(len(x)):
        total += x[i]
    mean = total / n
    for i in range(len(x)):
        squares += (x[i] - mean) * (x[i] - mean)
    return mean, np.float32(1) / np.sqrt(squares / n + np.float32(1e-5))


@compiled
def layer_norm(x: Array, scale: Array, shift: Array, out: Array) -> None:
    for r in range(len(x)):
        mean, inverse = moments(x[r])
        for i in range(x.shape[1]):
            out[r, i] = (x[r, i] - mean) * inverse * scale[i] + shift[i]


@compiled
def layer_norm_gradient(
    x: Array, scale: Array, dy: Array, dx: Array, dscale: Array, dshift: Array
) -> None:
    dscale[:] = 0
    dshift[:] = 0
    n = np.float32(x.shape[1])
    for r in range(len(x)):
        mean, inverse = moments(x[r])
        total, product = np.float32(0), np.float32(0)
        for i in range(x.shape[1]):
            normal, force = (x[r, i] - mean) * inverse, dy[r, i] * scale[i]
            total += force
            product += force * normal
            dscale[i] += dy[r, i] * normal
            dshift[i] += dy[r, i]
        total /= n
        product /= n
        for i in range(x.shape[1]):
            normal = (x[r, i] - mean) * inverse
            dx[r, i] = inverse * (dy[r, i] * scale[i] - total - normal * product)


# ---- models -------------------------------------------------------------------------------------
@compiled
def rectified(x: Array, bias: Array) -> None:
    for r in range(len(x)):
        for i in range(x.shape[1]):
            x[r, i] = max(x[r, i] + bias[i], np.float32(0))


@compiled
def perceptron(
    x: Array, w0: Array, b0: Array, w1: Array, b1: Array, w2: Array, b2: Array,
    first: Array, second: Array, out: Array,
) -> None:  # fmt: skip
    np.dot(x, w0, first)
    rectified(first, b0)
    np.dot(first, w1, second)
    rectified(second, b1)
    np.dot(second, w2, out)
    for r in range(len(x)):
        for i in range(out.shape[1]):
            out[r, i] += b2[i]


@compiled
def logistic(x: Array, y: Array, w: Array, b: Array, dw: Array, rate: float) -> float:
    """One step of gradient descent; returns the mean loss before it."""
    loss, db, rows = np.float32(0), np.float32(0), len(x)
    dw[:] = 0
    for r in range(rows):
        z = b[0]
        for i in range(len(w)):
            z += x[r, i] * w[i, 0]
        power = math.exp(-abs(z))
        loss += max(z, np.float32(0)) - z * y[r, 0] + math.log1p(power)
        probability = (np.float32(1) if z >= 0 else power) / (np.float32(1) + power)
        misfit = probability - y[r, 0]
        db += misfit
        for i in range(len(w)):
            dw[i] += misfit * x[r, i]
    factor = np.float32(rate) / np.float32(rows)
    b[0] -= factor * db
    for i in range(len(w)):
        w[i, 0] -= factor * dw[i]
    return loss / np.float32(rows)


# ---- steps --------------------------------------------------------------------------------------
def filling(function: Any, *names: str, outputs: Callable[[Arrays], tuple[Array, ...]]) -> Any:
    """A step that gives ``function`` the arrays of these names, and outputs to fill."""

    def make(arrays: Arrays) -> Step:
        filled = outputs(arrays)
        return Step(function, (*(arrays[n] for n in names), *filled), lambda _: filled)

    return make


def like(*names: str) -> Callable[[Arrays], tuple[Array, ...]]:
    return lambda arrays: tuple(np.empty_like(arrays[name]) for name in names)


def one_to_a_row(arrays: Arrays) -> tuple[Array, ...]:
    return (np.empty(len(arrays["x"]), np.float32),)


def perceptron_step(a: Arrays) -> Step:
    layers = [a[name] for name in ("w0", "b0", "w1", "b1", "w2", "b2")]
    hidden = [np.empty((len(a["x"]), len(b)), np.float32) for b in layers[1::2]]
    return Step(perceptron, (a["x"], *layers, *hidden), lambda _: (hidden[-1],))


def logistic_step(a: Arrays) -> Step:
    w, b = a["w"].copy(), a["b"].copy()
    arguments = (a["x"], a["y"], w, b, np.empty(len(w), np.float32), float(a["rate"]))
    return Step(logistic, arguments, lambda loss: (loss,))


def eight_schools_step(a: Arrays) -> Step:
    return Step(numba.njit(eight_schools.by_hand), (a["q"],))


STEPS: dict[str, Callable[[Arrays], Step]] = {
    "normalisation.softmax": filling(softmax, "x", outputs=like("x")),
    "normalisation.softmax_gradient": filling(softmax_gradient, "x", "dy", outputs=like("x")),
    "normalisation.logsumexp": filling(logsumexp, "x", outputs=one_to_a_row),
    "normalisation.logsumexp_gradient": filling(logsumexp_gradient, "x", "dy", outputs=like("x")),
    "normalisation.layer_norm": filling(layer_norm, "x", "scale", "shift", outputs=like("x")),
    "normalisation.layer_norm_gradient": filling(
        layer_norm_gradient, "x", "scale", "dy", outputs=like("x", "scale", "scale")
    ),
    "perceptron.forward": perceptron_step,
    "logistic.train": logistic_step,
    "eight_schools.density": eight_schools_step,
}


def step(kind: str, arrays: Arrays) -> Step:
    return STEPS[kind](arrays)
