"""The block of memory in which a caller keeps variables: where they are, and the functions that
tell its size, how it begins, and copy single variables out of it and into it.
"""

from __future__ import annotations

from stepforge.codegen.ahead_functions import copy, define, exported
from stepforge.codegen.driver_values import byte_data
from stepforge.codegen.exports import ExportedLibrary, Held, aligned
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


def place_of(fn: FunctionWriter, state: str, held: Held) -> str:
    """The address of a variable's value in the block ``state``."""
    first = fn.offset(state, held.offset)
    return fn.offset(first, fn.load("i64", state, held.marker)) if held.twofold else first


def other_place(fn: FunctionWriter, state: str, held: Held) -> str:
    """The address of the other place of a twofold variable."""
    used = fn.load("i64", state, held.marker)
    free = fn.emit(f"sub i64 {aligned(held.bytes)}, {used}")
    return fn.offset(fn.offset(state, held.offset), free)


def move_to(fn: FunctionWriter, state: str, held: Held, place: str) -> None:
    """The value of a twofold variable is at ``place`` from now on."""
    first, now = (
        fn.emit(f"ptrtoint ptr {pointer} to i64")
        for pointer in (fn.offset(state, held.offset), place)
    )
    fn.store("i64", fn.emit(f"sub i64 {now}, {first}"), state, held.marker)


def _copy_one(fn: FunctionWriter, library: ExportedLibrary, *, inward: bool) -> None:
    """Each variable has a case, whose place goes to one copy behind them."""
    cases = [fn.label("case") for _ in library.held]
    unknown, chosen = fn.label("unknown"), fn.label("chosen")
    table = " ".join(f"i32 {index}, label %{label}" for index, label in enumerate(cases))
    fn.do(f"switch i32 %variable, label %{unknown} [{table}]")
    fn.start(unknown)
    fn.do(f"ret i32 {UNKNOWN}")
    places = []
    for label, held in zip(cases, library.held, strict=True):
        fn.start(label)
        places.append((place_of(fn, "%state", held), label))
        fn.branch(chosen)
    fn.start(chosen)
    place = fn.phi("ptr", *places)
    sizes = zip((str(h.bytes) for h in library.held), cases, strict=True)
    size = fn.phi("i64", *sizes)
    copy(fn, *((place, "%value") if inward else ("%value", place)), size)
    fn.do("ret i32 0")
