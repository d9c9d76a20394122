"""The compile of one variant of a step, from extracted IR to linked code, with every stage kept to
look at.

The order of passes is the tuple below. A function that loops cannot hold (strings, unknown ranks,
control flow that is not lowered) is run by the reference evaluator instead; both kinds have the
same interface.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stepforge.codegen import entry, entry_support, jit, kernel, layout, target
from stepforge.codegen import signature as abi
from stepforge.codegen.jit import Level
from stepforge.codegen.llvm import ModuleWriter
from stepforge.codegen.signature import Feed, Fetch, Signature, Slot, Structure
from stepforge.frontend.extract.program import Extraction
from stepforge.ir import analyses, dims
from stepforge.ir.core import Function, Operation, Symbol
from stepforge.ir.errors import BY_CODE
from stepforge.ir.evaluate import evaluate
from stepforge.ir.text import print_function
from stepforge.ir.types import Type
from stepforge.passes import cost
from stepforge.passes.contract import contract
from stepforge.passes.cse import cse
from stepforge.passes.expand import expand
from stepforge.passes.fold import fold
from stepforge.passes.fuse import fuse
from stepforge.passes.lower import Lowered, lower, lowerable
from stepforge.passes.merge_loops import merge_loops
from stepforge.passes.plan import plan
from stepforge.passes.prune import prune
from stepforge.passes.simplify import simplify
from stepforge.runtime import hostcalls, native
from stepforge.runtime.variables import VariableStore

Pass = Callable[[Function], Function]
TENSOR_PASSES: tuple[Pass, ...] = (prune, fold, simplify, cse, expand, fold, simplify, cse, prune)
FUSION_PASSES: tuple[Pass, ...] = (fuse, prune)
LOOP_PASSES: tuple[Pass, ...] = (merge_loops, contract)
MODULE_DATA = 4096  # bytes of a constant that are written into the module itself
STAGES = ("graph", "tensor", "fused", "loops", "llvm", "asm")


@dataclass
class Variant:
    """One compiled variant.

    ``stages`` are the functions behind ``text``; ``seconds`` what it took.
    """

    extraction: Extraction
    signature: Signature
    stages: dict[str, Any]
    seconds: float = 0.0
    level: Level = "O2"
    entry_address: int = 0
    kernel_address: int = 0
    table: Any = None
    checks: Sequence[kernel.Check] = ()
    externals: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    keep: list[Any] = field(default_factory=list)  # what native code refers to

    @property
    def native(self) -> bool:
        """False where the evaluator runs the step."""
        return self.kernel_address != 0

    @property
    def table_address(self) -> int:
        """Where the table of pointers is."""
        return ctypes.addressof(self.table) if self.table is not None else 0

    def text(self, stage: str) -> str:
        """The text of a stage. Raises: ValueError for a stage that there is not."""
        if stage not in STAGES:
            raise ValueError(f"stage must be one of {', '.join(STAGES)}, not {stage!r}")
        if stage == "asm":
            return jit.assembly(self.stages["llvm"], self.level)
        found = self.stages.get(stage, "")
        return found if isinstance(found, str) else print_function(found)

    def failure(self, context: int) -> BaseException:
        """The exception that a failed kernel left in its context."""
        status = ctypes.c_int32.from_address(context + abi.CONTEXT_CODE).value
        if status == -1:
            return hostcalls.pending_exception(context)
        if status == -2:
            return BY_CODE[8](None, None, f"{self.signature.name}: memory ran out")
        check = self.checks[status - 1]
        rank = (
            ctypes.c_int64.from_address(context + abi.CONTEXT_RANK).value
            if check.message.count("{")
            else 0
        )
        values = (ctypes.c_int64 * 16).from_address(context + abi.CONTEXT_ARGS)[:rank]
        cls = {c.__name__: c for c in BY_CODE.values()}[check.error]
        return cls(None, None, check.message.format(*values), site=check.site)


def compile_variant(
    extraction: Extraction,
    store: VariableStore,
    *,
    name: str,
    structure: Structure,
    level: Level,
    nodes: Sequence[Any] = (),
) -> Variant:
    """Compile an extracted function for one session's variables."""
    started = time.perf_counter()
    function = run_passes(extraction.function, TENSOR_PASSES)
    stages: dict[str, Any] = {"graph": graph_text(nodes), "tensor": function}
    if lowerable(function):
        variant = _compile_native(extraction, function, store, stages, name, structure, level)
    else:
        signature = _signature(extraction, function, name, structure, python=True)
        variant = Variant(extraction, signature, stages)
    variant.seconds = time.perf_counter() - started
    return variant


