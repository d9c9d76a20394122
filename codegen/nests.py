"""Nests as functions of their own, and their turns shared out among threads.

A larger nest is a function of pointers, scalars and sizes, written once however often it occurs:
LLVM compiles small functions faster than a large one. A nest whose turns are independent gets the
turns to run as arguments; where its work is worth it, the driver hands it to the pool in chunks
whose size depends on the sizes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stepforge.codegen import signature as abi
from stepforge.codegen.lane_core import Lane, register_element
from stepforge.codegen.llvm import AS_WRITTEN, FunctionWriter, ModuleWriter
from stepforge.codegen.loop_values import Buffer, Element, Position
from stepforge.codegen.loops import LoopWriter
from stepforge.codegen.symbol_names import kernel_label
from stepforge.codegen.target import Target
from stepforge.ir import dims
from stepforge.ir.analyses import mentioned_sizes, type_sizes, used_values
from stepforge.ir.core import Const, Operand, Operation, Value
from stepforge.ir.dims import Dim

INLINE_TURNS = 64  # nests of up to so many turns of their innermost body are not worth a call
PARALLEL_WORK = 100_000  # nanoseconds of work that are worth waking other threads
CHUNK_WORK = 25_000  # nanoseconds of a chunk, about
LANE_CHUNK = 1024  # turns by lanes are shared out in multiples of so many
ROW_CHUNK = 64  # and other turns, where a chunk has many: short rows of chunks begin aligned then
IN_DRIVER = ("fail_if", "gemm", "copy", "transpose_matrix", "philox")  # ops that need the context
FIRST, BEHIND = "turn.first", "turn.behind"  # the sizes by which a nest's turns are passed


@dataclass(frozen=True)
class Call:
    """A nest's function and its arguments, as (type, text)."""

    function: str
    arguments: Sequence[tuple[str, str]]


