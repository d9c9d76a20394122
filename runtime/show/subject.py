"""What there is to show of a step: its nodes, its passes and the text of each of its stages.

A step of a session and a function of IR text have the same interface here; the second has neither
nodes nor machine code.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import field
from functools import cache, cached_property
from typing import Any

from stepforge.ir.core import Function, Site
from stepforge.ir.records import record
from stepforge.ir.text import print_function
from stepforge.passes.history import Change, History, history
from stepforge.runtime.variant import Variant, stages

LIKELY_SIZE = 32  # what sizes that are known only to a call are taken for, to draw them


@record(frozen=True)
class Subject:
    """A step to show; ``facts`` are what the head of its page says of it."""

    name: str
    function: Function  # as it was extracted
    nodes: Sequence[Any] = ()
    feeds: Sequence[Site] = ()  # where the parameters of the function come from
    machine: Callable[[str], str] | None = None  # the text of stages beside the IR
    code: Collection[str] = ()  # the stages behind the IR
    facts: dict[str, str] = field(default_factory=dict)

    @cached_property
    def history(self) -> History:
        """Its passes, run once more."""
        return history(self.function)

    @cached_property
    def stages(self) -> dict[str, str]:
        """The stages that it has, each with the suffix of files."""
        found = {}
        for stage, suffix in stages().items():
            text = self.nodes if stage == "graph" else self.history.stages.get(stage)
            if text or (stage in self.code and self.text(stage)):
                found[stage] = suffix
        return found

    def text(self, stage: str) -> str:
        """The text of a stage, empty where the step has none.

        Raises: ValueError for a stage that there is not.
        """
        if stage not in stages():
            raise ValueError(f"stage must be one of {', '.join(stages())} or all, not {stage!r}")
        if stage in self.history.stages:
            return print_function(self.history.stages[stage])
        return self.machine(stage) if self.machine is not None else ""

    def change(self, name: str) -> Change:
        """What a pass did. Raises: ValueError where the step has no such pass."""
        return self.history.of(name)


def of_function(function: Function) -> Subject:
    """A function of IR text."""
    return Subject(function.name, function)


def of_variant(name: str, variant: Variant, nodes: Sequence[Any] = ()) -> Subject:
    """A compiled variant of the step ``name``, which computes ``nodes`` of a graph."""
    feeds = [feed.tensor.op.site for feed in variant.extraction.feeds]
    return Subject(
        name,
        variant.extraction.function,
        nodes,
        feeds,
        cache(variant.text),  # assembly takes a compile
        dict.fromkeys([variant.backend, "llvm", "asm"]) if variant.compiled else (),
        _facts(variant),
    )


def _facts(variant: Variant) -> dict[str, str]:
    feeds = ", ".join(f"{feed.name} {feed.type}" for feed in variant.signature.feeds)
    facts = {
        "feeds": feeds or "none",
        "compiled": f"{variant.seconds * 1e3:.1f} ms at {variant.level}",
        "runs": "native" if variant.compiled else "in the evaluator",
    }
    if variant.signature.assumptions:
        facts["assumes"] = ", ".join(f"{a} == {b}" for a, b in variant.signature.assumptions)
    if variant.compiled and variant.backend != "llvm":
        facts["back end"] = variant.backend
    return {**facts, "note": variant.note} if variant.note else facts
