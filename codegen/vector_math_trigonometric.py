"""Circular functions and their inverses.

The argument is reduced by multiples of pi/2 in three or four parts (Cody and Waite); beyond the
range where that is exact enough, which real programs hardly see, the elements go to the C library
one by one.
"""

from __future__ import annotations

import math

from stepforge.codegen.lane_arithmetic import INFINITY
from stepforge.codegen.lane_core import Lane
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.vector_math_kernels import (
    PRECISION,
    polynomial,
    repaired,
    two_product,
    two_sum,
)

# pi/2 in parts. With fused multiply-add the parts are full numbers; without, their products with a
# whole number below 2**20 have to be exact, so they have 33 bits.
_FUSED = {
    "f32": (1.5707963705062866, -4.371138828673793e-08, -1.7151245100059e-15),
    "f64": (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33),
}
_EXACT = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21, 8.4784276603689e-32)
_LARGEST = {(True, "f32"): 1e6, (True, "f64"): 1e12, (False, "f32"): 1e6, (False, "f64"): 1e6}
# pi/2 as two numbers
_HALF_PI = {dtype: parts[:2] for dtype, parts in _FUSED.items()}
_TAN_PI_8 = math.sqrt(2) - 1


# ---- sin cos tan ---------------------------------------------------------------------------------
def _reduction(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane, Lane]:
    """x as r + tail + n pi/2 with |r| <= pi/4: r, what its rounding lost, and n as integers."""
    return _fused_reduction(k, x) if k.has_fma else _exact_reduction(k, x)


