"""What the values of the loop level are while LLVM is written: buffers, positions, elements."""

from __future__ import annotations

from collections.abc import Sequence

from stepforge.codegen.lane_core import Lane
from stepforge.ir.records import record
from stepforge.ir.types import Type


@record(frozen=True, slots=True)
class Buffer:
    """Row-major memory: ``strides`` are the i64 texts of elements per step along each axis."""

    pointer: str
    type: Type
    strides: tuple[str, ...] = ()


@record(frozen=True, slots=True)
class Position:
    """An index:

    ``base`` plus ``stride`` for each lane (both i64 texts), or ``base`` plus a known number for
    each lane in ``places``, or one index per lane in ``each``.
    """

    base: str
    stride: str = "0"
    each: str = ""
    places: tuple[int, ...] = ()

    @property
    def uniform(self) -> bool:
        """True where all lanes have the same index."""
        return self.stride == "0" and not self.each and not self.places

    def known(self, width: int) -> tuple[int, ...]:
        """What is added to ``base`` for each lane, where that is known; () where it is not."""
        if self.places or self.each or not is_number(self.stride):
            return self.places
        return tuple(lane * int(self.stride) for lane in range(width))


def evenly(base: str, places: Sequence[int]) -> Position:
    """``base`` plus ``places``, the first of which is 0; as a stride where that is the same."""
    step = places[1]
    if all(place == lane * step for lane, place in enumerate(places)):
        return Position(base, str(step))
    return Position(base, places=tuple(places))


def is_number(text: str) -> bool:
    """True for a number, False for what is computed."""
    return text.lstrip("-").isdigit()


@record(frozen=True, slots=True)
class Element:
    """A scalar of the loop level:

    one lane for all (``wide`` False), or one for each lane of the loop.
    """

    lane: Lane
    wide: bool = False
