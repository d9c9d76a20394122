"""Runs IR functions through the native back end without a session, for tests of passes and code
generation.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.codegen import jit, kernel, target
from stepforge.codegen import signature as abi
from stepforge.codegen.llvm import ModuleWriter
from stepforge.ir import dims
from stepforge.ir.analyses import checked_sizes
from stepforge.ir.core import Function
from stepforge.ir.philox import Stream
from stepforge.ir.types import numpy_dtype, unify_numpy_shape
from stepforge.passes.fuse import fuse
from stepforge.passes.fuse_products import fuse_products
from stepforge.passes.lower import lower
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.plan import plan
from stepforge.runtime import native
from stepforge.runtime.variables import Cell

Kernel = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 4)


class NativeModule:
    """Several functions compiled into one module; ``module.run(i, arrays)`` runs function ``i``.

    ``processor`` is the host's where it is not given; without ``link`` there is only the text.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        level: jit.Level = "O0",
        processor: target.Target | None = None,
        link: bool = True,
    ) -> None:
        processor = processor or target.host()
        writer = ModuleWriter(processor.triple, processor.attributes)
        self.functions = list(functions)
        self.sizes = [sorted(entry_names(f)) for f in functions]
        self.slots = [slot_names(f) for f in functions]
        self.checks: list[list[kernel.Check]] = []
        self.shares: list[bool] = []  # whether there is work for threads in a function
        for number, function in enumerate(functions):
            lowered = lower(fuse_products(fuse(function)))
            assert not lowered.host_operations, "the function needs host calls"
            loops = run_passes(lowered.function, ORDER["loops"], check=True)
            planned = plan(loops, frozenset(self.sizes[number]))
            made = kernel.emit_kernel(
                writer,
                kernel.KernelPlan(
                    planned.function,
                    len(function.params),
                    lowered.outputs,
                    self.slots[number],
                    self.sizes[number],
                    planned.arena,
                    f"kernel_{number}",
                ),
                processor,
            )
            self.checks.append(list(made.checks))
            self.shares.append(made.shares)
        self.text = writer.text()
        names = [f"kernel_{i}" for i in range(len(functions))]
        if link:
            self._library = jit.load(jit.compile_text(self.text, level, processor), {}, names)
            self._fill_table()

    def _fill_table(self) -> None:
        most = max([len(slots) for slots in self.slots], default=0)
        self._table = (ctypes.c_void_p * (abi.FIRST_SLOT + most))()
        self._table[abi.TABLE_ALLOC], self._table[abi.TABLE_FREE] = native.memory()
        for index, address in native.blas().items():
            self._table[index] = address
        self._arena = ctypes.c_void_p()
        self._table[abi.TABLE_ARENA] = ctypes.addressof(self._arena)

    def run(
        self, number: int, arrays: Sequence[Any], state: dict[str, Any] | None = None
    ) -> list[np.ndarray[Any, Any]] | str:
        """The results of a function, or the message of the check that failed.

        ``state`` maps variables to values and random streams to their states, and is changed.
        """
        function = self.functions[number]
        inputs = [
            np.require(a, numpy_dtype(p.type.dtype), "C")
            for a, p in zip(arrays, function.params, strict=True)
        ]
        sizes: dict[str, int] = {}
        entries = list(zip(function.params, inputs, strict=True))
        entries += [(function.globals[name], value) for name, value in (state or {}).items()]
        for param, array in entries:
            if not param.type.is_object:
                assert unify_numpy_shape(param.type, array.shape, sizes) is None
        cells = self._cells(number, state or {})
        outs = [guarded(operand.type, sizes) for operand in function.results]
        context = (ctypes.c_char * abi.CONTEXT_BYTES)()
        ctypes.c_void_p.from_buffer(context).value = ctypes.addressof(self._table)
        values = (ctypes.c_int64 * max(len(sizes), 1))(*[sizes[n] for n in self.sizes[number]])
        feeds = [*[a.ctypes.data for a in inputs], *[_data(c) for c in cells]]
        status = Kernel(self._library[f"kernel_{number}"])(
            context,
            (ctypes.c_void_p * max(len(feeds), 1))(*feeds),
            pointers([o for o, _ in outs]),
            values,
        )
        for _, whole in outs:
            assert bytes(whole[:64]) == bytes(whole[-64:]) == b"\xa5" * 64, "wrote outside"
        for name, cell in zip(self.slots[number], cells, strict=True):
            if isinstance(cell, Cell) and state is not None:
                state[name] = cell.value
        if status:
            args = (ctypes.c_int64 * 16).from_buffer(context, abi.CONTEXT_ARGS)
            return self.checks[number][status - 1].message.format(*args)
        return [o for o, _ in outs]

    def _cells(self, number: int, state: dict[str, Any]) -> list[Any]:
        """The memory of variables and random streams, entered into the table."""
        made: list[Any] = []
        for place, name in enumerate(self.slots[number], abi.FIRST_SLOT):
            if isinstance(state[name], Stream):
                made.append(state[name])
                self._table[place] = state[name].state.ctypes.data
                continue
            made.append(Cell(name, self.functions[number].globals[name].type.dtype))
            made[-1].value = state[name]
            self._table[place] = made[-1].address
        return made


def _data(cell: Any) -> int:
    """Where the elements of a variable are."""
    if not isinstance(cell, Cell):
        return 0
    return ctypes.c_void_p.from_address(cell.address + abi.SLOT_DATA).value or 0


def slot_names(function: Function) -> list[str]:
    """The variables of a function, then its random streams."""
    kinds = ("variable", "random")
    return [n for kind in kinds for n, g in function.globals.items() if g.kind == kind]


def entry_names(function: Function) -> set[str]:
    """The size names that are known before a function runs."""
    params = {n for p in function.params for d in p.type.dims for n in dims.names(d)}
    return params | set(checked_sizes(function))


def guarded(type_: Any, sizes: dict[str, int]) -> tuple[np.ndarray[Any, Any], Any]:
    """An array with guard bytes around it: (array, all bytes)."""
    shape = [dims.evaluate(d, sizes) for d in type_.dims]
    dtype = numpy_dtype(type_.dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    whole = np.full(size + 128, 0xA5, np.uint8)
    return whole[64 : 64 + size].view(dtype).reshape(shape), whole


def pointers(arrays: Sequence[np.ndarray[Any, Any]]) -> Any:
    """A C array of the arrays' addresses."""
    return (ctypes.c_void_p * max(len(arrays), 1))(*[a.ctypes.data for a in arrays])