class NestWriter(LoopWriter):
    """Writes top-level loops: in place, as a function, or as a job of the pool."""

    def __init__(self, module: ModuleWriter, fn: FunctionWriter, target: Target, name: str) -> None:
        super().__init__(fn, target, {})
        self.module = module
        self.name = name
        self.shares = False  # whether some loop may be shared out
        self.functions: dict[str, str] = {}  # by their text
        self.nests: dict[Any, str] = {}  # the same by what was to be written, which is found faster
        self._table = ""

    def table(self) -> str:
        """The step's table of pointers, loaded once."""
        if not self._table:
            with self.fn.preamble():
                self._table = self.fn.load("ptr", "%ctx", abi.CONTEXT_TABLE)
        return self._table

    def nest(self, op: Operation) -> None:
        """Write a top-level loop."""
        if in_place(op):
            LoopWriter.handlers["for"](self, op)
            return
        work = op.attr("work")
        if op.attr("parallel") and not (isinstance(work, int) and work < PARALLEL_WORK):
            self._shared(op, work)
            return
        call = self._function(op)
        self.fn.call("void", call.function, *call.arguments)

    # ---- functions ------------------------------------------------------------------------------
    def _function(self, op: Operation, extra: Sequence[str] = ()) -> Call:
        """The function of a nest; the sizes ``extra`` are its last parameters, to be given."""
        free = list(used_values(op))
        mentioned = set(mentioned_sizes(op)).union(*map(mentioned_sizes, op.regions[0].walk()))
        mentioned = mentioned.union(*(type_sizes(value.type) for value in free))  # for strides
        names = [*sorted(mentioned & self.sizes.keys()), *extra]
        arguments = [argument(self.values[value]) for value in free]
        arguments += [("i64", self.sizes[n]) for n in names if n not in extra]
        key = (structure(op), *names)
        if key not in self.nests:
            self.nests[key] = self._defined(self._function_text(op, free, names), kernel_label(op))
        return Call(self.nests[key], arguments)

    def _function_text(
        self, op: Operation, free: Sequence[Value], names: Sequence[str]
    ) -> str:
        """The function of a nest, its name left out."""
        params = [(argument(self.values[v])[0], f"v_{i}") for i, v in enumerate(free)]
        params += [("i64", f"n_{i}") for i in range(len(names))]
        fn = FunctionWriter(
            self.module, "@", "void", params, linkage="internal", attributes="noinline"
        )
        inner = LoopWriter(fn, self.target, {n: f"%n_{i}" for i, n in enumerate(names)})
        for index, value in enumerate(free):
            inner.values[value] = _inside(inner, self.values[value], f"%v_{index}")
        inner.operation(op)
        fn.do("ret void")
        return fn.finish()

    def _defined(self, text: str, label: str) -> str:
        """The function of this text, which is defined unless there is one that is the same."""
        if text not in self.functions:
            name = f"{self.name}_{label}_nest{len(self.functions)}"
            self.functions[text] = self.module.helper(
                name, lambda: text.replace("@@(", f"@{name}(", 1)
            )
        return self.functions[text]

    # ---- shared turns ---------------------------------------------------------------------------
    def _shared(self, op: Operation, work: Dim) -> None:
        """Call a nest for all turns, or share them out where there is enough to do."""
        self.shares = True
        bounds = {"low": dims.named(FIRST), "high": dims.named(BEHIND)}
        ranged = Operation(
            op.defn, op.operands, {**op.attrs, **bounds}, op.results, op.regions, op.site
        )
        call = self._function(ranged, (FIRST, BEHIND))
        low, high, text = (self.dim(size) for size in (op.attr("low"), op.attr("high"), work))
        turns = (("i64", low), ("i64", high))
        runner = self._runner(call, by_lanes=op.attr("simd"))

        def share() -> None:
            arguments = (("ptr", self.table()), *call.arguments, *turns, ("i64", text))
            self.fn.call("void", runner, *arguments)

        if isinstance(work, int):
            share()
            return
        enough = self.fn.emit(f"icmp sgt i64 {text}, {PARALLEL_WORK}")
        self.fn.either(
            enough, share, lambda: self.fn.call("void", call.function, *call.arguments, *turns)
        )

    def _runner(self, call: Call, *, by_lanes: bool) -> str:
        """``run(table, arguments..., low, high, work)``: by chunks on the pool where there is one.
        """
        name = f"{call.function[1:]}_run"

        def text() -> str:
            own = [(type_, f"a_{i}") for i, (type_, _) in enumerate(call.arguments)]
            params = [("ptr", "table"), *own, ("i64", "low"), ("i64", "high"), ("i64", "work")]
            fn = FunctionWriter(
                self.module, name, "void", params, linkage="internal", attributes=AS_WRITTEN
            )
            arguments = [(type_, f"%{param}") for type_, param in own]
            pool = fn.load("ptr", "%table", 8 * abi.TABLE_POOL)
            fn.either(
                fn.emit(f"icmp eq ptr {pool}, null"),
                lambda: fn.call(
                    "void", call.function, *arguments, ("i64", "%low"), ("i64", "%high")
                ),
                lambda: self._share(
                    fn, pool, Call(call.function, arguments), _chunk_turns(fn, by_lanes=by_lanes)
                ),
            )
            fn.do("ret void")
            return fn.finish()

        return self.module.helper(name, text)

    def _share(self, fn: FunctionWriter, pool: str, call: Call, chunk: str) -> None:
        """Put the arguments into memory and let the pool run the chunks."""
        cells = [*call.arguments, ("i64", "%low"), ("i64", "%high"), ("i64", chunk)]
        memory = fn.alloca("i64", len(cells))
        for index, (type_, text) in enumerate(cells):
            fn.store(type_, text, memory, 8 * index)
        span = fn.emit("sub i64 %high, %low")
        up = fn.emit(f"add i64 {span}, {fn.emit(f'sub i64 {chunk}, 1')}")
        count = fn.emit(f"sdiv i64 {up}, {chunk}")
        run = fn.load("ptr", "%table", 8 * abi.TABLE_PARALLEL_FOR)
        job = self._job(call)
        fn.call("void", run, ("ptr", pool), ("ptr", job), ("ptr", memory), ("i64", count))

    def _job(self, call: Call) -> str:
        """``job(arguments, chunk)``: the nest's function for the turns of one chunk."""
        name = f"{call.function[1:]}_job"

        def text() -> str:
            params = [("ptr", "arguments"), ("i64", "chunk")]
            fn = FunctionWriter(
                self.module, name, "void", params, linkage="internal", attributes=AS_WRITTEN
            )
            types = [*(t for t, _ in call.arguments), "i64", "i64", "i64"]
            values = [fn.load(t, "%arguments", 8 * i) for i, t in enumerate(types)]
            low, high, chunk = values[-3:]
            first = fn.emit(f"add i64 {low}, {fn.emit(f'mul i64 %chunk, {chunk}')}")
            behind = fn.intrinsic("smin", "i64", "i64", fn.emit(f"add i64 {first}, {chunk}"), high)
            arguments = list(zip(types[:-3], values[:-3], strict=True))
            fn.call("void", call.function, *arguments, ("i64", first), ("i64", behind))
            fn.do("ret void")
            return fn.finish()

        return self.module.helper(name, text)


