"""Exponentials, logarithms and the hyperbolic functions, which are both."""

from __future__ import annotations

import math

from stepforge.codegen.lane_arithmetic import INFINITY
from stepforge.codegen.lane_core import Lane
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.vector_math_kernels import (
    LOG2_E,
    NAN,
    PRECISION,
    clamp,
    corrected_quotient,
    exponent_reduction,
    exponential,
    exponential_minus_one,
    logarithm,
    logarithm_of_sum,
    nearest_exponent,
    one_less,
    polynomial,
    power_of_two,
    scale,
    split_positive,
    two_sum,
)

# Where expm1 is -1 and tanh is 1 to the last bit, and where 1 + x*x is x*x.
_ALL_LOST = {"f32": -20.0, "f64": -40.0}
_SATURATED = {"f32": 10.0, "f64": 22.0}
_HALF_LN2_REST = 1.15952340692315e-17  # ln(2)/2 less the f64 next to it
_ONE_VANISHES = {"f32": 2.0**14, "f64": 2.0**29}


def exp(k: MemoryLanes, x: Lane) -> Lane:
    """The exponential; 0 and infinity beyond the range."""
    r, _, n = exponent_reduction(k, clamp(k, x, *PRECISION[x.dtype].exp_range))
    return scale(k, exponential(k, r), n)


def expm1(k: MemoryLanes, x: Lane) -> Lane:
    """exp(x) - 1 without cancellation."""
    p = PRECISION[x.dtype]
    r, _, n = exponent_reduction(k, clamp(k, x, _ALL_LOST[x.dtype], p.exp_range[1]))
    q = exponential_minus_one(k, r)
    # 2**n itself overflows before the result does: the last factor of two comes after the sum.
    half = power_of_two(k, one_less(k, n))
    y = k.fma(q, half, k.sub(half, 0.5))
    return k.select(k.lt(k.abs(x), p.tiny), x, k.add(y, y))


def log(k: MemoryLanes, x: Lane) -> Lane:
    """The natural logarithm; NaN of negative numbers."""
    m, e = split_positive(k, x)
    y = logarithm(k, k.sub(m, 1.0), e)
    return y if k.capabilities.avx512 else _log_edges(k, x, y, 0.0)


def log1p(k: MemoryLanes, x: Lane) -> Lane:
    """log(1 + x) without cancellation."""
    u, correction = two_sum(k, 1.0, x)
    y = _log_edges(k, x, logarithm_of_sum(k, u, correction), -1.0)
    return k.select(k.eq(x, 0.0), x, y)


def _log_edges(k: MemoryLanes, x: Lane, y: Lane, zero: float) -> Lane:
    """``y``, but right for infinity, for NaN, and at and below the pole at ``zero``."""
    y = k.select(k.lt(x, INFINITY), y, x)
    y = k.select(k.eq(x, zero), -INFINITY, y)
    return k.select(k.lt(x, zero), NAN, y)


def sigmoid(k: MemoryLanes, x: Lane) -> Lane:
    """1 / (1 + exp(-x)), through exp(-|x|), which cannot overflow."""
    lowest, _ = PRECISION[x.dtype].exp_range
    r, _, n = exponent_reduction(k, clamp(k, k.neg(k.abs(x)), lowest, None))
    e = scale(k, exponential(k, r), n)
    positive = k.ge(x, 0.0)
    total = k.add(e, 1.0)
    lost = k.sub(e, k.sub(total, 1.0))
    return corrected_quotient(k, k.select(positive, 1.0, e), total, lost,
                              lambda y: k.select(positive, y, k.sub(1.0, y)))


def tanh(k: MemoryLanes, x: Lane) -> Lane:
    """The hyperbolic tangent, through exp(-2|x|) - 1.

    That is between -1 and 0, so that the denominator, 1 and half of it, loses no more by rounding
    than the quotient does. It is not made from the numerator, whose error would count twice.
    """
    below = clamp(k, k.neg(k.abs(x)), -_SATURATED[x.dtype], None)
    n = nearest_exponent(k, below, 2 * LOG2_E)
    r = k.fma(n.whole, -math.log(2) / 2, below)
    if x.dtype == "f64":  # what the constant lacks is half a last bit of the result
        r = k.fma(n.whole, -_HALF_LN2_REST, r)
    power = power_of_two(k, n)
    half = k.fma(k.mul(r, r), polynomial(k, "half_expm1", r), r)
    less = k.fma(power, 0.5, -0.5)
    y = k.div(k.fma(half, power, less), k.fma(half, power, k.add(less, 1.0)))
    return k.copysign(y, x)


def _half_exp(k: MemoryLanes, magnitude: Lane) -> Lane:
    """exp(x) / 2, which overflows where sinh and cosh do and not before."""
    largest = PRECISION[magnitude.dtype].exp_range[1] + 2
    r, _, n = exponent_reduction(k, clamp(k, magnitude, None, largest))
    return scale(k, exponential(k, r), one_less(k, n))


def sinh(k: MemoryLanes, x: Lane) -> Lane:
    """The hyperbolic sine."""
    magnitude = k.abs(x)
    half = _half_exp(k, magnitude)
    large = k.copysign(k.sub(half, k.div(0.25, half)), x)
    z = k.mul(x, x)
    small = k.fma(k.mul(z, x), polynomial(k, "sinh", z), x)
    return k.select(k.lt(magnitude, 1.0), small, large)


def cosh(k: MemoryLanes, x: Lane) -> Lane:
    """The hyperbolic cosine."""
    half = _half_exp(k, k.abs(x))
    return k.add(half, k.div(0.25, half))


def asinh(k: MemoryLanes, x: Lane) -> Lane:
    """The inverse hyperbolic sine: log1p(x + x*x / (1 + sqrt(1 + x*x)))."""
    magnitude = k.abs(x)
    large = k.gt(magnitude, _ONE_VANISHES[x.dtype])
    square = k.mul(magnitude, magnitude)
    root = k.sqrt(k.add(square, 1.0))
    inner = k.add(magnitude, k.div(square, k.add(root, 1.0)))
    return k.copysign(_log_or_log1p(k, magnitude, large, inner), x)


def acosh(k: MemoryLanes, x: Lane) -> Lane:
    """The inverse hyperbolic cosine: log1p(t + sqrt(t * (t + 2))), t = x - 1; NaN below 1."""
    t = k.sub(x, 1.0)
    inner = k.add(t, k.sqrt(k.mul(t, k.add(t, 2.0))))
    y = _log_or_log1p(k, x, k.gt(x, _ONE_VANISHES[x.dtype]), inner)
    return k.select(k.lt(x, 1.0), NAN, y)


def _log_or_log1p(k: MemoryLanes, x: Lane, large: Lane, inner: Lane) -> Lane:
    """log(2 x) where x is large, else log1p(inner); infinity and NaN of x stay."""
    total, correction = two_sum(k, 1.0, inner)
    u = k.select(large, x, total)
    y = logarithm_of_sum(k, u, k.select(large, 0.0, correction), large)
    return k.select(k.lt(x, INFINITY), y, x)


def atanh(k: MemoryLanes, x: Lane) -> Lane:
    """The inverse hyperbolic tangent: log1p(2x / (1 - x)) / 2; NaN beyond 1."""
    magnitude = k.abs(x)
    inner = k.div(k.add(magnitude, magnitude), k.sub(1.0, magnitude))
    u, correction = two_sum(k, 1.0, inner)
    y = k.mul(_log_edges(k, inner, logarithm_of_sum(k, u, correction), -1.0), 0.5)
    return k.copysign(y, x)
