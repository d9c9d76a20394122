"""Variables. Operand 0 is the variable's symbol, in whose place ``numpy`` rules get its cell."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir.errors import FailedPreconditionError
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.inference import check_same_dtype
from stepforge.ir.types import Type


@define_op
class Read(OpDef):
    """The value of a variable. ``%w = read(@w) : f32[784, 128]``"""

    effect = "read"
    cases = ("read(@f32[3, 2])", "read(@i64)", "read(@bool[0])", "read(@string[2])")

    def infer(self, variable: Type) -> Type:
        return variable

    def numpy(self, cell: Any) -> Array:
        """Raises: FailedPreconditionError where the variable has no value yet."""
        if cell.value is None:
            message = f"Attempting to use uninitialized value {cell.name}"
            raise FailedPreconditionError(None, None, message)
        return np.asarray(cell.value)


@define_op
class Write(OpDef):
    """Gives a variable another value. ``write(@w, %x)``"""

    effect = "write"
    cases = (
        "write(@f32[3, 2], f32[3, 2])",
        "write(@i64, i64)",
        "write(@bool[0], bool[0])",
        "write(@string[2], string[2])",
    )

    def infer(self, variable: Type, x: Type) -> tuple[Type, ...]:
        """The symbol's type says what the variable is before; afterwards it has the shape of x."""
        check_same_dtype("write", variable=variable, x=x)
        return ()

    def numpy(self, cell: Any, x: Array) -> None:
        cell.value = np.array(x)


@define_op
class IsInitialized(OpDef):
    """Whether a variable has a value. ``%b = is_initialized(@w) : bool``"""

    effect = "read"
    cases = ("is_initialized(@f32[3, 2])", "is_initialized(@i64)")

    def infer(self, variable: Type) -> Type:
        return Type("bool")

    def numpy(self, cell: Any) -> Array:
        return np.asarray(cell.value is not None)
