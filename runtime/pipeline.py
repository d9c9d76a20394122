"""The compile of one variant of a step, from extracted IR to linked code, with every stage kept to
look at.

The order of passes is ``passes.order``. A function that loops cannot hold (strings, unknown ranks,
control flow that is not lowered) is run by the reference evaluator instead; both kinds have the
same interface.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from stepforge.codegen import entry, entry_support, jit, kernel, layout, numba_compile
from stepforge.codegen import signature as abi
from stepforge.codegen.jit import Level
from stepforge.codegen.signature import Structure
from stepforge.frontend.extract.program import Extraction
from stepforge.ir import dims
from stepforge.ir.core import Block, Function
from stepforge.ir.ops.user_functions import call_key
from stepforge.ir.rewrite import with_body
from stepforge.passes.bisect import Trail
from stepforge.passes.lower import Lowered, lower, lowerable
from stepforge.passes.manager import Pass, run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.plan import Planned, plan
from stepforge.runtime import backends, checking, hostcalls, native, threads
from stepforge.runtime.signatures import signature_of, symbol_name
from stepforge.runtime.variables import VariableStore
from stepforge.runtime.variant import Variant, graph_text, state_of

# A first run may be the only one, so it gets code that compiles fast.
FIRST_LEVEL: Level = "O0"
# Characters of LLVM text from which a first run gets its final code at once, lest the second run
# take seconds to compile. Not where nothing is fed and nothing fetched: an initialiser runs once.
LARGE = 200_000
FINAL_LEVEL: Level = "O2"
MODULE_DATA = 256  # bytes of a constant that are written into the module itself


@dataclass(frozen=True)
class Job:
    """One compile: the extracted function, the session's variables, and how the result is built."""

    extraction: Extraction
    store: VariableStore
    name: str
    structure: Structure
    level: Level
    nodes: Sequence[Any] = ()


def compile_variant(job: Job) -> Variant:
    """Compile an extracted function for one session's variables."""
    started = time.perf_counter()
    trail = checking.trail(job.store)
    function = _run(job.extraction.function, ORDER["tensor"], trail)
    stages: dict[str, Any] = {"graph": graph_text(job.nodes), "tensor": function}
    if lowerable(function):
        variant = _compile_native(job, function, stages, trail)
    else:
        signature = signature_of(job.extraction, function, job.name, job.structure, python=True)
        variant = Variant(job.extraction, signature, stages)
    variant.trail = trail
    variant.seconds = time.perf_counter() - started
    return variant


def _run(function: Function, passes: Sequence[Pass], trail: Trail | None) -> Function:
    """``function`` after ``passes``, each of which leaves its mark on the trail where there is one.
    """
    if trail is None:
        return run_passes(function, passes)
    return run_passes(function, passes, check=True, dump=trail.passed)


def _compile_native(
    job: Job, function: Function, stages: dict[str, Any], trail: Trail | None
) -> Variant:
    fused = _run(function, ORDER["fusion"], trail)
    lowered = lower(fused)
    if trail is not None:
        trail.lowered("lower", lowered.step())
    in_python = bool(lowered.host_operations) or len(lowered.outputs) < len(fused.results)
    signature = signature_of(job.extraction, fused, job.name, job.structure, python=in_python)
    planned = plan(_run(lowered.function, ORDER["loops"], trail), frozenset(signature.sizes))
    if trail is not None:
        made = replace(lowered.step(), function=planned.function, arena=planned.arena)
        trail.lowered("plan", made)
    stages.update(fused=fused, loops=planned.function)
    variant = Variant(job.extraction, signature, stages)
    _write_module(variant, lowered, planned, backends.chosen(job.store.backend))
    _fill_table(variant, lowered, job.store)
    large = len(variant.stages["llvm"]) >= LARGE and (signature.feeds or lowered.outputs)
    link(variant, FINAL_LEVEL if large else job.level)
    return variant


def _write_module(variant: Variant, lowered: Lowered, planned: Planned, backend: str) -> None:
    """The text of the kernel and its entry."""
    signature = variant.signature
    slots = [slot.name for slot in signature.slots]
    variant.plan = kernel.KernelPlan(
        with_fetch_numbers(planned.function, variant.extraction),
        len(signature.feeds),
        output_numbers(variant.extraction, lowered),
        [*slots, *stream_names(lowered), *_constant_names(lowered), *_functions(lowered)],
        signature.sizes,
        planned.arena,
    )
    module, made = backends.make_kernel(variant.plan, backend)
    variant.backend, variant.note, variant.code = made.backend, made.note, made.code
    if made.source:
        variant.stages[made.backend] = made.source
    variant.calls = tuple(made.calls)
    variant.exports = ("kernel", *made.calls)
    if layout.native_entry():
        entry.emit_entry(module, signature, f"@{variant.plan.name}")
        variant.exports += ("entry", "variant")
    variant.stages["llvm"] = module.text()
    variant.checks, variant.externals = made.checks, module.externals()


def link(variant: Variant, level: Level) -> None:
    """Compile the variant's LLVM text at ``level`` and let it run that code from now on.

    Where an earlier process left the object of the final level, that is taken at once.
    """
    if level != FINAL_LEVEL and jit.is_stored(variant.stages["llvm"], FINAL_LEVEL):
        level = FINAL_LEVEL
    symbols = entry_support.symbols(variant.externals)
    library = jit.build(variant.stages["llvm"], level, symbols, variant.exports)
    variant.level, variant.stored = level, library.stored
    variant.kernel_address = library["kernel"]
    if "entry" in variant.exports:
        variant.entry_address = library["entry"]
        variant.body_address = library["variant"]
    for place, name in enumerate(variant.calls, len(variant.table) - len(variant.calls)):
        variant.table[place] = library[name]
    variant.keep.append(library)  # calls may still run in older code