def run_passes(function: Function, passes: Sequence[Pass]) -> Function:
    """Run passes in order."""
    for each in passes:
        function = each(function)
    return function


def _compile_native(
    extraction: Extraction,
    function: Function,
    store: VariableStore,
    stages: dict[str, Any],
    name: str,
    structure: Structure,
    level: Level,
) -> Variant:
    fused = run_passes(function, FUSION_PASSES)
    lowered = lower(fused)
    signature = _signature(
        extraction,
        fused,
        name,
        structure,
        python=bool(lowered.host_operations) or len(lowered.outputs) < len(fused.results),
    )
    loops = run_passes(lowered.function, LOOP_PASSES)
    planned = plan(loops, frozenset(signature.sizes))
    stages.update(fused=fused, loops=planned.function)
    module = ModuleWriter(target.host().triple, target.host().attributes)
    slots = [slot.name for slot in signature.slots]
    slots += _stream_names(lowered) + _constant_names(lowered)
    made = kernel.emit_kernel(
        module,
        kernel.KernelPlan(
            planned.function,
            len(extraction.feeds),
            _output_numbers(extraction, lowered),
            slots,
            signature.sizes,
            planned.arena,
        ),
        target.host(),
    )
    exports = ["kernel"]
    if layout.native_entry():
        entry.emit_entry(module, signature, made.name)
        exports.append("entry")
    stages["llvm"] = module.text()
    variant = Variant(
        extraction,
        signature,
        stages,
        checks=made.checks,
        externals=module.externals(),
        exports=tuple(exports),
    )
    link(variant, level)
    _fill_table(variant, lowered, fused, store)
    return variant


def link(variant: Variant, level: Level) -> None:
    """Compile the variant's LLVM text at ``level`` and let it run that code from now on."""
    compiled = jit.compile_text(variant.stages["llvm"], level)
    library = jit.load(compiled, entry_support.symbols(variant.externals), variant.exports)
    variant.level = level
    variant.kernel_address = library["kernel"]
    if "entry" in variant.exports:
        variant.entry_address = library["entry"]
    variant.keep.append(library)  # calls may still run in older code


def _output_numbers(extraction: Extraction, lowered: Lowered) -> list[int]:
    """The fetch that each output parameter fills; results are in the order of value fetches."""
    fetch_of = {f.index: i for i, f in enumerate(extraction.fetches) if f.kind == "value"}
    return [fetch_of[j] for j in lowered.outputs]


def _stream_names(lowered: Lowered) -> list[str]:
    """The random streams that native code draws from; they follow the variables in the table."""
    drawing = [op for op in lowered.function.walk() if op.name == "philox"]
    return list(dict.fromkeys(_symbol(op) for op in drawing))


def _constant_names(lowered: Lowered) -> list[str]:
    """Constants that kernels find through the table, after the streams: text would be too long."""
    used = [_symbol(op) for op in lowered.function.walk() if op.name == "constant"]
    return [n for n in dict.fromkeys(used) if _constant(lowered, n).nbytes > MODULE_DATA]


