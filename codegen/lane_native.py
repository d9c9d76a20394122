"""Instructions of AVX-512 that LLVM has no portable name for: scaling, exponents, inverses.

They exist for vectors of 128, 256 and 512 bits. Fewer elements ride in the smallest of these, more
go in halves, so that every width computes the same.
"""

from __future__ import annotations

from stepforge.codegen.lane_core import Lane, bits_of, register_element
from stepforge.codegen.lane_memory import MemoryLanes
from stepforge.ir.records import record

_NARROWEST, _WIDEST = 128, 512


@record(frozen=True, slots=True)
class _Instruction:
    """An intrinsic ``llvm.x86.avx512.*``: lanes, an immediate if any, then what masking takes."""

    name: str
    immediate: str = ""
    rounds: bool = True  # takes a rounding mode where it is 512 bits wide


_SCALE = _Instruction("mask.scalef")
_EXPONENT = _Instruction("mask.getexp")
_MANTISSA = _Instruction("mask.getmant", "12")  # from 1 to 2, NaN of negative numbers
_INVERSE = _Instruction("rcp14", rounds=False)


def scaled(k: MemoryLanes, x: Lane, n: Lane) -> Lane:
    """x * 2**n for whole floats n, rounded once: subnormal and infinite where it has to be."""
    return _run(k, _SCALE, x, n)


def exponent(k: MemoryLanes, x: Lane) -> Lane:
    """The exponent of |x| as a float: also of subnormal x, -infinity of 0, infinity of infinity."""
    return _run(k, _EXPONENT, x)


def mantissa(k: MemoryLanes, x: Lane) -> Lane:
    """x without its exponent, from 1 to 2; 1 of 0 and of infinity, NaN of negative numbers."""
    return _run(k, _MANTISSA, x)


def rough_inverse(k: MemoryLanes, x: Lane) -> Lane:
    """1 / x with a relative error below 2**-14."""
    return _run(k, _INVERSE, x)


def _run(k: MemoryLanes, instruction: _Instruction, *lanes: Lane) -> Lane:
    bits = k.width * bits_of(lanes[0].dtype)
    if bits > _WIDEST:
        half = k.rewritten(width=k.width // 2)
        parts = zip(*(k.halves(x) for x in lanes), strict=True)
        return _joined(k, *(_run(half, instruction, *part) for part in parts))
    if bits < _NARROWEST:
        wide = k.rewritten(width=_NARROWEST // bits_of(lanes[0].dtype))
        result = _run(wide, instruction, *(_padded(k, wide, x) for x in lanes))
        return _first(k, wide, result)
    return _emit(k, instruction, *lanes)


def _emit(k: MemoryLanes, instruction: _Instruction, *lanes: Lane) -> Lane:
    dtype, mask = lanes[0].dtype, f"i{max(k.width, 8)}"
    vector, bits = k.register_type(dtype), k.width * bits_of(dtype)
    arguments = [(vector, x.text) for x in lanes]
    if instruction.immediate:
        arguments.append(("i32", instruction.immediate))
    arguments += [(vector, "poison"), (mask, "-1")]
    if instruction.rounds and bits == _WIDEST:
        arguments.append(("i32", "4"))  # as the control register says
    letter = "s" if bits_of(dtype) == 32 else "d"
    name = f"llvm.x86.avx512.{instruction.name}.p{letter}.{bits}"
    callee = k.fn.module.declare(name, vector, ", ".join(type_ for type_, _ in arguments))
    return Lane(dtype, k.fn.call(vector, callee, *arguments))


def _padded(k: MemoryLanes, wide: MemoryLanes, x: Lane) -> Lane:
    """The elements of ``x`` and others that nobody looks at."""
    type_ = k.register_type(x.dtype)
    if k.width == 1:
        into = wide.register_type(x.dtype)
        return Lane(x.dtype, k.fn.emit(f"insertelement {into} poison, {type_} {x.text}, i64 0"))
    picks = ", ".join(f"i32 {i if i < k.width else 'poison'}" for i in range(wide.width))
    return Lane(x.dtype, k.fn.emit(f"shufflevector {type_} {x.text}, {type_} poison, "
                                   f"<{wide.width} x i32> <{picks}>"))


def _first(k: MemoryLanes, wide: MemoryLanes, x: Lane) -> Lane:
    """The first elements of ``x``, as many as ``k`` has."""
    if k.width == 1:
        return wide.element(x, 0)
    type_ = wide.register_type(x.dtype)
    picks = ", ".join(f"i32 {i}" for i in range(k.width))
    return Lane(x.dtype, k.fn.emit(f"shufflevector {type_} {x.text}, {type_} poison, "
                                   f"<{k.width} x i32> <{picks}>"))


def _joined(k: MemoryLanes, low: Lane, high: Lane) -> Lane:
    """The elements of both."""
    half = f"<{k.width // 2} x {register_element(low.dtype)}>"
    picks = ", ".join(f"i32 {i}" for i in range(k.width))
    return Lane(low.dtype, k.fn.emit(f"shufflevector {half} {low.text}, {half} {high.text}, "
                                     f"<{k.width} x i32> <{picks}>"))
