"""A lowered step as LLVM: one driver with the kernel ABI, and a function of its own for each larger
nest.

``i32 kernel(ctx, feeds, outs, dims)`` returns 0, the number of a failed check, -1 for a Python
exception, -2 where memory ran out. The driver loads pointers and sizes and runs the operations in
order; small nests are written in place, so that steps on scalars and short vectors stay in
registers from entry to result.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, ClassVar

from stepforge.codegen import signature as abi
from stepforge.codegen.conv import emit_convolution
from stepforge.codegen.conv_filter import emit_filter_gradient
from stepforge.codegen.driver_values import (
    as_i64,
    cell_type,
    constant_data,
    quoted,
    stack_element,
    write_arguments,
)
from stepforge.codegen.gemm import emit_gemm
from stepforge.codegen.lane_core import Lane
from stepforge.codegen.llvm import UNLIKELY, FunctionWriter, ModuleWriter
from stepforge.codegen.loop_values import Buffer, Element, Position
from stepforge.codegen.loops import LoopWriter
from stepforge.codegen.memory import (
    allocate,
    commit_slot,
    new_slot,
    release_arena,
    take_arena,
)
from stepforge.codegen.nests import NestWriter, argument
from stepforge.codegen.parts import Division, Part, divided
from stepforge.codegen.philox import emit_fill
from stepforge.codegen.target import Target
from stepforge.codegen.transpose import emit_transpose
from stepforge.ir import dims
from stepforge.ir.analyses import bound_sizes
from stepforge.ir.core import Function, Operand, Operation, Site, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.ops.user_functions import call_key
from stepforge.ir.records import record
from stepforge.ir.types import item_bytes

STACK_ARENA = 4096  # bytes of temporaries that a step may have on the caller's stack
KERNEL_PARAMS = (("ptr", "ctx"), ("ptr", "feeds"), ("ptr", "outs"), ("ptr", "dims"))
PART_PARAMS = (*KERNEL_PARAMS, ("ptr", "arena"), ("ptr", "frame"))


class NotSupported(Exception):
    """What a back end does not do, in words behind "it has no"; LLVM makes the kernel instead."""


@record(frozen=True)
class Check:
    """What a positive status of a kernel means;

    ``message`` has a ``{}`` for each value in the context, a ``{:g}`` where it is a float.
    """

    message: str
    error: str
    site: Site | None


@record(frozen=True)
class KernelPlan:
    """Everything the driver is written from.

    ``slots`` are the symbols in table order: variables, then random streams, then large constants;
    ``outputs`` is the fetch number of each output parameter. Without ``threads`` no loop is shared
    out, whoever calls.
    """

    function: Function
    feeds: int
    outputs: Sequence[int]
    slots: Sequence[str]
    sizes: Sequence[str]
    arena: Dim
    name: str = "kernel"
    threads: bool = True
    linkage: str = ""  # "internal" where the only caller is in the module

    @cached_property
    def division(self) -> Division | None:
        """The parts of a driver that is too long for one function."""
        return divided(self.function.body.ops[:-1])

    @cached_property
    def needs_arena(self) -> bool:
        """Whether temporaries have memory of their own.

        Few bytes of known sizes are on the stack, where parts of the driver pass them to no other.
        """
        most = STACK_ARENA if self.division is None else 0
        few = isinstance(self.arena, int) and self.arena <= most
        places = (op.result.type.dims for op in self.function.body.ops if op.name == "place")
        return not few or not all(isinstance(dims.product(sizes), int) for sizes in places)


@record
class Kernel:
    """A kernel in its module: the name to call it by, and its checks.

    ``shares`` says that it has loops which a ``parallel_for`` may share out.
    """

    name: str
    checks: list[Check] = field(default_factory=list)
    shares: bool = False


def emit_kernel(module: ModuleWriter, plan: KernelPlan, target: Target) -> Kernel:
    """Write the kernel of ``plan`` into ``module``."""
    return KernelWriter(module, plan, target).write()


class KernelWriter(NestWriter):
    """Writes the driver, or (with ``fn``) a part of it; see the module's text."""

    def __init__(
        self,
        module: ModuleWriter,
        plan: KernelPlan,
        target: Target,
        fn: FunctionWriter | None = None,
    ) -> None:
        fn = fn or FunctionWriter(module, plan.name, "i32", KERNEL_PARAMS, linkage=plan.linkage)
        super().__init__(module, fn, target, plan.name, threads=plan.threads)
        self.plan = plan
        self.checks: list[Check] = []
        self._places = {name: place for place, name in enumerate(plan.slots)}
        self._status = fn.alloca("i32")
        self._exit = "leave"
        self._arena = ""
        self._cells: dict[Value | str, int] = {}  # what is in the frame
        self._own = frozenset(plan.function.body.ops)
        self._blocks: list[str] = []  # stack cells that hold memory to free, or null

    def write(self) -> Kernel:
        """The whole driver."""
        fn = self.fn
        division = self.plan.division
        self._entry_sizes(self.plan.sizes)
        self._parameters(self.plan.function.params)
        self._take_arena()
        if division is None:
            for op in self.plan.function.body.ops[:-1]:
                self.operation(op)
        else:
            self._run_parts(division)
        fn.store("i32", "0", self._status)
        fn.branch(self._exit)
        fn.start(self._exit)
        self._release_arena()
        fn.do(f"ret i32 {fn.load('i32', self._status)}")
        fn.expand_if_short()
        fn.define()
        return Kernel(f"@{self.plan.name}", self.checks, self.shares)

    def _entry_sizes(self, names: Iterable[str]) -> None:
        with self.fn.preamble():
            for index, name in enumerate(self.plan.sizes):
                if name in names:
                    self.sizes[name] = self.fn.load("i64", "%dims", 8 * index)
        self.entry_sizes = frozenset(self.sizes)

    def _parameters(self, wanted: Collection[Value]) -> None:
        params = self.plan.function.params
        arrays = [("%feeds", index) for index in range(self.plan.feeds)]
        arrays += [("%outs", result) for result in self.plan.outputs]
        for param, (array, index) in zip(params, arrays, strict=True):
            if param in wanted:
                pointer = self.fn.load("ptr", array, 8 * index)
                self.values[param] = self.buffer(pointer, param.type)

    # ---- parts ----------------------------------------------------------------------------------
    def _run_parts(self, division: Division) -> None:
        with self.fn.preamble():
            frame = self.fn.alloca("i64", len(division.cells) + 1)
            for cell in division.blocks:
                self._blocks.append(self.fn.offset(frame, 8 * cell))
                self.fn.store("ptr", "null", self._blocks[-1])
        given = [(type_, f"%{name}") for type_, name in KERNEL_PARAMS]
        given += [("ptr", self._arena or "null"), ("ptr", frame)]
        for number, part in enumerate(division.parts):
            name = f"{self.name}_part_{number}"
            fn = FunctionWriter(self.module, name, "i32", PART_PARAMS, linkage="internal",
                                attributes="noinline")
            writer = KernelWriter(self.module, self.plan, self.target, fn)
            writer.checks, writer.functions, writer.nests = self.checks, self.functions, self.nests
            writer.write_part(part, division.cells)
            self.shares = self.shares or writer.shares
            status = self.fn.call("i32", f"@{name}", *given)
            self._leave_if(self.fn.emit(f"icmp ne i32 {status}, 0"), status)

    def write_part(self, part: Part, cells: dict[Value | str, int]) -> None:
        """The function of one part; what leaves it early leaves the driver."""
        fn, self._arena, self._cells = self.fn, "%arena", cells
        self._entry_sizes(part.sizes)
        with fn.preamble():
            for name in sorted(part.sizes & cells.keys()):
                self.sizes[name] = fn.load("i64", "%frame", 8 * cells[name])
        self.entry_sizes = frozenset(self.sizes)
        self._parameters(part.outside)
        for value in part.outside:
            if value in cells:
                text = fn.load(cell_type(value), "%frame", 8 * cells[value])
                self.values[value] = self._from_cell(value, text)
        for op in (*part.repeated, *part.ops):
            self.operation(op)
        for op in part.ops:
            self._leave_in_cells(op)
        fn.store("i32", "0", self._status)
        fn.branch(self._exit)
        fn.start(self._exit)
        fn.do(f"ret i32 {fn.load('i32', self._status)}")
        fn.define()

    def _from_cell(self, value: Value, text: str) -> Buffer | Element | Position:
        if value.type.buffer:
            return self.buffer(text, value.type)
        dtype = value.type.dtype
        return Position(text) if dtype == "index" else Element(Lane(dtype, text))

    def _leave_in_cells(self, op: Operation) -> None:
        """Put what later parts need of an operation's results and size names into the frame."""
        for result in op.results:
            if result in self._cells:
                _, text = argument(self.values[result])
                self.fn.store(cell_type(result), text, "%frame", 8 * self._cells[result])
        for name in bound_sizes(op):
            if name in self._cells:
                self.fn.store("i64", self.sizes[name], "%frame", 8 * self._cells[name])

    # ---- temporaries ----------------------------------------------------------------------------
    def _take_arena(self) -> None:
        """Memory for all temporaries; none where there are none, or few enough for the stack."""
        if not self.plan.needs_arena:
            return
        self._arena = take_arena(self.fn, self.table(), self.dim(self.plan.arena))
        missing = self.fn.emit(f"icmp eq ptr {self._arena}, null")
        self._leave_if(missing, -2)

    def _release_arena(self) -> None:
        for cell in self._blocks:
            callee = self.fn.load("ptr", self.table(), 8 * abi.TABLE_FREE)
            self.fn.call("void", callee, ("ptr", self.fn.load("ptr", cell)))  # null is nothing
        if self._arena:
            release_arena(self.fn, self.table(), self._arena)

    def _alloc(self, op: Operation) -> None:
        """Memory whose size is known only now; it is freed when the step ends, however it ends."""
        if op not in self._own:  # inside of a loop it is small
            super()._alloc(op)
            return
        type_ = op.result.type
        with self.fn.preamble():
            if op.result in self._cells:
                cell = self.fn.offset("%frame", 8 * self._cells[op.result])
            else:
                cell = self.fn.alloca("ptr")
                self.fn.store("ptr", "null", cell)
                self._blocks.append(cell)
        size = self.dim(dims.product(type_.dims) * item_bytes(type_.dtype))
        table = self.table()
        block = allocate(self.fn, table, size)
        self._leave_if(self.fn.emit(f"icmp eq ptr {block}, null"), -2)
        self.fn.store("ptr", block, cell)
        self.values[op.result] = self.buffer(block, type_)

    def _place(self, op: Operation) -> None:
        type_ = op.result.type
        if self._arena:
            pointer = self.fn.offset(self._arena, self.dim_here(op.attr("offset")))
        else:  # a piece of stack for each, which LLVM can turn into registers
            count = dims.product(type_.dims)
            assert isinstance(count, int)
            pointer = self.fn.alloca(stack_element(type_.dtype), max(count, 1), align=64)
        self.values[op.result] = self.buffer(pointer, type_)

    # ---- state ----------------------------------------------------------------------------------
    def _slot_pointer(self, symbol: Operand) -> str:
        assert isinstance(symbol, Symbol)
        index = abi.FIRST_SLOT + self._places[symbol.name]
        return self.fn.load("ptr", self.table(), 8 * index)

    def _slot(self, op: Operation) -> None:
        symbol = op.operands[0]
        assert isinstance(symbol, Symbol)
        position = self.plan.feeds + self._places[symbol.name]
        pointer = self.fn.load("ptr", "%feeds", 8 * position)
        self.values[op.result] = self.buffer(pointer, op.result.type)

    def _new_slot(self, op: Operation) -> None:
        type_ = op.result.type
        table = self.table()
        count = self.dim(dims.product(type_.dims) * item_bytes(type_.dtype))
        pointer = new_slot(self.fn, self._slot_pointer(op.operands[0]), table, count)
        self._leave_if(self.fn.emit(f"icmp eq ptr {pointer}, null"), -2)
        self.values[op.result] = self.buffer(pointer, type_)

    def _commit(self, op: Operation) -> None:
        shape = [self.dim(n) for n in op.operands[1].type.dims]
        commit_slot(self.fn, self._slot_pointer(op.operands[0]), shape)

    def _constant(self, op: Operation) -> None:
        symbol = op.operands[0]
        assert isinstance(symbol, Symbol)
        if symbol.name in self._places:  # too large for the module's own data
            pointer = self._slot_pointer(symbol)
        else:
            declared = self.plan.function.globals[symbol.name]
            pointer = constant_data(self.module, f"{self.plan.name}_{symbol.name}", declared)
        self.values[op.result] = self.buffer(pointer, op.result.type)

    # ---- failure --------------------------------------------------------------------------------
    def _leave_if(self, condition: str, status: int | str) -> None:
        def leave() -> None:
            self.fn.store("i32", str(status), self._status)
            self.fn.branch(self._exit)
            self.fn.start(self.fn.label("unreached"))

        self.fn.if_(condition, leave, UNLIKELY)

    def _check_number(self, op: Operation) -> int:
        self.checks.append(Check(op.attr("message"), op.attr("error"), op.site))
        return len(self.checks)

    def _fail_unless(self, op: Operation) -> None:
        left, right = self.dim(op.attr("lhs")), self.dim(op.attr("rhs"))
        number = self._check_number(op)
        self.fn.if_(
            self.fn.emit(f"icmp ne i64 {left}, {right}"),
            lambda: self._leave_with(number, [left, right]),
            UNLIKELY,
        )

    def _leave_with(self, number: int, values: Sequence[str]) -> None:
        write_arguments(self.fn, values)
        self.fn.store("i32", str(number), self._status)
        self.fn.branch(self._exit)
        self.fn.start(self.fn.label("unreached"))

    def _fail_if(self, op: Operation) -> None:
        number = self._check_number(op)
        condition, *values = op.operands
        texts = [quoted(self, value) for value in values]
        self.fn.if_(
            self.lane(condition, False).text, lambda: self._leave_with(number, texts), UNLIKELY
        )

    def _bind_size(self, op: Operation) -> None:
        value = op.operands[0]
        self.sizes[op.attr("binds")] = as_i64(self, value)

    # ---- calls ----------------------------------------------------------------------------------
    def _host_call(self, op: Operation) -> None:
        pointers = self._pointer_array(
            [self.values[o] for o in op.operands if o in self.values], len(op.results)
        )
        sizes = self._size_array([self.dim(n) for n in op.attr("sizes")])
        bound = self.fn.alloca("i64", max(len(op.attr("binds")), 1))
        table = self.table()
        callee = self.fn.load("ptr", table, 8 * abi.TABLE_HOST_CALL)
        status = self.fn.call(
            "i32",
            callee,
            ("ptr", "%ctx"),
            ("i64", str(op.attr("operation"))),
            ("ptr", pointers),
            ("ptr", sizes),
            ("ptr", bound),
        )
        self._leave_if(self.fn.emit(f"icmp ne i32 {status}, 0"), -1)
        for index, name in enumerate(op.attr("binds")):
            self.sizes[name] = self.fn.load("i64", bound, 8 * index)
        first = len([o for o in op.operands if o in self.values])
        for index, result in enumerate(op.results):
            pointer = self.fn.load("ptr", pointers, 8 * (first + index))
            self.values[result] = self.buffer(pointer, result.type)

    def _pointer_array(self, buffers: Sequence[Buffer], extra: int) -> str:
        array = self.fn.alloca("ptr", max(len(buffers) + extra, 1))
        for index, buffer in enumerate(buffers):
            self.fn.store("ptr", buffer.pointer, array, 8 * index)
        return array

    def _size_array(self, sizes: Sequence[str]) -> str:
        array = self.fn.alloca("i64", max(len(sizes), 1))
        for index, size in enumerate(sizes):
            self.fn.store("i64", size, array, 8 * index)
        return array

    def _new_result(self, op: Operation) -> None:
        """An output array whose sizes are known only now:

        the host makes it, as call -1 - number.
        """
        type_ = op.result.type
        pointers = self.fn.alloca("ptr", 1)
        shape = self._size_array([self.dim(n) for n in type_.dims])
        table = self.table()
        callee = self.fn.load("ptr", table, 8 * abi.TABLE_HOST_CALL)
        slot = self.fn.offset("%outs", 8 * op.attr("result"))
        status = self.fn.call(
            "i32",
            callee,
            ("ptr", "%ctx"),
            ("i64", str(-1 - op.attr("result"))),
            ("ptr", pointers),
            ("ptr", shape),
            ("ptr", slot),
        )
        self._leave_if(self.fn.emit(f"icmp ne i32 {status}, 0"), -1)
        self.values[op.result] = self.buffer(self.fn.load("ptr", pointers), type_)

    def _native_call(self, op: Operation) -> None:
        """Machine code that the table has behind the slots, under the key of the call."""
        buffers = [self.values[o] for o in op.operands]
        sizes = [self.dim(n) for buffer in buffers for n in buffer.type.dims]
        place = abi.FIRST_SLOT + self._places[call_key(op)]
        status = self.fn.call(
            "i32",
            self.fn.load("ptr", self.table(), 8 * place),
            ("ptr", self._pointer_array(buffers, 0)),
            ("ptr", self._size_array(sizes)),
        )
        number = self._check_number(op)
        failed = self.fn.emit(f"icmp ne i32 {status}, 0")
        self.fn.if_(failed, lambda: self._leave_with(number, []), UNLIKELY)

    def _copy(self, op: Operation) -> None:
        source, target = (self.values[o] for o in op.operands)
        size = self.dim(target.type.size * item_bytes(target.type.dtype))
        callee = self.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
        self.fn.call("void", callee, ("ptr", target.pointer), ("ptr", source.pointer),
                     ("i64", size), ("i1", "false"))

    def _transpose(self, op: Operation) -> None:
        source, target = (self.values[o] for o in op.operands)
        rows, columns = (self.dim(size) for size in source.type.dims)
        size = item_bytes(source.type.dtype)
        emit_transpose(
            self.fn, self.target, size, source.pointer, target.pointer, rows, columns
        )

    def _philox(self, op: Operation) -> None:
        stream, target, *bounds = op.operands
        low, high = [self.lane(bound, False) for bound in bounds] or (None, None)
        out, slot = self.values[target], self._slot_pointer(stream)
        kind, dtype = op.attr("kind"), out.type.dtype
        count = self.dim(dims.product(out.type.dims))
        emit_fill(self.fn, self.target, kind, dtype, slot, out.pointer, count, low=low, high=high)

    handlers: ClassVar[dict[str, Callable[[Any, Operation], None]]] = {
        **LoopWriter.handlers,
        "for": NestWriter.nest,
        "alloc": _alloc,
        "place": _place,
        "slot": _slot,
        "new_slot": _new_slot,
        "commit": _commit,
        "constant": _constant,
        "fail_unless": _fail_unless,
        "fail_if": _fail_if,
        "bind_size": _bind_size,
        "host_call": _host_call,
        "native_call": _native_call,
        "new_result": _new_result,
        "copy": _copy,
        "transpose_matrix": _transpose,
        "gemm": emit_gemm,
        "conv": emit_convolution,
        "conv_filter": emit_filter_gradient,
        "philox": _philox,
    }
