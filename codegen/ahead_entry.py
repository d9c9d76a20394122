"""The C function of a step that is compiled ahead of time: what a session's entry is to Python.

It builds the context and the table that the kernel expects on its own stack. The arena is a piece
of the caller's workspace, spare buffers of variables are pieces of their block or else of that too;
what only a session has (memory, host calls, a BLAS) is absent. So the function keeps nothing,
allocates nothing, and may run in many threads at once.
"""

from __future__ import annotations

from stepforge.codegen import signature as abi
from stepforge.codegen.ahead_functions import aligned_up, copy, define, exported, return_if
from stepforge.codegen.ahead_message import Message, emit_message
from stepforge.codegen.ahead_state import move_to, other_place, place_of
from stepforge.codegen.dims import emit_dim
from stepforge.codegen.entry_feeds import element_alignment, element_type
from stepforge.codegen.exports import SPARES, VALUES, ExportedStep, Held, Parameter, aligned
from stepforge.codegen.kernel import Kernel, emit_kernel
from stepforge.codegen.llvm import UNLIKELY, FunctionWriter, ModuleWriter
from stepforge.codegen.memory import (
    HEADER,
    SLOT_ALL_BYTES,
    SLOT_RETIRED,
    SLOT_SPARE,
    SLOT_SPARE_BYTES,
)
from stepforge.codegen.sharing import chunk_turns
from stepforge.codegen.target import Target
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.types import Type, item_bytes

NO_MEMORY = -2  # the status of a kernel without memory, and of a call without a workspace
_VALUE_BYTES = 8 + 8 * 16
_PARALLEL = (("ptr", "parallel_for"), ("ptr", "pool"))


def emit_step(module: ModuleWriter, step: ExportedStep, target: Target) -> bool:
    """Write the functions of a step: itself, its workspace's size, its messages.

    Returns whether there is a ``NAME_parallel`` too, which takes a ``parallel_for``.
    """
    kernel = emit_kernel(module, step.plan, target)
    writer = _StepWriter(module, step, kernel, target)
    if kernel.shares:
        writer.write(f"{step.name}_parallel", _PARALLEL)
        _without_pool(module, step, target)
    else:
        writer.write(step.name, ())
    _workspace_size(module, step, target)
    emit_message(module, target, step.name, writer.messages)
    return kernel.shares


def _typed(step: ExportedStep) -> list[tuple[str, str]]:
    params = [(_c_type(p), f"arg.{p.name}") for p in step.parameters]
    return [*params, ("ptr", "arg.workspace")]


def _c_type(parameter: Parameter) -> str:
    if not parameter.by_value:
        return "ptr"
    return "i64" if parameter.role == "size" else element_type(parameter.type.dtype)


def _spare_offsets(step: ExportedStep) -> dict[int, int]:
    """Where the spare buffers of slots are in the workspace; behind them, at -1, the end."""
    found, offset = {}, SPARES
    for slot in step.copied:
        found[slot] = offset
        offset += aligned(step.held[slot].bytes)
    found[-1] = offset
    return found


def _without_pool(module: ModuleWriter, step: ExportedStep, target: Target) -> None:
    fn = exported(module, target, step.name, "i32", _typed(step))
    arguments = [(type_, f"%{name}") for type_, name in _typed(step)]
    nothing = [("ptr", "null"), ("ptr", "null")]
    fn.do(f"ret i32 {fn.call('i32', f'@{step.name}_parallel', *arguments, *nothing)}")
    define(fn)


def _workspace_size(module: ModuleWriter, step: ExportedStep, target: Target) -> None:
    params = [("i64", f"arg.{name}") for name in step.sizes]
    fn = exported(module, target, f"{step.name}_workspace", "i64", params)
    total: Dim = _spare_offsets(step)[-1] + 64  # for the alignment
    if step.plan.needs_arena:
        total = total + HEADER + step.plan.arena
    fn.do(f"ret i64 {emit_dim(fn, total, _sizes(step))}")
    define(fn)


def _sizes(step: ExportedStep) -> dict[str, str]:
    return {name: f"%arg.{label}" for name, label in step.labels.items()}