def hand_over(variants: Sequence[Variant], first: Variant) -> None:
    """Chain variants behind ``first``: what one refuses goes to the next, and at last to Python."""
    chain = [first, *(v for v in variants if v is not first and v.body_address)]
    for variant, following in zip(chain, [*chain[1:], None], strict=True):
        body = following.body_address if following is not None else 0
        table = following.table_address if following is not None else 0
        variant.table[abi.TABLE_NEXT_TABLE] = table
        variant.table[abi.TABLE_NEXT_VARIANT] = body


def output_numbers(extraction: Extraction, lowered: Lowered) -> list[int]:
    """The fetch that each output parameter fills."""
    numbers = _fetch_numbers(extraction)
    return [numbers[j] for j in lowered.outputs]


def with_fetch_numbers(function: Function, extraction: Extraction) -> Function:
    """``function`` with ``new_result`` asking for the array of a fetch, not of a result."""
    numbers = _fetch_numbers(extraction)
    ops = [
        replace(op, attrs={**op.attrs, "result": numbers[op.attr("result")]})
        if op.name == "new_result"
        else op
        for op in function.body.ops
    ]
    return with_body(function, Block(function.params, tuple(ops)))


def _fetch_numbers(extraction: Extraction) -> dict[int, int]:
    """The fetch that each result is; results are in the order of value fetches."""
    return {f.index: i for i, f in enumerate(extraction.fetches) if f.kind == "value"}


def stream_names(lowered: Lowered) -> list[str]:
    """The random streams that native code draws from; they follow the variables in the table."""
    drawing = [op for op in lowered.function.walk() if op.name == "philox"]
    return list(dict.fromkeys(symbol_name(op) for op in drawing))


def _constant_names(lowered: Lowered) -> list[str]:
    """Constants that kernels find through the table, after the streams: text would be too long."""
    used = [symbol_name(op) for op in lowered.function.walk() if op.name == "constant"]
    return [n for n in dict.fromkeys(used) if _constant(lowered, n).nbytes > MODULE_DATA]


def _functions(lowered: Lowered) -> dict[str, numba_compile.Compiled]:
    """The machine code of users' functions, behind the constants, by the keys of their calls."""
    calls = [op for op in lowered.function.walk() if op.name == "native_call"]
    return {call_key(op): numba_compile.compile_function(op) for op in calls}


def _constant(lowered: Lowered, name: str) -> np.ndarray[Any, Any]:
    """The elements of a constant symbol, contiguous."""
    data = lowered.function.globals[name].data
    assert data is not None
    return np.ascontiguousarray(data)


def _fill_table(variant: Variant, lowered: Lowered, store: VariableStore) -> None:
    """The pointers that the kernel and the entry find through the step."""
    slots = variant.signature.slots
    streams = [store.stream(variant.extraction.streams[name]) for name in stream_names(lowered)]
    constants = [_constant(lowered, name) for name in _constant_names(lowered)]
    arrays = [stream.state for stream in streams] + constants
    functions = _functions(lowered).values()
    # in the table behind the variables
    behind = [*(array.ctypes.data for array in arrays), *(f.address for f in functions)]
    size = abi.FIRST_SLOT + len(slots) + len(behind) + len(variant.calls)
    table = (ctypes.c_void_p * size)()
    table[abi.TABLE_ALLOC], table[abi.TABLE_FREE] = native.memory()
    arena = ctypes.c_void_p()
    table[abi.TABLE_ARENA] = ctypes.addressof(arena)
    table[abi.TABLE_LOCK] = store.lock_address
    pool = threads.pool() if "_job(" in variant.stages["llvm"] and store.threads != 1 else None
    if pool is not None:
        table[abi.TABLE_PARALLEL_FOR], table[abi.TABLE_POOL] = pool.function, pool.address
    for index, address in native.blas().items():
        table[index] = address
    for index, slot in enumerate(slots):
        node = variant.extraction.variables[slot.name]
        table[abi.FIRST_SLOT + index] = store.cell(node, slot.type.dtype).address
    for index, address in enumerate(behind, abi.FIRST_SLOT + len(slots)):
        table[index] = address
    host = _host_calls(variant, lowered, store)
    table[abi.TABLE_HOST_CALL] = ctypes.cast(host, ctypes.c_void_p).value
    if variant.code is not None:
        code = variant.code()
        table[abi.TABLE_KERNEL] = code.address
        variant.keep.append(code)
    variant.table = table
    variant.keep += [arena, host, store, *arrays, *functions]


def _host_calls(variant: Variant, lowered: Lowered, store: VariableStore) -> Any:
    """The function through which a kernel has its host operations done."""
    sizes = [
        [dims.as_name(n) or "" for n in op.attr("sizes")]
        for op in lowered.function.walk()
        if op.name == "host_call"
    ]
    state = state_of(variant.extraction, store)
    types = [fetch.type for fetch in variant.signature.fetches]
    return hostcalls.callback(
        lowered.host_operations, sizes, lowered.function.globals, state, types
    )