def _quarters(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """The whole number nearest to x / (pi/2), negated, and its last bits as integers."""
    p = PRECISION[x.dtype]
    rounded = k.fma(x, 2 / math.pi, p.magic)
    return k.sub(p.magic, rounded), k.bitcast(rounded, p.integer)


def _fused_reduction(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane, Lane]:
    first, second, third = _FUSED[x.dtype]
    whole, n = _quarters(k, x)
    exact = k.fma(whole, first, x)  # a multiple of the last bit of ``first``, below 1: no rounding
    product, error = two_product(k, whole, k.constant(second, x))
    r, tail = two_sum(k, exact, product)
    return r, k.add(tail, k.fma(whole, third, error)), n


def _exact_reduction(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane, Lane]:
    wide = k.convert(x, "f64")
    whole, n = _quarters(k, wide)
    lost = k.constant(0.0, wide)
    for part in _EXACT:
        wide, low = two_sum(k, wide, k.mul(whole, part))
        lost = k.add(lost, low)
    r = k.convert(wide, x.dtype)
    tail = k.add(lost, k.sub(wide, k.convert(r, "f64")))
    return r, k.convert(tail, x.dtype), k.convert(n, PRECISION[x.dtype].integer)


def _sine_and_cosine(k: MemoryLanes, r: Lane, tail: Lane) -> tuple[Lane, Lane]:
    """sin(r + tail) and cos(r + tail) for |r| <= pi/4."""
    z = k.mul(r, r)
    half = k.mul(z, 0.5)
    above = k.sub(1.0, half)
    lost = k.sub(k.sub(1.0, above), half)
    small = k.fma(k.mul(z, z), polynomial(k, "cos", z), lost)
    cosine = k.add(above, k.fma(k.neg(r), tail, small))
    sine = k.fma(k.mul(z, r), polynomial(k, "sin", z), k.mul(tail, cosine))
    return k.add(sine, r), cosine


def _negated_if(k: MemoryLanes, x: Lane, n: Lane, bit: int) -> Lane:
    """x with its sign changed where ``bit`` of ``n`` is set."""
    p = PRECISION[x.dtype]
    top = p.fraction + (8 if x.dtype == "f32" else 11)
    sign = k.shl(k.and_(n, 1 << bit), top - bit)
    return k.bitcast(k.xor(k.bitcast(x, p.integer), sign), x.dtype)


def _circular(k: MemoryLanes, name: str, x: Lane, quarter: int) -> Lane:
    """sin(x + quarter * pi/2)."""
    r, tail, n = _reduction(k, x)
    sine, cosine = _sine_and_cosine(k, r, tail)
    n = k.add(n, quarter) if quarter else n
    y = _negated_if(k, k.select(k.ne(k.and_(n, 1), 0), cosine, sine), n, 1)
    return repaired(k, name, _too_large(k, x), y, x)


def _too_large(k: MemoryLanes, x: Lane) -> Lane:
    return k.gt(k.abs(x), _LARGEST[k.has_fma, x.dtype])


def sin(k: MemoryLanes, x: Lane) -> Lane:
    """The sine."""
    return k.select(k.eq(x, 0.0), x, _circular(k, "sin", x, 0))


def cos(k: MemoryLanes, x: Lane) -> Lane:
    """The cosine."""
    return _circular(k, "cos", x, 1)


def tan(k: MemoryLanes, x: Lane) -> Lane:
    """The tangent."""
    r, tail, n = _reduction(k, x)
    sine, cosine = _sine_and_cosine(k, r, tail)
    odd = k.ne(k.and_(n, 1), 0)
    quotient = k.div(k.select(odd, cosine, sine), k.select(odd, sine, cosine))
    y = repaired(k, "tan", _too_large(k, x), _negated_if(k, quotient, n, 0), x)
    return k.select(k.eq(x, 0.0), x, y)


# ---- inverses ------------------------------------------------------------------------------------
def atan(k: MemoryLanes, x: Lane) -> Lane:
    """The angle whose tangent is x, from x, (|x| - 1) / (|x| + 1) or -1 / |x|."""
    magnitude = k.abs(x)
    middle, large = k.gt(magnitude, _TAN_PI_8), k.gt(magnitude, 1 / _TAN_PI_8)
    numerator = k.select(middle, k.sub(magnitude, 1.0), magnitude)
    denominator = k.select(middle, k.add(magnitude, 1.0), 1.0)
    t = k.div(k.select(large, -1.0, numerator), k.select(large, magnitude, denominator))
    high, low = _HALF_PI[x.dtype]
    turns = k.select(large, 1.0, k.select(middle, k.constant(0.5, x), 0.0))
    return k.copysign(k.fma(turns, high, k.fma(turns, low, _small_atan(k, t))), x)


def _small_atan(k: MemoryLanes, t: Lane) -> Lane:
    z = k.mul(t, t)
    return k.fma(k.mul(z, t), polynomial(k, "atan", z), t)


def atan2(k: MemoryLanes, y: Lane, x: Lane) -> Lane:
    """The angle of the point (x, y), in (-pi, pi], signed zeros as quadrants."""
    p = PRECISION[x.dtype]
    a, b = k.abs(y), k.abs(x)
    large, small = k.max(a, b), k.min(a, b)
    # Neither sum nor quotient may leave the range of normal numbers before the result does.
    top = 2.0 ** (p.bias - 2)
    factor = k.select(k.gt(large, top), k.constant(0.25, x), 1.0)
    factor = k.select(k.lt(large, 1 / top), 2.0 ** (p.fraction + 3), factor)
    large, small = k.mul(large, factor), k.mul(small, factor)
    infinite = k.eq(small, INFINITY)
    middle = k.or_(k.gt(small, k.mul(large, _TAN_PI_8)), infinite)
    numerator = k.select(middle, k.sub(small, large), small)
    t = k.div(numerator, k.select(middle, k.add(small, large), large))
    # 0/0 is an angle of 0, infinity/infinity one of 45 degrees
    t = k.select(k.or_(k.eq(large, 0.0), infinite), 0.0, t)
    high, low = _HALF_PI[x.dtype]
    turns = k.select(middle, k.constant(0.5, x), 0.0)
    angle = _small_atan(k, t)
    steep, left = k.gt(a, b), k.lt(k.bitcast(x, p.integer), 0)
    # angle -> pi/2 - angle where steep -> pi - angle where left, all in one sum of whole turns
    angle = k.select(steep, k.neg(angle), angle)
    turns = k.select(steep, k.sub(1.0, turns), turns)
    angle = k.select(left, k.neg(angle), angle)
    turns = k.select(left, k.sub(2.0, turns), turns)
    return k.copysign(k.fma(turns, high, k.fma(turns, low, angle)), y)


def _asin_parts(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """Whether |x| > 1/2, and asin(|x|), there asin(sqrt((1 - |x|) / 2))."""
    magnitude = k.abs(x)
    large = k.gt(magnitude, 0.5)
    z = k.select(large, k.mul(k.sub(1.0, magnitude), 0.5), k.mul(x, x))
    s = k.select(large, k.sqrt(z), magnitude)
    return large, k.fma(k.mul(z, s), polynomial(k, "asin", z), s)


def asin(k: MemoryLanes, x: Lane) -> Lane:
    """The angle whose sine is x; NaN beyond 1."""
    large, angle = _asin_parts(k, x)
    high, low = _HALF_PI[x.dtype]
    complement = k.add(k.fma(angle, -2.0, high), low)
    return k.copysign(k.select(large, complement, angle), x)


def acos(k: MemoryLanes, x: Lane) -> Lane:
    """The angle whose cosine is x; NaN beyond 1."""
    large, angle = _asin_parts(k, x)
    high, low = _HALF_PI[x.dtype]
    negative = k.lt(x, 0.0)
    signed = k.select(negative, k.neg(angle), angle)
    small = k.add(k.sub(high, signed), low)
    double = k.add(angle, angle)
    obtuse = k.add(k.sub(2 * high, double), 2 * low)
    return k.select(large, k.select(negative, obtuse, double), small)
