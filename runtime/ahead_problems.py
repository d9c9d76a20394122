"""Why a step cannot be compiled ahead of time: everything at once, each with the user's line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from stepforge.ir.core import Function, Operation, Site
from stepforge.ir.errors import quote
from stepforge.ir.types import Type
from stepforge.passes.fuse import is_map, is_reduction
from stepforge.passes.lower import Lowered, has_loops

# Operations that lowering knows by name.
_KNOWN = ("read", "write", "reshape", "refine", "return", "yield", "assume", "dim")


@dataclass(frozen=True)
class Problem:
    """One reason: what cannot be done, and where the user asked for it."""

    text: str
    site: Site | None = None

    def __str__(self) -> str:
        return self.text + quote(self.site)


class CannotCompileAhead(ValueError):
    """Steps that need an interpreter beside them; ``problems`` says why, all of it."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(dict.fromkeys(problems))
        count = "one reason" if len(self.problems) == 1 else f"{len(self.problems)} reasons"
        lines = "\n".join(f"* {problem}" for problem in self.problems)
        super().__init__(f"cannot compile ahead of time, for {count}:\n{lines}")


def problems_of(function: Function) -> list[Problem]:
    """What tensor-level ``function`` has that code without an interpreter cannot do."""
    found = [Problem(reason, op.site) for op in function.walk() for reason in _reasons(op)]
    objects = [param for param in function.params if _is_object(param.type)]
    return [*(Problem(f"the feed {p.name} is {p.type}: {_OBJECT}") for p in objects), *found]


def problems_of_lowered(lowered: Lowered) -> list[Problem]:
    """Operations that were left to the host."""
    return [Problem(_host(op), op.site) for op in lowered.host_operations]


def unbounded(op: Operation) -> Problem:
    """The problem of an operation whose results need a bound and have none."""
    text = f"{op.name}: the size of its result depends on data, and no upper bound is declared"
    return Problem(text, op.site)


_OBJECT = "text, resources and values of unknown rank are Python objects"


def _reasons(op: Operation) -> Iterator[str]:
    values = (*op.operands, *op.results)
    if op.name in ("cond", "while"):
        yield f"{op.name}: control flow has no native lowering"
    elif op.name == "numba_call":
        yield "numba_call: the machine code of a numba function belongs to this process"
    elif op.defn.terminator:
        return
    elif any(_is_object(v.type) for v in values) and op.defn.effect != "random":
        yield f"{op.name}: {_OBJECT}"
    elif not (op.name in _KNOWN or has_loops(op) or is_map(op) or is_reduction(op)):
        yield _host(op)


def _host(op: Operation) -> str:
    return f"{op.name}: has no native lowering for {', '.join(str(o.type) for o in op.operands)}"


def _is_object(type_: Any) -> bool:
    return not isinstance(type_, Type) or type_.is_object
