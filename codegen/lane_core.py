"""What each chapter of ``lanes`` is written with: the value, its types, constants, instructions.

A kernel body is the same text for one element and for a vector of sixteen: only the type differs.
So all rules speak of a ``Lane`` (a value of an IR dtype) and the builder knows how wide it is.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TypeAlias, TypeVar

from stepforge.codegen.llvm import FunctionWriter, float_literal, mangle
from stepforge.codegen.target import COMMON, Capabilities
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC

# Where a value of 16 bits lives in registers, it is an f32 that such a value can hold exactly.
HALF_FRACTION = {"f16": 10, "bf16": 7}
HALF_MINIMUM_EXPONENT = {"f16": -14, "bf16": -126}
HALF_MAXIMUM_EXPONENT = {"f16": 15, "bf16": 127}


@record(frozen=True, slots=True)
class Lane:
    """An SSA value (or constant) of an IR dtype; the builder that made it knows its width."""

    dtype: str
    text: str


Operand: TypeAlias = "Lane | int | float"
_Builder = TypeVar("_Builder", bound="LaneCore")


def kind_of(dtype: str) -> str:
    """``b i u f`` for the dtypes that lanes have. Raises: TypeError for the others."""
    kind = "i" if dtype == "index" else NUMERIC[dtype][1] if dtype in NUMERIC else "?"
    if kind not in "biuf":
        raise TypeError(f"there are no lanes of {dtype}")
    return kind


@cache
def bits_of(dtype: str) -> int:
    """Bits of one element in a register: 1 for bool, 32 for the 16-bit floats."""
    kind = kind_of(dtype)
    if kind == "b":
        return 1
    bits = 64 if dtype == "index" else NUMERIC[dtype][2]
    return max(bits, 32) if kind == "f" else bits


@cache
def register_element(dtype: str) -> str:
    """The LLVM type of one element in a register."""
    bits = bits_of(dtype)
    return {32: "float", 64: "double"}[bits] if kind_of(dtype) == "f" else f"i{bits}"


@cache
def storage_element(dtype: str) -> str:
    """The LLVM type of one element in memory: bool is a byte, the 16-bit floats are bits."""
    if kind_of(dtype) == "b":
        return "i8"
    return "i16" if dtype in HALF_FRACTION else register_element(dtype)


def storage_bytes(dtype: str) -> int:
    """Bytes of one element in memory, which is its alignment as well."""
    return {"i8": 1, "i16": 2, "i32": 4, "float": 4}.get(storage_element(dtype), 8)


def round_to_half(value: float, dtype: str) -> float:
    """The f16 or bf16 nearest to ``value`` (ties to even), as a Python float."""
    if value == 0 or not math.isfinite(value):
        return value
    fraction, exponent = HALF_FRACTION[dtype], math.frexp(value)[1] - 1
    unit = max(exponent, HALF_MINIMUM_EXPONENT[dtype]) - fraction
    rounded = math.ldexp(round(math.ldexp(value, -unit)), unit)
    limit = math.ldexp(1.0, HALF_MAXIMUM_EXPONENT[dtype] + 1)
    return math.copysign(math.inf if abs(rounded) >= limit else rounded, value)


def literal(value: float, dtype: str) -> str:
    """One element of ``dtype`` as an LLVM constant: integers wrap, floats are rounded."""
    kind = kind_of(dtype)
    if kind == "b":
        return "true" if value else "false"
    if kind == "f":
        number = float(value)
        if dtype in HALF_FRACTION:
            number = round_to_half(number, dtype)
        return float_literal(number, register_element(dtype))
    if value != int(value):
        raise TypeError(f"{value} is no constant of {dtype}")
    bits = bits_of(dtype)
    wrapped = int(value) & ((1 << bits) - 1)
    return str(wrapped - (1 << bits) if wrapped >> (bits - 1) else wrapped)


class LaneCore:
    """Types, constants and instructions of a function that works on ``width`` elements at once."""

    def __init__(
        self, fn: FunctionWriter, width: int, capabilities: Capabilities = COMMON
    ) -> None:
        """``width``: a power of two up to 64; ``capabilities``: what the target adds to LLVM's own.

        Raises: ValueError for another width.
        """
        if width not in (1, 2, 4, 8, 16, 32, 64):
            raise ValueError(f"the width of a vector is a power of two up to 64, not {width}")
        self.fn = fn
        self.width = width
        self.capabilities = capabilities

    def rewritten(self: _Builder, fn: FunctionWriter | None = None,
                  width: int | None = None) -> _Builder:
        """The same builder for another function or width."""
        return type(self)(fn or self.fn, width or self.width, self.capabilities)

    # ---- types and constants --------------------------------------------------------------------
    def vector(self, element: str) -> str:
        """The LLVM type of ``width`` elements; one element is a plain scalar."""
        return element if self.width == 1 else f"<{self.width} x {element}>"

    def register_type(self, dtype: str) -> str:
        """The LLVM type that a lane of ``dtype`` has in registers."""
        return self.vector(register_element(dtype))

    def repeat(self, element: str, text: str) -> str:
        """The constant ``text`` of LLVM type ``element`` in every element."""
        return text if self.width == 1 else f"splat ({element} {text})"

    def constant(self, value: float, like: Lane | str) -> Lane:
        """A Python number in every element, of the dtype ``like`` (a lane or a name).

        Raises: TypeError for a fraction where ``like`` is an integer.
        """
        dtype = like.dtype if isinstance(like, Lane) else like
        return Lane(dtype, self.repeat(register_element(dtype), literal(value, dtype)))

    def operands(self, name: str, *values: Operand) -> tuple[Lane, ...]:
        """Lanes of one dtype; Python numbers become constants of it.

        Raises: TypeError where the dtypes differ, or no operand is a lane.
        """
        dtypes = list(dict.fromkeys(v.dtype for v in values if isinstance(v, Lane)))
        if len(dtypes) != 1:
            raise TypeError(f"{name}: operands are {' and '.join(dtypes) or 'all Python numbers'}")
        return tuple(v if isinstance(v, Lane) else self.constant(v, dtypes[0]) for v in values)

    # ---- instructions ---------------------------------------------------------------------------
    def op(self, opcode: str, *lanes: Lane, dtype: str = "") -> Lane:
        """``opcode`` (with its predicate) on lanes of one type; the result is ``dtype``."""
        texts = ", ".join(lane.text for lane in lanes)
        type_ = self.register_type(lanes[0].dtype)
        return Lane(dtype or lanes[0].dtype, self.fn.emit(f"{opcode} {type_} {texts}"))

    def cast(self, opcode: str, x: Lane, dtype: str) -> Lane:
        """The conversion instruction ``opcode`` to the register type of ``dtype``."""
        into = self.register_type(dtype)
        source = self.register_type(x.dtype)
        return Lane(dtype, self.fn.emit(f"{opcode} {source} {x.text} to {into}"))

    def bitcast(self, x: Lane, dtype: str) -> Lane:
        """The same bits as another dtype of the same size; free where the LLVM type is the same."""
        if self.register_type(dtype) == self.register_type(x.dtype):
            return Lane(dtype, x.text)
        return self.cast("bitcast", x, dtype)

    def intrinsic(self, name: str, *lanes: Lane) -> Lane:
        """The LLVM intrinsic ``name`` on lanes of one type, which is also the result's."""
        type_ = self.register_type(lanes[0].dtype)
        text = self.fn.intrinsic(name, type_, mangle(type_), *(lane.text for lane in lanes))
        return Lane(lanes[0].dtype, text)
