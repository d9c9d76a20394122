"""JAX: each step one compiled function over arrays that are on its device already."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from cases import Arrays, Step
from workloads import eight_schools

jax.config.update("jax_cpu_enable_async_dispatch", False)  # no other thread for a short step
jax.config.update("jax_enable_x64", True)


def on_device(arrays: Arrays, names: tuple[str, ...]) -> tuple[Any, ...]:
    return tuple(jax.block_until_ready(jnp.asarray(arrays[name])) for name in names)


def ready(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` compiled, waiting for its results."""
    compiled = jax.jit(function)
    return lambda *arguments: jax.block_until_ready(compiled(*arguments))


def pure(function: Callable[..., Any], *names: str) -> Callable[[Arrays], Step]:
    """A step without state that gives one array, or several."""

    def results(found: Any) -> tuple[Any, ...]:
        return found if isinstance(found, tuple) else (found,)

    return lambda arrays: Step(ready(function), on_device(arrays, names), results)


def layer_norm(x: Any, scale: Any, shift: Any) -> Any:
    mean = x.mean(axis=-1, keepdims=True)
    variance = jnp.square(x - mean).mean(axis=-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-5) * scale + shift


def pulled_back(function: Callable[..., Any]) -> Callable[..., Any]:
    """The gradients of ``function`` with respect to all it is given, for a gradient ``dy``."""

    def gradient(dy: Any, *arguments: Any) -> Any:
        return jax.vjp(function, *arguments)[1](dy)

    return gradient


def chain(a: Any, b: Any, x: Any, y: Any) -> Any:
    return jnp.tanh(a * x + b) * jnp.exp(-x * x) + jnp.sqrt(jnp.abs(y))


def density(q: Any) -> Any:
    eta, mu, tau = q[:8], 5.0 * q[8], jnp.exp(q[9])
    misfit = (eight_schools.EFFECT - (mu + tau * eta)) / eight_schools.ERROR
    total = jnp.sum(misfit**2) + jnp.sum(eta**2) + q[8] ** 2
    return -0.5 * total - jnp.log1p((tau / 5.0) ** 2) + q[9]


def forward(x: Any, w0: Any, b0: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    hidden = jax.nn.relu(jax.nn.relu(x @ w0 + b0) @ w1 + b1)
    return hidden @ w2 + b2


LAYERS = ("w0", "b0", "w1", "b1", "w2", "b2")


def train(arrays: Arrays) -> Step:
    """Gradient descent over parameters that a step gives away and gets back."""
    rate = float(arrays["rate"])
    x, labels = on_device(arrays, ("x", "labels"))

    def loss(parameters: Any, x: Any, labels: Any) -> Any:
        chances = jax.nn.log_softmax(forward(x, *parameters))
        return -jnp.take_along_axis(chances, labels[:, None], axis=1).mean()

    def update(parameters: Any, x: Any, labels: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(parameters, x, labels)
        return value, tuple(p - rate * g for p, g in zip(parameters, gradients, strict=True))

    compiled = jax.jit(update, donate_argnums=0)
    parameters = on_device(arrays, LAYERS)

    def step(x: Any, labels: Any) -> Any:
        nonlocal parameters
        value, parameters = jax.block_until_ready(compiled(parameters, x, labels))
        return value

    return Step(step, (x, labels), lambda value: (value,))


def attention(q: Any, k: Any, v: Any) -> Any:
    return jax.nn.softmax(q @ k.T * q.shape[1] ** -0.5) @ v


STEPS: dict[str, Callable[[Arrays], Step]] = {
    "kernels.chain": pure(chain, "a", "b", "x", "y"),
    "eight_schools.density": pure(jax.value_and_grad(density), "q"),
    "normalisation.softmax": pure(jax.nn.softmax, "x"),
    "normalisation.softmax_gradient": pure(pulled_back(jax.nn.softmax), "dy", "x"),
    "normalisation.logsumexp": pure(lambda x: jax.nn.logsumexp(x, axis=-1), "x"),
    "normalisation.logsumexp_gradient": pure(
        pulled_back(lambda x: jax.nn.logsumexp(x, axis=-1)), "dy", "x"
    ),
    "normalisation.layer_norm": pure(layer_norm, "x", "scale", "shift"),
    "normalisation.layer_norm_gradient": pure(pulled_back(layer_norm), "dy", "x", "scale", "shift"),
    "attention.forward": pure(attention, "q", "k", "v"),
    "attention.gradient": pure(pulled_back(attention), "dy", "q", "k", "v"),
    "perceptron.forward": pure(forward, "x", *LAYERS),
    "perceptron.train": train,
}


def step(kind: str, arrays: Arrays) -> Step:
    return STEPS[kind](arrays)
