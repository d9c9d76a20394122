"""Runs IR functions through the numba back end without a session, many of them in one kernel.

numba takes a tenth of a second for each nest and as much again for each function, so cases are put
together: their parameters, operations and results one behind the other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from native import Kernel, entry_names, guarded, pointers

from stepforge.codegen import jit, numba, numba_compile, target
from stepforge.codegen import signature as abi
from stepforge.codegen.kernel import KernelPlan
from stepforge.codegen.kernel_forward import emit_forward
from stepforge.codegen.llvm import ModuleWriter
from stepforge.ir.builder import Builder
from stepforge.ir.core import Function
from stepforge.ir.types import numpy_dtype, unify_numpy_shape
from stepforge.ir.verify import verify
from stepforge.passes.fuse import fuse
from stepforge.passes.fuse_products import fuse_products
from stepforge.passes.lower import lower
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.plan import plan
from stepforge.runtime import native


def together(functions: Sequence[Function]) -> Function:
    """One function that computes what all of them do; size names are common to all."""
    build = Builder()
    for function in functions:
        build.ops += function.body.ops[:-1]
    build.emit("return", *[r for function in functions for r in function.results])
    params = [p for function in functions for p in function.params]
    globals_ = {n: g for function in functions for n, g in function.globals.items()}
    return build.function("batch", params, globals_)


class NumbaModule:
    """A function compiled by numba; ``module.run(arrays)`` gives its results."""

    def __init__(self, function: Function) -> None:
        self.function = function
        self.sizes = sorted(entry_names(function))
        lowered = lower(fuse_products(fuse(function)))
        assert not lowered.host_operations, "the function needs host calls"
        loops = run_passes(lowered.function, ORDER["loops"])
        verify(loops)
        planned = plan(loops, frozenset(self.sizes))
        constants = [n for n, g in loops.globals.items() if g.kind == "constant"]
        writer = ModuleWriter(target.host().triple, target.host().attributes)
        arguments = (len(function.params), lowered.outputs, constants, self.sizes, planned.arena)
        kernel_plan = KernelPlan(planned.function, *arguments)
        self.made = numba.write_kernel(writer, kernel_plan, target.host())
        emit_forward(writer, kernel_plan)
        self.compiled = numba_compile.compile_source(self.made.source, "test")
        names = ["kernel", *self.made.calls]
        self.library = jit.load(jit.compile_text(writer.text(), "O0"), {}, names)
        self._data = [np.ascontiguousarray(loops.globals[n].data) for n in constants]
        self._fill_table()

    def _fill_table(self) -> None:
        calls = [self.library[name] for name in self.made.calls]
        behind = [*(a.ctypes.data for a in self._data), *calls]
        self._table = (ctypes.c_void_p * (abi.FIRST_SLOT + len(behind)))()
        self._table[abi.TABLE_ALLOC], self._table[abi.TABLE_FREE] = native.memory()
        for index, address in (*native.blas().items(), *enumerate(behind, abi.FIRST_SLOT)):
            self._table[index] = address
        self._table[abi.TABLE_KERNEL] = self.compiled.address
        self._arena = ctypes.c_void_p()
        self._table[abi.TABLE_ARENA] = ctypes.addressof(self._arena)

    def run(self, arrays: Sequence[Any]) -> list[np.ndarray[Any, Any]] | str:
        """The results, or the message of the check that failed."""
        inputs = [
            np.require(a, numpy_dtype(p.type.dtype), "C")
            for a, p in zip(arrays, self.function.params, strict=True)
        ]
        sizes: dict[str, int] = {}
        for array, param in zip(inputs, self.function.params, strict=True):
            assert unify_numpy_shape(param.type, array.shape, sizes) is None
        outs = [guarded(operand.type, sizes) for operand in self.function.results]
        context = (ctypes.c_char * abi.CONTEXT_BYTES)()
        ctypes.c_void_p.from_buffer(context).value = ctypes.addressof(self._table)
        values = (ctypes.c_int64 * max(len(sizes), 1))(*[sizes[n] for n in self.sizes])
        status = Kernel(self.library["kernel"])(
            context, pointers(inputs), pointers([o for o, _ in outs]), values
        )
        for _, whole in outs:
            assert bytes(whole[:64]) == bytes(whole[-64:]) == b"\xa5" * 64, "wrote outside"
        if status:
            args = (ctypes.c_int64 * 16).from_buffer(context, abi.CONTEXT_ARGS)
            return self.made.checks[status - 1].message.format(*args)
        return [o for o, _ in outs]
