"""Powers: f32 in f64, f64 in pairs of f64, integers by squaring.

A power multiplies the relative error of the logarithm by up to 745, so the logarithm of an f64 is
kept to some 68 bits as the sum of two numbers; an f32 takes the same from plain f64.
"""

from __future__ import annotations

from stepforge.codegen.lane_arithmetic import INFINITY
from stepforge.codegen.lane_core import Lane, bits_of, kind_of
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.vector_math_kernels import (
    NAN,
    PRECISION,
    clamp,
    exponent_reduction,
    exponential_of_sum,
    nearest_exponent,
    polynomial,
    residual,
    scale,
    scale_within,
    shifted,
    split_positive,
    two_product,
)

_TWO_THIRDS = (2 / 3, 3.700743415417188e-17)
_LARGEST = 1400.0  # an exponent of e that over- or underflows, and that ``scale`` still takes


def pow_float(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """x to the power y, with the edge cases of IEEE 754 (and NumPy)."""
    magnitude = k.abs(x)
    result = _pow_f32(k, magnitude, y) if x.dtype == "f32" else _pow_f64(k, magnitude, y)
    return _edges(k, x, y, magnitude, result)


def _pow_f32(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """x**y of positive x: log2 and exp2 in f64."""
    m, e = split_positive(k, x)
    wide = k.convert(m, "f64")
    s = k.div(k.sub(wide, 1.0), k.add(wide, 1.0))
    if not k.capabilities.avx512:
        e = _with_poles(k, x, e)
    logarithm = k.fma(s, polynomial(k, "log2", k.mul(s, s)), k.convert(e, "f64"))
    exponent = clamp(k, k.mul(logarithm, k.convert(y, "f64")), -1000.0, 1000.0)
    n = nearest_exponent(k, exponent, 1.0)
    power = polynomial(k, "exp2", k.sub(exponent, n.whole))
    return k.convert(scale_within(k, power, n), "f32")


def _pow_f64(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """x**y of positive x: exp(y * log(x)), the logarithm and the product as pairs."""
    high, low = _log_pair(k, x)
    if not k.capabilities.fma:  # the product of pairs would overflow where all is decided anyway
        y = clamp(k, y, -1e25, 1e25)
    exponent, error = two_product(k, y, high)
    error = k.fma(y, low, error)
    exceeds = k.gt(k.abs(exponent), _LARGEST)
    exponent = clamp(k, exponent, -_LARGEST, _LARGEST)
    r, tail, n = exponent_reduction(k, exponent)
    error = k.select(exceeds, 0.0, error)
    return scale(k, exponential_of_sum(k, *shifted(k, r, k.add(tail, error))), n)


def _log_pair(k: MemoryLanes, x: Lane) -> tuple[Lane, Lane]:
    """log(x) of positive f64 as a number and its correction."""
    m, e = split_positive(k, x)
    high, low = _log_mantissa(k, m)
    ln2_high, ln2_low = PRECISION["f64"].ln2
    whole = k.mul(e, ln2_high)
    total = k.add(whole, high)
    back = k.sub(total, whole)
    rest = k.add(k.sub(whole, k.sub(total, back)), k.sub(high, back))
    rest = k.add(rest, k.fma(e, ln2_low, low))
    result = k.add(total, rest)
    return _with_poles(k, x, result), k.add(k.sub(total, result), rest)


def _log_mantissa(k: MemoryLanes, m: Lane) -> tuple[Lane, Lane]:
    """log(m) = 2s + 2/3 s**3 + s**5 P(s**2), s = (m - 1)/(m + 1), as ``_log_pair``."""
    f, g = k.sub(m, 1.0), k.add(m, 1.0)
    g_low = k.sub(m, k.sub(g, 1.0))
    s = k.div(f, g)
    s_low = k.div(residual(k, s, g_low, residual(k, s, g, f)), g)
    z, z_low = two_product(k, s, s)
    z_low = k.fma(k.add(s, s), s_low, z_low)
    cube, cube_low = two_product(k, s, z)
    cube_low = k.fma(s_low, z, k.fma(s, z_low, cube_low))
    third, third_low = two_product(k, cube, k.constant(_TWO_THIRDS[0], cube))
    third_low = k.fma(cube, _TWO_THIRDS[1], third_low)
    third_low = k.fma(cube_low, _TWO_THIRDS[0], third_low)
    third_low = k.fma(k.mul(cube, z), polynomial(k, "pow_log", z), third_low)
    double = k.add(s, s)
    high = k.add(double, third)
    low = k.add(k.sub(double, high), third)
    return high, k.add(low, k.add(k.add(s_low, s_low), third_low))


def _edges(k: MemoryLanes, x: Lane, y: Lane, magnitude: Lane, result: Lane) -> Lane:
    """x**y of ``result``, which is |x|**y but where that is 1 for all logarithms."""
    whole = k.eq(k.trunc(y), y)
    half = k.mul(y, 0.5)
    odd = k.and_(whole, k.ne(k.trunc(half), half))
    negative = k.lt(k.bitcast(x, PRECISION[x.dtype].integer), 0)
    result = k.select(k.and_(negative, odd), k.neg(result), result)
    undefined = k.and_(k.and_(k.lt(x, 0.0), k.not_(whole)), k.ne(magnitude, INFINITY))
    result = k.select(undefined, NAN, result)
    unit = k.and_(k.eq(magnitude, 1.0), k.is_inf(y))
    return k.select(k.or_(k.or_(k.eq(x, 1.0), k.eq(y, 0.0)), unit), 1.0, result)


def _with_poles(k: MemoryLanes, x: Lane, logarithm: Lane) -> Lane:
    """``logarithm`` of a positive number, but also of 0, infinity and NaN."""
    return k.select(k.eq(x, 0.0), -INFINITY, k.select(k.lt(x, INFINITY), logarithm, x))


def pow_integer(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """x to the power y, wrapping; for negative y the truncated fraction, with 0 for 1/0."""
    type_, one = k.register_type(x.dtype), k.constant(1, x)

    def square(_: str, result: str, base: str, exponent: str) -> tuple[str, str, str]:
        total, factor, left = (Lane(x.dtype, text) for text in (result, base, exponent))
        taken = k.ne(k.and_(left, 1), 0)
        total = k.select(taken, k.mul(total, factor), total)
        # logical: the sign of the exponent is dealt with below
        rest = k.op("lshr", left, k.constant(1, left))
        return total.text, k.mul(factor, factor).text, rest.text

    carried = [(type_, one.text), (type_, x.text), (type_, y.text)]
    result = Lane(x.dtype, k.fn.loop(0, bits_of(x.dtype), square, carried=carried)[0])
    if kind_of(x.dtype) == "u":
        return result
    # 1 and -1 are their own inverses, so that the power by the exponent's bits is right for them.
    unit = k.or_(k.eq(x, 1), k.eq(x, -1))
    return k.select(k.and_(k.lt(y, 0), k.not_(unit)), 0, result)
