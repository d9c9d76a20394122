"""What a kernel needs from outside beside its variables, read off the loop level once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Global, Operation
from stepforge.ir.ops.user_functions import call_key
from stepforge.ir.records import record
from stepforge.passes.lower import Lowered
from stepforge.runtime.signatures import symbol_name

if TYPE_CHECKING:
    from stepforge.codegen.numba_compile import Compiled

Array = np.ndarray[Any, Any]
MODULE_DATA = 256  # bytes of a constant that are written into the module itself


@record(frozen=True)
class Needs:
    """What stands in the table behind the variables, and what the host does for the kernel.

    ``host`` are the operations that run in Python, with the globals that they refer to.
    """

    streams: tuple[str, ...] = ()
    constants: Mapping[str, Array] = field(default_factory=dict)
    functions: Mapping[str, Compiled] = field(default_factory=dict)
    host: Sequence[Operation] = ()
    host_sizes: Sequence[Sequence[str]] = ()
    globals: Mapping[str, Global] = field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """Everything that stands in the table, in order."""
        return [*self.streams, *self.constants, *self.functions]


def needs_of(lowered: Lowered) -> Needs:
    """What the kernel of a function on the loop level needs."""
    ops = list(lowered.function.walk())
    used = dict.fromkeys(symbol_name(op) for op in ops if op.name == "constant")
    arrays = {name: _constant(lowered, name) for name in used}
    return Needs(
        tuple(stream_names(lowered)),
        {name: array for name, array in arrays.items() if array.nbytes > MODULE_DATA},
        {call_key(op): _compiled(op) for op in ops if op.name == "native_call"},
        lowered.host_operations,
        [
            [dims.as_name(n) or "" for n in op.attr("sizes")]
            for op in ops
            if op.name == "host_call"
        ],
        lowered.function.globals,
    )


def _compiled(op: Operation) -> Compiled:
    from stepforge.codegen import numba_compile

    return numba_compile.compile_function(op)


def stream_names(lowered: Lowered) -> list[str]:
    """The random streams that native code draws from; they follow the variables in the table."""
    drawing = [op for op in lowered.function.walk() if op.name == "philox"]
    return list(dict.fromkeys(symbol_name(op) for op in drawing))


def _constant(lowered: Lowered, name: str) -> Array:
    """The elements of a constant symbol, contiguous."""
    data = lowered.function.globals[name].data
    assert data is not None
    return np.ascontiguousarray(data)
