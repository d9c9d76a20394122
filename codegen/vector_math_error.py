"""The error function and its complement."""

from __future__ import annotations

from stepforge.codegen.lane_core import Lane
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.vector_math_kernels import (
    clamp,
    corrected_quotient,
    exponent_reduction,
    exponential_of_sum,
    polynomial,
    power_of_two,
    residual,
    scale,
    shifted,
    two_product,
    two_sum,
)

_SMALL = 0.75  # up to here erf is a polynomial, from here 1 - exp(-(x + x P(x)))
_ERF_ONE = {"f32": 4.0, "f64": 6.0}
_ERFC_ZERO = {"f32": 10.5, "f64": 27.5}
_CENTRE = {"f32": 3.0, "f64": 3.5}  # of the variable of the polynomial "erfcx"


def erf(k: MemoryLanes, x: Lane) -> Lane:
    """The error function."""
    magnitude = k.abs(x)
    small = k.fma(polynomial(k, "erf_small", k.mul(x, x)), x, x)
    a = clamp(k, magnitude, None, _ERF_ONE[x.dtype])
    slope = polynomial(k, "erf_large", a)
    exponent = k.fma(slope, a, a)
    r, _, n = exponent_reduction(k, k.neg(exponent))
    square, g = k.mul(r, r), polynomial(k, "exp", r, chain=9)
    if x.dtype == "f32":
        w = k.fma(square, g, r)
    else:
        lost = k.fma(slope, a, k.sub(a, exponent))
        w = k.add(k.fma(square, g, k.neg(lost)), r)
    power = power_of_two(k, n)
    large = k.copysign(k.fma(k.neg(power), w, k.sub(1.0, power)), x)
    return k.select(k.lt(magnitude, _SMALL), small, large)


def erfc(k: MemoryLanes, x: Lane) -> Lane:
    """1 - erf(x), with all its digits down to the smallest numbers: exp(-x*x) times "erfcx"."""
    a = clamp(k, k.abs(x), None, _ERFC_ZERO[x.dtype])
    square, error = two_product(k, a, a)
    r, tail, n = exponent_reduction(k, k.neg(square))
    power = exponential_of_sum(k, *shifted(k, r, k.sub(tail, error)))
    scaled = k.mul(power, _erfcx(k, a))
    y = scale(k, scaled, n)
    return k.select(k.lt(x, 0.0), k.sub(2.0, y), y)


def _erfcx(k: MemoryLanes, a: Lane) -> Lane:
    """exp(a*a) erfc(a) for a >= 0."""
    centre = _CENTRE[a.dtype]
    denominator = k.add(a, centre)
    q = k.div(k.sub(a, centre), denominator)
    # the polynomial is steep in q: correct its last bits by what is left of the division
    left = residual(k, q, a, k.fma(k.add(q, 1.0), -centre, a))
    q = k.add(q, k.div(left, denominator))
    total, lost = two_sum(k, 1.0, k.add(a, a))
    inverse = corrected_quotient(k, k.constant(1.0, a), total, lost, lambda y: y)
    return k.fma(polynomial(k, "erfcx", q), inverse, inverse)
