"""Reads relocatable ELF objects for x86-64, as LLVM emits them: sections, symbols, relocations."""

from __future__ import annotations

import struct
from functools import cached_property
from typing import NamedTuple

from stepforge.ir.records import record

HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
SECTION = struct.Struct("<IIQQQQIIQQ")
SYMBOL = struct.Struct("<IBBHQQ")
RELOCATION = struct.Struct("<QQq")

# Kinds of sections, and what their flags say.
SYMBOL_TABLE, RELOCATIONS, NO_BITS = 2, 4, 8
WRITABLE, ALLOCATED, EXECUTABLE = 1, 2, 4
X86_64 = 62
GLOBAL = 1  # how symbols bind that others see


class Section(NamedTuple):
    """A section and its bytes (zeros where the file holds none)."""

    number: int
    name: str
    kind: int
    flags: int
    align: int
    link: int
    info: int
    data: bytes

    @property
    def loaded(self) -> bool:
        """Whether it is there when the code runs; tables for unwinding are not needed."""
        return bool(self.flags & ALLOCATED and self.data) and self.name != ".eh_frame"


class Symbol(NamedTuple):
    """A name and the place that it stands for; ``section`` is 0 where that is outside."""

    name: str
    bind: int
    kind: int
    visibility: int
    section: int
    value: int
    size: int

    @property
    def undefined(self) -> bool:
        """Whether it must come from outside."""
        return self.section == 0


class Relocation(NamedTuple):
    """Bytes of ``section`` at ``offset`` that depend on where ``symbol`` lands."""

    section: int
    offset: int
    kind: int
    symbol: int
    addend: int


@record(frozen=True)
class ElfObject:
    """A relocatable object. Raises: ValueError where the bytes are none for 64-bit machines."""

    content: bytes

    def __post_init__(self) -> None:
        if self.content[:6] != b"\x7fELF\2\1":
            raise ValueError("not a little-endian ELF object of 64 bits")

    @property
    def machine(self) -> int:
        """The number of the architecture."""
        return int(HEADER.unpack_from(self.content)[2])

    @cached_property
    def sections(self) -> tuple[Section, ...]:
        """All sections, the empty first one included."""
        header = HEADER.unpack_from(self.content)
        start, size, count, names = header[6], header[11], header[12], header[13]
        rows = [SECTION.unpack_from(self.content, start + size * i) for i in range(count)]
        texts = self._bytes(rows[names])
        return tuple(
            Section(i, _string(texts, row[0]), row[1], row[2], max(row[8], 1), row[6], row[7],
                    self._bytes(row))
            for i, row in enumerate(rows)
        )

    def _bytes(self, row: tuple[int, ...]) -> bytes:
        kind, offset, size = row[1], row[4], row[5]
        return bytes(size) if kind == NO_BITS else self.content[offset : offset + size]

    @cached_property
    def symbols(self) -> tuple[Symbol, ...]:
        """All symbols, the empty first one included."""
        for section in self.sections:
            if section.kind == SYMBOL_TABLE:
                texts = self.sections[section.link].data
                return tuple(
                    Symbol(_string(texts, name), info >> 4, info & 15, other & 3, *place)
                    for name, info, other, *place in SYMBOL.iter_unpack(section.data)
                )
        return ()

    @cached_property
    def relocations(self) -> tuple[Relocation, ...]:
        """The relocations of all sections that are loaded."""
        return tuple(
            Relocation(section.info, offset, info & 0xFFFFFFFF, info >> 32, addend)
            for section in self.sections
            if section.kind == RELOCATIONS and self.sections[section.info].loaded
            for offset, info, addend in RELOCATION.iter_unpack(section.data)
        )

    @property
    def undefined(self) -> tuple[str, ...]:
        """The names that must come from outside, sorted."""
        return tuple(sorted({s.name for s in self.symbols if s.name and s.undefined}))

    @property
    def exports(self) -> tuple[Symbol, ...]:
        """The symbols that others may use."""
        return tuple(
            s for s in self.symbols
            if s.bind == GLOBAL and not s.undefined and s.visibility == 0
        )


def _string(texts: bytes, offset: int) -> str:
    return texts[offset : texts.index(0, offset)].decode()
