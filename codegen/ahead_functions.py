"""What all functions that a library exports are written with."""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.llvm import UNLIKELY, FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target


def exported(
    module: ModuleWriter, target: Target, name: str, returns: str,
    params: Sequence[tuple[str, str]],
) -> FunctionWriter:
    """The writer of a function that the library exports."""
    linkage = "dllexport" if target.windows else ""
    return FunctionWriter(module, name, returns, params, linkage=linkage)


def define(fn: FunctionWriter) -> None:
    """Add an exported function to its module. Raises: ValueError where its name is taken there."""
    if fn.module.defines(fn.name):
        raise name_taken(fn.name)
    fn.define()


def name_taken(name: str) -> ValueError:
    """The error of an entry point whose name the code itself needs."""
    return ValueError(f"{name} cannot be an entry point: the code itself needs that name")


def aligned_up(fn: FunctionWriter, pointer: str) -> str:
    """The first address from ``pointer`` on that is a multiple of 64."""
    address = fn.emit(f"ptrtoint ptr {pointer} to i64")
    missing = fn.emit(f"and i64 {fn.emit(f'sub i64 0, {address}')}, 63")
    return fn.offset(pointer, missing)


def copy(fn: FunctionWriter, target: str, source: str, size: str) -> None:
    """Copy ``size`` bytes (i64 text)."""
    callee = fn.module.declare("llvm.memcpy.p0.p0.i64", "void", "ptr, ptr, i64, i1")
    fn.call("void", callee, ("ptr", target), ("ptr", source), ("i64", size), ("i1", "false"))


def return_if(fn: FunctionWriter, condition: str, status: int) -> None:
    """Return ``status`` where ``condition`` holds, which is not expected."""
    leave, go_on = fn.label("leave"), fn.label("go_on")
    fn.branch_if(condition, leave, go_on, UNLIKELY)
    fn.start(leave)
    fn.do(f"ret i32 {status}")
    fn.start(go_on)
