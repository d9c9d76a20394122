"""The functions on the block of memory in which a caller keeps variables: its size, how it begins,
and copies of single variables out of it and into it.
"""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.ahead_functions import copy, define, exported, return_if
from stepforge.codegen.driver_values import byte_data
from stepforge.codegen.exports import ExportedLibrary
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.target import Target

UNKNOWN = 1  # the status of ``get`` and ``set`` for a variable that there is not


def emit_state(module: ModuleWriter, library: ExportedLibrary, target: Target) -> None:
    """Write ``NAME_state_size``, ``NAME_init`` (where the values are in the code), ``NAME_get`` and
    ``NAME_set``.
    """
    name = library.name
    fn = exported(module, target, f"{name}_state_size", "i64", [])
    fn.do(f"ret i64 {library.state_bytes}")
    define(fn)
    if library.image is not None:
        fn = exported(module, target, f"{name}_init", "void", [("ptr", "state")])
        image = byte_data(module, f"image_{name}", library.image)
        copy(fn, "%state", image, str(len(library.image)))
        fn.do("ret void")
        define(fn)
    for verb in ("get", "set"):
        params = [("ptr", "state"), ("i32", "variable"), ("ptr", "value")]
        fn = exported(module, target, f"{name}_{verb}", "i32", params)
        _copy_one(fn, library, inward=verb == "set")
        define(fn)


def _copy_one(fn: FunctionWriter, library: ExportedLibrary, *, inward: bool) -> None:
    count = len(library.held)
    return_if(fn, fn.emit(f"icmp uge i32 %variable, {count}"), UNKNOWN)
    index = fn.emit("zext i32 %variable to i64")
    offset = _entry(fn, "offsets", index, [h.offset for h in library.held])
    size = _entry(fn, "lengths", index, [h.bytes for h in library.held])
    place = fn.offset("%state", offset)
    copy(fn, *((place, "%value") if inward else ("%value", place)), size)
    fn.do("ret i32 0")


def _entry(fn: FunctionWriter, name: str, index: str, numbers: Sequence[int]) -> str:
    values = ", ".join(f"i64 {n}" for n in numbers)
    table = fn.module.constant(f"state_{name}", f"[{len(numbers)} x i64] [{values}]")
    return fn.load("i64", fn.offset(table, index, "i64"))