class _StepWriter:
    """Writes one function; ``messages`` are what its statuses mean."""

    def __init__(
        self, module: ModuleWriter, step: ExportedStep, kernel: Kernel, target: Target
    ) -> None:
        self.module, self.step, self.kernel, self.target = module, step, kernel, target
        self.messages = [
            Message(index, f"{c.error}: {c.message}{_node(c.site)}")
            for index, c in enumerate(kernel.checks, 1)
        ]
        self.messages.append(Message(NO_MEMORY, "a workspace is needed and was not given"))
        self.records: dict[int, str] = {}  # the VarSlots of swapped variables, by slot

    def write(self, name: str, extra: tuple[tuple[str, str], ...]) -> None:
        """The whole function."""
        params = [*_typed(self.step), *((type_, f"arg.{name}") for type_, name in extra)]
        self.fn = fn = exported(self.module, self.target, name, "i32", params)
        self.env = _sizes(self.step)
        self.status = fn.alloca("i32")
        self.failed, self.done = fn.label("failed"), fn.label("done")
        self.context = fn.alloca("i8", abi.CONTEXT_BYTES, 16)
        self.table = fn.alloca("ptr", abi.FIRST_SLOT + len(self.step.held))
        self.workspace = aligned_up(fn, "%arg.workspace")
        self._check_sizes()
        self._check_workspace()
        self._fill_table(with_pool=bool(extra))
        pointers = self._pointers()
        self._run(pointers)
        self._leave()
        define(fn)

    # ---- checks ---------------------------------------------------------------------------------
    def _check_sizes(self) -> None:
        fn = self.fn
        for label in self.step.sizes:
            message = f"InvalidArgumentError: the size {label} = {{}} is negative"
            size = f"%arg.{label}"
            self._fail_if(fn.emit(f"icmp slt i64 {size}, 0"), message, [size])
        for left, right in self.step.signature.assumptions:
            a, b = (self.step.labelled(size) for size in (left, right))
            values = [emit_dim(fn, size, self.env) for size in (left, right)]
            message = f"InvalidArgumentError: compiled for {a} = {b}, which are {{}} and {{}}"
            self._fail_if(fn.emit(f"icmp ne i64 {values[0]}, {values[1]}"), message, values)

    def _fail_if(self, condition: str, message: str, values: list[str]) -> None:
        number = len(self.messages)  # one of them is not counted from 1
        self.messages.append(Message(number, message))

        def fail() -> None:
            self.fn.store("i64", str(len(values)), self.context, abi.CONTEXT_RANK)
            for index, value in enumerate(values):
                self.fn.store("i64", value, self.context, abi.CONTEXT_ARGS + 8 * index)
            self._fail(number)

        self.fn.if_(condition, fail, UNLIKELY)

    def _fail(self, status: int) -> None:
        self.fn.store("i32", str(status), self.status)
        self.fn.branch(self.failed)
        self.fn.start(self.fn.label("unreached"))

    def _check_workspace(self) -> None:
        if self.step.needs_memory:
            missing = self.fn.emit("icmp eq ptr %arg.workspace, null")
            return_if(self.fn, missing, NO_MEMORY)

    # ---- what the kernel finds ------------------------------------------------------------------
    def _fill_table(self, *, with_pool: bool) -> None:
        fn = self.fn
        for index in range(abi.FIRST_SLOT + len(self.step.held)):
            fn.store("ptr", "null", self.table, 8 * index)
        if with_pool:
            self._share()
        if any(p.sized_by for p in self.step.of("result")):
            callee = self.module.helper("stepforge_result", lambda: _result_text(self.module))
            fn.store("ptr", callee, self.table, 8 * abi.TABLE_HOST_CALL)
        if self.step.plan.needs_arena:
            start = _spare_offsets(self.step)[-1]
            block = fn.offset(self.workspace, start)
            fn.store("i64", emit_dim(fn, self.step.plan.arena, self.env), block)
            cell = fn.alloca("ptr")
            fn.store("ptr", block, cell)
            fn.store("ptr", cell, self.table, 8 * abi.TABLE_ARENA)

    def _share(self) -> None:
        """Let loops be shared out by the caller's function, which may be null."""
        fn = self.fn
        pair = fn.alloca("ptr", 2)
        fn.store("ptr", "%arg.parallel_for", pair)
        fn.store("ptr", "%arg.pool", pair, 8)
        given = fn.emit("icmp ne ptr %arg.parallel_for, null")
        fn.store("ptr", fn.emit(f"select i1 {given}, ptr {pair}, ptr null"), self.table,
                 8 * abi.TABLE_POOL)
        share = self.module.helper("stepforge_share", lambda: _share_text(self.module))
        fn.store("ptr", share, self.table, 8 * abi.TABLE_PARALLEL_FOR)

    def _pointers(self) -> tuple[str, str, str]:
        """The arrays of feeds and variables, of results, and of sizes."""
        fn, signature = self.fn, self.step.signature
        count = len(signature.feeds)
        feeds = fn.alloca("ptr", max(count + len(self.step.held), 1))
        outs = fn.alloca("ptr", max(len(signature.fetches), 1))
        sizes = fn.alloca("i64", max(len(signature.sizes), 1))
        self.feeds = {p.index: self._feed(p) for p in self.step.of("feed")}
        for index, pointer in self.feeds.items():
            fn.store("ptr", pointer, feeds, 8 * index)
        self.held = [self._held(slot, held) for slot, held in enumerate(self.step.held)]
        for slot, pointer in enumerate(self.held):
            fn.store("ptr", pointer, feeds, 8 * (count + slot))
            if slot in self.step.swapped:
                self.records[slot] = self._record(slot, pointer)
            place = self.records.get(slot, pointer)
            fn.store("ptr", place, self.table, 8 * (abi.FIRST_SLOT + slot))
        for parameter in self.step.of("result"):
            fn.store("ptr", f"%arg.{parameter.name}", outs, 8 * parameter.index)
        for index, name in enumerate(signature.sizes):
            fn.store("i64", self.env[name], sizes, 8 * index)
        return feeds, outs, sizes

    def _feed(self, parameter: Parameter) -> str:
        value = f"%arg.{parameter.name}"
        if not parameter.by_value:
            return value
        cell = self.fn.alloca("i8", 16, 16)
        align = f", align {element_alignment(parameter.type.dtype)}"
        self.fn.store(_c_type(parameter), value, cell, extra=align)
        return cell

    def _held(self, slot: int, held: Held) -> str:
        own = [p for p in self.step.of("held") if p.index == slot]
        return f"%arg.{own[0].name}" if own else place_of(self.fn, "%arg.state", held)

    def _record(self, slot: int, data: str) -> str:
        """The VarSlot of a variable whose next value is made in a spare buffer."""
        fn, held = self.fn, self.step.held[slot]
        record, sizes = fn.alloca("i8", SLOT_ALL_BYTES, 16), fn.alloca("i64", held.type.rank or 1)
        if held.twofold:
            spare = other_place(fn, "%arg.state", held)
        else:
            spare = fn.offset(self.workspace, _spare_offsets(self.step)[slot])
        pointers = {
            abi.SLOT_DATA: data, abi.SLOT_DIMS: sizes, SLOT_SPARE: spare, SLOT_RETIRED: "null",
        }
        for offset, pointer in pointers.items():
            fn.store("ptr", pointer, record, offset)
        for offset in (abi.SLOT_CAPACITY, SLOT_SPARE_BYTES):
            fn.store("i64", str(held.bytes), record, offset)
        fn.store("i64", "0", record, abi.SLOT_VERSION)
        fn.store("i32", "1", record, abi.SLOT_FLAGS)
        return record

    # ---- the call -------------------------------------------------------------------------------
    def _run(self, pointers: tuple[str, str, str]) -> None:
        fn = self.fn
        fn.store("ptr", self.table, self.context, abi.CONTEXT_TABLE)
        for offset in (abi.CONTEXT_ARENA, abi.CONTEXT_FRAME, abi.CONTEXT_THREAD_STATE):
            fn.store("ptr", "null", self.context, offset)
        given = [("ptr", p) for p in (self.context, *pointers)]
        status = fn.call("i32", self.kernel.name, *given)
        fn.store("i32", status, self.status)
        good = fn.label("good")
        fn.branch_if(fn.emit(f"icmp eq i32 {status}, 0"), good, self.failed)
        fn.start(good)
        for slot, record in self.records.items():
            made, held = fn.load("ptr", record, abi.SLOT_DATA), self.step.held[slot]
            if held.twofold:
                move_to(fn, "%arg.state", held, made)
            else:
                copy(fn, self.held[slot], made, str(held.bytes))
        for parameter in self.step.of("result"):
            fetch = self.step.signature.fetches[parameter.index]
            if fetch.kind == "feed":
                assert fetch.source is not None
                size = emit_dim(fn, _bytes(fetch.dense_type), self.env)
                copy(fn, f"%arg.{parameter.name}", self.feeds[fetch.source], size)
        fn.branch(self.done)

    def _leave(self) -> None:
        """Keep the values of a failed check in the workspace, where the message finds them."""
        fn = self.fn
        fn.start(self.failed)
        given = fn.emit("icmp ne ptr %arg.workspace, null")

        def keep() -> None:
            values = fn.offset(self.context, abi.CONTEXT_RANK)
            copy(fn, fn.offset(self.workspace, VALUES), values, str(_VALUE_BYTES))

        fn.if_(given, keep)
        fn.branch(self.done)
        fn.start(self.done)
        fn.do(f"ret i32 {fn.load('i32', self.status)}")


