"""Tells profilers and debuggers the names of compiled functions, where they ask for them.

``STEPFORGE_PERF=1`` writes ``/tmp/perf-PID.map``, where perf looks for functions that are made as a
program runs: a line ``start size name`` for each, in hexadecimal.

``STEPFORGE_GDB=1`` registers objects by gdb's JIT interface. LLVM has it too, but llvmlite's linker
does not use it and keeps its symbols to itself; so a library of two symbols that gdb knows,
made here and loaded once, takes its place: a list of objects in memory, and a function that does
nothing, where gdb stops to read that list.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

from stepforge.codegen import elf
from stepforge.codegen.elf import ElfObject
from stepforge.codegen.elf_shared import shared_library

FUNCTION = 2  # the kind of symbols that are functions
_SECTION_ADDRESS = 16  # the offset of a section's address in its header
_lock = threading.Lock()
_REGISTER = """\
@__jit_debug_descriptor = global { i32, i32, ptr, ptr } { i32 1, i32 0, ptr null, ptr null }
define void @__jit_debug_register_code() noinline optnone {
  call void asm sideeffect "", "~{memory}"()
  ret void
}
"""


class Function(NamedTuple):
    """A function in memory."""

    name: str
    start: int
    size: int


def announce(compiled: bytes, exports: Mapping[str, int]) -> None:
    """Tell the names of an object that is linked; ``exports`` says where some of them are."""
    if compiled[:6] != b"\x7fELF\2\1":
        return  # on other systems there is neither perf nor this form of objects
    given = ElfObject(bytes(compiled))
    bases = _bases(given, exports)
    with _lock:
        if _set("STEPFORGE_PERF"):
            _write_map(functions(given, bases))
        if _set("STEPFORGE_GDB"):
            _register(_placed(given, bases))


def _set(variable: str) -> bool:
    return os.environ.get(variable, "0") not in ("", "0")


def _bases(given: ElfObject, exports: Mapping[str, int]) -> dict[int, int]:
    """Where the sections of the exported symbols lie."""
    return {
        symbol.section: exports[symbol.name] - symbol.value
        for symbol in given.symbols
        if symbol.name in exports and not symbol.undefined
    }


def functions(given: ElfObject, bases: Mapping[int, int]) -> list[Function]:
    """The functions of an object whose sections are at ``bases``."""
    return [
        Function(symbol.name, bases[symbol.section] + symbol.value, symbol.size)
        for symbol in given.symbols
        if symbol.kind == FUNCTION and symbol.section in bases
    ]


# ---- perf ---------------------------------------------------------------------------------------

_told: list[Function] = []
_told_by = 0  # the process whose file has them: a forked child has one of its own


def map_file() -> Path:
    """Where perf looks for the names of this process."""
    return Path(f"/tmp/perf-{os.getpid()}.map")


def _write_map(found: list[Function]) -> None:
    global _told_by
    _told.extend(found)
    new = found if _told_by == os.getpid() else _told
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    with open(os.open(map_file(), flags, 0o600), "a", encoding="utf-8") as file:
        file.writelines(f"{f.start:x} {f.size:x} {f.name}\n" for f in new)
    _told_by = os.getpid()


# ---- gdb ----------------------------------------------------------------------------------------


class _Entry(ctypes.Structure):
    """An object in gdb's list."""


_Entry._fields_ = [
    ("next", ctypes.POINTER(_Entry)),
    ("previous", ctypes.POINTER(_Entry)),
    ("object", ctypes.c_char_p),
    ("size", ctypes.c_uint64),
]


class _Descriptor(ctypes.Structure):
    """The head of gdb's list, and what was done to it last."""

    _fields_ = [
        ("version", ctypes.c_uint32),
        ("action", ctypes.c_uint32),
        ("relevant", ctypes.POINTER(_Entry)),
        ("first", ctypes.POINTER(_Entry)),
    ]


_ADDED = 1
_entries: list[tuple[_Entry, bytes]] = []  # for as long as the process runs


def _placed(given: ElfObject, bases: Mapping[int, int]) -> bytes:
    """The object with the addresses of its sections, as debuggers want to have it."""
    content = bytearray(given.content)
    header = elf.HEADER.unpack_from(content)
    start, size = header[6], header[11]
    for number, address in bases.items():
        place = start + size * number + _SECTION_ADDRESS
        content[place : place + 8] = address.to_bytes(8, "little")
    return bytes(content)


def _register(content: bytes) -> None:
    library = _library()
    if library is None:
        return
    descriptor = _Descriptor.in_dll(library, "__jit_debug_descriptor")
    entry = _Entry(descriptor.first, None, content, len(content))
    if descriptor.first:
        descriptor.first.contents.previous = ctypes.pointer(entry)
    _entries.append((entry, content))
    descriptor.first = descriptor.relevant = ctypes.pointer(entry)
    descriptor.action = _ADDED
    library["__jit_debug_register_code"]()


@cache
def _library() -> ctypes.CDLL | None:
    """The library with gdb's two symbols; None where it cannot be made: on x86-64 Linux it can."""
    from stepforge.codegen.jit import compile_text

    if sys.platform != "linux":
        return None
    content = compile_text(_REGISTER, "O0", pic=True)
    if ElfObject(content).machine != elf.X86_64:
        return None
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "libstepforge_gdb.so"
        path.write_bytes(shared_library(content, path.name))
        return ctypes.CDLL(str(path))