def _chunk_turns(fn: FunctionWriter, *, by_lanes: bool) -> str:
    """How many turns a chunk has: a function of the sizes, never of the number of threads."""
    turns = fn.emit("sub i64 %high, %low")
    scaled = fn.emit(f"mul i64 {turns}, {CHUNK_WORK}")
    chunk = fn.emit(f"sdiv i64 {scaled}, %work")

    def rounded(multiple: int) -> str:
        return fn.emit(f"and i64 {fn.emit(f'add i64 {chunk}, {multiple - 1}')}, -{multiple}")

    if by_lanes:
        return fn.intrinsic("smax", "i64", "i64", rounded(LANE_CHUNK), str(LANE_CHUNK))
    many = fn.emit(f"icmp sgt i64 {chunk}, {LANE_CHUNK}")
    some = fn.emit(f"select i1 {many}, i64 {rounded(ROW_CHUNK)}, i64 {chunk}")
    return fn.intrinsic("smax", "i64", "i64", some, "1")


def argument(value: Buffer | Element | Position) -> tuple[str, str]:
    """The type and the text by which a value is passed to a function."""
    if isinstance(value, Buffer):
        return "ptr", value.pointer
    if isinstance(value, Position):
        return "i64", value.base
    return register_element(value.lane.dtype), value.lane.text


def _inside(
    writer: LoopWriter, value: Buffer | Element | Position, text: str
) -> Buffer | Element | Position:
    if isinstance(value, Buffer):
        return writer.buffer(text, value.type)
    return Position(text) if isinstance(value, Position) else Element(Lane(value.lane.dtype, text))


def structure(op: Operation) -> tuple[Any, ...]:
    """Everything about a nest but which values it is about: what its function depends on."""
    numbers: dict[Operand, int] = {}

    def value(operand: Operand) -> Any:
        if isinstance(operand, Const):
            return operand.type, repr(operand.value)  # 0.0 is not -0.0
        return numbers.setdefault(operand, len(numbers)), operand.type

    def visit(each: Operation) -> tuple[Any, ...]:
        attrs = [(name, _literal(each.attrs[name])) for name in sorted(each.attrs)]
        regions = [
            (*map(value, region.params), *map(visit, region.ops)) for region in each.regions
        ]
        used = (*map(value, each.operands), *map(value, each.results))
        return (each.name, *attrs, *used, *regions)

    return visit(op)


def _literal(attribute: Any) -> Any:
    if isinstance(attribute, (list, tuple)):
        return tuple(map(_literal, attribute))
    return repr(attribute) if isinstance(attribute, float) else attribute


def in_place(op: Operation) -> bool:
    """True for a top-level loop that is written into the driver, not as a function of its own."""
    turns = turns_of(op)
    if op.results or (isinstance(turns, int) and turns <= INLINE_TURNS):
        return True
    return any(inner.name in IN_DRIVER for inner in op.regions[0].walk())


def turns_of(op: Operation) -> Dim:
    """About how often the innermost bodies of a nest run, by vectors of 8 where lanes do."""
    turns: Dim = op.attr("high") - op.attr("low")
    if op.attr("simd") and isinstance(turns, int):
        turns = -(-turns // 8)
    inner = [o for o in op.regions[0].ops if o.name == "for"]
    if not inner:
        return turns
    total: Dim = 0
    for each in inner:
        total = total + turns_of(each)
    return turns * total

