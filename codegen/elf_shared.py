"""A shared library from one object without a linker: ELF for x86-64 Linux.

The image is three segments (read-only data, code, writable data), each on pages of its own. What
comes from outside gets a slot in a table of addresses that the dynamic linker fills, and calls go
through a jump by that slot. Section headers are not needed to load the library; they are there for
``nm``, ``objdump`` and linkers that link against it.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import field

from stepforge.codegen import elf
from stepforge.codegen.elf import ElfObject, Section, Symbol
from stepforge.ir.records import record

PAGE = 4096
NEEDED = ("libm.so.6", "libc.so.6")

# Relocations of x86-64: what an object asks for, and what is left to the dynamic linker.
ABSOLUTE_64, PC_32, PLT_32, PC_64 = 1, 2, 4, 24
THROUGH_GOT = (9, 41, 42)  # GOTPCREL, and its forms that a linker may relax
GLOBAL_ADDRESS, RELATIVE = 6, 8
JUMP = b"\xff\x25"  # jmp *displacement(%rip)
JUMP_BYTES = 8

_PROGRAM = struct.Struct("<IIQQQQQQ")
_LOAD, _DYNAMIC, _STACK = 1, 2, 0x6474E551
_READ, _WRITE, _EXECUTE = 4, 2, 1
_SEGMENTS = 5
# Tags of the dynamic section.
_NEEDED, _HASH, _STRINGS, _SYMBOLS, _RELA, _RELA_SIZE, _RELA_ENTRY = 1, 4, 5, 6, 7, 8, 9
_STRINGS_SIZE, _SYMBOL_SIZE, _SONAME = 10, 11, 14


def shared_library(content: bytes, soname: str, needed: Sequence[str] = NEEDED) -> bytes:
    """The library that holds the code of an object.

    Raises: ValueError for an object of another architecture or with relocations that a shared
    library cannot have.
    """
    given = ElfObject(content)
    if given.machine != elf.X86_64:
        raise ValueError("only objects for x86-64 can be linked here")
    return _Linker(given, soname, needed).link()


@record
class _Strings:
    """A string table under construction."""

    data: bytearray = field(default_factory=lambda: bytearray(b"\0"))
    places: dict[str, int] = field(default_factory=dict)

    def add(self, text: str) -> int:
        """Where ``text`` is."""
        if text not in self.places:
            self.places[text] = len(self.data)
            self.data += text.encode() + b"\0"
        return self.places[text]


class _Linker:
    """Lays out and writes one library; addresses are offsets in the file."""

    def __init__(self, given: ElfObject, soname: str, needed: Sequence[str]) -> None:
        self.given = given
        self.strings = _Strings()
        self.needed = [self.strings.add(name) for name in needed]
        self.soname = self.strings.add(soname)
        self.address: dict[int, int] = {}  # section -> address
        self.outside = [
            i for i in dict.fromkeys(r.symbol for r in given.relocations)
            if given.symbols[i].undefined
        ]
        indirect = [r.symbol for r in given.relocations if r.kind in THROUGH_GOT]
        self.slots = list(dict.fromkeys([*self.outside, *indirect]))  # symbols in the table
        self.slot: dict[int, int] = {}  # symbol -> address of its slot
        self.jump: dict[int, int] = {}  # symbol -> address of the jump
        self.exported = given.exports
        # The symbols of the library: those from outside have the numbers from 1 on.
        self.dynamic = [*(given.symbols[i] for i in self.outside), *self.exported]
        for symbol in self.dynamic:
            self.strings.add(symbol.name)
        self.rela: list[tuple[int, int, int]] = []

    def link(self) -> bytes:
        """The file."""
        self._lay_out()
        self.image = bytearray(self.file_end)
        for section in self.given.sections:
            if section.number in self.address and section.kind != elf.NO_BITS:
                self._put(self.address[section.number], section.data)
        self._relocate()
        self._fill_slots()
        self._tables()
        self._dynamic_section()
        self._headers()
        self._section_headers()
        return bytes(self.image)

    # ---- layout ---------------------------------------------------------------------------------
    def _lay_out(self) -> None:
        count, absolute = len(self.dynamic) + 1, sum(
            1 for r in self.given.relocations if r.kind == ABSOLUTE_64
        )
        self.buckets = max(len(self.dynamic), 1)
        position = elf.HEADER.size + _SEGMENTS * _PROGRAM.size
        self.symbols_at = _up(position, 8)
        self.hash_at = self.symbols_at + count * elf.SYMBOL.size
        self.strings_at = self.hash_at + 4 * (2 + self.buckets + count)
        self.rela_at = _up(self.strings_at + len(self.strings.data), 8)
        position = self.rela_at + (len(self.slots) + absolute) * elf.RELOCATION.size
        self.data_end = self._place(self._sections(0), position)
        self.code_at = _up(self.data_end, PAGE)
        position = _up(self._place(self._sections(elf.EXECUTABLE), self.code_at), 16)
        for symbol in self.outside:
            self.jump[symbol], position = position, position + JUMP_BYTES
        self.code_end = position
        self.dynamic_at = _up(position, PAGE)
        position = self.dynamic_at + 16 * (len(self.needed) + 10)
        for symbol in self.slots:
            self.slot[symbol], position = position, position + 8
        writable = self._sections(elf.WRITABLE)
        self.file_end = self._place([s for s in writable if s.kind != elf.NO_BITS], position)
        self.end = self._place([s for s in writable if s.kind == elf.NO_BITS], self.file_end)

    def _sections(self, flag: int) -> list[Section]:
        """The loaded sections that are executable, writable, or (0) neither."""
        mask = elf.EXECUTABLE | elf.WRITABLE
        return [s for s in self.given.sections if s.loaded and s.flags & mask == flag]

    def _place(self, sections: Sequence[Section], position: int) -> int:
        for section in sections:
            position = _up(position, section.align)
            self.address[section.number] = position
            position += len(section.data)
        return position

    def _put(self, address: int, data: bytes) -> None:
        self.image[address : address + len(data)] = data

    def _symbol_address(self, symbol: Symbol) -> int:
        return self.address[symbol.section] + symbol.value

    # ---- relocations ----------------------------------------------------------------------------
    def _relocate(self) -> None:
        for section, offset, kind, number, addend in self.given.relocations:
            place, symbol = self.address[section] + offset, self.given.symbols[number]
            if kind in THROUGH_GOT:
                self._put_32(place, self.slot[number] + addend - place)
            elif kind in (PC_32, PLT_32):
                target = self.jump[number] if symbol.undefined else self._symbol_address(symbol)
                self._put_32(place, target + addend - place)
            elif kind == PC_64 and not symbol.undefined:
                value = self._symbol_address(symbol) + addend - place
                self._put(place, struct.pack("<q", value))
            elif kind == ABSOLUTE_64:
                self._absolute(place, number, addend)
            else:
                name = self.given.sections[section].name
                raise ValueError(f"relocation {kind} in {name} has no place in a shared library")

    def _put_32(self, place: int, value: int) -> None:
        self._put(place, struct.pack("<i", value))

    def _absolute(self, place: int, number: int, addend: int) -> None:
        symbol = self.given.symbols[number]
        if symbol.undefined:
            self.rela.append((place, self._number(number) << 32 | ABSOLUTE_64, addend))
        else:
            self.rela.append((place, RELATIVE, self._symbol_address(symbol) + addend))

    def _number(self, symbol: int) -> int:
        """The number of a symbol from outside in the library's own table."""
        return self.outside.index(symbol) + 1

    def _fill_slots(self) -> None:
        for symbol, place in self.slot.items():
            if symbol in self.jump:
                self.rela.append((place, self._number(symbol) << 32 | GLOBAL_ADDRESS, 0))
                distance = place - self.jump[symbol] - len(JUMP) - 4
                self._put(self.jump[symbol], JUMP + struct.pack("<i", distance))
            else:
                address = self._symbol_address(self.given.symbols[symbol])
                self.rela.append((place, RELATIVE, address))

    # ---- tables ---------------------------------------------------------------------------------
    def _tables(self) -> None:
        for index, symbol in enumerate(self.dynamic, 1):
            inside = not symbol.undefined
            row = elf.SYMBOL.pack(
                self.strings.places[symbol.name],
                elf.GLOBAL << 4 | symbol.kind,
                0,
                self._section_number(symbol) if inside else 0,
                self._symbol_address(symbol) if inside else 0,
                symbol.size if inside else 0,
            )
            self._put(self.symbols_at + index * elf.SYMBOL.size, row)
        buckets, chain = [0] * self.buckets, [0] * (len(self.dynamic) + 1)
        for index, symbol in enumerate(self.dynamic, 1):
            bucket = _hash(symbol.name) % self.buckets
            chain[index], buckets[bucket] = buckets[bucket], index
        words = [self.buckets, len(chain), *buckets, *chain]
        self._put(self.hash_at, struct.pack(f"<{len(words)}I", *words))
        self._put(self.strings_at, bytes(self.strings.data))
        for index, row_ in enumerate(self.rela):
            self._put(self.rela_at + index * elf.RELOCATION.size, elf.RELOCATION.pack(*row_))

    def _section_number(self, symbol: Symbol) -> int:
        code = self.given.sections[symbol.section].flags & elf.EXECUTABLE
        return _SECTION_NAMES.index(".text" if code else ".data")

    def _dynamic_section(self) -> None:
        entries = [(_NEEDED, name) for name in self.needed]
        entries += [
            (_SONAME, self.soname), (_HASH, self.hash_at), (_STRINGS, self.strings_at),
            (_SYMBOLS, self.symbols_at), (_STRINGS_SIZE, len(self.strings.data)),
            (_SYMBOL_SIZE, elf.SYMBOL.size),
        ]  # fmt: skip
        if self.rela:
            size = len(self.rela) * elf.RELOCATION.size
            entries += [(_RELA, self.rela_at), (_RELA_SIZE, size)]
            entries += [(_RELA_ENTRY, elf.RELOCATION.size)]
        entries.append((0, 0))
        self.dynamic_bytes = 16 * len(entries)
        self._put(self.dynamic_at, b"".join(struct.pack("<QQ", *entry) for entry in entries))

    # ---- headers --------------------------------------------------------------------------------
    def _headers(self) -> None:
        size, start = self.dynamic_bytes, self.dynamic_at
        segments = [
            (_LOAD, _READ, 0, self.data_end, self.data_end, PAGE),
            (_LOAD, _READ | _EXECUTE, self.code_at, self.code_end - self.code_at,
             self.code_end - self.code_at, PAGE),
            (_LOAD, _READ | _WRITE, start, self.file_end - start, self.end - start, PAGE),
            (_DYNAMIC, _READ | _WRITE, start, size, size, 8),
            (_STACK, _READ | _WRITE, 0, 0, 0, 16),
        ]
        for index, (kind, flags, at, in_file, in_memory, align) in enumerate(segments):
            row = _PROGRAM.pack(kind, flags, at, at, at, in_file, in_memory, align)
            self._put(elf.HEADER.size + index * _PROGRAM.size, row)

    def _section_headers(self) -> None:
        names = b"\0" + b"".join(n.encode() + b"\0" for n in _SECTION_NAMES[1:])
        self.image += bytes(-len(self.image) % 8)
        names_at = len(self.image)
        self.image += names + bytes(-len(names) % 8)
        headers_at = len(self.image)
        # name -> kind, flags, start, bytes, link, info, alignment, bytes of an entry
        count = len(self.dynamic) + 1
        rows = {
            ".dynsym": (11, 2, self.symbols_at, count * elf.SYMBOL.size, 2, 1, 8, 24),
            ".dynstr": (3, 2, self.strings_at, len(self.strings.data), 0, 0, 1, 0),
            ".hash": (5, 2, self.hash_at, self.strings_at - self.hash_at, 1, 0, 4, 4),
            ".text": (1, 6, self.code_at, self.code_end - self.code_at, 0, 0, 16, 0),
            ".dynamic": (6, 3, self.dynamic_at, self.dynamic_bytes, 2, 0, 8, 16),
            ".data": (1, 3, self.dynamic_at + self.dynamic_bytes,
                      self.file_end - self.dynamic_at - self.dynamic_bytes, 0, 0, 8, 0),
            ".shstrtab": (3, 0, names_at, len(names), 0, 0, 1, 0),
        }  # fmt: skip
        self.image += bytes(elf.SECTION.size)
        for name in _SECTION_NAMES[1:]:
            kind, flags, at, size, link, info, align, entry = rows[name]
            place = names.index(b"\0" + name.encode() + b"\0") + 1
            address = at if flags else 0
            self.image += elf.SECTION.pack(
                place, kind, flags, address, at, size, link, info, align, entry
            )
        self._put(0, elf.HEADER.pack(
            b"\x7fELF\2\1\1".ljust(16, b"\0"), 3, elf.X86_64, 1, 0, elf.HEADER.size, headers_at,
            0, elf.HEADER.size, _PROGRAM.size, _SEGMENTS, elf.SECTION.size, len(_SECTION_NAMES),
            len(_SECTION_NAMES) - 1,
        ))  # fmt: skip


_SECTION_NAMES = ("", ".dynsym", ".dynstr", ".hash", ".text", ".dynamic", ".data", ".shstrtab")


def _up(value: int, to: int) -> int:
    return -(-value // to) * to


def _hash(name: str) -> int:
    """The hash of System V's ABI."""
    value = 0
    for byte in name.encode():
        value = (value << 4) + byte & 0xFFFFFFFF
        high = value & 0xF0000000
        value = (value ^ high >> 24) & ~high
    return value & 0xFFFFFFFF
