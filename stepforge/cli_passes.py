"""The passes that ``stepforge opt`` knows by name, and what a list of names stands for."""

from __future__ import annotations

from functools import partial

from stepforge.cli_files import CommandError
from stepforge.ir.analyses import checked_sizes, entry_sizes
from stepforge.ir.core import Function
from stepforge.passes import lower as lowering
from stepforge.passes import plan as planning
from stepforge.passes.manager import Pass, name_of
from stepforge.passes.order import ORDER
from stepforge.passes.simplify import simplify


def lower(function: Function) -> Function:
    """The loops of a function; what host calls stand for is left out."""
    return lowering.lower(function).function


def plan(function: Function) -> Function:
    """The function with places for its temporaries."""
    sizes = checked_sizes(function) | entry_sizes(function)
    return planning.plan(function, sizes).function


PASSES: dict[str, Pass] = {
    **{name_of(step): step for steps in ORDER.values() for step in steps},
    "simplify_inexact": partial(simplify, inexact=True),
    "lower": lower,
    "plan": plan,
}
PASSES_HELP = f"""\
passes: {', '.join(PASSES)}
levels: {', '.join(ORDER)} are the lists that compiles use, in that order (lower before loops,
plan behind); --until runs all passes of a compile up to one

examples:
  stepforge opt model.sf --passes fold,simplify,cse
  stepforge opt model.sf --passes tensor,fusion,lower,loops,plan --timings
  stepforge opt model.sf --until fuse
  stepforge opt tests/golden/cse/pure.sf --passes cse
"""


def listed(names: str) -> list[Pass]:
    """The passes that names of passes and levels between commas stand for. Raises: CommandError."""
    return [step for name in names.split(",") for step in _named(name.strip())]


def _named(name: str) -> tuple[Pass, ...]:
    if name in ORDER:
        return ORDER[name]
    if name not in PASSES:
        raise CommandError(f"there is no pass {name!r}: {', '.join((*PASSES, *ORDER))}")
    return (PASSES[name],)


def until(name: str) -> list[Pass]:
    """All passes of a compile up to the first that is called ``name``. Raises: CommandError."""
    everything = [*ORDER["tensor"], *ORDER["fusion"], lower, *ORDER["loops"], plan]
    places = [place for place, step in enumerate(everything, 1) if name_of(step) == name]
    if not places:
        raise CommandError(f"no compile runs {name!r}, but {', '.join(map(name_of, everything))}")
    return everything[: places[0]]
