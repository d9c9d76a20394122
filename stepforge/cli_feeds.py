"""Values that are fed on the command line: Python literals, and files of arrays.

What is wrong with a value is said with the tensor that it is for and the file that it comes from,
before anything runs.
"""

from __future__ import annotations

import argparse
import ast
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stepforge import cli_files
from stepforge.cli_files import CommandError
from stepforge.cli_steps import Argument
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC, numpy_dtype

FEED_HELP = """\
Values are fed as
  x=[[1.0, 2.0]]       a Python literal
  x=images.npy         an array
  x=batch.npz          the array x of an archive, or the only one; x=batch.npz:pixels names another
  x=table.csv          numbers between commas; a first line of names is left out
  batch.npz            every array of an archive, each for the tensor of its name
"""
_ONE = (".npy", ".csv")


@record(frozen=True)
class Fed:
    """A value, and where it comes from; a table is read when its dtype is known."""

    value: Any
    source: str
    table: Path | None = None


def add_feeds(parser: argparse.ArgumentParser) -> None:
    """The argument ``--feed`` with values."""
    parser.add_argument("--feed", action="append", default=[], metavar="TENSOR=VALUE",
                        help="VALUE is a Python literal, or a file that ends in .npy, .npz or .csv;"
                        " FILE.npz alone feeds every array of it")


def parse(texts: Iterable[str]) -> dict[str, Fed]:
    """The values that ``--feed`` gives, by the names of tensors. Raises: CommandError."""
    found: dict[str, Fed] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if equals:
            given = {name: _value(name, value)}
        elif text.endswith(".npz"):
            arrays = cli_files.read_arrays(cli_files.existing(text))
            given = {key: Fed(array, f"{text}: {key}") for key, array in arrays.items()}
        else:
            raise CommandError(
                f"a feed is written TENSOR=VALUE or FILE.npz, not {text!r}"
            )
        for key, fed in given.items():
            plain = key.removesuffix(":0")
            if plain in found:
                raise CommandError(f"{plain} is fed twice: by {found[plain].source} and"
                                   f" {fed.source}")
            found[plain] = fed
    return found


def _value(name: str, text: str) -> Fed:
    if text.endswith(_ONE):
        path = cli_files.existing(text)
        is_table = path.suffix == ".csv"
        return Fed(None if is_table else cli_files.read_array(path), text,
                   path if is_table else None)
    file, colon, key = text.rpartition(":")
    archive = text if text.endswith(".npz") else file if file.endswith(".npz") else ""
    if archive:
        return _from_archive(archive, key if colon and archive == file else name)
    try:
        return Fed(ast.literal_eval(text), text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        kinds = ", ".join(cli_files.ARRAYS)
        raise CommandError(f"{text!r} is neither a Python literal nor a file ({kinds})") from None


def _from_archive(file: str, key: str) -> Fed:
    arrays = cli_files.read_arrays(cli_files.existing(file))
    for name in (key, f"{key}:0"):
        if name in arrays:
            return Fed(arrays[name], f"{file}: {name}")
    if len(arrays) != 1:
        names = ", ".join(arrays) or "none"
        raise CommandError(f"{file} has no array {key} (its arrays: {names})")
    ((name, array),) = arrays.items()
    return Fed(array, f"{file}: {name}")


def values_for(arguments: Sequence[Argument], feeds: dict[str, Fed]) -> list[Any]:
    """A value for each argument. Raises: CommandError that names every one that is missing."""
    missing = [a for a in arguments if a.name not in feeds]
    if missing:
        lines = "\n".join(f"  --feed {a.name}=VALUE    of {a.type}" for a in missing)
        raise CommandError(f"values are missing:\n{lines}")
    return [fitted(argument, feeds[argument.name]) for argument in arguments]


def fitted(argument: Argument, fed: Fed) -> Any:
    """The value for an argument. Raises: CommandError where it does not fit."""
    dtype = argument.type.dtype
    wanted = numpy_dtype(dtype) if dtype in NUMERIC else np.dtype(object)
    value = fed.value
    if fed.table is not None:
        value = _shaped(cli_files.read_table(fed.table, wanted), argument)
    try:
        array = np.asarray(value) if dtype in NUMERIC else np.asarray(value, object)
    except ValueError as error:
        raise CommandError(f"{fed.source} is no array for {argument.name}: {error}") from None
    if not _has_shape(array.shape, argument):
        raise CommandError(f"{fed.source} has the shape {list(array.shape)}, but {argument.name}"
                           f" is {argument.type}")
    if dtype in NUMERIC and not _is_like(array.dtype, wanted):
        raise CommandError(f"{fed.source} has {array.dtype}, but {argument.name} is"
                           f" {argument.type}")
    return value


def _shaped(table: Any, argument: Argument) -> Any:
    """A table as a vector or a number, where that is what is fed."""
    rank = None if argument.type.shape is None else argument.type.rank
    if rank == 1 and 1 in table.shape:
        return table.reshape(-1)
    return table[0, 0] if rank == 0 and table.size == 1 else table


def _has_shape(shape: tuple[int, ...], argument: Argument) -> bool:
    static = argument.static
    return static is None or (len(shape) == len(static) and all(
        want in (None, have) for want, have in zip(static, shape, strict=True)
    ))


def _is_like(have: np.dtype[Any], want: np.dtype[Any]) -> bool:
    """True for numbers that may become numbers of the dtype ``want``: no text, no imaginary part.
    """
    if have.kind == "V":  # bfloat16, which NumPy does not know
        return have == want
    return have.kind in "biuf" or (have.kind == "c" and want.kind == "c")
