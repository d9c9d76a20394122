"""Arithmetic, comparisons and bits on lanes: what one instruction or a few of them do.

IEEE as NumPy does it: no flag that lets LLVM assume anything, NaN goes through minimum and
maximum, integers wrap, shift counts are masked to the width. f16 and bf16 are computed in f32 and
rounded after each primitive that can leave their range of values.
"""

from __future__ import annotations

from collections.abc import Callable

from stepforge.codegen import half
from stepforge.codegen.lane_core import HALF_FRACTION, Lane, LaneCore, Operand, bits_of, kind_of

# primitive -> kind of dtype (float, signed, unsigned, bool) -> instruction or intrinsic
_INSTRUCTION = {
    "add": {"f": "fadd", "i": "add", "u": "add", "b": "or"},
    "sub": {"f": "fsub", "i": "sub", "u": "sub"},
    "mul": {"f": "fmul", "i": "mul", "u": "mul", "b": "and"},
    "div": {"f": "fdiv"},
    "and_": {"i": "and", "u": "and", "b": "and"},
    "or_": {"i": "or", "u": "or", "b": "or"},
    "xor": {"i": "xor", "u": "xor", "b": "xor"},
}
_INTRINSIC = {
    "min": {"i": "smin", "u": "umin"},
    "max": {"i": "smax", "u": "umax"},
    "copysign": {"f": "copysign"},
    "sqrt": {"f": "sqrt"},
    "floor": {"f": "floor"},
    "ceil": {"f": "ceil"},
    "trunc": {"f": "trunc"},
    "round_even": {"f": "nearbyint"},  # roundeven is a C23 call where there is no SSE 4.1
}
# primitive -> predicate on floats, signed and unsigned integers
_COMPARISON = {
    "eq": {"f": "oeq", "i": "eq", "u": "eq"},
    "ne": {"f": "une", "i": "ne", "u": "ne"},
    "lt": {"f": "olt", "i": "slt", "u": "ult"},
    "le": {"f": "ole", "i": "sle", "u": "ule"},
    "gt": {"f": "ogt", "i": "sgt", "u": "ugt"},
    "ge": {"f": "oge", "i": "sge", "u": "uge"},
}
INFINITY = float("inf")


