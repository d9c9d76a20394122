"""A lowered step as LLVM: one driver with the kernel ABI, and a function of its own for each larger
nest.

``i32 kernel(ctx, feeds, outs, dims)`` returns 0, the number of a failed check, -1 for a Python
exception,
-2 where memory ran out. The driver loads pointers and sizes and runs the operations in order; small
nests are written in place, so that steps on scalars and short vectors stay in registers from entry
to result.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from stepforge.codegen import signature as abi
from stepforge.codegen.conv import emit_convolution
from stepforge.codegen.conv_filter import emit_filter_gradient
from stepforge.codegen.dims import emit_dim
from stepforge.codegen.gemm import emit_gemm
from stepforge.codegen.lane_core import storage_element
from stepforge.codegen.llvm import UNLIKELY, FunctionWriter, ModuleWriter
from stepforge.codegen.loop_values import Buffer
from stepforge.codegen.loops import LoopWriter
from stepforge.codegen.memory import (
    allocate,
    commit_slot,
    new_slot,
    release_arena,
    take_arena,
)
from stepforge.codegen.nests import NestWriter
from stepforge.codegen.philox import emit_fill
from stepforge.codegen.target import Target
from stepforge.codegen.transpose import emit_transpose
from stepforge.ir import dims
from stepforge.ir.core import Const, Function, Global, Operand, Operation, Site, Symbol
from stepforge.ir.dims import Dim
from stepforge.ir.ops.user_functions import call_key
from stepforge.ir.types import COMPLEX, item_bytes

STACK_ARENA = 4096  # bytes of temporaries that a step may have on the caller's stack
INLINE_TURNS = (
    64  # nests of up to so many turns of their innermost body are written into the driver
)
BACKSLASH = "\\"
KERNEL_PARAMS = (("ptr", "ctx"), ("ptr", "feeds"), ("ptr", "outs"), ("ptr", "dims"))


@dataclass(frozen=True)
class Check:
    """What a positive status of a kernel means;

    ``message`` has a ``{}`` for each value in the context.
    """

    message: str
    error: str
    site: Site | None


@dataclass(frozen=True)
class KernelPlan:
    """Everything the driver is written from.

    ``slots`` are the symbols in table order: variables, then random streams, then large constants;
    ``outputs`` is the fetch number of each output parameter.
    """

    function: Function
    feeds: int
    outputs: Sequence[int]
    slots: Sequence[str]
    sizes: Sequence[str]
    arena: Dim
    name: str = "kernel"
    linkage: str = ""  # "internal" where the only caller is in the module

    @property
    def needs_arena(self) -> bool:
        """Whether temporaries have memory of their own: few bytes are on the stack."""
        return not isinstance(self.arena, int) or self.arena > STACK_ARENA


@dataclass
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
    """Writes the driver; see the module's text."""

    def __init__(self, module: ModuleWriter, plan: KernelPlan, target: Target) -> None:
        fn = FunctionWriter(module, plan.name, "i32", KERNEL_PARAMS, linkage=plan.linkage)
        super().__init__(module, fn, target, plan.name)
        self.plan = plan
        self.checks: list[Check] = []
        self._status = fn.alloca("i32")
        self._exit = "leave"
        self._arena = ""
        self._blocks: list[str] = []  # stack cells that hold memory to free, or null

    def write(self) -> Kernel:
        """The whole driver."""
        fn = self.fn
        with fn.preamble():
            for index, name in enumerate(self.plan.sizes):
                self.sizes[name] = fn.load("i64", "%dims", 8 * index)
        self.entry_sizes = frozenset(self.plan.sizes)
        self._parameters()
        self._take_arena()
        for op in self.plan.function.body.ops[:-1]:
            self.operation(op)
        fn.store("i32", "0", self._status)
        fn.branch(self._exit)
        fn.start(self._exit)
        self._release_arena()
        fn.do(f"ret i32 {fn.load('i32', self._status)}")
        fn.define()
        return Kernel(f"@{self.plan.name}", self.checks, self.shares)

    def _parameters(self) -> None:
        params = self.plan.function.params
        for index, param in enumerate(params[: self.plan.feeds]):
            pointer = self.fn.load("ptr", "%feeds", 8 * index)
            self.values[param] = self.buffer(pointer, param.type)
        for result, param in zip(self.plan.outputs, params[self.plan.feeds :], strict=True):
            pointer = self.fn.load("ptr", "%outs", 8 * result)
            self.values[param] = self.buffer(pointer, param.type)

    # ---- temporaries ----------------------------------------------------------------------------
    def _take_arena(self) -> None:
        if not self.plan.needs_arena:
            return
        table = self.table()
        self._arena = take_arena(self.fn, table, self.dim(self.plan.arena))
        missing = self.fn.emit(f"icmp eq ptr {self._arena}, null")
        self._leave_if(missing, -2)

    def _release_arena(self) -> None:
        for cell in self._blocks:
            table = self.table()
            callee = self.fn.load("ptr", table, 8 * abi.TABLE_FREE)
            self.fn.call("void", callee, ("ptr", self.fn.load("ptr", cell)))  # null is nothing
        if self._arena:
            table = self.table()
            release_arena(self.fn, table, self._arena)

    def _alloc(self, op: Operation) -> None:
        """Memory whose size is known only now; it is freed when the step ends, however it ends."""
        type_ = op.result.type
        with self.fn.preamble():
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
            offset = emit_dim(self.fn, op.attr("offset"), self.sizes)  # here: not live before
            pointer = self.fn.offset(self._arena, offset)
        else:  # a piece of stack for each, which LLVM can turn into registers
            count = dims.product(type_.dims)
            assert isinstance(count, int)
            pointer = self.fn.alloca(stack_element(type_.dtype), max(count, 1), align=64)
        self.values[op.result] = self.buffer(pointer, type_)

    # ---- state ----------------------------------------------------------------------------------
    def _slot_pointer(self, symbol: Operand) -> str:
        assert isinstance(symbol, Symbol)
        index = abi.FIRST_SLOT + list(self.plan.slots).index(symbol.name)
        table = self.table()
        return self.fn.load("ptr", table, 8 * index)

    def _slot(self, op: Operation) -> None:
        symbol = op.operands[0]
        assert isinstance(symbol, Symbol)
        position = self.plan.feeds + list(self.plan.slots).index(symbol.name)
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
        if symbol.name in self.plan.slots:  # too large for the module's own data
            pointer = self._slot_pointer(symbol)
        else:
            declared = self.plan.function.globals[symbol.name]
            pointer = constant_data(self.module, f"{self.plan.name}_{symbol.name}", declared)
        self.values[op.result] = self.buffer(pointer, op.result.type)

    # ---- failure --------------------------------------------------------------------------------
    def _leave_if(self, condition: str, status: int) -> None:
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
        texts = [as_i64(self, value) for value in values]
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
        place = abi.FIRST_SLOT + list(self.plan.slots).index(call_key(op))
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

    def _gemm(self, op: Operation) -> None:
        buffers = [self.values[o] for o in op.operands]
        emit_gemm(self.fn, self.target, self.table(), op, buffers, self.dim)

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
        "gemm": _gemm,
        "conv": emit_convolution,
        "conv_filter": emit_filter_gradient,
        "philox": _philox,
    }


