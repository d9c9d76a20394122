"""Conversions between all real dtypes, each rounded once and defined for every value.

Floats become integers by truncation; NaN gives 0 and what does not fit the nearest integer that
does. Integers wrap into narrower ones. Anything but zero is true.
"""

from __future__ import annotations

from stepforge.codegen.lane_arithmetic import ArithmeticLanes
from stepforge.codegen.lane_core import HALF_FRACTION, Lane, bits_of, kind_of
from stepforge.codegen.llvm import mangle


class ConvertLanes(ArithmeticLanes):
    """``convert`` and its cases by kind of dtype."""

    def convert(self, x: Lane, dtype: str) -> Lane:
        """x as ``dtype``: see the module's text.

        Raises: TypeError for complex and object dtypes.
        """
        if x.dtype == dtype:
            return x
        source, target = kind_of(x.dtype), kind_of(dtype)
        if target == "b":
            return self.ne(x, 0)
        if source == "f":
            return self._float_to_float(x, dtype) if target == "f" else self._saturate(x, dtype)
        if target == "f":
            return self._integer_to_float(x, dtype)
        if bits_of(dtype) == bits_of(x.dtype):
            return Lane(dtype, x.text)
        if bits_of(dtype) < bits_of(x.dtype):
            return self.cast("trunc", x, dtype)
        return self.cast("sext" if source == "i" else "zext", x, dtype)

    def _float_to_float(self, x: Lane, dtype: str) -> Lane:
        wide = self.as_wide(x)
        if dtype in HALF_FRACTION:
            return self.rounded(wide, dtype)
        if wide.dtype == dtype:
            return wide
        return self.cast("fpext" if dtype == "f64" else "fptrunc", wide, dtype)

    def _saturate(self, x: Lane, dtype: str) -> Lane:
        wide = self.register_type(x.dtype)
        into = self.register_type(dtype)
        name = "fptosi" if kind_of(dtype) == "i" else "fptoui"
        intrinsic = f"llvm.{name}.sat.{mangle(into)}.{mangle(wide)}"
        callee = self.fn.module.declare(intrinsic, into, wide)
        return Lane(dtype, self.fn.call(into, callee, (wide, x.text)))

    def _integer_to_float(self, x: Lane, dtype: str) -> Lane:
        opcode = "sitofp" if kind_of(x.dtype) == "i" else "uitofp"
        if dtype not in HALF_FRACTION:
            return self.cast(opcode, x, dtype)
        # An integer that f32 rounds is far above what f16 holds; bf16 would see it rounded twice.
        if dtype == "f16" or bits_of(x.dtype) < 32:
            return self.rounded(self.cast(opcode, x, "f32"), dtype)
        if bits_of(x.dtype) == 32:
            return self.rounded(self.cast(opcode, x, "f64"), dtype)
        return self._long_to_bfloat(x)

    def _long_to_bfloat(self, x: Lane) -> Lane:
        """64 bits do not fit f64: fold the low 16, of which only "any" matters, into one bit."""
        magnitude = Lane("u64", self.abs(x).text)
        low = self.ne(self.and_(magnitude, 0xFFFF), 0)
        folded = self.or_(self.and_(magnitude, -0x10000), self.shl(self.convert(low, "u64"), 16))
        exact = self.select(self.lt(magnitude, 1 << 48), magnitude, folded)
        value = self.cast("uitofp", exact, "f64")
        if kind_of(x.dtype) == "i":
            value = self.select(self.lt(x, 0), self.neg(value), value)
        return self.rounded(value, "bf16")
