"""Why a step cannot be compiled ahead of time: everything at once, each with the user's line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from stepforge.ir.core import Function, Operation, Site, Symbol
from stepforge.ir.errors import quote
from stepforge.ir.records import record
from stepforge.ir.types import Type
from stepforge.passes.fuse import is_map, is_reduction
from stepforge.passes.lower import Lowered, has_loops

# Operations that lowering knows by name.
_KNOWN = ("read", "write", "reshape", "refine", "return", "yield", "assume", "dim")


@record(frozen=True)
class Problem:
    """One reason: what cannot be done, by which operation, and where the user asked for it.

    ``bound`` says that a bound that the caller declares would mend it.
    """

    text: str
    site: Site | None = None
    op: str = ""
    bound: bool = False

    def __str__(self) -> str:
        head = f"{self.op}: " if self.op else ""
        return f"{head}{self.text}{quote(self.site)}"


class CannotCompileAhead(ValueError):
    """Steps that need an interpreter beside them; ``problems`` says why, all of it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(_together(list(problems)))
        count = "one reason" if len(self.problems) == 1 else f"{len(self.problems)} reasons"
        lines = "\n".join(f"* {problem}" for problem in self.problems)
        super().__init__(f"cannot compile ahead of time, for {count}:\n{lines}")


def _together(problems: Sequence[Problem]) -> Iterator[Problem]:
    """Those of one node with the same reason in one; no call for bounds that would not help."""
    hopeless = {p.site for p in problems if p.site is not None and not p.bound}
    groups: dict[tuple[str, Site | None], list[Problem]] = {}
    for problem in problems:
        if not (problem.bound and problem.site in hopeless):
            groups.setdefault((problem.text, problem.site), []).append(problem)
    for first, *others in groups.values():
        names = dict.fromkeys(problem.op for problem in (first, *others))
        yield replace(first, op=", ".join(names))


def problems_of(function: Function) -> list[Problem]:
    """What tensor-level ``function`` has that code without an interpreter cannot do."""
    found = [
        Problem(reason, op.site, op.name) for op in function.walk() for reason in _reasons(op)
    ]
    found += _resized(function)
    objects = [param for param in function.params if _is_object(param.type)]
    return [*(Problem(f"the feed {p.name} is {p.type}: {_OBJECT}") for p in objects), *found]


def _resized(function: Function) -> Iterator[Problem]:
    """Writes that would give a variable another size: its place is as large as its first value."""
    for op in function.walk():
        variable = op.operands[0] if op.name == "write" else None
        if isinstance(variable, Symbol) and not any(_is_object(o.type) for o in op.operands):
            own, given = function.globals[variable.name].type, op.operands[1].type
            if own.shape != given.shape:
                text = f"a value {given} for variable {variable.name}, which stays {own}"
                yield Problem(text, op.site, op.name)


def problems_of_lowered(lowered: Lowered) -> list[Problem]:
    """Operations that were left to the host."""
    return [Problem(_host(op), op.site, op.name) for op in lowered.host_operations]


def unbounded(op: Operation) -> Problem:
    """The problem of an operation whose results need a bound and have none."""
    text = "the size of its result depends on data, and no upper bound is declared"
    return Problem(text, op.site, op.name, bound=True)


_OBJECT = "text, resources and values of unknown rank are Python objects"


def _reasons(op: Operation) -> Iterator[str]:
    values = (*op.operands, *op.results)
    if op.name in ("cond", "while"):
        yield "control flow has no native lowering"
    elif op.name == "numba_call":
        yield "the machine code of a numba function belongs to this process"
    elif op.name == "py_func":
        yield "a Python function needs its interpreter"
    elif op.defn.terminator:
        return
    elif any(_is_object(v.type) for v in values) and op.defn.effect != "random":
        yield _OBJECT
    elif not (op.name in _KNOWN or has_loops(op) or is_map(op) or is_reduction(op)):
        yield _host(op)


def _host(op: Operation) -> str:
    taken, given = (", ".join(str(v.type) for v in values) for values in (op.operands, op.results))
    return f"has no native lowering for ({taken}) -> ({given})"


def _is_object(type_: Any) -> bool:
    return not isinstance(type_, Type) or type_.is_object
