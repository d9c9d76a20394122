"""The 16-bit floats, f16 and bf16, by integer arithmetic.

They are storage: a lane of theirs is an f32 that they can hold exactly. LLVM's own conversions
call routines of compiler-rt, which nobody links here, so rounding, packing and unpacking are
written out. All of it rounds to nearest even and once: from f64 without a stop at f32.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from stepforge.codegen.lane_core import (
    HALF_FRACTION,
    HALF_MAXIMUM_EXPONENT,
    HALF_MINIMUM_EXPONENT,
    Lane,
)
from stepforge.ir.records import record

if TYPE_CHECKING:
    from stepforge.codegen.lane_arithmetic import ArithmeticLanes


@record(frozen=True, slots=True)
class _Wide:
    """A float format that is rounded from."""

    integer: str
    fraction: int


_WIDE = {"f32": _Wide("i32", 23), "f64": _Wide("i64", 52)}
_SIGN, _MAGNITUDE = 0x8000, 0x7FFFFFFF
_INFINITY = 0x7F800000  # the bits of an f32
_BIAS_STEP = (127 - 15) << 23  # between the exponents of f32 and f16
_HALF = 0x3F000000  # 0.5f: its last bit counts 2**-24, the smallest f16


def round_lane(k: ArithmeticLanes, x: Lane, dtype: str) -> Lane:
    """The nearest value of ``dtype`` (f16 or bf16) to an f32 or f64 lane, ties to even."""
    wide = _WIDE[x.dtype]
    rounded = _round_fraction(k, x, wide, wide.fraction - HALF_FRACTION[dtype])
    minimum = HALF_MINIMUM_EXPONENT[dtype]
    if (x.dtype, dtype) != ("f32", "bf16"):  # bf16 has all exponents of f32
        magnitude = k.abs(x)
        limit = 2.0 ** HALF_MAXIMUM_EXPONENT[dtype] * 2
        infinite = k.copysign(k.constant(float("inf"), x), x)
        rounded = k.select(k.ge(k.abs(rounded), limit), infinite, rounded)
        # Added to this power of two, the last bit of the sum counts the smallest subnormal number.
        anchor = 2.0 ** (minimum - HALF_FRACTION[dtype] + wide.fraction)
        small = k.copysign(k.sub(k.add(magnitude, anchor), anchor), x)
        rounded = k.select(k.lt(magnitude, 2.0**minimum), small, rounded)
    rounded = k.select(k.is_nan(x), x, rounded)
    narrow = k.cast("fptrunc", rounded, "f32") if x.dtype == "f64" else rounded
    return Lane(dtype, narrow.text)


def _round_fraction(k: ArithmeticLanes, x: Lane, wide: _Wide, dropped: int) -> Lane:
    """``x`` without its ``dropped`` last bits; a carry runs into the exponent, as it should."""
    bits = k.bitcast(x, wide.integer)
    odd = k.and_(k.shr(bits, dropped), 1)
    bits = k.add(bits, k.add(odd, (1 << (dropped - 1)) - 1))
    return k.bitcast(k.and_(bits, -(1 << dropped)), x.dtype)


def pack(k: ArithmeticLanes, x: Lane) -> Lane:
    """The 16 bits (``u16``) of an f16 or bf16 lane; a NaN stays one."""
    bits = k.bitcast(Lane("f32", x.text), "u32")
    high = k.shr(bits, 16)
    magnitude = k.and_(bits, _MAGNITUDE)
    is_nan = k.gt(magnitude, _INFINITY)
    if x.dtype == "bf16":
        return k.cast("trunc", k.select(is_nan, k.or_(high, 0x40), high), "u16")
    normal = k.shr(k.sub(magnitude, _BIAS_STEP), 13)
    small = k.add(k.abs(Lane("f32", x.text)), 0.5)
    subnormal = k.sub(k.bitcast(small, "u32"), _HALF)
    payload = k.and_(k.shr(magnitude, 13), 0x3FF)
    special = k.or_(payload, k.select(is_nan, k.constant(0x7E00, bits), 0x7C00))
    packed = k.select(k.lt(magnitude, 0x38800000), subnormal, normal)  # 2**-14, the smallest normal
    packed = k.select(k.ge(magnitude, _INFINITY), special, packed)
    return k.cast("trunc", k.or_(packed, k.and_(high, _SIGN)), "u16")


def unpack(k: ArithmeticLanes, x: Lane, dtype: str) -> Lane:
    """The f16 or bf16 lane of 16 bits (``u16``)."""
    bits = k.cast("zext", x, "u32")
    if dtype == "bf16":
        return Lane(dtype, k.bitcast(k.shl(bits, 16), "f32").text)
    sign = k.shl(k.and_(bits, _SIGN), 16)
    magnitude = k.and_(bits, 0x7FFF)
    normal = k.add(k.shl(magnitude, 13), _BIAS_STEP)
    special = k.add(normal, _BIAS_STEP)
    subnormal = k.mul(k.cast("sitofp", magnitude, "f32"), 2.0**-24)
    wide = k.select(k.ge(magnitude, 0x7C00), special, normal)
    wide = k.select(k.lt(magnitude, 0x400), k.bitcast(subnormal, "u32"), wide)
    return Lane(dtype, k.bitcast(k.or_(wide, sign), "f32").text)
