"""Values where the driver of a kernel meets what is around it: cells that pass them between parts,
the stack, the arguments of error messages, and the module's constant data.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stepforge.codegen import signature as abi
from stepforge.codegen.lane_core import register_element, storage_element
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.loops import LoopWriter
from stepforge.ir.core import Const, Global, Operand, Value
from stepforge.ir.types import COMPLEX, item_bytes

BACKSLASH = "\\"


def cell_type(value: Value) -> str:
    """The LLVM type of a value of the driver in a cell of the frame."""
    if value.type.buffer:
        return "ptr"
    return "i64" if value.type.dtype == "index" else register_element(value.type.dtype)


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


def quoted(writer: LoopWriter, value: Operand) -> str:
    """A number for a message as i64 text: of a float the bits of its f64 (see ``Check``)."""
    if value.type.kind != "f":
        return as_i64(writer, value)
    wide = writer.one.convert(writer.lane(value, False), "f64")
    return writer.one.bitcast(wide, "i64").text


def constant_data(module: ModuleWriter, name: str, declared: Global) -> str:
    """A constant's bytes as read-only data of the module."""
    assert declared.data is not None
    return byte_data(module, f"data_{name}", np.ascontiguousarray(declared.data).tobytes())


def byte_data(module: ModuleWriter, name: str, data: bytes) -> str:
    """Bytes as read-only data of the module."""
    text = f"\\{data.hex(BACKSLASH)}" if data else ""
    return module.constant(name, f'[{len(data)} x i8] c"{text}", align 64')
