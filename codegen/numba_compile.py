"""From Python source to machine code, by numba: kernels, and the functions that users write."""

from __future__ import annotations

from functools import cache
from typing import Any

from stepforge.codegen import numba_library
from stepforge.codegen.numba_scalars import LIBRARY, NUMBA_NAMES
from stepforge.codegen.numba_source import Source
from stepforge.ir.core import Operation
from stepforge.ir.errors import InvalidArgumentError
from stepforge.ir.numba_functions import NUMBA_FUNCTIONS
from stepforge.ir.records import record


@record(frozen=True)
class Compiled:
    """Machine code at ``address``, for as long as this object lives."""

    address: int
    function: Any


def compile_source(source: str, name: str, entry: str = "kernel", **names: Any) -> Compiled:
    """Compile the C function ``entry`` of a module, in which ``names`` are known.

    Raises: ImportError where numba is missing.
    """
    numba_library.numba()
    namespace: dict[str, Any] = {"__name__": f"stepforge.kernels.{name}", **names}
    exec(compile(source, f"<numba kernel {name}>", "exec"), namespace)
    function = namespace[entry]
    return Compiled(int(function.address), function)


def compile_function(op: Operation) -> Compiled:
    """The machine code that a ``native_call`` calls, ``i32 f(pointers, sizes)``.

    Raises: InvalidArgumentError where numba cannot compile the user's function, ImportError.
    """
    arrays = tuple([(o.type.dtype, o.type.rank) for o in op.operands])
    token = op.attr("fn")
    numba = numba_library.numba()
    try:
        return _compiled(token, arrays)
    except numba.core.errors.NumbaError as error:
        message = f"{NUMBA_FUNCTIONS[token].name}: numba cannot compile the function: {error}"
        raise InvalidArgumentError(None, None, message, site=op.site) from error


@cache
def _compiled(token: str, arrays: tuple[tuple[str, int], ...]) -> Compiled:
    function = NUMBA_FUNCTIONS[token]
    text = _wrapper(arrays)
    return compile_source(text, function.name, "call", function=function.compiled)


def _wrapper(arrays: tuple[tuple[str, int], ...]) -> str:
    """Make arrays of pointers and sizes, and call ``function``; 1 where it raises."""
    source = Source()
    carray, cfunc = source.use("numba", "carray"), source.use("numba", "cfunc")
    pointer, word = source.use(LIBRARY, "pointer"), source.use(LIBRARY, "word")
    source.line(f'@{cfunc}("int32(int64, int64)", nopython=True)')
    with source.block("def call(pointers, sizes):"):
        size = 0
        for index, (dtype, rank) in enumerate(arrays):
            shape = "".join(f"{word}(sizes, {size + axis}), " for axis in range(rank))
            size += rank
            element = source.use("numba", NUMBA_NAMES[dtype])
            source.line(f"x{index} = {carray}({pointer}(pointers, {index}), ({shape}), {element})")
        with source.block("try:"):
            source.line(f"function({', '.join(f'x{i}' for i in range(len(arrays)))})")
        with source.block("except Exception:"):
            source.line("return 1")
        source.line("return 0")
    return source.text()
