"""Checks that a function is well formed, and says of each mistake where it is and what to do.

All problems of a function are collected into one ``IRError``, which shows the printed function with
the lines concerned marked. A declaration may add a rule ``verify(op)`` that gives the problems of
an operation (None, a string or strings); it then answers for the result types too, which ``infer``
may not know.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any

from stepforge.ir import analyses
from stepforge.ir.core import Block, Const, Function, Module, Operation, Symbol, Value
from stepforge.ir.errors import IRError
from stepforge.ir.opdef import OpDef
from stepforge.ir.parser import RESERVED
from stepforge.ir.records import record
from stepforge.ir.text import LITERAL_TYPES, Listing, listed, literal_text, symbol_text
from stepforge.ir.tokens import is_word

_SHOWN = 60  # a longer function is shown around its problems only
_AROUND = 3  # lines before and behind each
_SCALARS = {"b": bool, "i": int, "u": int, "x": int, "f": float, "c": complex}


@record(frozen=True)
class Problem:
    """One mistake; ``op`` is None where it is the function's."""

    message: str
    op: Operation | None = None


def verify(function: Function) -> None:
    """Raises: IRError with every problem of ``function``."""
    found = problems(function)
    if found:
        raise IRError(report(function, found))


def verify_module(module: Module) -> None:
    """Verify each function. Raises: IRError for the first that is wrong, or for two of one name."""
    names: set[str] = set()
    for function in module.functions:
        if function.name in names:
            raise IRError(f"the module has two functions called {symbol_text(function.name)}")
        names.add(function.name)
    for function in module.functions:
        verify(function)


def problems(function: Function) -> list[Problem]:
    """Every problem of ``function``, in program order."""
    return _Verifier(function).found


def report(function: Function, found: list[Problem]) -> str:
    """The message: each problem, then the function with the lines concerned marked."""
    count = "1 problem" if len(found) == 1 else f"{len(found)} problems"
    lines = [f"{symbol_text(function.name)} is not valid: {count}"]
    listing = Listing(function)
    marks: dict[int, list[int]] = {}
    header = len(function.globals)
    for number, problem in enumerate(found, 1):
        lines.append(f"  {number}. {problem.message}")
        if problem.op is not None and problem.op.site is not None:
            lines.append(f"     {problem.op.site}")
        at = header if problem.op is None else listing.line_of.get(problem.op, header)
        marks.setdefault(at, []).append(number)
    return "\n".join([*lines, *_marked(listing.lines, marks, header)])


def _marked(lines: list[str], marks: dict[int, list[int]], header: int) -> Iterator[str]:
    shown = set(range(len(lines)))
    if len(lines) > _SHOWN:
        near = [range(at - _AROUND, at + _AROUND + 1) for at in marks]
        shown = {header}.union(*near) & shown
    before = -1
    for at in sorted(shown):
        if at != before + 1:
            yield "    ..."
        before = at
        yield ("  > " if at in marks else "    ") + lines[at]
        if at in marks:
            indent = len(lines[at]) - len(lines[at].lstrip())
            yield " " * (indent + 4) + "^ " + ", ".join(map(str, marks[at]))
    if before != len(lines) - 1:
        yield "    ..."


@cache
def _operand_count(defn: OpDef) -> tuple[int, float]:
    """The least and the greatest number of operands that the signature of ``infer`` takes."""
    least, most = 0, 0.0
    for parameter in inspect.signature(defn.infer).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            most = float("inf")
        elif parameter.kind is not parameter.KEYWORD_ONLY:
            most += 1
            least += parameter.default is parameter.empty
    return least, most


