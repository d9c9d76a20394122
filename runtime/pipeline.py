"""The compile of one variant of a step, from extracted IR to linked code, with every stage kept to
look at.

The order of passes is ``passes.order``. A function that loops cannot hold (strings, unknown ranks,
control flow that is not lowered) is run by the reference evaluator instead; both kinds have the
same interface.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from stepforge.codegen import entry, entry_support, jit, kernel, layout
from stepforge.codegen import signature as abi
from stepforge.codegen.jit import Level
from stepforge.frontend.extract.program import Extraction
from stepforge.ir.core import Block, Function
from stepforge.ir.rewrite import with_body
from stepforge.passes.lower import Lowered, lower, lowerable
from stepforge.passes.manager import Pass, run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.plan import Planned, plan
from stepforge.runtime import backends, recipe_keys, recipes, threads
from stepforge.runtime.job import Job
from stepforge.runtime.needs import needs_of
from stepforge.runtime.signatures import signature_of
from stepforge.runtime.step import missing_table
from stepforge.runtime.table import fill_table
from stepforge.runtime.variables import VariableStore
from stepforge.runtime.variant import Variant, graph_text

if TYPE_CHECKING:
    from stepforge.passes.bisect import Trail

# A first run may be the only one, so it gets code that compiles fast.
FIRST_LEVEL: Level = "O0"
# Characters of LLVM text from which a first run gets its final code at once, lest the second run
# take seconds to compile. Not where nothing is fed and nothing fetched: an initialiser runs once.
LARGE = 200_000
FINAL_LEVEL: Level = "O1"


def compile_variant(job: Job) -> Variant:
    """Compile an extracted function for one session's variables.

    Where an earlier process left what became of the same function, it is that.
    """
    started = time.perf_counter()
    trail = _trail(job.store)
    key, obstacle = _recipe_key(job) if trail is None else ("", "every pass is checked")
    stored = recipes.prepared(job, key, (FINAL_LEVEL, job.level)) if key else None
    variant = stored[0] if stored is not None else _compiled(job, trail)
    variant.recipe, variant.trail, variant.obstacle = key, trail, obstacle
    if stored is not None:
        variant.remake = partial(_compiled, job, None)
        fill_table(variant, job.store)
        _adopt(variant, stored[1])
    elif variant.plan is not None:
        fill_table(variant, job.store)
        link(variant, FINAL_LEVEL if _large(variant) else job.level)
    variant.seconds = time.perf_counter() - started
    return variant


def _recipe_key(job: Job) -> tuple[str, str]:
    """What the disk keeps a compile under, or in words, why it keeps none."""
    try:
        return recipe_keys.key_of(job), ""
    except recipe_keys.Nameless as reason:
        return "", str(reason)


def _trail(store: VariableStore) -> Trail | None:
    """Where a compile for ``store`` leaves its stages; None where it is not to be checked."""
    if not store.checked and os.environ.get("STEPFORGE_CHECK", "0") in ("", "0"):
        return None
    from stepforge.passes.bisect import Trail

    return Trail()


def _large(variant: Variant) -> bool:
    signature = variant.signature
    fetches = any(fetch.kind != "none" for fetch in signature.fetches)
    return len(variant.stages["llvm"]) >= LARGE and bool(signature.feeds or fetches)


def _compiled(job: Job, trail: Trail | None) -> Variant:
    """The variant with its LLVM text, not linked yet; without a plan where the evaluator runs it.
    """
    function = _run(job.extraction.function, ORDER["tensor"], trail)
    stages: dict[str, Any] = {"graph": graph_text(job.nodes), "tensor": function}
    if lowerable(function):
        return _lowered(job, function, stages, trail)
    signature = signature_of(job.extraction, function, job.name, job.structure, python=True)
    return Variant(job.extraction, signature, stages)


def _run(function: Function, passes: Sequence[Pass], trail: Trail | None) -> Function:
    """``function`` after ``passes``, each of which leaves its mark on the trail where there is one.
    """
    if trail is None:
        return run_passes(function, passes)
    return run_passes(function, passes, check=True, dump=trail.passed)


def _lowered(
    job: Job, function: Function, stages: dict[str, Any], trail: Trail | None
) -> Variant:
    fused = _run(function, ORDER["fusion"], trail)
    lowered = lower(fused)
    if trail is not None:
        trail.lowered("lower", lowered.step())
    in_python = bool(lowered.host_operations) or len(lowered.outputs) < len(fused.results)
    signature = signature_of(job.extraction, fused, job.name, job.structure, python=in_python)
    planned = plan(_run(lowered.function, ORDER["loops"], trail), frozenset(signature.sizes))
    if trail is not None:
        made = replace(lowered.step(), function=planned.function, arena=planned.arena)
        trail.lowered("plan", made)
    stages.update(fused=fused, loops=planned.function)
    variant = Variant(job.extraction, signature, stages, needs_of(lowered))
    _write_module(variant, lowered, planned, job.store)
    return variant


def _write_module(
    variant: Variant, lowered: Lowered, planned: Planned, store: VariableStore
) -> None:
    """The text of the kernel and its entry."""
    signature = variant.signature
    slots = [slot.name for slot in signature.slots]
    native = layout.native_entry() and not signature.takes_objects
    variant.plan = kernel.KernelPlan(
        with_fetch_numbers(planned.function, variant.extraction),
        len(signature.feeds),
        output_numbers(variant.extraction, lowered),
        [*slots, *variant.needs.names],
        signature.sizes,
        planned.arena,
        threads=threads.several(store.threads),
        linkage="internal" if native else "",
    )
    module, made = backends.make_kernel(variant.plan, backends.chosen(store.backend))
    variant.backend, variant.note, variant.code = made.backend, made.note, made.code
    if made.source:
        variant.stages[made.backend] = made.source
    variant.calls, variant.shares = tuple(made.calls), made.shares
    called = variant.plan.name
    if native:
        called = entry.emit_entry(module, signature, called)[1:]
    variant.exports = (called, *made.calls)
    variant.stages["llvm"] = module.text()
    variant.checks, variant.externals = made.checks, module.externals()


def link(variant: Variant, level: Level) -> None:
    """Compile the variant's LLVM text at ``level`` and let it run that code from now on.

    Where an earlier process left the object of the final level, that is taken at once.
    """
    text = variant.stage("llvm")
    if level != FINAL_LEVEL and jit.is_stored(text, FINAL_LEVEL):
        level = FINAL_LEVEL
    symbols = entry_support.symbols(variant.externals)
    variant.level = level
    _adopt(variant, jit.build(text, level, symbols, variant.exports))
    recipes.keep(variant, jit.object_key(text, level))


def _adopt(variant: Variant, library: jit.Library) -> None:
    """Let a variant run the code of ``library``."""
    variant.stored = library.stored
    address = library[variant.exports[0]]
    if variant.exports[0] == "entry":
        variant.table[abi.TABLE_ENTRY] = variant.entry_address = address
    else:
        variant.kernel_address = address
    for place, name in enumerate(variant.calls, len(variant.table) - len(variant.calls)):
        variant.table[place] = library[name]
    variant.keep.append(library)  # calls may still run in older code


def hand_over(variants: Sequence[Variant], first: Variant) -> None:
    """Chain variants behind ``first``: what one refuses goes to the next, and at last to Python."""
    chain = [first, *(v for v in variants if v is not first and v.entry_address)]
    tables = [v.table_address for v in chain]
    for variant, following in zip(chain, [*tables[1:], missing_table()], strict=True):
        variant.table[abi.TABLE_NEXT] = following


def output_numbers(extraction: Extraction, lowered: Lowered) -> list[int]:
    """The fetch that each output parameter fills."""
    numbers = _fetch_numbers(extraction)
    return [numbers[j] for j in lowered.outputs]


def with_fetch_numbers(function: Function, extraction: Extraction) -> Function:
    """``function`` with ``new_result`` asking for the array of a fetch, not of a result."""
    numbers = _fetch_numbers(extraction)
    ops = [
        replace(op, attrs={**op.attrs, "result": numbers[op.attr("result")]})
        if op.name == "new_result"
        else op
        for op in function.body.ops
    ]
    return with_body(function, Block(function.params, tuple(ops)))


def _fetch_numbers(extraction: Extraction) -> dict[int, int]:
    """The fetch that each result is; results are in the order of value fetches."""
    return {f.index: i for i, f in enumerate(extraction.fetches) if f.kind == "value"}