class ArithmeticLanes(LaneCore):
    """The primitives that are an instruction, or few."""

    def as_wide(self, x: Lane) -> Lane:
        """An f16 or bf16 lane as the f32 that it is in registers; other lanes as they are."""
        return Lane("f32", x.text) if x.dtype in HALF_FRACTION else x

    def rounded(self, x: Lane, dtype: str) -> Lane:
        """``x``, computed for ``dtype``, rounded to it where that is f16 or bf16."""
        return half.round_lane(self, x, dtype) if dtype in HALF_FRACTION else x

    def unsupported(self, name: str, dtype: str) -> TypeError:
        """The error for a primitive that ``dtype`` does not have."""
        return TypeError(f"{name}: not a primitive of {dtype}")

    def _binary(self, name: str, x: Operand, y: Operand) -> Lane:
        a, b = self.operands(name, x, y)
        opcode = _INSTRUCTION[name].get(kind_of(a.dtype))
        if opcode is None:
            raise self.unsupported(name, a.dtype)
        return self.rounded(self.op(opcode, self.as_wide(a), self.as_wide(b)), a.dtype)

    def _exact(self, name: str, *lanes: Lane) -> Lane:
        """An intrinsic whose result is exact, or one of its operands: nothing to round."""
        intrinsic = _INTRINSIC[name].get(kind_of(lanes[0].dtype))
        if intrinsic is None:
            raise self.unsupported(name, lanes[0].dtype)
        return self.intrinsic(intrinsic, *lanes)

    def _whole(self, name: str, x: Lane) -> Lane:
        return self._exact(name, x) if kind_of(x.dtype) == "f" else x

    def _compare(self, name: str, x: Operand, y: Operand) -> Lane:
        a, b = self.operands(name, x, y)
        kind = kind_of(a.dtype)
        predicate = _COMPARISON[name]["u" if kind == "b" else kind]
        return self.op(f"{'fcmp' if kind == 'f' else 'icmp'} {predicate}", a, b, dtype="bool")

    # ---- arithmetic -----------------------------------------------------------------------------
    def add(self, x: Operand, y: Operand) -> Lane:
        """x + y; "or" of bool, as in NumPy."""
        return self._binary("add", x, y)

    def sub(self, x: Operand, y: Operand) -> Lane:
        """x - y."""
        return self._binary("sub", x, y)

    def mul(self, x: Operand, y: Operand) -> Lane:
        """x * y; "and" of bool, as in NumPy."""
        return self._binary("mul", x, y)

    def div(self, x: Operand, y: Operand) -> Lane:
        """x / y of floats."""
        return self._binary("div", x, y)

    def fma(self, x: Operand, y: Operand, z: Operand) -> Lane:
        """x * y + z, rounded once where the target can, else twice."""
        a, b, c = self.operands("fma", x, y, z)
        if kind_of(a.dtype) != "f" or not self.capabilities.fma:
            return self.add(self.mul(a, b), c)
        wide = self.intrinsic("fma", self.as_wide(a), self.as_wide(b), self.as_wide(c))
        return self.rounded(wide, a.dtype)

    def neg(self, x: Lane) -> Lane:
        """-x; integers wrap."""
        if kind_of(x.dtype) == "f":
            return self.op("fneg", x)
        return self.sub(0, x)

    def abs(self, x: Lane) -> Lane:
        """The magnitude; that of the smallest integer wraps to itself."""
        kind = kind_of(x.dtype)
        if kind == "f":
            return self.intrinsic("fabs", x)
        if kind == "i":
            return self.max(x, self.neg(x))
        return x

    def min(self, x: Operand, y: Operand) -> Lane:
        """The smaller of two; NaN where one of them is."""
        a, b = self.operands("min", x, y)
        if kind_of(a.dtype) == "f":
            return self._outer(self.lt, a, b)
        return self.and_(a, b) if a.dtype == "bool" else self._exact("min", a, b)

    def max(self, x: Operand, y: Operand) -> Lane:
        """The larger of two; NaN where one of them is."""
        a, b = self.operands("max", x, y)
        if kind_of(a.dtype) == "f":
            return self._outer(self.gt, a, b)
        return self.or_(a, b) if a.dtype == "bool" else self._exact("max", a, b)

    def _outer(self, beyond: Callable[[Lane, Lane], Lane], a: Lane, b: Lane) -> Lane:
        """a where it is ``beyond`` b, else b; NaN where one of them is.

        The first choice is one instruction of x86, which gives b where one of them is NaN. The
        second vanishes where a is a constant. (``llvm.maximum`` also orders zeros by their signs,
        which takes four instructions more.)
        """
        if not b.text.startswith("%"):
            a, b = b, a
        return self.select(self.is_nan(a), a, self.select(beyond(a, b), a, b))

    def sqrt(self, x: Lane) -> Lane:
        """The square root, correctly rounded; NaN of negative numbers."""
        return self.rounded(self._exact("sqrt", self.as_wide(x)), x.dtype)

    def floor(self, x: Lane) -> Lane:
        """The largest whole number not above x."""
        return self._whole("floor", x)

    def ceil(self, x: Lane) -> Lane:
        """The smallest whole number not below x."""
        return self._whole("ceil", x)

    def trunc(self, x: Lane) -> Lane:
        """x without its fraction."""
        return self._whole("trunc", x)

    def round_even(self, x: Lane) -> Lane:
        """The nearest whole number, the even one of two."""
        return self._whole("round_even", x)

    def copysign(self, x: Operand, y: Operand) -> Lane:
        """The magnitude of x with the sign of y."""
        return self._exact("copysign", *self.operands("copysign", x, y))

    # ---- bits -----------------------------------------------------------------------------------
    def and_(self, x: Operand, y: Operand) -> Lane:
        """Bitwise (logical for bool) and."""
        return self._binary("and_", x, y)

    def or_(self, x: Operand, y: Operand) -> Lane:
        """Bitwise (logical for bool) or."""
        return self._binary("or_", x, y)

    def xor(self, x: Operand, y: Operand) -> Lane:
        """Bitwise (logical for bool) exclusive or."""
        return self._binary("xor", x, y)

    def not_(self, x: Lane) -> Lane:
        """All bits the other way."""
        return self.xor(x, 1 if x.dtype == "bool" else -1)

    def shl(self, x: Operand, count: Operand) -> Lane:
        """x shifted left by ``count`` modulo the width."""
        return self._shift("shl", "shl", x, count)

    def shr(self, x: Operand, count: Operand) -> Lane:
        """x shifted right by ``count`` modulo the width; signed integers keep their sign."""
        lane = x if isinstance(x, Lane) else count
        signed = isinstance(lane, Lane) and kind_of(lane.dtype) == "i"
        return self._shift("shr", "ashr" if signed else "lshr", x, count)

    def _shift(self, name: str, opcode: str, x: Operand, count: Operand) -> Lane:
        a, b = self.operands(name, x, count)
        if kind_of(a.dtype) not in "iu":
            raise self.unsupported(name, a.dtype)
        last = bits_of(a.dtype) - 1
        if isinstance(count, Lane):
            return self.op(opcode, a, self.and_(b, last))
        return self.op(opcode, a, self.constant(int(count) & last, a))

    # ---- comparison and choice ------------------------------------------------------------------
    def eq(self, x: Operand, y: Operand) -> Lane:
        """x == y."""
        return self._compare("eq", x, y)

    def ne(self, x: Operand, y: Operand) -> Lane:
        """x != y; true of NaN."""
        return self._compare("ne", x, y)

    def lt(self, x: Operand, y: Operand) -> Lane:
        """x < y; false of NaN, as all ordered comparisons."""
        return self._compare("lt", x, y)

    def le(self, x: Operand, y: Operand) -> Lane:
        """x <= y."""
        return self._compare("le", x, y)

    def gt(self, x: Operand, y: Operand) -> Lane:
        """x > y."""
        return self._compare("gt", x, y)

    def ge(self, x: Operand, y: Operand) -> Lane:
        """x >= y."""
        return self._compare("ge", x, y)

    def select(self, condition: Lane, x: Operand, y: Operand) -> Lane:
        """x where ``condition`` (bool) holds, else y."""
        a, b = self.operands("select", x, y)
        if condition.dtype != "bool":
            raise TypeError(f"select: the condition is {condition.dtype}, not bool")
        type_ = self.register_type(a.dtype)
        return Lane(a.dtype, self.fn.emit(f"select {self.vector('i1')} {condition.text}, "
                                          f"{type_} {a.text}, {type_} {b.text}"))

    def is_nan(self, x: Lane) -> Lane:
        """True of NaN; no integer is one."""
        if kind_of(x.dtype) != "f":
            return self.constant(False, "bool")
        return self.op("fcmp uno", x, x, dtype="bool")

    def is_inf(self, x: Lane) -> Lane:
        """True of both infinities."""
        if kind_of(x.dtype) != "f":
            return self.constant(False, "bool")
        return self.eq(self.abs(x), INFINITY)

    def is_finite(self, x: Lane) -> Lane:
        """True of what is neither infinite nor NaN."""
        if kind_of(x.dtype) != "f":
            return self.constant(True, "bool")
        return self.lt(self.abs(x), INFINITY)