def stack_element(dtype: str) -> str:
    """The LLVM type of one element on the stack; complex numbers are only moved as a whole."""
    return f"[{item_bytes(dtype)} x i8]" if dtype in COMPLEX else storage_element(dtype)


def write_arguments(fn: FunctionWriter, values: Sequence[str]) -> None:
    """Leave i64 values in the context for the error message."""
    fn.store("i64", str(len(values)), "%ctx", abi.CONTEXT_RANK)
    for index, value in enumerate(values):
        fn.store("i64", value, "%ctx", abi.CONTEXT_ARGS + 8 * index)


def as_i64(writer: LoopWriter, value: Operand) -> str:
    """An index or an integer element as i64 text."""
    if isinstance(value, Const) or value.type.dtype != "index":
        return writer.one.convert(writer.lane(value, False), "i64").text
    return writer.position(value).base


def constant_data(module: ModuleWriter, name: str, declared: Global) -> str:
    """A constant's bytes as read-only data of the module."""
    assert declared.data is not None
    import numpy as np

    return byte_data(module, f"data_{name}", np.ascontiguousarray(declared.data).tobytes())


def byte_data(module: ModuleWriter, name: str, data: bytes) -> str:
    """Bytes as read-only data of the module."""
    text = f"\\{data.hex(BACKSLASH)}" if data else ""
    return module.constant(name, f'[{len(data)} x i8] c"{text}", align 64')