def _bytes(type_: Type) -> Dim:
    return dims.product(type_.dims) * item_bytes(type_.dtype)


def _node(site: object) -> str:
    node = getattr(site, "node", "")
    return f" (node '{node}')" if node else ""


def _result_text(module: ModuleWriter) -> str:
    """``stepforge_result(ctx, number, pointers, shape, slot)``, where a session makes the array of
    a result: its memory is the caller's, and in its slot.
    """
    params = [("ptr", "ctx"), ("i64", "number"), ("ptr", "pointers"), ("ptr", "shape"),
              ("ptr", "slot")]
    fn = FunctionWriter(module, "stepforge_result", "i32", params, linkage="internal")
    fn.store("ptr", fn.load("ptr", "%slot"), "%pointers")
    fn.do("ret i32 0")
    return fn.finish()


def _share_text(module: ModuleWriter) -> str:
    """``stepforge_share(pair, job, memory, low, high, work, least)``: call the pair's function,
    which knows chunks by their numbers, on its pool.
    """
    params = [("ptr", name) for name in ("pair", "job", "memory")]
    params += [("i64", name) for name in ("low", "high", "work", "least")]
    fn = FunctionWriter(module, "stepforge_share", "void", params, linkage="internal")
    chunk = chunk_turns(fn)
    cells = [("ptr", "%job"), ("ptr", "%memory"), ("i64", "%low"), ("i64", "%high"), ("i64", chunk)]
    memory = fn.in_memory(cells)
    function, pool = fn.load("ptr", "%pair"), fn.load("ptr", "%pair", 8)
    count = fn.quotient_up(fn.emit("sub i64 %high, %low"), chunk)
    numbered = module.helper("stepforge_chunk", lambda: _chunk_text(module))
    given = [("ptr", pool), ("ptr", numbered), ("ptr", memory), ("i64", count)]
    fn.call("void", function, *given)
    fn.do("ret void")
    return fn.finish()


def _chunk_text(module: ModuleWriter) -> str:
    """``stepforge_chunk(cells, number)``: the turns of one chunk."""
    params = [("ptr", "cells"), ("i64", "number")]
    fn = FunctionWriter(module, "stepforge_chunk", "void", params, linkage="internal")
    job, memory = fn.load("ptr", "%cells"), fn.load("ptr", "%cells", 8)
    low, high, chunk = (fn.load("i64", "%cells", 8 * index) for index in (2, 3, 4))
    first = fn.emit(f"add i64 {low}, {fn.emit(f'mul i64 %number, {chunk}')}")
    behind = fn.intrinsic("smin", "i64", "i64", fn.emit(f"add i64 {first}, {chunk}"), high)
    fn.call("void", job, ("ptr", memory), ("i64", first), ("i64", behind))
    fn.do("ret void")
    return fn.finish()
