"""Applies the algebra of ``rules`` and the table of ``structure_table``, in one walk forward.

An op is looked up by its name and by what made its operands, so that an op that no rule concerns
costs one dictionary access. What a rule makes is simplified in turn before it is emitted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import product
from typing import Any, TypeAlias

from stepforge.ir import analyses
from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Operand, Operation, Value
from stepforge.ir.errors import ShapeError
from stepforge.ir.rewrite import inline, rebuild
from stepforge.passes.cse import COMMUTATIVE
from stepforge.passes.fold import constant_of, fold_scalar
from stepforge.passes.patterns import Apply, Literal, Number, Pattern, Rule, Variable
from stepforge.passes.rules import INEXACT_RULES, RULES
from stepforge.passes.structure import Replacement, adds_axes
from stepforge.passes.structure_table import (
    INEXACT_STRUCTURE,
    STRUCTURE,
    Structural,
    rules_by_op,
)

Environment: TypeAlias = dict[str, Operand]
Candidates: TypeAlias = tuple[tuple[Apply, Rule], ...]
_CONSTANT = "="  # the head of a constant in place; the head of a value is the name of what made it
_REPEATS = frozenset(("fill", "broadcast_to", "reshape"))


def simplify(
    function: Function, *, inexact: bool = False, extra: tuple[Rule, ...] = ()
) -> Function:
    """``function`` with simpler operations; the same object where no rule applies.

    ``inexact`` allows rules that hold for real numbers but change bits of floats. ``extra`` rules
    come before those of the tables.
    """
    table = _table(inexact, extra, len(RULES) + len(INEXACT_RULES))
    return rebuild(function, _Simplify(table, function).visit)


class _Table:
    """The rules by the op at their root, and by the heads of its operands once these were met."""

    def __init__(self, rules: Sequence[Rule], structure: Sequence[Structural]) -> None:
        self.by_root: dict[str, list[tuple[Apply, Rule]]] = {}
        self.met: dict[tuple[str, ...], Candidates] = {}
        self.structure = rules_by_op(structure)
        for rule in rules:
            for lhs in _orders(rule.lhs):
                assert isinstance(lhs, Apply)
                self.by_root.setdefault(lhs.op, []).append((lhs, rule))

    def candidates(self, key: tuple[str, ...]) -> Candidates:
        """The rules for ``(op, head of operand 0, ...)``."""
        found = self.met.get(key)
        if found is None:
            name, *heads = key
            found = self.met[key] = tuple(
                [
                    (lhs, rule)
                    for lhs, rule in self.by_root.get(name, ())
                    if len(lhs.args) == len(heads) and all(map(_may_match, lhs.args, heads))
                ]
            )
        return found


@cache
def _table(inexact: bool, extra: tuple[Rule, ...], known: int) -> _Table:
    """The rules to apply while the tables have ``known`` of them; they only grow."""
    if inexact:
        return _Table((*extra, *RULES, *INEXACT_RULES), STRUCTURE + INEXACT_STRUCTURE)
    return _Table((*extra, *RULES), STRUCTURE)


def _orders(pattern: Pattern) -> Iterator[Pattern]:
    """The pattern with the operands of commutative ops in either order."""
    if not isinstance(pattern, Apply):
        yield pattern
        return
    seen = set()
    for args in product(*[list(_orders(arg)) for arg in pattern.args]):
        swapped = (args, args[::-1]) if pattern.op in COMMUTATIVE else (args,)
        for order in swapped:
            if order not in seen:
                seen.add(order)
                yield Apply(pattern.op, order)


def _may_match(pattern: Pattern, head: str) -> bool:
    if isinstance(pattern, Apply):
        return head == pattern.op
    return head == _CONSTANT or (isinstance(pattern, Variable) and not pattern.constant)


class _Simplify:
    """The walk: what made each value so far, and the tools that structural rules use."""

    def __init__(self, table: _Table, function: Function) -> None:
        self.table = table
        self.function = function
        self.uses: dict[Value, list[analyses.Use]] | None = None  # of the function as it came
        self.made_by: dict[Value, Operation] = {}
        self.build = Builder()

    def visit(self, op: Operation, build: Builder) -> tuple[Operand, ...] | None:
        self.build = build
        replaced = self._simplified(op)
        if replaced is None:
            self._keep(op)
        return replaced

    def _keep(self, op: Operation) -> None:
        for result in op.results:
            self.made_by[result] = op

    def _simplified(self, op: Operation) -> tuple[Operand, ...] | None:
        """What replaces the results of ``op``; None where no rule applies."""
        if op.defn.elementwise:
            replaced = self._algebra(op)
            if replaced is not None:
                return (replaced,)
        for rule in self.table.structure.get(op.defn.name, ()):
            found = _fitting(rule(op, self), op)
            if found is not None:
                return found
        return None

    def _algebra(self, op: Operation) -> Operand | None:
        made_by = self.made_by
        heads = [op.defn.name]
        for operand in op.operands:
            if operand.__class__ is Value:
                made = made_by.get(operand)
                heads.append("" if made is None else made.defn.name)
            else:
                heads.append(_CONSTANT if operand.__class__ is Const else "")
        for lhs, rule in self.table.candidates(tuple(heads)):
            env: Environment = {}
            if self._match_all(lhs.args, op.operands, env) and _applies(rule, env):
                return self._instance(rule.rhs, env, op)
        if not _REPEATS.isdisjoint(heads):
            return self._without_repeats(op)
        return None

    def _match_all(
        self, patterns: Sequence[Pattern], operands: Sequence[Operand], env: Environment
    ) -> bool:
        return all(self._match(p, o, env) for p, o in zip(patterns, operands, strict=True))

    def _match(self, pattern: Pattern, operand: Operand, env: Environment) -> bool:
        if isinstance(pattern, Variable):
            if pattern.constant and not isinstance(operand, Const):
                return False
            return env.setdefault(pattern.name, operand) == operand
        if isinstance(pattern, Literal):
            return isinstance(operand, Const) and _is_number(operand.value, pattern.value)
        assert isinstance(pattern, Apply)
        source = self.source(operand, pattern.op)
        return source is not None and self._match_all(pattern.args, source.operands, env)

    def _instance(self, pattern: Pattern, env: Environment, op: Operation) -> Operand | None:
        """The right side of a rule in place of ``op``, with the shape that its result has."""
        wanted = op.result.type
        if isinstance(pattern, Apply):
            value = self._emit(pattern.op, self._arguments(pattern, env), {}, op.result.name)
        elif isinstance(pattern, Literal):
            value = constant_of(pattern.value, wanted.dtype)
        else:
            assert isinstance(pattern, Variable)
            value = env[pattern.name]
        if value.type == wanted:
            return value
        if wanted.shape is None:
            return None
        return self.replace(op, "broadcast_to", value, shape=wanted.shape)

    def _arguments(self, pattern: Apply, env: Environment) -> tuple[Operand, ...]:
        """The operands of the right side; numbers take the dtype of what stands beside them."""
        made: dict[int, Operand] = {}
        for i, arg in enumerate(pattern.args):
            if isinstance(arg, Apply):
                made[i] = self._emit(arg.op, self._arguments(arg, env), {})
            elif isinstance(arg, Variable):
                made[i] = env[arg.name]
        beside = [made[i] for i in made if i or pattern.op != "select"]
        dtype = beside[0].type.dtype
        for i, arg in enumerate(pattern.args):
            if isinstance(arg, Literal):
                made[i] = constant_of(arg.value, dtype)
        return tuple([made[i] for i in range(len(pattern.args))])

    def _emit(
        self, name: str, operands: Sequence[Operand], attrs: dict[str, Any], result: str = ""
    ) -> Operand:
        """Emit an operation, simplified and folded; its only result."""
        made = self.build.operation(name, operands, attrs, names=(result,))
        simpler = self._simplified(made)
        if simpler is not None:
            return simpler[0]
        constant = fold_scalar(made)
        if constant is not None:
            return constant
        self.build.ops.append(made)
        self._keep(made)
        return made.result

    def _without_repeats(self, op: Operation) -> Operand | None:
        """Elementwise ops broadcast by themselves: an operand repeated before need not be."""
        operands = list(op.operands)
        for i, operand in enumerate(op.operands):
            source = self.source(operand, *_REPEATS)
            if source is not None and (source.name != "reshape" or adds_axes(source)):
                trial = [*operands[:i], source.operands[0], *operands[i + 1 :]]
                if _infers(op, trial):
                    operands = trial
        if operands == list(op.operands):
            return None
        return self.replace(op, op.defn.name, *operands, **op.attrs)

    def source(self, operand: Operand, *names: str) -> Operation | None:
        """The operation that made ``operand`` where it is one of ``names``, else None."""
        made = self.made_by.get(operand) if isinstance(operand, Value) else None
        return made if made is not None and made.defn.name in names else None

    def replace(self, op: Operation, name: str, *operands: Operand, **attrs: Any) -> Operand:
        """Emit, simplified, what takes the place of the only result of ``op``, under its name."""
        return self._emit(name, operands, attrs, op.result.name)

    def make(self, name: str, *operands: Operand, **attrs: Any) -> Operand:
        """Emit, simplified, what a replacement is made of."""
        return self._emit(name, operands, attrs)

    def used_once(self, operand: Operand) -> bool:
        """True where nobody else needs ``operand``, as far as the function says that came in."""
        if self.uses is None:
            self.uses = analyses.uses(self.function.body)
        return isinstance(operand, Value) and len(self.uses.get(operand, ())) == 1

    def inlined(self, op: Operation, region: int) -> tuple[Operand, ...]:
        """Emit the ops of a region of ``op`` in its place; what the region yields."""
        start = len(self.build.ops)
        values = inline(op.regions[region], (), self.build)
        for copy in self.build.ops[start:]:
            self._keep(copy)
        return values


def _fitting(found: Replacement, op: Operation) -> tuple[Operand, ...] | None:
    """What a rule found, unless a size is written in another way there."""
    values = found if isinstance(found, tuple) or found is None else (found,)
    if values is None or [v.type for v in values] != [r.type for r in op.results]:
        return None
    return values


def _infers(op: Operation, operands: Sequence[Operand]) -> bool:
    """True where ``op`` gives the same type from other operands."""
    try:
        types = op.defn.infer_results(tuple([o.type for o in operands]), dict(op.attrs))
    except ShapeError:
        return False
    return types == (op.result.type,)


def _applies(rule: Rule, env: Environment) -> bool:
    if "x" in env and env["x"].type.kind not in rule.kinds:
        return False
    if rule.when is None:
        return True
    constants = {n: operand.value for n, operand in env.items() if isinstance(operand, Const)}
    return rule.applies(constants)


def _is_number(value: bool | int | float | complex, number: Number) -> bool:
    """Equality that tells True from 1 and 0.0 from -0.0."""
    if isinstance(value, bool) or isinstance(number, bool):
        return value is number
    if isinstance(value, complex) or value != number:
        return False
    return value != 0 or math.copysign(1, value) == math.copysign(1, number)
