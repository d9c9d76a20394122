"""Files that commands read: graphs, arrays and tables, from anywhere.

Nobody should have to trust them: nothing in them is unpickled or evaluated, and what a file says of
its size is compared with the bytes that it brings before memory of that size is asked for. Every
mistake is a ``CommandError`` that names the file.
"""

from __future__ import annotations

import csv
import io
import math
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np

from stepforge.frontend.graphdef import messages

Array = np.ndarray[Any, Any]
ARRAYS = (".npy", ".npz", ".csv")  # what a value can be read from
GRAPHS = (".pb", ".pbtxt")
# Bytes that compressed arrays may unpack to, however small their file: as the constants of a graph.
UNPACKED = 2**31
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0,
}  # fmt: skip


class CommandError(Exception):
    """What a command cannot do; the text is for the user."""


def existing(name: str) -> Path:
    """The file of that name. Raises: CommandError where there is none."""
    path = Path(name)
    if not path.is_file():
        raise CommandError(f"there is no file {path}")
    return path


def read_text(path: Path) -> str:
    """The text of a file. Raises: CommandError where it is not UTF-8."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(f"{path} is no text: {error}") from None


# ---- graphs --------------------------------------------------------------------------------------


def read_graph_def(path: Path) -> Any:
    """The ``GraphDef`` in a file, as bytes or, where it is called ``.pbtxt``, as text."""
    graph_def = messages.GraphDef()
    from google.protobuf import text_format
    from google.protobuf.message import DecodeError

    try:
        if path.suffix == ".pbtxt":
            text_format.Parse(read_text(path), graph_def)
        else:
            graph_def.ParseFromString(path.read_bytes())
    except RecursionError:
        raise CommandError(f"{path} is no GraphDef: it is nested too deeply") from None
    except (DecodeError, text_format.ParseError, ValueError) as error:
        raise CommandError(f"{path} is no GraphDef: {error}") from None
    if not graph_def.node:
        raise CommandError(f"{path} is no GraphDef with nodes (nor is a SavedModel one)")
    return graph_def


# ---- arrays --------------------------------------------------------------------------------------


def read_array(path: Path) -> Array:
    """The array of a ``.npy`` file."""
    with open(path, "rb") as file:
        return _array(file, path.stat().st_size, str(path))


def read_arrays(path: Path) -> dict[str, Array]:
    """The arrays of a ``.npz`` file, by name."""
    try:
        archive = zipfile.ZipFile(path)
    except Exception as error:  # of many classes, where the directory inside is damaged
        raise CommandError(f"cannot read {path}: {error}") from None
    with archive:
        members = [info for info in archive.infolist() if not info.filename.endswith("/")]
        _check_unpacked(path, members)
        return {
            info.filename.removesuffix(".npy"): _member(archive, info, path) for info in members
        }


def _check_unpacked(path: Path, members: list[zipfile.ZipInfo]) -> None:
    unpacked = sum(info.file_size for info in members)
    room = max(UNPACKED, path.stat().st_size)
    if unpacked > room:
        raise CommandError(
            f"cannot read {path}: it unpacks to {unpacked} bytes, and this takes at most {room}"
            " (files that are not compressed may be of any size)"
        )


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path) -> Array:
    what = f"{path} ({info.filename})"
    try:
        file = archive.open(info)
    except Exception as error:  # of many classes: passwords, compressions, damage
        raise CommandError(f"cannot read {what}: {error}") from None
    with file:
        return _array(file, info.file_size, what)


def _array(file: IO[bytes], size: int, what: str) -> Array:
    """An array in NumPy's format from a file of ``size`` bytes."""
    try:
        version = np.lib.format.read_magic(file)
        read_header = _HEADERS.get(version)
        if read_header is None:
            raise ValueError(f"version {version} of the format")
        shape, is_fortran, dtype = read_header(file)
        needed = math.prod(shape) * dtype.itemsize
        if dtype.hasobject:
            raise ValueError("it holds Python objects, which are not read")
        if any(length < 0 for length in shape) or needed > size:
            raise ValueError(f"an array of shape {shape} and {dtype} takes {needed} bytes, and"
                             f" the file has {size}")
        array = np.frombuffer(file.read(needed), dtype, math.prod(shape)).reshape(
            shape, order="F" if is_fortran else "C"
        )
    except Exception as error:  # NumPy raises what Python's parser raised, and zipfile much more
        text = str(error) or type(error).__name__
        raise CommandError(f"cannot read {what}: {text}") from None
    return array.astype(dtype.newbyteorder("="), copy=False)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write a ``.npz`` file, whatever the names of the arrays (to ``np.savez``, some mean more)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


# ---- tables --------------------------------------------------------------------------------------


def read_table(path: Path, dtype: np.dtype[Any]) -> Array:
    """A table of numbers or, for ``object``, of text, of rank 2; a first line of names is left out.

    Raises: CommandError that names the line and column of what is no ``dtype``.
    """
    try:
        rows = [row for row in csv.reader(io.StringIO(read_text(path), newline="")) if row]
    except csv.Error as error:
        raise CommandError(f"cannot read {path}: {error}") from None
    if dtype.kind == "O":
        return np.array(_even(rows, path), object)
    if rows and not any(_is_number(cell, np.dtype(complex)) for cell in rows[0]):
        rows = rows[1:]
    table = np.array(_even(rows, path))
    try:
        return table.astype(dtype)
    except (ValueError, OverflowError):
        for (row, column), cell in np.ndenumerate(table):
            if not _is_number(cell, dtype):
                raise CommandError(
                    f"cannot read {path}: {str(cell)!r} in row {row + 1}, column {column + 1} is no"
                    f" {dtype.name}"
                ) from None
        raise


def _even(rows: list[list[str]], path: Path) -> list[list[str]]:
    lengths = {len(row) for row in rows}
    if len(lengths) != 1:
        found = " and ".join(map(str, sorted(lengths)[:2])) if rows else "no"
        raise CommandError(f"cannot read {path}: its rows have {found} columns")
    return rows


def _is_number(cell: str, dtype: np.dtype[Any]) -> bool:
    try:
        np.array([cell]).astype(dtype)
    except (ValueError, OverflowError):
        return False
    return True
