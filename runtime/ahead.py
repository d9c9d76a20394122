"""Steps compiled ahead of time: from fetches and feeds to an object file that needs no Python.

The steps of one library go through the passes of every other step, and their kernels are the same
kernels; only the entry differs (``codegen.ahead_entry``). Steps may share variables: what one of
them writes is *held* by the caller, what nobody writes may be baked into the code as constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import Any, Literal, TypeAlias

import numpy as np

from stepforge.codegen import exports, jit
from stepforge.codegen import target as targets
from stepforge.codegen.ahead_entry import emit_step
from stepforge.codegen.ahead_functions import name_taken
from stepforge.codegen.ahead_state import emit_state
from stepforge.codegen.exports import ExportedLibrary, ExportedStep, Held, Parameter
from stepforge.codegen.jit import CompiledObject, Level
from stepforge.codegen.kernel import KernelPlan
from stepforge.codegen.llvm import ModuleWriter
from stepforge.codegen.signature import Signature
from stepforge.codegen.target import Target
from stepforge.frontend.extract.program import Extraction
from stepforge.ir import dims, verify
from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Global, Operand, Operation, Symbol
from stepforge.ir.dims import Dim
from stepforge.ir.philox import Stream
from stepforge.ir.records import record
from stepforge.ir.rewrite import rebuild, substitute_sizes, with_globals
from stepforge.ir.types import Type, numpy_dtype
from stepforge.passes.lower import Lowered, lower, lowerable
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.plan import Planned, plan
from stepforge.runtime.ahead_bounds import Declared, entry_bounds, unplaced, with_sizes
from stepforge.runtime.ahead_problems import (
    CannotCompileAhead,
    Problem,
    problems_of,
    problems_of_lowered,
)
from stepforge.runtime.needs import stream_names
from stepforge.runtime.pipeline import output_numbers, with_fetch_numbers
from stepforge.runtime.signatures import signature_of

Array: TypeAlias = np.ndarray[Any, Any]
Values: TypeAlias = Callable[[Any], "Array | None"]
Variables = Literal["baked", "arguments", "file"]


@record(frozen=True)
class Entry:
    """A step to compile: its name, what was extracted, and what its arguments are called.

    ``results`` names the fetches that are tensors; ``labels`` gives a parameter's name to sizes.
    ``bounds`` are about results behind those of the fetches.
    """

    name: str
    extraction: Extraction
    results: Sequence[str] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    bounds: Sequence[Declared] = ()


@record(frozen=True)
class Options:
    """How to compile. ``variables`` says where the values of variables are: "baked" into the code
    (those that a step writes are then a block that the caller keeps), "file" (all of them are such
    a block, whose first contents are a file), or "arguments" of the functions.
    """

    name: str
    variables: Variables = "baked"
    target: Target | None = None
    level: Level = "O2"


@record(frozen=True)
class Compiled:
    """A compiled library: its description, object code, LLVM text, and what it was made for.

    ``image`` is what the state begins with. ``parallel`` names the steps that take a
    ``parallel_for``.
    """

    library: ExportedLibrary
    object: CompiledObject
    text: str
    target: Target
    image: bytes
    parallel: frozenset[str]
    level: Level

    def assembly(self) -> str:
        """The code as assembler text."""
        return jit.assembly(self.text, self.level, self.target, pic=True)


@record(frozen=True)
class _Prepared:
    """A step on the loop level; ``nodes`` are the variables and streams in the order of slots.

    ``bounds`` are of sizes that only values tell; ``sized`` names the results that tell the shapes
    of others.
    """

    entry: Entry
    bounds: Mapping[str, Dim]
    sized: Mapping[str, str]
    signature: Signature
    lowered: Lowered
    planned: Planned
    nodes: Sequence[Any]
    names: Sequence[str]

    @property
    def swapped(self) -> frozenset[int]:
        """The slots whose next value is made in another buffer."""
        found = (op.operands[0] for op in self.planned.function.walk() if op.name == "new_slot")
        return frozenset(self.names.index(s.name) for s in found if isinstance(s, Symbol))


def compile_entries(entries: Sequence[Entry], values: Values, options: Options) -> Compiled:
    """Compile steps into one library.

    ``values`` gives the value of a variable's node, None where it has none. Raises:
    CannotCompileAhead with every reason, ValueError for names that will not do.
    """
    names: list[str] = []
    for entry in entries:
        exports.check_name(entry.name, names)
        names.append(entry.name)
    problems: list[Problem] = []
    written = {node for entry in entries for node in _written(entry.extraction)}
    prepared = [_prepare(e, written, values, options, problems) for e in entries]
    if problems:
        raise CannotCompileAhead(problems)
    steps = [step for step in prepared if step is not None]
    held, image = _held(steps, values, options)
    library = _library(steps, held, image, options)
    return _emit(library, image, options)


# ---- one step -----------------------------------------------------------------------------------


def _written(extraction: Extraction) -> list[Any]:
    """The nodes of the variables that a step writes."""
    found = [op.operands[0] for op in extraction.function.walk() if op.name == "write"]
    return [extraction.variables[s.name] for s in found if isinstance(s, Symbol)]


def _prepare(
    entry: Entry, written: set[Any], values: Values, options: Options, problems: list[Problem]
) -> _Prepared | None:
    """A step on the loop level; None where ``problems`` grew instead."""
    before, extraction = len(problems), entry.extraction
    given = _with_values(extraction, written, values, options, problems)
    wrong = verify.problems(given)
    if wrong:
        sites = (getattr(each.op, "site", None) for each in wrong)
        texts = (f"with the sizes of its variables: {each.message}" for each in wrong)
        problems += map(Problem, texts, sites)
        return None
    function = run_passes(given, ORDER["tensor"])
    made = with_sizes(extraction, function, entry.results, entry.bounds, problems)
    function, extraction = made.function, made.extraction
    entry = replace(entry, extraction=extraction, results=made.results)
    problems += problems_of(function)
    if len(problems) > before or not lowerable(function):
        return None
    fused = run_passes(function, ORDER["fusion"])
    lowered = lower(fused)
    problems += problems_of_lowered(lowered)
    if len(problems) > before:
        return None
    signature = signature_of(extraction, fused, entry.name, "list", python=False)
    sizes = frozenset(signature.sizes)
    bounds = entry_bounds(lowered.bounds, made.bounds, sizes)
    planned = plan(run_passes(lowered.function, ORDER["loops"]), sizes, bounds)
    problems += [unplaced(op) for op in planned.function.body.ops if op.name == "alloc"]
    names = [*(slot.name for slot in signature.slots), *stream_names(lowered)]
    known = {**extraction.variables, **extraction.streams}
    nodes = [known[n] for n in names]
    return _Prepared(entry, bounds, made.sized, signature, lowered, planned, nodes, names)


def _with_values(
    extraction: Extraction, written: set[Any], values: Values, options: Options,
    problems: list[Problem],
) -> Function:
    """The function with what is known of its variables: sizes, that they have a value, and the
    values that nobody changes.
    """
    function, sizes = extraction.function, dict[str, dims.Dim]()
    constants: dict[str, Array] = {}
    for name, node in extraction.variables.items():
        value, declared = values(node), function.globals[name].type
        if value is not None and declared.shape is not None:
            pairs = zip(declared.shape, value.shape, strict=True)
            named = [(dims.as_name(want), have) for want, have in pairs]
            sizes.update({size: have for size, have in named if size is not None})
        read = any(op.name == "read" and _names(op, name) for op in function.walk())
        if value is None and read and options.variables != "arguments":
            text = f"variable {node.name} has no value: initialize it in the session, or restore it"
            problems.append(Problem(text, node.site))
        if value is not None and options.variables == "baked" and node not in written:
            constants[name] = value
    return _with_constants(substitute_sizes(function, sizes), constants)


def _names(op: Operation, symbol: str) -> bool:
    return isinstance(op.operands[0], Symbol) and op.operands[0].name == symbol


def _with_constants(function: Function, constants: Mapping[str, Array]) -> Function:
    """``function`` with constants for variables, all of which have a value."""

    def visit(op: Operation, build: Builder) -> Sequence[Operand] | None:
        if op.name == "is_initialized":
            return [Const(op.result.type, True)]
        symbol = op.operands[0] if op.operands else None
        if op.name != "read" or not isinstance(symbol, Symbol) or symbol.name not in constants:
            return None
        if not op.result.type.dims:
            return [Const(op.result.type, constants[symbol.name][()].item())]
        return [Symbol(symbol.name, op.result.type)]

    made = rebuild(function, visit)
    known = {n: Global("constant", made.globals[n].type, a) for n, a in constants.items()}
    return with_globals(made, {**made.globals, **known})


# ---- what the caller holds ----------------------------------------------------------------------


def _held(
    steps: Sequence[_Prepared], values: Values, options: Options
) -> tuple[dict[Any, Held], bytes]:
    """Variables and streams of all steps, each with its place in the block, and the block's first
    contents.
    """
    held: dict[Any, Held] = {}
    block = options.variables != "arguments"
    twofold = {step.nodes[slot] for step in steps for slot in step.swapped if block}
    taken: set[str] = set()
    image, problems = bytearray(), list[Problem]()
    value: Array | None
    for step, slot, node in _slots(steps):
        if slot in step.entry.extraction.streams:
            type_, value = exports.STREAM, _stream_state(node)
        else:
            type_, value = step.lowered.function.globals[slot].type, values(node)
        if value is not None:
            type_ = type_.with_shape(tuple(value.shape))
        if type_.shape is None or not all(isinstance(size, int) for size in type_.shape):
            text = f"variable {node.name} has no static shape and no value that tells one"
            problems.append(Problem(text, node.site))
            continue
        label = str(node.name)
        image += b"\0" * (exports.ALIGNMENT if node in twofold else 0)  # the marker
        name = exports.unique_name(label, taken)
        held[node] = own = Held(name, label, type_, len(image), node in twofold)
        image += _bytes(own, value).ljust(own.end - own.offset, b"\0")
    if problems:
        raise CannotCompileAhead(problems)
    return held, bytes(image)


def _slots(steps: Sequence[_Prepared]) -> list[tuple[_Prepared, str, Any]]:
    """Every variable and stream once: the first step that uses it, its name there, its node."""
    found: dict[Any, tuple[_Prepared, str, Any]] = {}
    for step in steps:
        for name, node in zip(step.names, step.nodes, strict=True):
            found.setdefault(node, (step, name, node))
    return list(found.values())


def _stream_state(node: Any) -> Array:
    """Where a stream begins: where the seeds of its operation say."""
    return Stream(int(node.attrs.get("seed", 0)), int(node.attrs.get("seed2", 0))).state


def _bytes(held: Held, value: Array | None) -> bytes:
    data = b"\0" * held.bytes
    if value is not None:
        data = np.ascontiguousarray(value, numpy_dtype(held.type.dtype)).tobytes()
    return data


# ---- the library --------------------------------------------------------------------------------


def _library(
    steps: Sequence[_Prepared], held: Mapping[Any, Held], image: bytes, options: Options
) -> ExportedLibrary:
    block = options.variables != "arguments"
    made = tuple(_export(step, held, block=block) for step in steps)
    own_image = image if options.variables == "baked" else None
    return ExportedLibrary(options.name, made, tuple(held.values()), block, own_image)


def _export(step: _Prepared, held: Mapping[Any, Held], *, block: bool) -> ExportedStep:
    signature, planned = step.signature, step.planned
    own = tuple(held[node] for node in step.nodes)
    labels = _labels(step)
    kernel = KernelPlan(
        with_fetch_numbers(planned.function, step.entry.extraction),
        len(signature.feeds),
        output_numbers(step.entry.extraction, step.lowered),
        step.names,
        signature.sizes,
        planned.arena,
        f"{step.entry.name}_kernel",
        linkage="internal",
    )
    parameters = _parameters(step, own, labels, block=block)
    return ExportedStep(
        step.entry.name, signature, kernel, parameters, own, step.swapped, labels
    )


def _labels(step: _Prepared) -> dict[str, str]:
    """The parameter that gives each size."""
    taken, given = set(exports.RESERVED), dict[str, str]()
    for feed in step.signature.feeds:
        exports.unique_name(_plain(feed.name), taken)
    wanted = {n: step.entry.labels.get(n, n) for n in step.signature.sizes}
    for label in wanted.values():
        if label not in given:
            given[label] = exports.unique_name(label, taken)
    return {name: given[label] for name, label in wanted.items()}


def _plain(name: str) -> str:
    return name.removesuffix(":0")


def _parameters(
    step: _Prepared, own: Sequence[Held], labels: Mapping[str, str], *, block: bool
) -> tuple[Parameter, ...]:
    """Feeds, sizes, what is held, results, in this order."""
    taken = set(exports.RESERVED)
    found = [
        Parameter(exports.unique_name(_plain(f.name), taken), "feed", f.type, i, label=f.name)
        for i, f in enumerate(step.signature.feeds)
    ]
    size = Type("i64")
    found += [Parameter(n, "size", size, label=n) for n in dict.fromkeys(labels.values())]
    taken.update(labels.values())
    changes = [slot.written for slot in step.signature.slots]
    changes += [True] * (len(own) - len(changes))  # random streams
    if block and own:
        found.append(Parameter("state", "state", Type("u8"), writable=any(changes)))
    elif not block:
        found += [
            Parameter(exports.unique_name(h.name, taken), "held", h.type, i, changes[i], h.label)
            for i, h in enumerate(own)
        ]
    named, names = iter(step.entry.results), dict[str, str]()
    for index, fetch in enumerate(step.signature.fetches):
        if fetch.kind == "none":
            continue
        label = next(named)
        name = exports.unique_name(_plain(label), taken)
        shape = tuple(dims.substitute(n, step.bounds) for n in fetch.dense_type.dims)
        made = Parameter(name, "result", fetch.dense_type.with_shape(shape), index, True, label)
        names[label] = name
        found.append(made)
    return tuple(
        replace(p, sized_by=names[step.sized[p.label]]) if p.label in step.sized else p
        for p in found
    )


def _emit(library: ExportedLibrary, image: bytes, options: Options) -> Compiled:
    target = options.target or targets.baseline()
    module = ModuleWriter(target.triple, target.attributes)
    parallel = frozenset(s.name for s in library.steps if emit_step(module, s, target))
    if library.has_state:
        emit_state(module, library, target)
    taken = [s.name for s in library.steps if module.declares(s.name)]
    if taken:
        raise name_taken(taken[0])
    text = module.text()
    made = jit.compile_text(text, options.level, target, pic=True)
    return Compiled(library, made, text, target, image, parallel, options.level)
