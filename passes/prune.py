"""Removes what nothing needs: ops, results of ``cond``, loop variables of ``while``, globals.

One walk backwards. What has effects or may fail stays. An op that binds a size stays while a size
that it binds is mentioned by what stays; so does the read of a variable whose sizes no parameter
has, for the entry of a step takes sizes from what is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from stepforge.ir import analyses
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.rewrite import with_body, with_globals, with_operands

_T = TypeVar("_T")


def prune(function: Function) -> Function:
    """``function`` without dead operations and globals; the same object where all are needed."""
    pruned = with_body(function, _Prune(function).block(function.body))
    if not function.globals:
        return pruned
    used = analyses.symbols(pruned.body)
    if all(name in used for name in function.globals):
        return pruned
    mentioned = frozenset[str]().union(*map(analyses.mentioned_sizes, pruned.walk()))
    kept = {
        name: entry
        for name, entry in function.globals.items()
        if name in used or not mentioned.isdisjoint(analyses.lone_sizes(entry.type))
    }
    return pruned if len(kept) == len(function.globals) else with_globals(pruned, kept)


class _Prune:
    """What is live at the point that the walk backwards has reached."""

    def __init__(self, function: Function) -> None:
        self.live: set[Value] = set()
        self.sizes: set[str] = set()
        self.params = {n for p in function.params for n in analyses.lone_sizes(p.type)}
        self.any_binds = any(self._bound(op) for op in function.walk())

    def block(self, block: Block) -> Block:
        live = self.live
        kept: list[Operation] = []
        changed = False
        for op in reversed(block.ops):
            new: Operation | None = op
            if not op.defn.terminator and live.isdisjoint(op.results) and self._unneeded(op):
                new = None
            elif op.regions:
                new = self._regions(op)
            changed = changed or new is not op
            if new is None:
                continue
            kept.append(new)
            for operand in new.operands:
                if operand.__class__ is Value:
                    live.add(operand)
            if self.any_binds:
                self.sizes |= analyses.mentioned_sizes(new)
        return Block(block.params, tuple(reversed(kept))) if changed else block

    def _bound(self, op: Operation) -> Sequence[str]:
        """The sizes that are not known without ``op``."""
        if op.name != "read":
            return analyses.bound_sizes(op)
        sizes = analyses.lone_sizes(op.operands[0].type)
        return [name for name in sizes if name not in self.params]

    def _unneeded(self, op: Operation) -> bool:
        if self.any_binds and not self.sizes.isdisjoint(self._bound(op)):
            return False
        return analyses.removable(op)

    def _regions(self, op: Operation) -> Operation:
        if op.name == "while":
            return self._while(op)
        if op.name == "cond":
            return self._cond(op)
        return _with(op, [self.block(region) for region in op.regions])

    def _cond(self, op: Operation) -> Operation:
        keep = [self._needed(result) for result in op.results]
        regions = [_yield_only(region, keep) for region in op.regions]
        results = _chosen(op.results, keep)
        return _with(op, [self.block(region) for region in regions], results=results)

    def _while(self, op: Operation) -> Operation:
        """Drops the loop variables that only compute their own next values."""
        keep = [self._needed(result) for result in op.results]
        while True:
            live, sizes = set(self.live), set(self.sizes)
            test, body = op.regions
            body = self.block(_yield_only(body, keep))
            test = self.block(test)
            used = [
                k or self._needed(a) or self._needed(b)
                for k, a, b in zip(keep, test.params, body.params, strict=True)
            ]
            if used == keep:
                break
            keep, self.live, self.sizes = used, live, sizes
        test, body = (
            region if all(keep) else Block(_chosen(region.params, keep), region.ops)
            for region in (test, body)
        )
        results, operands = _chosen(op.results, keep), _chosen(op.operands, keep)
        return _with(op, [test, body], results=results, operands=operands)

    def _needed(self, result: Value) -> bool:
        """True where the value is used, or its type says a size that is."""
        if result in self.live:
            return True
        return self.any_binds and not self.sizes.isdisjoint(analyses.type_sizes(result.type))


def _chosen(items: tuple[_T, ...], keep: Sequence[bool]) -> tuple[_T, ...]:
    if all(keep):
        return items
    return tuple([item for item, wanted in zip(items, keep, strict=True) if wanted])


def _yield_only(region: Block, keep: Sequence[bool]) -> Block:
    """``region`` yielding only the values that are kept."""
    if all(keep):
        return region
    last = region.terminator
    return Block(
        region.params, (*region.ops[:-1], with_operands(last, _chosen(last.operands, keep)))
    )


def _with(
    op: Operation,
    regions: Sequence[Block],
    *,
    results: tuple[Value, ...] | None = None,
    operands: tuple[Operand, ...] | None = None,
) -> Operation:
    """``op`` with other regions, results and operands; the same object where all are its own."""
    results = op.results if results is None else results
    operands = op.operands if operands is None else operands
    same_regions = all(a is b for a, b in zip(regions, op.regions, strict=True))
    if same_regions and results is op.results and operands is op.operands:
        return op
    return Operation(op.defn, operands, op.attrs, results, tuple(regions), op.site)
