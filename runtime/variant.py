"""A variant: one compiled form of a step, with what it takes to run it, to look at it, and to
explain its failures.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import field
from string import Formatter
from typing import TYPE_CHECKING, Any

import numpy as np

from stepforge.codegen import jit, kernel
from stepforge.codegen import signature as abi
from stepforge.codegen.jit import Level
from stepforge.codegen.signature import Signature
from stepforge.frontend.extract.program import Extraction
from stepforge.ir.core import Symbol
from stepforge.ir.errors import BY_CODE, BY_NAME, MOST_QUOTED
from stepforge.ir.evaluate import evaluate
from stepforge.ir.records import record
from stepforge.ir.text import print_function
from stepforge.runtime import backends, hostcalls
from stepforge.runtime.needs import Needs
from stepforge.runtime.variables import VariableStore

if TYPE_CHECKING:
    from stepforge.passes.bisect import Trail


def stages() -> dict[str, str]:
    """What can be looked at, in order, each with the suffix of files that hold it."""
    before = {"graph": "txt", "tensor": "sf", "fused": "sf", "loops": "sf"}
    return {**before, **backends.sources(), "llvm": "ll", "asm": "s"}


@record
class Variant:
    """One compiled variant.

    ``stages`` are the functions behind ``text``; ``seconds`` what it took. ``note`` says why the
    kernel is not of the back end that was asked for; ``calls`` are functions of the LLVM module
    that a kernel of another back end finds at the end of the table.
    """

    extraction: Extraction
    signature: Signature
    stages: dict[str, Any]
    needs: Needs = field(default_factory=Needs)
    seconds: float = 0.0
    level: Level = "O2"
    stored: bool = False  # its object came from disk
    entry_address: int = 0  # of native code that takes Python's arguments
    kernel_address: int = 0  # of code that takes pointers, where it has no entry
    table: Any = None
    plan: kernel.KernelPlan | None = None
    backend: str = backends.DEFAULT
    code: Callable[[], backends.Code] | None = None  # makes what a kernel goes on to
    note: str = ""
    calls: tuple[str, ...] = ()
    checks: Sequence[kernel.Check] = ()
    externals: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    keep: list[Any] = field(default_factory=list)  # what native code refers to
    trail: Trail | None = None  # its passes, where they are to be checked in the first run
    shares: bool = False  # it has loops for the pool of threads
    recipe: str = ""  # the key of what the disk keeps of it beside its object
    obstacle: str = ""  # why the disk can keep nothing beside its object
    remake: Callable[[], Variant] | None = None  # what came from disk is without stages until asked

    @property
    def native(self) -> bool:
        """False where the evaluator runs the step, and before a first run that is checked."""
        return self.compiled and self.trail is None

    @property
    def compiled(self) -> bool:
        """Whether there is native code."""
        return bool(self.entry_address or self.kernel_address)

    @property
    def disk(self) -> str:
        """In words, what of this variant came from disk, and why not the rest."""
        if not self.compiled:
            return "nothing: the evaluator runs it"
        if self.stored and self.plan is None:
            return "all"
        reason = self.obstacle or ("it calls Python" if self.signature.python else "it is new here")
        return f"{'the object' if self.stored else 'nothing'}: {reason}"

    @property
    def table_address(self) -> int:
        """Where the table of pointers is."""
        return ctypes.addressof(self.table) if self.table is not None else 0

    def text(self, stage: str) -> str:
        """The text of a stage. Raises: ValueError for a stage that there is not."""
        if stage not in stages():
            raise ValueError(f"stage must be one of {', '.join(stages())}, not {stage!r}")
        if stage == "asm" and self.compiled:
            return jit.assembly(self.stage("llvm"), self.level)
        found = self.stage(stage)
        if stage in backends.sources() and not found and self.plan is not None:
            return backends.source_of(self.plan, stage)
        return found if isinstance(found, str) else print_function(found)

    def stage(self, name: str) -> Any:
        """What there is of a stage: a function, a text, or nothing."""
        if self.remake is not None:
            made, self.remake = self.remake(), None
            self.stages, self.plan = made.stages, made.plan
        return self.stages.get(name, "")

    def failure(self, context: int) -> BaseException:
        """The exception that a failed kernel left in its context."""
        status = ctypes.c_int32.from_address(context + abi.CONTEXT_CODE).value
        if status == -1:
            return hostcalls.pending_exception(context)
        if status == -2:
            return BY_CODE[8](None, None, f"{self.signature.name}: memory ran out")
        check = self.checks[status - 1]
        message = check.message.format(*_quoted(check.message, context))
        return BY_NAME[check.error](None, None, message, site=check.site)


def _quoted(message: str, context: int) -> list[int | float]:
    """The values that a message with ``{}`` and, for floats, ``{:g}`` quotes from a context."""
    fields = [(name, spec) for _, name, spec, _ in Formatter().parse(message) if name is not None]
    if not fields:
        return []
    specs = {int(name) if name else i: spec for i, (name, spec) in enumerate(fields)}
    rank = ctypes.c_int64.from_address(context + abi.CONTEXT_RANK).value
    words = np.array((ctypes.c_int64 * MOST_QUOTED).from_address(context + abi.CONTEXT_ARGS)[:rank])
    floats = words.view(np.float64)
    return [(floats if specs.get(i) else words)[i].item() for i in range(rank)]


def state_of(extraction: Extraction, store: VariableStore) -> Callable[[Symbol], Any]:
    """What a host call gets for a symbol: the cell of a variable, the stream of a random op."""

    def state(symbol: Symbol) -> Any:
        if symbol.name in extraction.streams:
            return store.stream(extraction.streams[symbol.name])
        return store.cell(extraction.variables[symbol.name], symbol.type.dtype)

    return state


def interpret(
    variant: Variant, arrays: Sequence[np.ndarray[Any, Any]], store: VariableStore
) -> list[Any]:
    """Run a variant that is not ``native``; the values of its fetches."""
    if variant.trail is not None:
        from stepforge.runtime import checking

        values = checking.first_run(variant, arrays, store)
        if values is not None:
            return values
    extraction = variant.extraction
    function = variant.stages["tensor"]
    cells = {
        n: store.cell(v, function.globals[n].type.dtype)
        for n, v in extraction.variables.items()
        if n in function.globals
    }
    state: dict[str, Any] = {n: cell.value for n, cell in cells.items()}
    before = dict(state)
    state.update({n: store.stream(v) for n, v in extraction.streams.items()})
    results = evaluate(function, arrays, state)
    for name, cell in cells.items():
        if state[name] is not before[name]:
            cell.value = state[name]
    out: list[Any] = []
    for fetched in extraction.fetches:
        if fetched.kind == "value":
            value = np.array(results[fetched.index])  # a copy: results may be feeds or constants
            out.append(value if value.ndim else value[()])
        else:
            out.append(None if fetched.kind == "none" else arrays[fetched.index])
    return out


def graph_text(nodes: Sequence[Any]) -> str:
    """The nodes of a subgraph, one a line."""
    lines = []
    for node in nodes:
        inputs = ", ".join(
            [t.name for t in node.inputs] + [f"^{c.name}" for c in node.control_inputs]
        )
        outputs = ", ".join(f"{t.dtype.name}{t.shape}" for t in node.outputs)
        lines.append(f"{node.name} = {node.type}({inputs}) : {outputs}  // {node.site}")
    return "\n".join(lines)