def _constant(lowered: Lowered, name: str) -> np.ndarray[Any, Any]:
    """The elements of a constant symbol, contiguous."""
    data = lowered.function.globals[name].data
    assert data is not None
    return np.ascontiguousarray(data)


def _signature(
    extraction: Extraction, function: Function, name: str, structure: Structure, *, python: bool
) -> Signature:
    """What the entry checks and builds, read off the function after passes."""
    ops = list(function.walk())
    # What is read under a condition only may have no value yet.
    read = {_symbol(op) for op in function.body.ops if op.name == "read"}
    written = {_symbol(op) for op in ops if op.name == "write"}
    slots = tuple(
        _slot(key, declared.type, key in read, key in written, extraction.variables[key].site)
        for key, declared in function.globals.items()
        if declared.kind == "variable" and key in read | written
    )
    feeds = tuple(
        Feed(feed.tensor.name, param.type, feed.tensor.op.site)
        for feed, param in zip(extraction.feeds, function.params, strict=True)
    )
    bound = analyses.checked_sizes(function)
    fetches = tuple(_fetch(f, function, bound) for f in extraction.fetches)
    return Signature(
        name,
        feeds,
        slots,
        fetches,
        structure,
        tuple(sorted(bound)),
        extraction.assumptions,  # type: ignore
        cost.work(function),
        python,
        bool(written),
    )


def _slot(name: str, type_: Type, read: bool, written: bool, site: Any) -> Slot:
    """A variable that is only written may have any shape before."""
    return Slot(name, type_ if read else type_.with_shape(None), "variable", read, written, site)


def _symbol(op: Operation) -> str:
    symbol = op.operands[0]
    assert isinstance(symbol, Symbol)
    return symbol.name


def _fetch(fetched: Any, function: Function, bound: Set[str]) -> Fetch:
    if fetched.kind == "none":
        return Fetch("none")
    if fetched.kind == "feed":
        return Fetch("feed", function.params[fetched.index].type, fetched.index)
    type_ = function.results[fetched.index].type
    static = (
        isinstance(type_, Type)
        and not type_.is_object
        and all(dims.names(n) <= bound for n in type_.dims)
    )
    return Fetch("dense" if static else "object", type_, fetched.index)


def _fill_table(variant: Variant, lowered: Lowered, fused: Function, store: VariableStore) -> None:
    """The pointers that the kernel and the entry find through the step."""
    slots = variant.signature.slots
    streams = [store.stream(variant.extraction.streams[name]) for name in _stream_names(lowered)]
    constants = [_constant(lowered, name) for name in _constant_names(lowered)]
    behind = [stream.state for stream in streams] + constants  # in the table behind the variables
    table = (ctypes.c_void_p * (abi.FIRST_SLOT + len(slots) + len(behind)))()
    table[abi.TABLE_ALLOC], table[abi.TABLE_FREE] = native.memory()
    arena = ctypes.c_void_p()
    table[abi.TABLE_ARENA] = ctypes.addressof(arena)
    table[abi.TABLE_LOCK] = store.lock_address
    for index, address in native.blas().items():
        table[index] = address
    for index, slot in enumerate(slots):
        node = variant.extraction.variables[slot.name]
        table[abi.FIRST_SLOT + index] = store.cell(node, slot.type.dtype).address
    for index, array in enumerate(behind, abi.FIRST_SLOT + len(slots)):
        table[index] = array.ctypes.data
    names = [
        [dims.as_name(n) or "" for n in op.attr("sizes")]
        for op in lowered.function.walk()
        if op.name == "host_call"
    ]
    types = [f.type for f in variant.signature.fetches]
    host = hostcalls.callback(
        lowered.host_operations, names, fused.globals, state_of(variant.extraction, store), types
    )
    table[abi.TABLE_HOST_CALL] = ctypes.cast(host, ctypes.c_void_p).value
    variant.table = table
    variant.keep += [arena, host, store, *behind]


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
    """Run a variant by the reference evaluator; the values of its fetches."""
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
