"""The symbols of a COFF object: what a linker for Windows must find elsewhere."""

from __future__ import annotations

import struct

_HEADER, _SYMBOL = struct.Struct("<HHIIIHH"), struct.Struct("<8sIhHBB")
_EXTERNAL = 2


def undefined(object_: bytes) -> tuple[str, ...]:
    """The names that an object uses and does not define."""
    _, _, _, start, count, _, _ = _HEADER.unpack_from(object_)
    texts = start + count * _SYMBOL.size
    found, index = [], 0
    while index < count:
        short, value, section, _, kind, more = _SYMBOL.unpack_from(
            object_, start + index * _SYMBOL.size
        )
        if section == 0 and value == 0 and kind == _EXTERNAL:
            found.append(_name(object_, short, texts))
        index += 1 + more
    return tuple(found)


def _name(object_: bytes, short: bytes, texts: int) -> str:
    """Names of more than eight letters are in a table behind the symbols."""
    zeros, offset = struct.unpack("<II", short)
    if zeros:
        return short.rstrip(b"\0").decode()
    begin = texts + int(offset)
    return object_[begin : object_.index(b"\0", begin)].decode()
