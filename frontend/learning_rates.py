"""Learning rates that change with the global step: ``tf.train.exponential_decay`` and its like.

Each is a formula of the step as a floating number; names of the nodes are TensorFlow's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stepforge.frontend import api, dtypes
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope


def _need(step: Any, function: str) -> None:
    if step is None:
        raise ValueError(f"global_step is required for {function}.")


def _rate(value: Any) -> Any:
    return convert_to_tensor(value, name="initial_learning_rate")


def exponential_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """``learning_rate * decay_rate ** (global_step / decay_steps)``.

    ``staircase`` rounds the power down.

    Raises: ValueError without a global step.
    """
    _need(global_step, "exponential_decay")
    values = [learning_rate, global_step, decay_steps, decay_rate]
    with name_scope(name, "ExponentialDecay", values) as scope:
        rate = _rate(learning_rate)
        steps = api.cast(decay_steps, rate.dtype)
        base = api.cast(decay_rate, rate.dtype)
        power = api.cast(global_step, rate.dtype) / steps
        if staircase:
            power = api.floor(power)
        return api.multiply(rate, api.pow(base, power), name=scope)  # type: ignore[no-any-return]


def natural_exp_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """``learning_rate * exp(-decay_rate * global_step / decay_steps)``.

    Raises: ValueError without a global step.
    """
    base = api.exp(api.negative(decay_rate))
    return exponential_decay(learning_rate, global_step, decay_steps, base, staircase, name)


def inverse_time_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    decay_rate: Any,
    staircase: bool = False,
    name: str | None = None,
) -> Tensor:
    """``learning_rate / (1 + decay_rate * global_step / decay_steps)``.

    Raises: ValueError without a global step.
    """
    _need(global_step, "inverse_time_decay")
    values = [learning_rate, global_step, decay_rate]
    with name_scope(name, "InverseTimeDecay", values) as scope:
        rate = _rate(learning_rate)
        steps, factor = api.cast(decay_steps, rate.dtype), api.cast(decay_rate, rate.dtype)
        passed = api.cast(global_step, rate.dtype) / steps
        if staircase:
            passed = api.floor(passed)
        below = api.add(api.cast(api.constant(1), rate.dtype), api.multiply(factor, passed))
        return api.divide(rate, below, name=scope)  # type: ignore[no-any-return]


def polynomial_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    end_learning_rate: Any = 0.0001,
    power: Any = 1.0,
    cycle: bool = False,
    name: str | None = None,
) -> Tensor:
    """From ``learning_rate`` to ``end_learning_rate`` in ``decay_steps`` steps.

    The difference goes as a power of what is left; ``cycle`` starts over with twice, three times
    ... as many steps. Raises: ValueError without a step.
    """
    _need(global_step, "polynomial_decay")
    values = [learning_rate, global_step, decay_steps, end_learning_rate, power]
    with name_scope(name, "PolynomialDecay", values) as scope:
        rate = _rate(learning_rate)
        end, exponent = api.cast(end_learning_rate, rate.dtype), api.cast(power, rate.dtype)
        step, steps = api.cast(global_step, rate.dtype), api.cast(decay_steps, rate.dtype)
        if cycle:
            begun = api.ceil(step / steps)
            steps = api.multiply(steps, api.where(step > 0, begun, api.ones_like(begun)))
        else:
            step = api.minimum(step, steps)
        left = api.pow(1 - step / steps, exponent)
        return api.add(api.multiply(rate - end, left), end, name=scope)  # type: ignore[no-any-return]


def piecewise_constant(
    x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None
) -> Tensor:
    """``values[i]`` where ``x`` is above boundary ``i - 1`` and at most boundary ``i``.

    Raises: ValueError for dtypes that differ or a wrong number of values.
    """
    if len(boundaries) != len(values) - 1:
        raise ValueError("The length of boundaries should be 1 less than the length of values")
    step = convert_to_tensor(x)
    limits = [_boundary(b, step) for b in boundaries]
    levels = [convert_to_tensor(v) for v in values]
    for level in levels:
        if level.dtype.base_dtype != levels[0].dtype.base_dtype:
            raise ValueError(
                "Values must have elements all with the same dtype "
                f"({levels[0].dtype.base_dtype} vs {level.dtype.base_dtype})."
            )
    with name_scope(name, "PiecewiseConstant", [step, *limits, *levels]) as scope:
        found = levels[-1]
        for i, (limit, level) in reversed(list(enumerate(zip(limits, levels, strict=False)))):
            found = api.where(api.less_equal(step, limit), level, found, name=None if i else scope)
        return found if limits else api.identity(found, scope)


def _boundary(value: Any, step: Tensor) -> Any:
    limit = convert_to_tensor(value)
    have, wanted = limit.dtype.base_dtype, step.dtype.base_dtype
    if have == wanted:
        return limit
    if have == dtypes.int32 and wanted == dtypes.int64:
        return api.cast(limit, wanted)
    raise ValueError(f"Boundaries ({have}) must have the same dtype as x ({wanted}).")


def cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    alpha: float = 0.0,
    name: str | None = None,
) -> Tensor:
    """Half a cosine from ``learning_rate`` down to ``alpha`` times it. Raises: ValueError."""
    _need(global_step, "cosine decay")
    with name_scope(name, "CosineDecay", [learning_rate, global_step]):
        rate = _rate(learning_rate)
        steps = api.cast(decay_steps, rate.dtype)
        passed = api.minimum(api.cast(global_step, rate.dtype), steps) / steps
        return api.multiply(rate, (1 - alpha) * _cosine(passed) + alpha)  # type: ignore[no-any-return]


def _cosine(passed: Any) -> Any:
    """Half a cosine wave from 1 to 0."""
    return 0.5 * (1.0 + api.cos(api.constant(math.pi, passed.dtype) * passed))


def cosine_decay_restarts(
    learning_rate: Any,
    global_step: Any,
    first_decay_steps: Any,
    t_mul: Any = 2.0,
    m_mul: Any = 1.0,
    alpha: float = 0.0,
    name: str | None = None,
) -> Tensor:
    """``cosine_decay`` that starts over, each time ``t_mul`` times as long, ``m_mul`` as high.

    Raises: ValueError without a step.
    """
    _need(global_step, "cosine decay restarts")
    with name_scope(name, "SGDRDecay", [learning_rate, global_step]) as scope:
        rate = convert_to_tensor(learning_rate, name="initial_learning_rate")
        steps = api.cast(first_decay_steps, rate.dtype)
        passed = api.cast(global_step, rate.dtype) / steps
        restarts, passed = _in_period(passed, t_mul)
        height = api.cast(m_mul, rate.dtype) ** restarts
        decayed = (1 - alpha) * (height * _cosine(passed)) + alpha
        return api.multiply(rate, decayed, name=scope)  # type: ignore[no-any-return]


def _in_period(passed: Any, t_mul: Any) -> tuple[Any, Any]:
    """The number of restarts so far, and how much of the present period has passed."""
    if isinstance(t_mul, (int, float)) and t_mul == 1:
        restarts = api.floor(passed)
        return restarts, passed - restarts
    factor = api.cast(t_mul, passed.dtype)
    restarts = api.floor(api.log(1.0 - passed * (1.0 - factor)) / api.log(factor))
    before = (1.0 - factor**restarts) / (1.0 - factor)
    return restarts, (passed - before) / factor**restarts


def linear_cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    num_periods: float = 0.5,
    alpha: float = 0.0,
    beta: float = 0.001,
    name: str | None = None,
) -> Tensor:
    """A line down to 0 (plus ``alpha``) times a cosine, plus ``beta``. Raises: ValueError."""
    _need(global_step, "linear cosine decay")
    with name_scope(name, "LinearCosineDecay", [learning_rate, global_step]) as scope:
        rate = _rate(learning_rate)
        steps = api.cast(decay_steps, rate.dtype)
        step = api.minimum(api.cast(global_step, rate.dtype), steps)
        line, wave = (steps - step) / steps, _cosine(step / steps * (2.0 * num_periods))
        return api.multiply(rate, (alpha + line) * wave + beta, name=scope)  # type: ignore[no-any-return]


def noisy_linear_cosine_decay(
    learning_rate: Any,
    global_step: Any,
    decay_steps: Any,
    initial_variance: float = 1.0,
    variance_decay: float = 0.55,
    num_periods: float = 0.5,
    alpha: float = 0.0,
    beta: float = 0.001,
    name: str | None = None,
) -> Tensor:
    """``linear_cosine_decay`` with noise on the line, whose variance decays. Raises: ValueError."""
    _need(global_step, "noisy linear cosine decay")
    with name_scope(name, "NoisyLinearCosineDecay", [learning_rate, global_step]) as scope:
        rate = _rate(learning_rate)
        steps = api.cast(decay_steps, rate.dtype)
        step = api.minimum(api.cast(global_step, rate.dtype), steps)
        deviation = api.sqrt(initial_variance / api.pow(1.0 + step, variance_decay))
        noise = api.random_normal(step.shape, stddev=deviation, dtype=rate.dtype)
        line, wave = (steps - step) / steps + noise, _cosine(step / steps * (2.0 * num_periods))
        return api.multiply(rate, (alpha + line) * wave + beta, name=scope)  # type: ignore[no-any-return]
