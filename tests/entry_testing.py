"""Steps for tests of entries: a hand-written kernel, a signature, a program that counts.

``build(signature, body)`` compiles them; ``body(fn)`` writes ``kernel(ctx, feeds, outs, dims)``.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from stepforge.codegen import entry, entry_support, jit, target
from stepforge.codegen import signature as abi
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.signature import Feed, Fetch, Signature, Slot, entry_sizes
from stepforge.ir import dims
from stepforge.ir.core import Site
from stepforge.ir.types import NUMERIC, Type, item_bytes, numpy_dtype
from stepforge.runtime import python_entry
from stepforge.runtime.step import make_step, missing_table

Body = Callable[[FunctionWriter], None]
N, M = dims.named("n"), dims.named("m")
PARAMS = [("ptr", "ctx"), ("ptr", "feeds"), ("ptr", "outs"), ("ptr", "dims")]

_C = ctypes.CDLL(None)
MALLOC = ctypes.cast(_C.malloc, ctypes.c_void_p).value
FREE = ctypes.cast(_C.free, ctypes.c_void_p).value


class KernelError(Exception):
    """What the test program's ``fail`` raises: the status and the arguments of the context."""


class Program:
    """Counts what the native entry refuses and answers by the Python entry."""

    name = "tested"

    def __init__(self, signature: Signature) -> None:
        self.signature_ = signature
        self.table = (ctypes.c_void_p * (abi.FIRST_SLOT + len(signature.slots)))()
        self.table[abi.TABLE_ALLOC], self.table[abi.TABLE_FREE] = MALLOC, FREE
        self.lock = (ctypes.c_int64 * 2)()
        self.table[abi.TABLE_LOCK] = ctypes.addressof(self.lock)
        self.library: Any = None
        self.misses = 0
        self.keep: list[Any] = []

    @property
    def table_address(self) -> int:
        return ctypes.addressof(self.table)

    def miss(self, *arguments: Any, **keywords: Any) -> Any:
        self.misses += 1
        feeds = self.signature_.feeds
        if keywords or len(arguments) != len(feeds):
            raise TypeError(f"{self.name} takes {len(feeds)} feeds")
        pairs = zip(arguments, feeds, strict=True)
        arrays = [python_entry.convert_feed(value, feed) for value, feed in pairs]
        return python_entry.call_kernel(
            self.signature_, self.library["kernel"], self.table_address, arrays, self
        )

    def fail(self, context: int) -> Any:
        code = ctypes.c_int32.from_address(context + abi.CONTEXT_CODE).value
        if code == -1:
            cell = ctypes.c_void_p.from_address(context + abi.CONTEXT_EXCEPTION)
            raise ctypes.cast(cell.value or 0, ctypes.py_object).value
        args = (ctypes.c_int64 * 2).from_address(context + abi.CONTEXT_ARGS)
        raise KernelError(code, *args)

    def pack(self, values: list[Any]) -> Any:
        return {"packed": values}


def build(
    signature: Signature, body: Body, *, level: jit.Level = "O0", slots: Sequence[int] = ()
) -> tuple[Any, Program]:
    """A step over a hand-written kernel, and its program; ``slots`` are addresses of VarSlots."""
    host = target.host()
    module = ModuleWriter(host.triple, host.attributes)
    fn = FunctionWriter(module, "kernel", "i32", PARAMS)
    body(fn)
    names = [fn.define()[1:]]
    if not signature.takes_objects:
        names.append(entry.emit_entry(module, signature, names[0])[1:])
    program = Program(signature)
    for index, address in enumerate(slots):
        program.table[abi.FIRST_SLOT + index] = address
    symbols = entry_support.symbols(module.externals())
    code = jit.compile_text(module.text(), level)
    program.library = jit.load(code, symbols, names)
    if signature.takes_objects:
        return make_step(program), program
    program.table[abi.TABLE_ENTRY] = program.library["entry"]
    program.table[abi.TABLE_NEXT] = missing_table()
    return make_step(program, program.table_address), program


def signature_of(
    feeds: Sequence[Type], fetches: Sequence[Fetch], structure: Any = "tuple", **options: Any
) -> Signature:
    """A signature whose feeds are called a, b, c, ... and whose sizes are all that can be."""
    named = tuple(
        Feed("abcdefghij"[k], type_, Site("abcdefghij"[k], "mlp.py", k + 1))
        for k, type_ in enumerate(feeds)
    )
    sizes = entry_sizes(named, options.get("slots", ()))
    return Signature("tested", named, fetches=tuple(fetches), structure=structure,
                     sizes=sizes, **options)  # fmt: skip


