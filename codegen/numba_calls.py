"""What generated Python leaves to LLVM: products, convolutions, random numbers, state.

Each such operation becomes a function with the kernel ABI in the step's own module, which the
Python kernel calls through the step's table; so do the few helpers that own memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from stepforge.codegen import memory
from stepforge.codegen.kernel import Check, KernelPlan, NotSupported, emit_kernel
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target
from stepforge.ir import dims
from stepforge.ir.analyses import mentioned_sizes, type_sizes, used_values
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.opdef import lookup
from stepforge.ir.records import record
from stepforge.ir.types import Type

TAKE_ARENA, RELEASE_ARENA, NEW_SLOT = "take_arena_of", "release_arena_of", "new_slot_of"


@record(frozen=True)
class OpCall:
    """One operation as a function: its name, and what it is handed.

    ``buffers`` are buffers, ``scalars`` elements behind them in memory of their own; the sizes
    ``sizes`` are followed by the indices ``positions``.
    """

    name: str
    buffers: Sequence[Value]
    scalars: Sequence[Value]
    sizes: Sequence[str]
    positions: Sequence[Value]
    checks: Sequence[Check]
    shares: bool = False  # its loops, among threads


def emit_call(
    module: ModuleWriter, target: Target, plan: KernelPlan, op: Operation, name: str
) -> OpCall:
    """Write ``op``, an operation of the kernel of ``plan``, as the function ``name``.

    Raises: NotSupported for an operation that has results.
    """
    if op.results:
        raise NotSupported(f"the operation {op.name}")
    free = list(used_values(op))
    buffers = [v for v in free if v.type.buffer]
    scalars = [v for v in free if not v.type.buffer and v.type.dtype != "index"]
    positions = [v for v in free if v.type.dtype == "index"]
    cells = [Value(Type(v.type.dtype, (), buffer=True)) for v in scalars]
    places = [f"{name}.index_{i}" for i in range(len(positions))]
    ops = [
        *(_op("load", [cell], v) for cell, v in zip(cells, scalars, strict=True)),
        *(_index(place, v) for place, v in zip(places, positions, strict=True)),
        op,
        _op("return", []),
    ]
    sizes = sorted(sizes_of(op, free))
    function = Function(name, Block((*buffers, *cells), tuple(ops)), plan.function.globals)
    part = replace(
        plan, function=function, feeds=len(free) - len(positions), outputs=(),
        sizes=(*sizes, *places), arena=0, name=name, linkage="",
    )
    made = emit_kernel(module, part, target)
    return OpCall(name, buffers, scalars, sizes, positions, made.checks, made.shares)


def _op(name: str, operands: Sequence[Value], *results: Value) -> Operation:
    return Operation(lookup(name), tuple(operands), {}, results)


def _index(place: str, value: Value) -> Operation:
    return Operation(lookup("index"), (), {"offset": dims.named(place)}, (value,))


def sizes_of(op: Operation | None, free: Sequence[Operand]) -> frozenset[str]:
    """The size names in an operation's attributes and regions, and in the types of values."""
    found = frozenset[str]().union(*(type_sizes(value.type) for value in free))
    if op is None:
        return found
    inner = [op, *(each for region in op.regions for each in region.walk())]
    return found.union(*map(mentioned_sizes, inner))


def emit_memory(module: ModuleWriter, name: str) -> None:
    """Write the helper ``name``: one of the constants above."""
    module.helper(name, lambda: _MEMORY[name](module, name))


def _take_arena(module: ModuleWriter, name: str) -> str:
    fn = FunctionWriter(module, name, "ptr", [("ptr", "table"), ("i64", "size")])
    fn.do(f"ret ptr {memory.take_arena(fn, '%table', '%size')}")
    return fn.finish()


def _release_arena(module: ModuleWriter, name: str) -> str:
    fn = FunctionWriter(module, name, "void", [("ptr", "table"), ("ptr", "arena")])
    memory.release_arena(fn, "%table", "%arena")
    fn.do("ret void")
    return fn.finish()


def _new_slot(module: ModuleWriter, name: str) -> str:
    params = [("ptr", "slot"), ("ptr", "table"), ("i64", "size")]
    fn = FunctionWriter(module, name, "ptr", params)
    fn.do(f"ret ptr {memory.new_slot(fn, '%slot', '%table', '%size')}")
    return fn.finish()


_MEMORY: dict[str, Callable[[ModuleWriter, str], str]] = {
    TAKE_ARENA: _take_arena,
    RELEASE_ARENA: _release_arena,
    NEW_SLOT: _new_slot,
}
