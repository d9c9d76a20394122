"""Control flow: the terminators, ``cond`` and ``while``, and what is assumed about sizes.

Region ops cannot tell their result types from their operands' types, so these are given when they
are made, and ``verify`` checks them against what the regions yield. A region sees every value
around it. Sizes that differ from branch to branch or from turn to turn are fresh names, which
``binds`` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn

from stepforge.ir import dims
from stepforge.ir.core import Block, Operation
from stepforge.ir.dims import Dim
from stepforge.ir.errors import InvalidArgumentError
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.types import AnyType, ListType, boolean

Run = Callable[..., "tuple[Any, ...]"]


@define_op
class Return(OpDef):
    """Ends a function: ``return(%y, %z)`` gives its results."""

    level = "both"
    terminator = True

    def infer(self, *values: AnyType) -> tuple[AnyType, ...]:
        return ()


@define_op
class Yield(OpDef):
    """Ends a region: ``yield(%y)`` hands values to the op that owns the region."""

    level = "both"
    terminator = True

    def infer(self, *values: AnyType) -> tuple[AnyType, ...]:
        return ()


@define_op
class Cond(OpDef):
    """Runs one of two regions: ``%y = cond(%p) : f32[n] then {...} else {...}``.

    ``binds`` names the sizes of the results that are known only once a branch has run.
    """

    level = "both"
    region_names = ("then", "else")

    def infer(self, pred: AnyType, *, binds: tuple[str, ...] = ()) -> NoReturn:
        raise TypeError("cond: the types of its results must be given (types=...)")

    def verify(self, op: Operation) -> Iterator[str]:
        """Problems of the predicate, and of a branch whose yield does not give the result types."""
        if [o.type for o in op.operands] != [boolean]:
            yield "the predicate must be one bool"
        yield from region_count(op)
        wanted = [r.type for r in op.results]
        for label, region in zip(self.region_names, op.regions, strict=False):
            if region.params:
                yield f"'{label}' takes no parameters"
            yield from yields(region, label, wanted, op.attr("binds"))

    def evaluate(
        self, op: Operation, run: Run, pred: Any, *, binds: Any = ()
    ) -> tuple[Any, ...]:
        """The results of the branch that ``pred`` picks."""
        return run(op.regions[0 if pred else 1])


@define_op
class While(OpDef):
    """Repeats ``body`` while ``test`` holds: ``%y = while(%x) : t test |%a: t| {} body |%b: t| {}``

    ``test`` yields one bool, ``body`` the next value of each loop variable; parameters and results
    have the same types. A size that changes from turn to turn is a name in ``binds``: in the
    regions it is the size at that turn, after the loop the last one.
    """

    level = "both"
    region_names = ("test", "body")

    def infer(self, *inits: AnyType, binds: tuple[str, ...] = ()) -> NoReturn:
        raise TypeError("while: the types of its results must be given (types=...)")

    def verify(self, op: Operation) -> Iterator[str]:
        """Problems of the loop variables and of what the two regions yield."""
        yield from region_count(op)
        types, free = [r.type for r in op.results], op.attr("binds")
        inits = [o.type for o in op.operands]
        yield from flows(inits, types, free, "the operands and the results")
        for label, region in zip(self.region_names, op.regions, strict=False):
            params = [p.type for p in region.params]
            yield from flows(params, types, (), f"the parameters of '{label}' and the results")
            wanted = [boolean] if label == "test" else types
            yield from yields(region, label, wanted, free)

    def evaluate(
        self, op: Operation, run: Run, *inits: Any, binds: Any = ()
    ) -> tuple[Any, ...]:
        """The loop variables after the last turn."""
        test, body = op.regions
        values = inits
        while run(test, *values)[0]:
            values = run(body, *values)
        return values


@define_op
class Assume(OpDef):
    """States that two sizes are equal wherever this variant of a step runs; the entry checks it.

    ``assume(lhs=n, rhs=m)``
    """

    level = "both"
    effect = "check"
    cases = ("assume(lhs=3, rhs=3)",)

    def infer(self, *, lhs: Dim, rhs: Dim) -> tuple[AnyType, ...]:
        return ()

    def numpy(self, *, lhs: int, rhs: int) -> None:
        """Raises: InvalidArgumentError where the sizes differ."""
        if lhs != rhs:
            raise InvalidArgumentError(None, None, f"the sizes {lhs} and {rhs} are assumed equal")


def region_count(op: Operation) -> Iterator[str]:
    """A problem where ``op`` has not exactly the regions that its declaration names."""
    names = op.defn.region_names
    if len(op.regions) != len(names):
        yield f"has {len(op.regions)} regions, not {len(names)} ({', '.join(names)})"


def yields(
    region: Block, label: str, wanted: Sequence[AnyType], free: Sequence[str]
) -> Iterator[str]:
    """Problems of a region whose ``yield`` must give values of the types ``wanted``."""
    if region.ops and region.terminator.name == "yield":
        given = [o.type for o in region.terminator.operands]
        yield from flows(given, wanted, free, f"what '{label}' yields and what is expected")


def flows(
    given: Sequence[AnyType], wanted: Sequence[AnyType], free: Sequence[str], what: str
) -> Iterator[str]:
    """Problems of handing values of types ``given`` to places of types ``wanted``.

    The names in ``free`` may stand for any size, the same one wherever they appear.
    """
    if len(given) != len(wanted):
        yield f"{what} differ in number: {len(given)} and {len(wanted)}"
        return
    meaning: dict[str, Dim] = {}
    for i, (have, want) in enumerate(zip(given, wanted, strict=True)):
        if have != want and not fits(have, want, free, meaning):
            yield f"{what} differ: number {i} is {have}, not {want}"


def fits(have: AnyType, want: AnyType, free: Sequence[str], meaning: dict[str, Dim]) -> bool:
    """True where a value of type ``have`` may stand where ``want`` is wanted.

    Extends ``meaning``, which says what the names in ``free`` stand for. A type of unknown rank
    takes every rank.
    """
    if isinstance(have, ListType) or isinstance(want, ListType):
        return (
            isinstance(have, ListType)
            and isinstance(want, ListType)
            and fits(have.element, want.element, free, meaning)
        )
    if have.dtype != want.dtype or have.buffer != want.buffer:
        return False
    if want.shape is None:
        return True
    if have.shape is None or len(have.shape) != len(want.shape):
        return False
    for size, wish in zip(have.shape, want.shape, strict=True):
        name = dims.as_name(wish)
        if name is not None and name in free:
            meaning.setdefault(name, size)
        if size != dims.substitute(wish, meaning):
            return False
    return True
