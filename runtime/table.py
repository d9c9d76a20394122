"""The table of pointers through which a step's code finds what is not its own: memory, threads, the
library's products, the cells of variables, random streams, large constants, users' functions.

``codegen.signature`` has its layout.
"""

from __future__ import annotations

import ctypes
from typing import Any

from stepforge.codegen import layout
from stepforge.codegen import signature as abi
from stepforge.runtime import hostcalls, native, threads
from stepforge.runtime.step import missing_table
from stepforge.runtime.variables import VariableStore
from stepforge.runtime.variant import Variant, state_of


def fill_table(variant: Variant, store: VariableStore) -> None:
    """The pointers that the kernel and the entry find through the step."""
    slots, needs = variant.signature.slots, variant.needs
    streams = [store.stream(variant.extraction.streams[name]) for name in needs.streams]
    arrays = [*(stream.state for stream in streams), *needs.constants.values()]
    functions = needs.functions.values()
    # in the table behind the variables
    behind = [*(array.ctypes.data for array in arrays), *(f.address for f in functions)]
    size = abi.FIRST_SLOT + len(slots) + len(behind) + len(variant.calls)
    table = (ctypes.c_void_p * size)()
    table[abi.TABLE_ALLOC], table[abi.TABLE_FREE] = native.memory()
    arena = ctypes.c_void_p()
    table[abi.TABLE_ARENA] = ctypes.addressof(arena)
    table[abi.TABLE_LOCK] = store.lock_address
    if layout.native_entry():
        table[abi.TABLE_NEXT] = missing_table()
    pool = threads.pool() if variant.shares else None
    if pool is not None:
        table[abi.TABLE_PARALLEL_FOR], table[abi.TABLE_POOL] = pool.function, pool.address
    for index, address in native.blas().items():
        table[index] = address
    for index, slot in enumerate(slots):
        node = variant.extraction.variables[slot.name]
        table[abi.FIRST_SLOT + index] = store.cell(node, slot.type.dtype).address
    for index, address in enumerate(behind, abi.FIRST_SLOT + len(slots)):
        table[index] = address
    host = _host_calls(variant, store)
    table[abi.TABLE_HOST_CALL] = ctypes.cast(host, ctypes.c_void_p).value
    if variant.code is not None:
        code = variant.code()
        table[abi.TABLE_KERNEL] = code.address
        variant.keep.append(code)
    variant.table = table
    variant.keep += [arena, host, store, *arrays, *functions]


def _host_calls(variant: Variant, store: VariableStore) -> Any:
    """The function through which a kernel has its host operations done."""
    needs, state = variant.needs, state_of(variant.extraction, store)
    types = [fetch.type for fetch in variant.signature.fetches]
    return hostcalls.callback(needs.host, needs.host_sizes, needs.globals, state, types)
