"""Good files of every kind that commands read, cut, changed, spliced and stuffed."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cache

import numpy as np
from hypothesis import strategies as st

from fuzz.hostile import TESTS, File


@cache
def good(suffix: str) -> tuple[bytes, ...]:
    """Files that are as they should be."""
    return tuple(_MAKERS[suffix]())


def _graphs() -> Iterator[bytes]:
    for path in sorted((TESTS / "data" / "graphdefs").glob("*.pb")):
        data = path.read_bytes()
        if len(data) < 3000:
            yield data


def _graph_texts() -> Iterator[bytes]:
    from google.protobuf import text_format

    import stepforge as tf

    for data in good(".pb"):
        graph_def = tf.GraphDef()
        graph_def.ParseFromString(data)
        yield text_format.MessageToString(graph_def).encode()


def _texts() -> Iterator[bytes]:
    for path in sorted((TESTS / "golden").rglob("*.sf")):
        data = path.read_bytes()
        if len(data) < 3000:
            yield data


def _archives() -> Iterator[bytes]:
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, x=np.arange(12.0).reshape(3, 4), name=np.array(["a", "b"]), k=np.int8(3))
        yield file.getvalue()


def _arrays() -> Iterator[bytes]:
    for array in (np.arange(6.0), np.zeros((2, 0, 3), np.int16), np.array(True)):
        file = io.BytesIO()
        np.save(file, array)
        yield file.getvalue()


_MAKERS = {
    ".pb": _graphs, ".pbtxt": _graph_texts, ".sf": _texts, ".npz": _archives, ".npy": _arrays,
}  # fmt: skip
# Bytes that mean something to the readers: lengths, signs, brackets, large numbers, bad UTF-8.
_SPLINTERS = (
    b"\x00", b"\xff", b"\x7f", b"\x80\x80\x80\x80\x80\x80\x80\x80\x7f", b"\xff" * 9 + b"\x01",
    b"-", b"-1", b"9223372036854775807", b"18446744073709551616", b"99999999999999999999999", b"0",
    b"1e999", b"nan", b"(", b"[", b"{", b"}", b")", b"\"", b"\\", b"\n", b"%x", b"@w", b"f32[",
    b"f32[n, 1099511627776]", b"string", b"list<", b"&", b"*", b"+n*n*n", b"floordiv(n, 0)",
    b"\xc3\x28", b"int_val: 1", b"size: -5", b"dim { size: 1099511627776 }", b"DT_STRING",
    b"DT_RESOURCE", b"type: 77",
)  # fmt: skip


@st.composite
def spoiled_files(draw: st.DrawFn) -> File:
    """A good file that was cut, changed, or had something put in."""
    suffix = draw(st.sampled_from(tuple(_MAKERS)))
    data = bytearray(draw(st.sampled_from(good(suffix))))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from(("change", "put", "cut", "end", "splice", "repeat"))):
            case "change":
                data[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "put":
                data[at:at] = draw(st.sampled_from(_SPLINTERS))
            case "cut":
                del data[at : at + draw(st.integers(1, 40))]
            case "end":
                del data[at:]
            case "splice":
                other = draw(st.sampled_from(good(suffix)))
                start = draw(st.integers(0, max(0, len(other) - 1)))
                data[at:at] = other[start : start + draw(st.integers(1, 200))]
            case "repeat":
                piece = bytes(data[at : at + draw(st.integers(1, 40))])
                data[at:at] = piece * draw(st.integers(1, 30))
    return File(suffix, bytes(data), draw(st.booleans()))
