"""What the values of the loop level are while LLVM is written: buffers, positions, elements."""

from __future__ import annotations

from dataclasses import dataclass

from stepforge.codegen.lane_core import Lane
from stepforge.ir.types import Type


@dataclass(frozen=True, slots=True)
class Buffer:
    """Row-major memory: ``strides`` are the i64 texts of elements per step along each axis."""

    pointer: str
    type: Type
    strides: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Position:
    """An index:

    ``base`` plus ``stride`` for each lane (both i64 texts), or one index per lane in ``each``.
    """

    base: str
    stride: str = "0"
    each: str = ""

    @property
    def uniform(self) -> bool:
        """True where all lanes have the same index."""
        return self.stride == "0" and not self.each


@dataclass(frozen=True, slots=True)
class Element:
    """A scalar of the loop level:

    one lane for all (``wide`` False), or one for each lane of the loop.
    """

    lane: Lane
    wide: bool = False
