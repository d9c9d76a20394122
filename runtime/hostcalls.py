"""Host calls: a kernel runs an op's ``numpy`` rule on its own memory, through one C callback per
step.

Inputs are views of the kernel's buffers and results are copied into them. A result whose size only
its value tells is kept in the call's frame list, so that it lives until the step returns; the
kernel gets its address and sizes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepforge.codegen import large_memory
from stepforge.codegen import signature as abi
from stepforge.ir import dims
from stepforge.ir.analyses import substitute_literal
from stepforge.ir.core import Const, Global, Operation, Symbol
from stepforge.ir.dims import Dim
from stepforge.ir.errors import OpError
from stepforge.ir.types import Type, numpy_dtype

Callback = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_int64,
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.POINTER(ctypes.c_int64),
    ctypes.POINTER(ctypes.c_int64),
)
FAILED = -1


def callback(
    operations: Sequence[Operation],
    sizes: Sequence[Sequence[str]],
    globals_: Mapping[str, Global],
    state: Callable[[Symbol], Any],
    result_types: Sequence[Type | None],
) -> Any:
    """The C callback of a step; keep it alive as long as the step.

    ``sizes`` are the names that each call is handed, ``state`` gives the cell of a variable or the
    stream of a random op, ``result_types`` are those of the fetches (for results that the host
    makes).
    """
    calls = [
        _HostCall(op, names, globals_, state) for op, names in zip(operations, sizes, strict=True)
    ]

    def run(context: int, number: int, pointers: Any, values: Any, bound: Any) -> int:
        try:
            if number < 0:
                _new_result(result_types[-1 - number], pointers, values, bound)
            else:
                calls[number].run(context, pointers, values, bound)
        except BaseException as error:  # every error must cross the native frames
            leave(context, error)
            return FAILED
        return 0

    return Callback(run)


def leave(context: int, error: BaseException) -> None:
    """Hand an exception to the caller of the kernel, which takes the reference."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(error))
    ctypes.c_void_p.from_address(context + abi.CONTEXT_EXCEPTION).value = id(error)


def pending_exception(context: int) -> BaseException:
    """The exception that a host call left in the context, which keeps its reference."""
    address = ctypes.c_void_p.from_address(context + abi.CONTEXT_EXCEPTION).value
    error = ctypes.cast(address or 0, ctypes.py_object).value
    assert isinstance(error, BaseException)
    return error


def view(pointer: int, shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """An array over memory that somebody else owns."""
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    memory: Any = (ctypes.c_char * size).from_address(pointer)
    return np.frombuffer(memory, dtype).reshape(shape)


def _new_result(type_: Type | None, pointers: Any, shape: Any, slot: Any) -> None:
    """Make the array of a result whose size is known only now; ``slot`` takes the reference."""
    assert type_ is not None
    sizes = [shape[axis] for axis in range(type_.rank)]
    array = large_memory.empty(sizes, numpy_dtype(type_.dtype))
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(array))
    ctypes.cast(slot, ctypes.POINTER(ctypes.c_void_p))[0] = id(array)
    pointers[0] = array.ctypes.data


class _HostCall:
    """One operation that the host runs."""

    def __init__(
        self,
        op: Operation,
        names: Sequence[str],
        globals_: Mapping[str, Global],
        state: Callable[[Symbol], Any],
    ) -> None:
        self.op, self.names = op, names
        self.globals = globals_
        self.state = state
        self.binds = op.attr("binds") if "binds" in op.defn.defaults else None
        self.attrs = op.all_attrs

    def run(self, context: int, pointers: Any, values: Any, bound: Any) -> None:
        """Run the operation on what the kernel points to."""
        sizes: dict[str, Dim] = {name: int(values[i]) for i, name in enumerate(self.names)}
        position = 0
        operands: list[Any] = []
        for operand in self.op.operands:
            if isinstance(operand, Const):
                operands.append(np.asarray(operand.value, numpy_dtype(operand.type.dtype)))
            elif isinstance(operand, Symbol):
                declared = self.globals[operand.name]
                constant = declared.kind == "constant"
                operands.append(declared.data if constant else self.state(operand))
            else:
                operands.append(self._array(pointers[position], operand.type, sizes))
                position += 1
        attrs = {name: substitute_literal(v, sizes) for name, v in self.attrs.items()}
        returned = self._apply(operands, attrs)
        results = returned if isinstance(returned, tuple) else (returned,)
        if self.binds is not None:
            self._keep(context, results, pointers, position, bound)
        elif self.op.results:
            for index, (result, value) in enumerate(zip(results, self.op.results, strict=True)):
                self._array(pointers[position + index], value.type, sizes)[...] = result

    def _apply(self, operands: list[Any], attrs: dict[str, Any]) -> Any:
        assert self.op.defn.numpy is not None
        try:
            with np.errstate(all="ignore"):
                return self.op.defn.numpy(*operands, **attrs)
        except OpError as error:
            error.site = error.site or self.op.site
            raise

    def _array(self, pointer: int, type_: Type, sizes: Mapping[str, Any]) -> Any:
        shape = [dims.evaluate(size, sizes) for size in type_.dims]
        return view(pointer, shape, numpy_dtype(type_.dtype))

    def _keep(
        self, context: int, results: Sequence[Any], pointers: Any, position: int, bound: Any
    ) -> None:
        frame_address = ctypes.c_void_p.from_address(context + abi.CONTEXT_FRAME).value
        frame = ctypes.cast(frame_address or 0, ctypes.py_object).value
        for index, (result, value) in enumerate(zip(results, self.op.results, strict=True)):
            array = np.ascontiguousarray(result, numpy_dtype(value.type.dtype))
            frame.append(array)
            pointers[position + index] = array.ctypes.data
            for axis, size in enumerate(value.type.dims):
                if dims.as_name(size) == self.binds:
                    bound[0] = array.shape[axis]
