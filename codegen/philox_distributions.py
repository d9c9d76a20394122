"""From the words of Philox blocks to random numbers, on lanes: TensorFlow's transforms.

Words come as four lanes of u64, one for each word of a block: element i of lane j holds word j of
block i in its lower half; what is in the upper half counts for nothing. A distribution makes of
them the numbers of all blocks in one wider lane, block after block, as they stand in memory.

The normal distribution computes its functions in f64 and rounds them to f32 where TensorFlow's C
library rounds: then the numbers of f32 are those of the reference to the last bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from stepforge.codegen.lane_core import Lane, bits_of
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.vector_math_kernels import (
    PRECISION,
    clamp,
    logarithm,
    polynomial,
    split_exponent,
    two_product,
    two_sum,
)
from stepforge.ir.philox import LOW_WORD, SMALLEST
from stepforge.ir.records import record

# Bits of a word (of two for f64) that a uniform number is made of.
UNIFORM_BITS = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}
# pi/2 in parts; the first two have so few bits that times 0 to 4 they are exact.
_HALF_PI = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)


# ---- the order of memory -------------------------------------------------------------------------
def interleaved(k: LaneBuilder, first: Lane, second: Lane) -> Lane:
    """``first[0], second[0], first[1], ...``: a lane of twice the width."""
    type_ = k.register_type(first.dtype)
    places = (i + part for i in range(k.width) for part in (0, k.width))
    picks = ", ".join(f"i32 {place}" for place in places)
    mask = f"<{2 * k.width} x i32> <{picks}>"
    text = f"shufflevector {type_} {first.text}, {type_} {second.text}, {mask}"
    return Lane(first.dtype, k.fn.emit(text))


def _split(k: LaneBuilder, x: Lane, dtype: str) -> Lane:
    """Twice as many elements of 64 bits as ``k`` has, as four times as many of 32 bits."""
    source = k.rewritten(width=2 * k.width).register_type(x.dtype)
    into = k.rewritten(width=4 * k.width).register_type(dtype)
    return Lane(dtype, k.fn.emit(f"bitcast {source} {x.text} to {into}"))


def _word_pair(k: LaneBuilder, low: Lane, high: Lane) -> Lane:
    """Two words as one u64."""
    return k.or_(k.and_(low, LOW_WORD), k.shl(high, 32))


def _in_order(k: LaneBuilder, words: Sequence[Lane]) -> Lane:
    """The words of all blocks, two in each u64."""
    return interleaved(k, _word_pair(k, *words[:2]), _word_pair(k, *words[2:]))


# ---- uniform -------------------------------------------------------------------------------------
def _unit(k: LaneBuilder, words: Lane, bits: int, dtype: str) -> Lane:
    """The lower ``bits`` of words of the size of ``dtype`` as a fraction in [0, 1), exactly."""
    p = PRECISION[dtype]
    fraction = k.shl(k.and_(words, (1 << bits) - 1), p.fraction - bits)
    return k.sub(k.bitcast(k.or_(fraction, p.bias << p.fraction), dtype), 1.0)


def uniform(k: LaneBuilder, words: Sequence[Lane], dtype: str) -> Lane:
    """Numbers of ``dtype`` (f16 bf16 f32 f64) in [0, 1)."""
    bits = UNIFORM_BITS[dtype]
    if dtype == "f64":
        return interleaved(k, *(_unit(k, pair, bits, "f64") for pair in _swapped_pairs(k, words)))
    numbers = _unit(
        k.rewritten(width=4 * k.width), _split(k, _in_order(k, words), "u32"), bits, "f32"
    )
    return Lane(dtype, numbers.text)  # f16 and bf16 hold them exactly


def _swapped_pairs(k: LaneBuilder, words: Sequence[Lane]) -> tuple[Lane, Lane]:
    """What a double is made of: two words, the first of which is the upper one."""
    return _word_pair(k, words[1], words[0]), _word_pair(k, words[3], words[2])


# ---- integers ------------------------------------------------------------------------------------
@record(frozen=True, slots=True)
class Range:
    """``span`` integers from ``low`` on; ``inverse`` is the largest word divided by the span.

    All are u64 of width 1; ``dtype`` is that of the numbers.
    """

    dtype: str
    low: Lane
    span: Lane
    inverse: Lane


def integer_range(one: LaneBuilder, low: Lane, high: Lane) -> Range:
    """The integers in [low, high), which is not empty where numbers are drawn."""
    bits = bits_of(low.dtype)
    unsigned = Lane(f"u{bits}", one.sub(high, low).text)
    span = one.max(one.convert(unsigned, "u64"), 1)  # nothing drawn: nothing may trap
    inverse = one.op("udiv", one.constant((1 << bits) - 1, span), span)
    return Range(low.dtype, one.convert(low, "u64"), span, inverse)


def uniform_int(k: LaneBuilder, words: Sequence[Lane], bounds: Range) -> Lane:
    """Integers: a word (two for 64 bits) modulo the span."""
    if bits_of(bounds.dtype) == 64:
        pairs = (_word_pair(k, *words[:2]), _word_pair(k, *words[2:]))
        numbers = interleaved(k, *(_within(k, pair, bounds) for pair in pairs))
        return Lane(bounds.dtype, numbers.text)
    numbers = _in_order(k, [_within(k, k.and_(word, LOW_WORD), bounds) for word in words])
    return _split(k, numbers, bounds.dtype)


def _within(k: LaneBuilder, x: Lane, bounds: Range) -> Lane:
    """``low + x % span`` without a division, which vectors do not have."""
    span, inverse = k.splat(bounds.span), k.splat(bounds.inverse)
    if bits_of(bounds.dtype) == 64:
        quotient = _high_product(k, x, inverse)
    else:
        quotient = k.shr(k.mul(x, inverse), 32)
    # The quotient is right or too small by one. In that case the remainder takes another span; if
    # not, taking it wraps to a number that is larger.
    left = k.sub(x, k.mul(quotient, span))
    return k.add(k.min(left, k.sub(left, span)), k.splat(bounds.low))


def _high_product(k: LaneBuilder, x: Lane, y: Lane) -> Lane:
    """The upper half of the 128 bits of x * y."""
    x_low, x_high = k.and_(x, LOW_WORD), k.shr(x, 32)
    y_low, y_high = k.and_(y, LOW_WORD), k.shr(y, 32)
    middle = k.add(k.mul(x_high, y_low), k.shr(k.mul(x_low, y_low), 32))
    carried = k.add(k.mul(x_low, y_high), k.and_(middle, LOW_WORD))
    return k.add(k.add(k.mul(x_high, y_high), k.shr(middle, 32)), k.shr(carried, 32))


# ---- normal --------------------------------------------------------------------------------------
def normal(k: LaneBuilder, words: Sequence[Lane], dtype: str) -> Lane:
    """Numbers of mean 0 and deviation 1: f64, or f32 for every other ``dtype``."""
    numbers = normal_columns(k, words, dtype)
    if dtype == "f64":
        return interleaved(k, *numbers)
    pairs = (interleaved(k, *numbers[:2]), interleaved(k, *numbers[2:]))
    type_, wide = k.rewritten(width=2 * k.width).register_type("f32"), k.register_type("u64")
    joined = [Lane("u64", k.fn.emit(f"bitcast {type_} {pair.text} to {wide}")) for pair in pairs]
    return _split(k, interleaved(k, *joined), "f32")


def normal_columns(k: LaneBuilder, words: Sequence[Lane], dtype: str) -> tuple[Lane, ...]:
    """The first number of each block, the second, ...: two of f64, or four of f32."""
    if dtype == "f64":
        pairs = _swapped_pairs(k, words)
        return _box_muller(k, *(_unit(k, pair, 52, "f64") for pair in pairs), dtype="f64")
    units = [_unit(k, word, 23, "f64") for word in words]
    first, second = (_box_muller(k, *units[i : i + 2], dtype="f32") for i in (0, 2))
    return (*first, *second)


def _box_muller(k: LaneBuilder, first: Lane, second: Lane, *, dtype: str) -> tuple[Lane, Lane]:
    """Two normal numbers of two uniform ones (f64); everything is rounded to ``dtype``."""
    f = _FUNCTIONS[dtype]
    logarithms = k.convert(f.log(k, clamp(k, first, f.smallest, None)), dtype)
    radius = k.sqrt(k.mul(logarithms, -2.0))
    angle = k.convert(k.mul(second, 2 * math.pi), dtype)
    sine, cosine = _sine_and_cosine(k, k.convert(angle, "f64"), f.small_angle)
    return k.mul(k.convert(sine, dtype), radius), k.mul(k.convert(cosine, dtype), radius)


def _sine_and_cosine(k: LaneBuilder, x: Lane, small_angle: _SmallAngle) -> tuple[Lane, Lane]:
    """Of f64 angles in [0, 2 pi]; ``small_angle`` has them up to pi/4."""
    p = PRECISION["f64"]
    rounded = k.add(k.mul(x, 2 / math.pi), p.magic)
    whole, quarter = k.sub(rounded, p.magic), k.bitcast(rounded, "u64")
    exact = k.sub(x, k.mul(whole, _HALF_PI[0]))
    r, lost = two_sum(k, exact, k.neg(k.mul(whole, _HALF_PI[1])))
    sine, cosine = small_angle(k, r, k.sub(lost, k.mul(whole, _HALF_PI[2])))
    odd = k.ne(k.and_(quarter, 1), 0)
    return (
        _negated_if(k, k.select(odd, cosine, sine), quarter),
        _negated_if(k, k.select(odd, sine, cosine), k.add(quarter, 1)),
    )


def _negated_if(k: LaneBuilder, x: Lane, quarter: Lane) -> Lane:
    """x with its sign changed in the third and the fourth quarter."""
    sign = k.shl(k.and_(quarter, 2), 62)
    return k.bitcast(k.xor(k.bitcast(x, "u64"), sign), "f64")


# The arguments are never tiny, huge or special, which the functions of ``vector_math`` provide for.
def _log(k: LaneBuilder, x: Lane) -> Lane:
    m, e = split_exponent(k, x)
    return logarithm(k, k.sub(m, 1.0), e)


def _precise_log(k: LaneBuilder, x: Lane) -> Lane:
    """As ``_log``; what the rounding of the large terms loses goes to the small ones."""
    high, low = PRECISION["f64"].ln2
    m, e = split_exponent(k, x)
    f = k.sub(m, 1.0)
    s = k.div(f, k.add(f, 2.0))
    z = k.mul(s, s)
    half_square, lost_square = two_product(k, k.mul(f, 0.5), f)
    linear, lost_linear = two_sum(k, k.mul(e, high), f)
    large, lost_large = two_sum(k, linear, k.neg(half_square))
    lost = k.sub(k.add(lost_linear, lost_large), lost_square)
    small = k.fma(s, k.fma(z, polynomial(k, "log", z), half_square), k.mul(e, low))
    return k.add(large, k.add(small, lost))


def _small_angle(k: LaneBuilder, r: Lane, tail: Lane) -> tuple[Lane, Lane]:
    """Sine and cosine of r; the tail would not show."""
    z = k.mul(r, r)
    cosine = k.fma(k.mul(z, z), polynomial(k, "cos", z), k.fma(z, -0.5, 1.0))
    return k.fma(k.mul(z, r), polynomial(k, "sin", z), r), cosine


def _precise_small_angle(k: LaneBuilder, r: Lane, tail: Lane) -> tuple[Lane, Lane]:
    """Sine and cosine of r + tail."""
    z = k.mul(r, r)
    above = k.fma(z, -0.5, 1.0)
    lost = k.fma(z, -0.5, k.sub(1.0, above))
    small = k.fma(k.mul(z, z), polynomial(k, "cos", z), lost)
    cosine = k.add(above, k.fma(k.neg(r), tail, small))
    sine = k.fma(k.mul(z, r), polynomial(k, "sin", z), k.mul(tail, cosine))
    return k.add(sine, r), cosine


_SmallAngle: TypeAlias = "Callable[[LaneBuilder, Lane, Lane], tuple[Lane, Lane]]"


@record(frozen=True, slots=True)
class _Functions:
    """What Box and Muller's transform takes: the smallest uniform number, and functions of f64."""

    smallest: float
    log: Callable[[LaneBuilder, Lane], Lane]
    small_angle: _SmallAngle


_FUNCTIONS = {
    "f32": _Functions(float(np.float32(SMALLEST)), _log, _small_angle),
    "f64": _Functions(SMALLEST, _precise_log, _precise_small_angle),
}