def dense(*types: Type) -> list[Fetch]:
    return [Fetch("dense", type_) for type_ in types]


# ---- kernels ------------------------------------------------------------------------------------


def succeed(fn: FunctionWriter) -> None:
    fn.do("ret i32 0")


def copy_feeds(types: Sequence[Type]) -> Body:
    """Copies feed k to output k, for all of ``types``."""

    def body(fn: FunctionWriter) -> None:
        names: dict[str, str] = {}
        copy = fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
        for type_ in types:
            for dim in type_.dims:
                name = dims.as_name(dim)
                if name is not None and name not in names:
                    names[name] = fn.load("i64", "%dims", 8 * len(names))
        for k, type_ in enumerate(types):
            size = str(item_bytes(type_.dtype))
            for dim in type_.dims:
                size = fn.emit(f"mul i64 {size}, {names[str(dim)]}")
            pointers = [("ptr", fn.load("ptr", array, 8 * k)) for array in ("%outs", "%feeds")]
            fn.call("void", copy, *pointers, ("i64", size), ("i1", "false"))
        succeed(fn)

    return body


def axb_scalar(fn: FunctionWriter) -> None:
    """a * b + c of three f64 numbers."""
    a, b, c = (fn.load("double", fn.load("ptr", "%feeds", 8 * k)) for k in range(3))
    product = fn.emit(f"fmul double {a}, {b}")
    fn.store("double", fn.emit(f"fadd double {product}, {c}"), fn.load("ptr", "%outs"))
    succeed(fn)


def axb_vector(fn: FunctionWriter) -> None:
    """a * b + c of three f64 vectors of length n."""
    inputs = [fn.load("ptr", "%feeds", 8 * k) for k in range(3)]
    output, count = fn.load("ptr", "%outs"), fn.load("i64", "%dims")

    def step(i: str) -> None:
        a, b, c = (fn.load("double", fn.offset(p, i, "double")) for p in inputs)
        product = fn.emit(f"fmul double {a}, {b}")
        fn.store("double", fn.emit(f"fadd double {product}, {c}"), fn.offset(output, i, "double"))

    fn.loop(0, count, step)
    succeed(fn)


def fail_with(status: int, *arguments: int) -> Body:
    def body(fn: FunctionWriter) -> None:
        for k, argument in enumerate(arguments):
            fn.store("i64", str(argument), "%ctx", abi.CONTEXT_ARGS + 8 * k)
        fn.do(f"ret i32 {status}")

    return body


def host_call(fn: FunctionWriter) -> None:
    """Calls the function at table[2] with the context and returns what it returns."""
    table = fn.load("ptr", "%ctx", abi.CONTEXT_TABLE)
    function = fn.load("ptr", table, 8 * abi.TABLE_HOST_CALL)
    status = fn.call("i32", function, ("ptr", "%ctx"), ("ptr", "%feeds"), ("ptr", "%outs"))
    fn.do(f"ret i32 {status}")


def set_host_call(program: Program, function: Callable[[int, int, int], int]) -> None:
    """Let ``host_call`` kernels of a program call ``function(context, feeds, outs)``."""
    kind = ctypes.PYFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)
    if program.signature_.work:
        kind = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 3)  # takes the GIL itself
    callback = kind(function)
    program.keep.append(callback)
    program.table[abi.TABLE_HOST_CALL] = ctypes.cast(callback, ctypes.c_void_p).value


class Variable:
    """A VarSlot over a NumPy array."""

    def __init__(self, value: Any = None, dtype: str = "f64") -> None:
        self.memory = (ctypes.c_int64 * (abi.SLOT_BYTES // 8))()
        self._dims = (ctypes.c_int64 * 8)()
        self.set(value, dtype)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.memory)

    def set(self, value: Any, dtype: str = "f64") -> None:
        """Give it a value; None for none."""
        self.array = None if value is None else np.array(value, numpy_dtype(dtype), order="C")
        shape = () if self.array is None else self.array.shape
        self._dims[: len(shape)] = shape
        self.memory[abi.SLOT_DATA // 8] = 0 if self.array is None else self.array.ctypes.data
        self.memory[abi.SLOT_DIMS // 8] = ctypes.addressof(self._dims)
        self.memory[abi.SLOT_RANK // 8] = len(shape) | list(NUMERIC).index(dtype) << 32
        self.memory[abi.SLOT_FLAGS // 8] = int(self.array is not None)


def slots_of(variables: Mapping[str, tuple[Type, bool]]) -> tuple[Slot, ...]:
    """Slots by name: their type, and whether they are written."""
    return tuple(Slot(name, t, written=written) for name, (t, written) in variables.items())


def resident_bytes() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096
