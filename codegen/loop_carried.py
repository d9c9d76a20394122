"""What loops carry that only add up (or multiply, or look for the largest): partial results.

Such a loop may add in any order. It keeps several partial results, which hides the latency of the
instruction that combines them, and combines these in the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepforge.codegen.lane_core import Lane, bits_of
from stepforge.codegen.lanes import LaneBuilder
from stepforge.ir.combining import identity
from stepforge.ir.core import Block, Const, Operation
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC, Type

MAX_OPS = 10  # in the body of a loop that keeps several partial results
MAX_OPS_AROUND = 40  # in a loop by lanes around such loops that takes several registers
_PRIMITIVE = {"and": "and_", "or": "or_"}
Turn = Callable[[str, Sequence[str]], Sequence[str]]


def adds_up(op: Operation) -> bool:
    """Whether a loop has a short body, carries sums and the like, and stores none on its way."""
    return bool(op.attr("combine")) and keeps(op)


def keeps(op: Operation) -> bool:
    """The same for whatever a loop carries from turn to turn."""
    body = list(op.regions[0].walk())
    if not op.operands or len(body) > MAX_OPS:
        return False
    sums = set(op.regions[0].params[1:])
    for inner in body:
        if not sums.isdisjoint(inner.operands):
            sums.update(inner.results)
            if inner.name == "store" or inner.regions:
                return False
    return True


def inner_sum(region: Block) -> Block | None:
    """The body of the last short loop inside that carries; None where it is not the most of it."""
    ops = list(region.walk())
    sums = [op.regions[0] for op in ops if op.name == "for" and keeps(op)]
    return sums[-1] if sums and len(ops) <= MAX_OPS_AROUND else None


def real(operand: Const) -> Any:
    """A constant's number as lanes take it."""
    return int(operand.value) if isinstance(operand.value, bool) else operand.value


def combined(k: LaneBuilder, kind: str, x: Lane, y: Lane) -> Lane:
    """Two partial results as one."""
    lane: Lane = getattr(k, _PRIMITIVE.get(kind, kind))(x, y)
    return lane


@record(frozen=True, slots=True)
class Carried:
    """The values that a loop carries in lanes of ``k``: how each combines, and its dtype."""

    k: LaneBuilder
    kinds: Sequence[str]
    dtypes: Sequence[str]

    def typed(self, texts: Sequence[str]) -> list[tuple[str, str]]:
        """Values with their LLVM types, as ``FunctionWriter.loop`` takes them."""
        return [(self.k.register_type(d), text) for d, text in zip(self.dtypes, texts, strict=True)]

    def identities(self) -> list[str]:
        """What changes nothing when it is combined with another value."""
        return [
            self.k.constant(real(identity(kind, dtype)), dtype).text
            for kind, dtype in zip(self.kinds, self.dtypes, strict=True)
        ]

    def several(
        self, copies: int, low: str, end: str, step: int, initial: Sequence[str], turn: Turn
    ) -> list[str]:
        """``turn(counter, values)`` from ``low`` to ``end``, ``copies`` of them at a time.

        Each copy has values of its own, the first from ``initial`` on; the result is all combined.
        ``end - low`` is a multiple of ``copies * step``.
        """
        fn, count = self.k.fn, len(self.kinds)

        def body(counter: str, *values: str) -> list[str]:
            following: list[str] = []
            for copy in range(copies):
                at = fn.emit(f"add i64 {counter}, {copy * step}") if copy else counter
                following += turn(at, values[copy * count : (copy + 1) * count])
            return following

        start = [*initial, *self.identities() * (copies - 1)]
        carried = [pair for i in range(copies) for pair in self.typed(start[i * count :][:count])]
        last = list(fn.loop(low, end, body, step=copies * step, carried=carried))
        parts = [last[i * count : (i + 1) * count] for i in range(copies)]
        while len(parts) > 1:
            parts = [
                self._combined(a, b) for a, b in zip(parts[::2], parts[1::2], strict=True)
            ]
        return parts[0]

    def _combined(self, a: Sequence[str], b: Sequence[str]) -> list[str]:
        return [
            combined(self.k, kind, Lane(dtype, x), Lane(dtype, y)).text
            for kind, dtype, x, y in zip(self.kinds, self.dtypes, a, b, strict=True)
        ]


def widest(region: Block) -> int:
    """Bits of the widest element that a region computes with."""
    values = (v for op in region.walk() for v in (*op.results, *op.operands))
    return max((_bits(v.type) for v in values if isinstance(v.type, Type)), default=32)


def _bits(type_: Type) -> int:
    """Bits that decide a vector's width:

    those of elements in registers; bools and indices do not count.
    """
    if type_.buffer or type_.dtype in ("bool", "index") or type_.dtype not in NUMERIC:
        return 8
    return bits_of(type_.dtype)
