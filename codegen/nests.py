"""Nests as functions of their own, and their turns shared out among threads.

A larger nest is a function of pointers, scalars and sizes, written once however often it occurs:
LLVM compiles small functions faster than a large one. A nest whose turns are independent is a job;
where its work is worth it, the driver hands it to the pool in chunks whose size depends on the
sizes alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.codegen import signature as abi
from stepforge.codegen.lane_core import Lane, register_element
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.loop_values import Buffer, Element, Position
from stepforge.codegen.loops import LoopWriter
from stepforge.codegen.sharing import JOB, PARALLEL_WORK, Turns, call_shared, job_arguments
from stepforge.codegen.symbol_names import kernel_label
from stepforge.codegen.target import Target
from stepforge.ir import dims
from stepforge.ir.analyses import mentioned_sizes, type_sizes, used_values
from stepforge.ir.core import Const, Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.records import record

INLINE_TURNS = 64  # nests of up to so many turns of their innermost body are not worth a call
LANE_CHUNK = "1024"  # turns by lanes are shared out by so many at least
IN_DRIVER = ("fail_if", "gemm", "copy", "transpose_matrix", "philox")  # ops that need the context
FIRST, BEHIND = "turn.first", "turn.behind"  # the sizes by which a nest's turns are passed


@record(frozen=True)
class Call:
    """A nest's function and its arguments, as (type, text)."""

    function: str
    arguments: Sequence[tuple[str, str]]


class NestWriter(LoopWriter):
    """Writes top-level loops: in place, as a function, or with ``threads`` as a job of the pool."""

    def __init__(
        self,
        module: ModuleWriter,
        fn: FunctionWriter,
        target: Target,
        name: str,
        *,
        threads: bool,
    ) -> None:
        super().__init__(fn, target, {})
        self.threads = threads
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
        small = isinstance(work, int) and work < PARALLEL_WORK
        if op.attr("parallel") and self.threads and not small:
            self._shared(op, work)
            return
        call = self._function(op)
        self.fn.call("void", call.function, *call.arguments)

    # ---- functions ------------------------------------------------------------------------------
    def _function(self, op: Operation, *, job: bool = False) -> Call:
        """The function of a nest; a ``job`` does the turns that it is given."""
        free = list(used_values(op))
        mentioned = set(mentioned_sizes(op)).union(*map(mentioned_sizes, op.regions[0].walk()))
        mentioned = mentioned.union(*(type_sizes(value.type) for value in free))  # for strides
        names = sorted(mentioned & self.sizes.keys())
        arguments = [argument(self.values[value]) for value in free]
        arguments += [("i64", self.sizes[name]) for name in names]
        key = (structure(op), *names)
        if key not in self.nests:
            text = self._function_text(op, free, names, job=job)
            self.nests[key] = self._defined(text, kernel_label(op))
        return Call(self.nests[key], arguments)

    def _function_text(
        self, op: Operation, free: Sequence[Value], names: Sequence[str], *, job: bool
    ) -> str:
        """The function of a nest, its name left out."""
        types = [*(argument(self.values[value])[0] for value in free), *["i64"] * len(names)]
        params = JOB if job else [(type_, f"v_{index}") for index, type_ in enumerate(types)]
        fn = FunctionWriter(
            self.module, "@", "void", params, linkage="internal", attributes="noinline"
        )
        texts = job_arguments(fn, types) if job else [f"%{name}" for _, name in params]
        sizes = dict(zip(names, texts[len(free) :], strict=True))
        if job:
            sizes |= {FIRST: "%first", BEHIND: "%behind"}
        inner = LoopWriter(fn, self.target, sizes)
        for value, text in zip(free, texts, strict=False):
            inner.values[value] = _inside(inner, self.values[value], text)
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
        call = self._function(ranged, job=True)
        low, high, text = (self.dim(size) for size in (op.attr("low"), op.attr("high"), work))
        turns = Turns(low, high, text, LANE_CHUNK if op.attr("simd") else "1")
        call_shared(self.fn, self.table(), call.function, call.arguments, turns)


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

