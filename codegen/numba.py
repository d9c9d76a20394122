"""A lowered step as one Python function that numba compiles: the readable back end.

It has the kernel ABI of ``kernel``, so that entries, tables, host calls, checks and errors are the
same: the LLVM module then holds the entry and a kernel that goes on to the address in the table.
The text is a module of its own; with stepforge and numba at hand it can be run, and read.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import ClassVar

from stepforge.codegen import numba_library
from stepforge.codegen import signature as abi
from stepforge.codegen.kernel import STACK_ARENA, Check, KernelPlan
from stepforge.codegen.llvm import ModuleWriter
from stepforge.codegen.numba_calls import (
    NEW_SLOT,
    RELEASE_ARENA,
    TAKE_ARENA,
    emit_call,
    emit_memory,
)
from stepforge.codegen.numba_loops import COUNTERS, Array, LoopText, use_counts
from stepforge.codegen.numba_parts import ROOTED, PartText, kept_between, parts_of
from stepforge.codegen.numba_scalars import FUNCTIONS, SUM, Term
from stepforge.codegen.numba_source import Source
from stepforge.codegen.target import Target
from stepforge.ir import dims
from stepforge.ir.core import Operand, Operation, Symbol, Value
from stepforge.ir.ops.user_functions import call_key
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC, item_bytes

SIGNATURE = "int32(int64, int64, int64, int64)"
PARAMS = ("context", "feeds", "outs", "sizes")
_DECORATED = f'("{SIGNATURE}", nopython=True, error_model="numpy", boundscheck=False)'
_PART_DECORATED = '(error_model="numpy", boundscheck=False, no_cpython_wrapper=True)'
_PART_PARAMS = ("context", "table", "feeds", "outs", "sizes", "arena", "cells")
_OTHERS = (  # names that variables must not get
    *("kernel", "table", "arena", "cells", "status"),
    *("array", "carray", "cfunc", "njit", "inf", "nan"),
)
_SILENT = ("fail_if", "fail_unless", "store")  # operations without results and comment
_SHOWN = ("for", "host_call")  # operations with results that have a comment all the same
MOST_NODES = 8  # that a comment names


@record
class NumbaKernel:
    """A kernel as source, with its checks; ``calls`` are functions of the LLVM module.

    Their addresses stand in the table, in this order, behind the slots of the plan; ``shares`` says
    that some have loops for the pool of threads.
    """

    source: str
    checks: list[Check] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    shares: bool = False


def write_kernel(module: ModuleWriter, plan: KernelPlan, target: Target) -> NumbaKernel:
    """The kernel of ``plan`` as Python source; ``module`` gets what that calls.

    Raises: NotSupported where the kernel has to be an LLVM one.
    """
    return KernelText(module, plan, target).write()


class KernelText(PartText):
    """Writes the kernel; see the module's text."""

    def __init__(self, module: ModuleWriter, plan: KernelPlan, target: Target) -> None:
        reserved = (*PARAMS, *_OTHERS, *FUNCTIONS, *COUNTERS, *numba_library.names())
        self.parts = parts_of(plan.function.body.ops[:-1])
        cells = kept_between(self.parts)
        super().__init__(Source(reserved), use_counts(plan.function.body), cells, plan.sizes)
        self.module, self.plan, self.target = module, plan, target
        self.made = NumbaKernel("")
        self._releases: list[str] = []  # statements that give back what was taken so far
        self._blocks = len(cells)  # cells, those of memory that is freed at the end included

    def write(self) -> NumbaKernel:
        """The whole module."""
        source = self.source
        self._offer_params()
        several = len(self.parts) > 1
        parts = enumerate(self.parts, 1) if several else ()
        names = [self._part(f"part_{number}", ops) for number, ops in parts]
        source.line(f"@{source.use('numba', 'cfunc')}{_DECORATED}")
        with source.block(f"def kernel({', '.join(PARAMS)}):"):
            self.begin()
            source.line(f"table = {self.library('word')}(context, {abi.CONTEXT_TABLE // 8})")
            self._take_arena()
            if several:
                self._call_parts(names)
            else:
                self._operations(self.parts[0])
                self._leave("0")
        title = f'"""The kernel of step {self.plan.function.name!r}: see docs/numba.md."""'
        self.made.source = source.text([title, ""])
        return self.made

    def _operations(self, ops: Sequence[Operation]) -> None:
        for position, op in enumerate(ops):
            if op.name not in ROOTED:
                self.bring(op)
            self._comment(op)
            self.operation(op, ops[position + 1 :])
            self.keep(op)

    def _offer_params(self) -> None:
        """Feeds and outputs."""
        for index, param in enumerate(self.plan.function.params):
            if index < self.plan.feeds:
                place = f"feeds, {index}"
            else:
                place = f"outs, {self.plan.outputs[index - self.plan.feeds]}"
            self._offer_word(param, param.name or "x", place)

    def _offer_word(self, value: Value, hint: str, place: str) -> None:
        """A buffer whose address is a word of a block: ``place`` is the block and the number."""
        self.offer(value, hint, lambda: f"{self.library('pointer')}({place})")

    # ---- parts ----------------------------------------------------------------------------------
    def _part(self, hint: str, ops: Sequence[Operation]) -> str:
        """Write a part of the kernel; its name."""
        name = self.source.name(hint)
        self.source.line(f"@{self.source.use('numba', 'njit')}{_PART_DECORATED}")
        with self.source.block(f"def {name}({', '.join(_PART_PARAMS)}):"):
            self.begin()
            self._operations(ops)
            self.source.line("return 0")
        self.source.line()
        self.source.line()
        return name

    def _call_parts(self, names: Sequence[str]) -> None:
        self.source.line(f"cells = {self._words(*['0'] * self._blocks)}")
        for index, name in enumerate(names):
            call = f"status = {name}({', '.join(_PART_PARAMS)})"
            if index == 0:
                self.source.line(call)
                continue
            with self.source.block("if status == 0:"):
                self.source.line(call)
        for cell in range(len(self.cells), self._blocks):
            self.source.line(self._invoke(abi.TABLE_FREE, f"word(cells, {cell})"))
        self._leave("status")

    def _comment(self, op: Operation) -> None:
        """The nodes that a top-level operation stems from, and the user's line of the last."""
        if op.name in _SILENT or (op.results and op.name not in _SHOWN):
            return
        sites = [o.site for o in (op, *(i for r in op.regions for i in r.walk())) if o.site]
        if sites:
            names = list(dict.fromkeys(site.node for site in sites))
            shown = ", ".join(names[:MOST_NODES]) + (" ..." if len(names) > MOST_NODES else "")
            file = sites[-1].file.rpartition("/")[2]
            line = f" ({file}:{sites[-1].line})" if file else ""
            self.source.line(f"# {'' if op.name == 'for' else f'{op.name}: '}{shown}{line}")

    # ---- calls ----------------------------------------------------------------------------------
    def _words(self, *texts: str) -> str:
        return f"{self.library('words')}({', '.join(texts or ('0',))})"

    def _invoke(self, place: int | str, *arguments: str) -> str:
        """A call of the function at a place of the table."""
        function = f"word(table, {place})"
        return f"{self.library('invoke')}({', '.join([function, *arguments])})"

    def _status(self, place: int | str, *arguments: str) -> str:
        """The status of a function at a place of the table."""
        return f"{self.source.use('numba', 'int32')}({self._invoke(place, *arguments)})"

    def _function(self, name: str) -> int:
        """The place in the table of a function of the LLVM module."""
        if name not in self.made.calls:
            self.made.calls.append(name)
        return abi.FIRST_SLOT + len(self.plan.slots) + self.made.calls.index(name)

    def _memory(self, name: str) -> int:
        emit_memory(self.module, name)
        return self._function(name)

    def other(self, op: Operation) -> None:
        """An operation that LLVM does: a function of the step's module."""
        name = f"{op.name}_{len(self.made.calls)}"
        call = emit_call(self.module, self.target, self.plan, op, name)
        self.made.shares = self.made.shares or call.shares
        cells = [f"{self.library('cell')}({self._text(v)})" for v in call.scalars]
        pointers = [*map(self.address, call.buffers), *cells]
        numbers = [self.source.expression(self.sizes[n]) for n in call.sizes]
        numbers += [self._text(v) for v in call.positions]
        arguments = ("context", self._words(*pointers), "0", self._words(*numbers))
        if not call.checks:
            self.source.line(self._invoke(self._function(name), *arguments))
            return
        status = self._status(self._function(name), *arguments)
        before = len(self.made.checks)
        self.made.checks += call.checks
        found = self.source.name("status")
        self.source.line(f"{found} = {status}")
        moved = f"{found} + {before} if {found} > 0 else {found}" if before else found
        self._leave_where(f"{found} != 0", moved)

    def _native_call(self, op: Operation, behind: Sequence[Operation]) -> None:
        """A user's function: the table has its machine code behind the slots."""
        place = abi.FIRST_SLOT + list(self.plan.slots).index(call_key(op))
        sizes = [self.size_text(n) for o in op.operands for n in o.type.dims]
        pointers = self._words(*map(self.address, op.operands))
        self._check(op, f"{self._status(place, pointers, self._words(*sizes))} != 0", [])

    def _text(self, operand: Operand) -> str:
        return self.source.expression(self.term(operand))

    # ---- leaving --------------------------------------------------------------------------------
    def _leave(self, status: str) -> None:
        for release in reversed(self._releases):
            self.source.line(release)
        self.source.line(f"return {status}")

    def _leave_where(self, condition: str, status: str) -> None:
        with self.source.block(f"if {condition}:"):
            self._leave(status)

    def _check(self, op: Operation, condition: str, values: Sequence[str]) -> None:
        """Leave with the number of a check and the values that its message quotes."""
        self.made.checks.append(Check(op.attr("message"), op.attr("error"), op.site))
        status = str(len(self.made.checks))
        if values:
            quoted = ", ".join(values) + ("," if len(values) == 1 else "")
            status = f"{self.library('failed')}(context, {status}, ({quoted}))"
        self._leave_where(condition, status)

    def _fail_unless(self, op: Operation, behind: Sequence[Operation]) -> None:
        left, right = (self.size_text(op.attr(side), SUM) for side in ("lhs", "rhs"))
        self._check(op, f"{left} != {right}", [left, right])

    def _fail_if(self, op: Operation, behind: Sequence[Operation]) -> None:
        condition, *values = op.operands
        self._check(op, self._text(condition), [self._quoted(value) for value in values])

    def _quoted(self, value: Operand) -> str:
        """A number for a message as a word: of a float the bits of its f64."""
        if value.type.kind != "f":
            return self.source.expression(self.k.convert(self.term(value), "i64"))
        wide = self.source.expression(self.k.convert(self.term(value), "f64"))
        return f"{self.library('word')}({self.library('cell')}({wide}), 0)"

    # ---- memory ---------------------------------------------------------------------------------
    def _take_arena(self) -> None:
        size = self.plan.arena
        if isinstance(size, int) and size <= STACK_ARENA:
            text = f"{self.library('stack')}({size})" if size else "0"
            empty = any(op.name == "place" for op in self.plan.function.body.ops)  # of no bytes
            if size or empty or len(self.parts) > 1:
                self.source.line(f"arena = {text}")
            return
        self.bring_sizes(dims.names(size))
        self._take("arena", self._memory(TAKE_ARENA), "table", self.size_text(size))
        self._releases.append(self._invoke(self._memory(RELEASE_ARENA), "table", "arena"))

    def _take(self, name: str, place: int, *arguments: str) -> None:
        """Memory from a function of the table; the kernel leaves where it gives none."""
        self.source.line(f"{name} = {self._invoke(place, *arguments)}")
        self._leave_where(f"{name} == 0", "-2")

    def _place(self, op: Operation, behind: Sequence[Operation]) -> None:
        offset = op.attr("offset")

        def address() -> str:
            return self.at("arena" if offset == 0 else f"arena + {self.size_text(offset, SUM)}")

        self.offer(op.result, self.hint(op), address, dims.names(offset))

    def _view(self, op: Operation, behind: Sequence[Operation]) -> None:
        if self.depth:
            LoopText.handlers["view"](self, op, behind)
            return
        base = op.operands[0]
        assert isinstance(base, Value)

        def address() -> str:
            self.bring_value(base)
            return self.at(self.address(base))

        self.offer(op.result, self.name_of(base), address)

    def _alloc(self, op: Operation, behind: Sequence[Operation]) -> None:
        """Memory whose size is known only now; inside of a nest it is small, and on the stack."""
        if self.depth:
            LoopText.handlers["alloc"](self, op, behind)
            return
        type_, block = op.result.type, self.source.name("block")
        size = self.size_text(type_.size * item_bytes(type_.dtype))
        self._take(block, abi.TABLE_ALLOC, size)
        if len(self.parts) > 1:
            self.source.line(f"{self.library('put')}(cells, {self._blocks}, {block})")
            self._blocks += 1
        else:
            self._releases.append(self._invoke(abi.TABLE_FREE, block))
        self._make(op.result, self.hint(op), self.at(block))

    def _make(self, value: Value, hint: str, address: str) -> None:
        """The array of a buffer that is found here and now."""
        self.values[value] = self.array(self.source.name(hint), address, value.type)

    def _slot_number(self, symbol: Operand) -> int:
        assert isinstance(symbol, Symbol)
        return list(self.plan.slots).index(symbol.name)

    def _slot(self, op: Operation, behind: Sequence[Operation]) -> None:
        number = self.plan.feeds + self._slot_number(op.operands[0])
        self._offer_word(op.result, _name(op), f"feeds, {number}")

    def _new_slot(self, op: Operation, behind: Sequence[Operation]) -> None:
        type_, name = op.result.type, self.source.name("next")
        place = abi.FIRST_SLOT + self._slot_number(op.operands[0])
        size = self.size_text(type_.size * item_bytes(type_.dtype))
        self._take(name, self._memory(NEW_SLOT), f"word(table, {place})", "table", size)
        self._make(op.result, f"next_{_name(op)}", self.at(name))

    def _constant(self, op: Operation, behind: Sequence[Operation]) -> None:
        """A large constant is in the table; a small one is written into the text."""
        name = _name(op)
        if name in self.plan.slots:
            place = abi.FIRST_SLOT + self._slot_number(op.operands[0])
            self._offer_word(op.result, name, f"table, {place}")
            return
        data = self.plan.function.globals[name].data
        assert data is not None
        text = self.source.constant(name, data, NUMERIC[op.result.type.dtype][0])
        self.offer(op.result, name, lambda: self.at(f"{text}.ctypes.data"))

    # ---- the host -------------------------------------------------------------------------------
    def _host_call(self, op: Operation, behind: Sequence[Operation]) -> None:
        buffers = [o for o in op.operands if isinstance(self.values.get(o), Array)]
        numbers = [self.size_text(n) for n in op.attr("sizes")]
        pointers, bound = self.source.name("pointers"), self.source.name("bound")
        places = [*map(self.address, buffers), *["0"] * len(op.results)]
        self.source.line(f"{pointers} = {self._words(*places)}")
        self.source.line(f"{bound} = {self._words(*['0'] * len(op.attr('binds')))}")
        call = ("context", str(op.attr("operation")), pointers, self._words(*numbers), bound)
        self._leave_where(f"{self._status(abi.TABLE_HOST_CALL, *call)} != 0", "-1")
        for index, size in enumerate(op.attr("binds")):
            self._bind(size, f"word({bound}, {index})")
        for index, result in enumerate(op.results, len(buffers)):
            self._make(result, self.hint(op), f"{self.library('pointer')}({pointers}, {index})")

    def _bind(self, size: str, text: str) -> None:
        name = self.source.name(size)
        self.source.line(f"{name} = {text}")
        self.sizes[size] = Term("i64", name)

    def _bind_size(self, op: Operation, behind: Sequence[Operation]) -> None:
        value = self.k.convert(self.term(op.operands[0]), "i64")
        self._bind(op.attr("binds"), self.source.expression(value))

    def _new_result(self, op: Operation, behind: Sequence[Operation]) -> None:
        """An output array that the host makes, as call -1 - number."""
        number = op.attr("result")
        pointers = self.source.name("pointers")
        shape = self._words(*[self.size_text(n) for n in op.result.type.dims])
        self.source.line(f"{pointers} = {self._words('0')}")
        call = ("context", str(-1 - number), pointers, shape, f"outs + {8 * number}")
        self._leave_where(f"{self._status(abi.TABLE_HOST_CALL, *call)} != 0", "-1")
        self._make(op.result, f"out_{number}", f"{self.library('pointer')}({pointers}, 0)")

    handlers: ClassVar[dict[str, Callable[..., None]]] = {
        **LoopText.handlers,
        "alloc": _alloc,
        "place": _place,
        "view": _view,
        "slot": _slot,
        "new_slot": _new_slot,
        "constant": _constant,
        "fail_unless": _fail_unless,
        "fail_if": _fail_if,
        "bind_size": _bind_size,
        "host_call": _host_call,
        "native_call": _native_call,
        "new_result": _new_result,
    }


def _name(op: Operation) -> str:
    """The name of the symbol that is an operation's first operand."""
    symbol = op.operands[0]
    assert isinstance(symbol, Symbol)
    return symbol.name