class _Verifier:
    """One walk over a function with what is visible at the point that it has reached."""

    def __init__(self, function: Function) -> None:
        self.found: list[Problem] = []
        self.function = function
        self.visible: set[Value] = set()
        self.order: list[Value] = []  # what is visible, in the order of definition
        self.defined: set[Value] = set()
        self.sizes: set[str] = set(analyses.entry_sizes(function))
        self.level = ""
        self._globals()
        for param in function.params:
            self._sizes_known(analyses.type_sizes(param.type), "a parameter", None)
        self._size_names(self.sizes, None)
        self._block(function.body, None)

    def _add(self, message: str, op: Operation | None) -> None:
        self.found.append(Problem(message if op is None else f"{op.name}: {message}", op))

    def _globals(self) -> None:
        for name, entry in self.function.globals.items():
            if entry.kind not in ("variable", "random", "constant"):
                self._add(f"{symbol_text(name)} has the unknown kind '{entry.kind}'", None)
            if (entry.kind == "constant") != (entry.data is not None):
                self._add(f"{symbol_text(name)}: a constant, and nothing else, has data", None)
            elif entry.data is not None and entry.data.shape != entry.type.shape:
                shape = list(entry.data.shape)
                self._add(f"{symbol_text(name)} is {entry.type}, its data has shape {shape}", None)

    def _block(self, block: Block, owner: Operation | None) -> None:
        for param in block.params:
            self._define(param, owner)
        for op in block.ops:
            self._operation(op)
        self._terminators(block, owner)

    def _terminators(self, block: Block, owner: Operation | None) -> None:
        for op in block.ops[:-1]:
            if op.defn.terminator:
                self._add("stands before the end of its block; move it there", op)
        wanted = "return" if owner is None else "yield"
        if not block.ops or not block.terminator.defn.terminator:
            where = "the function" if owner is None else "a region"
            self._add(f"{where} must end in {wanted}(...)", owner)
        elif (block.terminator.name == "return") != (owner is None):
            self._add(f"only {wanted}(...) can end this block", block.terminator)

    def _define(self, value: Value, op: Operation | None) -> None:
        if value in self.defined:
            self._add(f"the value '{value.name}' of type {value.type} is defined twice", op)
        self.defined.add(value)
        self.visible.add(value)
        self.order.append(value)

    def _operation(self, op: Operation) -> None:
        known = len(self.found)
        self._operands(op)
        self._attributes(op)
        self._level_of(op)
        fresh = analyses.bound_sizes(op)
        for name in fresh:
            if name in self.sizes:
                self._add(f"binds the size '{name}', which is bound already; take a new name", op)
        refined = [n for n in analyses.refined_sizes(op) if n not in self.sizes]
        self._size_names((*fresh, *refined), op)
        for region in op.regions:
            self._region(region, op, fresh if op.defn.binds_inside else ())
        if not op.defn.binds_inside:
            self.sizes.update(fresh, refined)
        self._sizes_known(analyses.mentioned_sizes(_without_regions(op)), op.name, op)
        if len(self.found) == known:  # rules may rely on what was checked so far
            self._types(op)
        for result in op.results:
            self._define(result, op)

    def _region(self, region: Block, op: Operation, bound: Iterable[str] = ()) -> None:
        outside, sizes, self.sizes = len(self.order), self.sizes, {*self.sizes, *bound}
        for param in region.params:
            self.sizes.update(analyses.lone_sizes(param.type))
        for param in region.params:
            self._sizes_known(analyses.type_sizes(param.type), "a parameter", op)
        self._block(region, op)
        self.visible.difference_update(self.order[outside:])
        del self.order[outside:]
        self.sizes = sizes

    def _operands(self, op: Operation) -> None:
        for i, operand in enumerate(op.operands):
            if isinstance(operand, Value):
                if operand not in self.visible:
                    name = f" '{operand.name}'" if operand.name else ""
                    hint = (
                        "defined in another region" if operand in self.defined else "defined later"
                    )
                    self._add(f"operand {i}{name} is not visible here; it is {hint} or nowhere", op)
            elif isinstance(operand, Symbol):
                self._symbol(operand, op)
            else:
                self._constant(operand, op)

    def _symbol(self, symbol: Symbol, op: Operation) -> None:
        entry = self.function.globals.get(symbol.name)
        name = symbol_text(symbol.name)
        if entry is None:
            self._add(f"{name} is not declared; add it to the function's globals", op)
        elif entry.type != symbol.type:
            self._add(f"{name} is used as {symbol.type} but declared as {entry.type}", op)

    def _constant(self, constant: Const, op: Operation) -> None:
        wanted = _SCALARS.get(constant.type.kind)
        if constant.type.shape != () or constant.type.buffer or wanted is None:
            self._add(f"a constant in place is a scalar number, not {constant.type}", op)
        elif type(constant.value) is not wanted:
            kind = type(constant.value).__name__
            self._add(
                f"a constant of type {constant.type} holds a {kind}, not a {wanted.__name__}", op
            )

    def _attributes(self, op: Operation) -> None:
        defaults = op.defn.defaults
        for name, value in op.attrs.items():
            if name not in defaults:
                known = f"; it has {', '.join(defaults)}" if defaults else ""
                self._add(f"has no attribute '{name}'{known}", op)
            elif not _is_literal(value):
                self._add(f"attribute '{name}' is {literal_text(value)}, which is no literal", op)
        for name, value in defaults.items():
            if value is inspect.Parameter.empty and name not in op.attrs:
                self._add(f"the attribute '{name}' is missing", op)

    def _level_of(self, op: Operation) -> None:
        """All ops of a function are of one level; elementwise ops on scalars belong to both."""
        level = op.defn.level
        if level == "both" or (op.defn.elementwise and all(r.type.shape == () for r in op.results)):
            return
        if self.level and level != self.level:
            self._add(f"is of the {level} level in a function of the {self.level} level", op)
        self.level = self.level or level

    def _types(self, op: Operation) -> None:
        least, most = _operand_count(op.defn)
        if not least <= len(op.operands) <= most:
            wanted = str(least) if least == most else f"{least} to {most}"
            self._add(f"takes {wanted} operands, not {len(op.operands)}", op)
            return
        if len(op.regions) > len(op.defn.region_names):
            self._add(f"takes {len(op.defn.region_names)} regions, not {len(op.regions)}", op)
            return
        try:
            for message in _judge(op):
                self._add(message, op)
        except Exception as error:  # whatever a rule raises is a problem of this operation
            self._add((str(error) or repr(error)).removeprefix(f"{op.name}: "), op)

    def _sizes_known(self, names: Iterable[str], what: str, op: Operation | None) -> None:
        missing = sorted(n for n in names if n not in self.sizes)
        if missing:
            self._add(
                f"{what} mentions the size {', '.join(missing)}, which nothing binds before: "
                "a parameter binds a name that stands alone in its type, an op by 'binds'",
                op,
            )

    def _size_names(self, names: Iterable[str], op: Operation | None) -> None:
        for name in sorted(names):
            if name in RESERVED or not is_word(name):
                self._add(f"'{name}' cannot be the name of a size; it would not parse", op)


def _judge(op: Operation) -> Iterable[str]:
    """What the rules of the declaration say against ``op``."""
    rule: Callable[[Operation], str | Iterable[str] | None] | None
    rule = getattr(op.defn, "verify", None)
    if rule is not None:
        said = rule(op)
        return [said] if isinstance(said, str) else list(said or ())
    types = op.defn.infer_results(tuple([o.type for o in op.operands]), dict(op.attrs))
    given = tuple([r.type for r in op.results])
    if types != given:
        return [f"gives ({listed(types)}), but its results say ({listed(given)})"]
    return ()


def _without_regions(op: Operation) -> Operation:
    return op if not op.regions else Operation(op.defn, (), op.attrs, op.results)


def _is_literal(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(_is_literal(v) for v in value)
    return type(value) in LITERAL_TYPES
