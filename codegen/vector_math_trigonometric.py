"""Circular functions and their inverses.

The argument is reduced by multiples of pi/2 in three or four parts (Cody and Waite); beyond the
range where that is exact enough, which real programs hardly see, the elements go to the C library
one by one.
"""

from __future__ import annotations

import math

from stepforge.codegen.lane_arithmetic import INFINITY
from stepforge.codegen.lane_core import Lane, bits_of
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.vector_math_kernels import (
    PRECISION,
    polynomial,
    repaired,
    two_sum,
)
from stepforge.ir.records import record

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
@record(frozen=True, slots=True)
class _Angle:
    """An angle as r + tail + n pi/2 with |r| <= pi/4: r, what its rounding lost, n in last bits."""

    r: Lane
    tail: Lane
    quarters: Lane


def _reduction(k: MemoryLanes, x: Lane) -> _Angle:
    """x in parts, where it is positive and not too large."""
    return (_fused_reduction if k.capabilities.fma else _exact_reduction)(k, x)


def _quarters(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """The whole number nearest to x / (pi/2), negated, and its last bits as integers."""
    p = PRECISION[x.dtype]
    rounded = k.fma(x, 2 / math.pi, p.magic)
    return k.sub(p.magic, rounded), k.bitcast(rounded, p.integer)


def _fused_reduction(k: MemoryLanes, x: Lane) -> _Angle:
    first, second, third = _FUSED[x.dtype]
    whole, n = _quarters(k, x)
    # A multiple of the last bit of ``first``, below 1: no rounding. No bit of it is below those of
    # r, so that the difference is exact too.
    exact = k.fma(whole, first, x)
    r = k.add(exact, k.mul(whole, second))
    tail = k.fma(whole, second, k.sub(exact, r))
    return _Angle(r, k.fma(whole, third, tail), n)


def _exact_reduction(k: MemoryLanes, x: Lane) -> _Angle:
    wide = k.convert(x, "f64")
    whole, n = _quarters(k, wide)
    lost = k.constant(0.0, wide)
    for part in _EXACT:
        wide, low = two_sum(k, wide, k.mul(whole, part))
        lost = k.add(lost, low)
    r = k.convert(wide, x.dtype)
    tail = k.add(lost, k.sub(wide, k.convert(r, "f64")))
    return _Angle(r, k.convert(tail, x.dtype), k.convert(n, PRECISION[x.dtype].integer))


def _sine_and_cosine(k: MemoryLanes, angle: _Angle) -> tuple[Lane, Lane, Lane]:
    """The sine and the cosine of r + tail, and whether the quarters make each of them the other."""
    r, tail = angle.r, angle.tail
    z = k.mul(r, r)
    slope = k.fma(polynomial(k, "cos", z), z, -0.5)
    cosine = k.fma(k.fma(slope, r, k.neg(tail)), r, 1.0)
    sine = k.add(k.fma(k.mul(z, r), polynomial(k, "sin", z), tail), r)
    return sine, cosine, k.ne(k.and_(angle.quarters, 1), 0)


def _signed(k: MemoryLanes, y: Lane, bit: int, quarters: Lane, x: Lane | None = None) -> Lane:
    """y, negated where ``bit`` of ``quarters`` is set, and again where x is negative."""
    bits = bits_of(quarters.dtype)
    sign = k.shl(quarters, bits - 1 - bit)
    if x is not None:
        sign = k.xor(sign, k.bitcast(x, quarters.dtype))
    sign = k.and_(sign, -1 << (bits - 1))
    return k.bitcast(k.xor(k.bitcast(y, quarters.dtype), sign), y.dtype)


def _if_not_large(k: MemoryLanes, name: str, y: Lane, magnitude: Lane, x: Lane) -> Lane:
    too_large = k.gt(magnitude, _LARGEST[k.capabilities.fma, x.dtype])
    return repaired(k, name, too_large, y, x)


def sin(k: MemoryLanes, x: Lane) -> Lane:
    """The sine."""
    magnitude = k.abs(x)
    angle = _reduction(k, magnitude)
    sine, cosine, odd = _sine_and_cosine(k, angle)
    y = _signed(k, k.select(odd, cosine, sine), 1, angle.quarters, x)
    return _if_not_large(k, "sin", y, magnitude, x)


def cos(k: MemoryLanes, x: Lane) -> Lane:
    """The cosine."""
    magnitude = k.abs(x)
    angle = _reduction(k, magnitude)
    sine, cosine, odd = _sine_and_cosine(k, angle)
    y = _signed(k, k.select(odd, sine, cosine), 1, k.add(angle.quarters, 1))
    return _if_not_large(k, "cos", y, magnitude, x)


def tan(k: MemoryLanes, x: Lane) -> Lane:
    """The tangent."""
    magnitude = k.abs(x)
    angle = _reduction(k, magnitude)
    sine, cosine, odd = _sine_and_cosine(k, angle)
    quotient = k.div(k.select(odd, cosine, sine), k.select(odd, sine, cosine))
    y = _signed(k, quotient, 0, angle.quarters, x)
    return _if_not_large(k, "tan", y, magnitude, x)


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
