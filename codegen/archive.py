"""A static library (``.a``) with one object, as ``ar`` makes it: with an index of the symbols."""

from __future__ import annotations

import struct
from collections.abc import Sequence

_MAGIC = b"!<arch>\n"


def static_library(member: str, content: bytes, symbols: Sequence[str]) -> bytes:
    """The archive; ``symbols`` are the names that the object defines for others."""
    names = b"".join(name.encode() + b"\0" for name in symbols)
    size = _padded(4 + 4 * len(symbols) + len(names))
    place = len(_MAGIC) + 60 + size
    index = struct.pack(f">I{len(symbols)}I", len(symbols), *[place] * len(symbols)) + names
    return _MAGIC + _member("/", index) + _member(f"{member}/", content)


def _member(name: str, content: bytes) -> bytes:
    if len(name) > 16:
        raise ValueError(f"{name[:-1]} is too long for a member of an archive: at most 15 letters")
    head = f"{name:<16}{0:<12}{0:<6}{0:<6}{100644:<8}{len(content):<10}`\n"
    return head.encode() + content.ljust(_padded(len(content)), b"\n")


def _padded(size: int) -> int:
    return size + size % 2
