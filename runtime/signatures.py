"""What the entry of a step checks and builds, read off its function after the tensor passes."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from stepforge.codegen.signature import Feed, Fetch, Signature, Slot, Structure
from stepforge.frontend.extract.program import Extraction
from stepforge.ir import analyses, dims
from stepforge.ir.core import Function, Operation, Symbol
from stepforge.ir.types import Type
from stepforge.passes import cost


def signature_of(
    extraction: Extraction, function: Function, name: str, structure: Structure, *, python: bool
) -> Signature:
    """What the entry checks and builds, read off the function after passes."""
    ops = list(function.walk())
    # What is read under a condition only may have no value yet.
    read = {symbol_name(op) for op in function.body.ops if op.name == "read"}
    written = {symbol_name(op) for op in ops if op.name == "write"}
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
        extraction.assumptions,
        cost.work(function),
        python,
        bool(written),
    )


def _slot(name: str, type_: Type, read: bool, written: bool, site: Any) -> Slot:
    """A variable that is only written may have any shape before."""
    return Slot(name, type_ if read else type_.with_shape(None), "variable", read, written, site)


def symbol_name(op: Operation) -> str:
    """The name of the symbol that is an operation's first operand."""
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
