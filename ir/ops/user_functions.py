"""Functions that users write for numba: a tensor op, and the native call that it becomes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from stepforge.ir.core import Const, Operand, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.errors import DTypeError, UnknownError
from stepforge.ir.numba_functions import NUMBA_FUNCTIONS
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.loops import LoopOp
from stepforge.ir.types import NUMERIC, Type, numpy_dtype

Dims: TypeAlias = "tuple[Dim, ...]"
WITHOUT_NUMBA = ("f16", "bf16")


def raised(name: str) -> str:
    """The message of the error of a function that raises, in native code without its reason."""
    return f"{name}: the numba function raised an exception"


def call_key(op: Operation) -> str:
    """A name for the machine code that a ``native_call`` needs: its function and what it takes."""
    types = [f"{o.type.dtype}*{o.type.rank}" for o in op.operands]
    return f"{op.attr('fn')}({', '.join(types)})"


@define_op
class NumbaCall(OpDef):
    """Arrays of ``shapes`` and ``dtypes`` that the numba function of token ``fn`` fills.

    ``%y = numba_call(%x, fn="numba:scale:0", shapes=[[n]], dtypes=["f32"]) : f32[n]``
    """

    def infer(
        self, *xs: Type, fn: str, shapes: tuple[Dims, ...] = (), dtypes: tuple[str, ...] = ()
    ) -> tuple[Type, ...]:
        results = tuple(Type(d, s) for d, s in zip(dtypes, shapes, strict=True))
        for type_ in (*xs, *results):
            if type_.dtype not in NUMERIC or type_.dtype in WITHOUT_NUMBA:
                name = NUMBA_FUNCTIONS[fn].name
                raise DTypeError(f"{name}: numba has no arrays of {type_.dtype}")
        return results

    def numpy(
        self, *xs: Array, fn: str, shapes: tuple[tuple[int, ...], ...], dtypes: tuple[str, ...]
    ) -> tuple[Array, ...]:
        """The function itself, compiled by numba, on arrays."""
        function = NUMBA_FUNCTIONS[fn]
        made = [np.empty(s, numpy_dtype(d)) for s, d in zip(shapes, dtypes, strict=True)]
        given = [np.ascontiguousarray(x).reshape(np.shape(x)) for x in xs]
        compiled = function.compiled
        try:
            compiled(*given, *made)
        except Exception as error:
            raise UnknownError(None, None, f"{raised(function.name)}: {error}") from error
        return tuple(made)

    def lower(
        self, k: Any, *buffers: Operand, fn: str, shapes: tuple[Dims, ...], dtypes: tuple[str, ...]
    ) -> None:
        """One call; scalar constants get memory."""
        made, given = buffers[: len(dtypes)], buffers[len(dtypes) :]
        arrays = [_in_memory(k, operand) for operand in given]
        message = raised(NUMBA_FUNCTIONS[fn].name)
        k.emit("native_call", *arrays, *made, fn=fn, outputs=len(made), message=message)


def _in_memory(k: Any, operand: Operand) -> Operand:
    if not isinstance(operand, Const):
        return operand
    cell: Operand = k.alloc(operand.type.dtype, ())
    k.fill(operand, cell)
    return cell


@define_op
class NativeCall(LoopOp):
    """Call the machine code of token ``fn`` on buffers, the last ``outputs`` of which it fills.

    It leaves the step with ``error`` where it gives another status than 0.
    ``native_call(%x, %y, fn="numba:scale:0", outputs=1, message="scale: ...")``
    """

    effect = "check"

    def infer(
        self,
        *buffers: Type,
        fn: str = "",
        outputs: int = 0,
        message: str = "",
        error: str = "UnknownError",
    ) -> tuple[Type, ...]:
        return ()
