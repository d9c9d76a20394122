"""Every pass that a function goes through on its way to loops, kept to look at.

The passes are pure functions, so a compile need not keep what was between them: whoever wants to
see it lets them run once more.
"""

from __future__ import annotations

import time

from stepforge.ir.analyses import checked_sizes
from stepforge.ir.core import Function
from stepforge.ir.dims import Dim
from stepforge.ir.records import record
from stepforge.passes.lower import lower, lowerable
from stepforge.passes.manager import Pass, name_of
from stepforge.passes.order import ORDER
from stepforge.passes.plan import Planned, plan


@record(frozen=True)
class Change:
    """What one pass made of a function; ``after is before`` where it changed nothing."""

    level: str
    name: str
    before: Function
    after: Function
    seconds: float

    @property
    def changed(self) -> bool:
        """Whether the pass did anything."""
        return self.after is not self.before


@record(frozen=True)
class History:
    """The passes in order; the function behind each level, by stage; the bytes of the arena."""

    changes: tuple[Change, ...]
    stages: dict[str, Function]
    arena: Dim

    def of(self, name: str) -> Change:
        """The change of a pass: ``fold``, or ``fold:2`` for its second run.

        Raises: ValueError where there is none.
        """
        wanted, _, number = name.partition(":")
        found = [change for change in self.changes if change.name == wanted]
        place = int(number) if number.isdigit() else 1
        if not 1 <= place <= len(found) or (number and not number.isdigit()):
            names = ", ".join(dict.fromkeys(change.name for change in self.changes))
            raise ValueError(f"there is no pass {name!r} in this step, only {names}")
        return found[place - 1]


def history(function: Function) -> History:
    """Run all passes on a function as it was extracted.

    One that loops cannot hold ends with the tensor level, as its compile does.
    """
    changes: list[Change] = []

    def one(level: str, name: str, step: Pass, given: Function) -> Function:
        started = time.perf_counter()
        made = step(given)
        changes.append(Change(level, name, given, made, time.perf_counter() - started))
        return made

    def all_of(level: str, given: Function) -> Function:
        for step in ORDER[level]:
            given = one(level, name_of(step), step, given)
        return given

    tensor = all_of("tensor", function)
    if not lowerable(tensor):
        return History(tuple(changes), {"tensor": tensor}, 0)
    fused = all_of("fusion", tensor)
    loops = all_of("loops", one("loops", "lower", lambda f: lower(f).function, fused))
    planned: list[Planned] = []

    def place(given: Function) -> Function:
        planned.append(plan(given, checked_sizes(fused)))
        return planned[0].function

    loops = one("loops", "plan", place, loops)
    stages = {"tensor": tensor, "fused": fused, "loops": loops}
    return History(tuple(changes), stages, planned[0].arena)
