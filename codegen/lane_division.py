"""Division that cannot fail: quotients and remainders by two rules of rounding.

Integers: x / 0 is 0 and so is its remainder, the smallest integer over -1 wraps to itself. The
divisor is replaced before the instruction that would trap. Floats: as NumPy's ``floor_divide``,
``remainder`` and ``fmod``, whose remainder is exact.
"""

from __future__ import annotations

from stepforge.codegen.lane_arithmetic import INFINITY
from stepforge.codegen.lane_core import Lane, bits_of, kind_of
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.codegen.vector_math_kernels import PRECISION, repaired


# ---- integers ------------------------------------------------------------------------------------
def _guarded(k: MemoryLanes, x: Lane, y: Lane) -> tuple[Lane, Lane]:
    """Where y is 0, and a divisor that does not trap."""
    zero = k.eq(y, 0)
    unsafe = zero
    if kind_of(x.dtype) == "i":
        smallest = -(1 << (bits_of(x.dtype) - 1))
        unsafe = k.or_(zero, k.and_(k.eq(x, smallest), k.eq(y, -1)))
    return zero, k.select(unsafe, 1, y)


def _opcode(x: Lane, name: str) -> str:
    return ("s" if kind_of(x.dtype) == "i" else "u") + name


def integer_trunc_div(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """The quotient towards zero."""
    zero, divisor = _guarded(k, x, y)
    return k.select(zero, 0, k.op(_opcode(x, "div"), x, divisor))


def integer_trunc_mod(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """What ``integer_trunc_div`` leaves, with the sign of x."""
    return k.op(_opcode(x, "rem"), x, _guarded(k, x, y)[1])


def integer_floor_div(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """The quotient towards minus infinity."""
    quotient = integer_trunc_div(k, x, y)
    if kind_of(x.dtype) == "u":
        return quotient
    return k.sub(quotient, k.convert(_crosses(k, integer_trunc_mod(k, x, y), y), x.dtype))


def integer_floor_mod(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """What ``integer_floor_div`` leaves, with the sign of y."""
    remainder = integer_trunc_mod(k, x, y)
    if kind_of(x.dtype) == "u":
        return remainder
    return k.add(remainder, k.select(_crosses(k, remainder, y), y, 0))


def _crosses(k: MemoryLanes, remainder: Lane, y: Lane) -> Lane:
    """Whether rounding down and towards zero differ."""
    return k.and_(k.ne(remainder, 0), k.lt(k.xor(remainder, y), 0))


# ---- floats --------------------------------------------------------------------------------------
def float_trunc_mod(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """The exact remainder of the quotient towards zero, with the sign of x."""
    magnitude, divisor = k.abs(x), k.abs(y)
    smaller = k.lt(magnitude, divisor)
    quotient = k.trunc(k.div(magnitude, divisor))
    # A quotient of so few bits is off by one at most, and what fma leaves of it is exact.
    left = k.fma(k.neg(quotient), divisor, magnitude)
    left = k.select(k.lt(left, 0.0), k.add(left, divisor), left)
    usual = k.copysign(k.select(smaller, magnitude, left), x)
    limit = 2.0 ** (PRECISION[x.dtype].fraction - 1) if k.capabilities.fma else 0.0
    rare = k.and_(k.ge(quotient, limit), k.not_(smaller))
    ordinary = k.and_(k.lt(magnitude, INFINITY), k.gt(divisor, 0.0))
    return repaired(k, "fmod", k.and_(rare, ordinary), usual, x, y)


def float_trunc_div(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """The quotient without its fraction."""
    return k.trunc(k.div(x, y))


def float_floor_div(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """NumPy's ``floor_divide``: the whole number that goes with ``float_floor_mod``."""
    remainder = float_trunc_mod(k, x, y)
    plain = k.div(x, y)
    quotient = k.div(k.sub(x, remainder), y)
    quotient = k.select(_float_crosses(k, remainder, y), k.sub(quotient, 1.0), quotient)
    below = k.floor(quotient)
    whole = k.select(k.gt(k.sub(quotient, below), 0.5), k.add(below, 1.0), below)
    whole = k.select(k.eq(quotient, 0.0), k.copysign(k.constant(0.0, x), plain), whole)
    return k.select(k.eq(y, 0.0), plain, whole)


def float_floor_mod(k: MemoryLanes, x: Lane, y: Lane) -> Lane:
    """NumPy's ``remainder``: with the sign of y."""
    remainder = float_trunc_mod(k, x, y)
    moved = k.select(_float_crosses(k, remainder, y), k.add(remainder, y), remainder)
    signed = k.select(k.eq(remainder, 0.0), k.copysign(k.constant(0.0, x), y), moved)
    return k.select(k.eq(y, 0.0), remainder, signed)


def _float_crosses(k: MemoryLanes, remainder: Lane, y: Lane) -> Lane:
    different = k.xor(k.lt(remainder, 0.0), k.lt(y, 0.0))
    return k.and_(k.ne(remainder, 0.0), different)
