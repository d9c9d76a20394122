"""What a recipe is called: everything that a compile follows from, bit for bit.

That is the extracted function with its constants, the processor, the versions of Python, NumPy and
LLVM, and our own source as it is now. The IR's text is no such name: it writes every NaN the same.
What holds something that no other process would call the same, as a user's function, has no name.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np

from stepforge.codegen import layout, target
from stepforge.codegen.disk_cache import disk_cache
from stepforge.codegen.disk_cache import key_of as hashed
from stepforge.frontend.extract.program import Extraction
from stepforge.ir import LOADED
from stepforge.ir.core import Block, Const, Global, Operand, Operation, Symbol, Value
from stepforge.ir.dims import Expr
from stepforge.ir.opdef import OpDef
from stepforge.ir.text import array_text
from stepforge.ir.types import ListType, Type
from stepforge.passes.order import as_shipped
from stepforge.runtime import backends, threads
from stepforge.runtime.job import Job
from stepforge.runtime.needs import Array

PACKAGES = ("ir", "frontend", "passes", "codegen", "runtime")
# The format of marshal that is the same in every process: later ones tell shared objects apart.
FORMAT = 2
_PLAIN = frozenset((bool, int, float, complex, str, bytes, type(None)))
_TEXTS = frozenset((Expr, Type, ListType))  # whose texts read back as the same


class Nameless(Exception):
    """In words, why there can be no recipe."""


def key_of(job: Job) -> str:
    """What the recipe for a job is called. Raises: Nameless."""
    if disk_cache() is None:
        raise Nameless("the disk cache is off")
    if not as_shipped():
        raise Nameless("passes or rules were added")
    backend = backends.chosen(job.store.backend)
    if backend != backends.DEFAULT:
        raise Nameless(f"the back end is {backend}")
    if not _source():
        raise Nameless("the sources were written after they were loaded, or when cannot be told")
    entry = "native" if layout.native_entry() else "plain"
    sharing = "shared" if threads.several(job.store.threads) else "alone"
    function = hashlib.sha256(described(job.extraction)).hexdigest()
    return hashed([*_surroundings(), entry, sharing, job.structure, function])


# ---- what is the same for all functions ---------------------------------------------------------


@cache
def _surroundings() -> tuple[str, ...]:
    """What code depends on beside the function."""
    host = target.host()
    llvm = ".".join(map(str, target.llvm().llvm_version_info))
    versions = (sys.version, np.__version__, llvm)
    return ("recipe 3", _source(), *versions, host.triple, host.cpu, host.features)


@cache
def _source() -> str:
    """A hash of when each of our files was written last, by which Python too knows that a file is
    another; nothing where that cannot be told, or is later than when we were loaded.
    """
    found: list[tuple[str, int, int]] = []
    try:
        for package in PACKAGES:
            module = __import__(f"stepforge.{package}", fromlist=["__path__"])
            found += _written(module.__path__[0])
    except OSError:
        return ""
    if not found or max(written for *_, written in found) > LOADED:
        return ""
    return hashed([f"{path} {size} {written}" for path, size, written in sorted(found)])


def _written(folder: str) -> Iterator[tuple[str, int, int]]:
    """The files of ours in a folder, their sizes, and when they were written."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(".py"):
                status = entry.stat()
                yield entry.path, status.st_size, status.st_mtime_ns
            elif entry.is_dir() and entry.name != "__pycache__":
                yield from _written(entry.path)


# ---- functions ----------------------------------------------------------------------------------


def described(extraction: Extraction) -> bytes:
    """Everything about an extraction that a compile sees; of sites only which are the same.

    Raises: Nameless.
    """
    function = extraction.function
    whole = (
        function.name,
        _Description().block(function.body),
        tuple([(name, *_declared(entry)) for name, entry in function.globals.items()]),
        tuple([(fetch.kind, fetch.index) for fetch in extraction.fetches]),
        tuple([(str(a), str(b)) for a, b in extraction.assumptions]),
    )
    return marshal.dumps(whole, FORMAT)


class _Description:
    """Parts of a function as tuples of what ``marshal`` writes. Values and sites are numbers, in
    the order in which they come up.
    """

    def __init__(self) -> None:
        self._values: dict[Value, int] = {}
        self._sites = {id(None): 0}  # by identity: a node has one
        self._types: dict[int, str] = {}  # by identity, of objects that the function keeps alive
        self._ours: set[OpDef] = set()

    def block(self, block: Block) -> list[Any]:
        """Parameters and operations."""
        return [self._made(block.params), *map(self._operation, block.ops)]

    def _operation(self, op: Operation) -> tuple[Any, ...]:
        defn, values, sites = op.defn, self._values, self._sites
        if defn not in self._ours:
            self._check(defn)
        return (
            defn.name,
            [values[o] if type(o) is Value else self._operand(o) for o in op.operands],
            self._attributes(op) if op.attrs else None,
            self._made(op.results),
            sites.setdefault(id(op.site), len(sites)),
            [self.block(region) for region in op.regions] if op.regions else None,
        )

    def _check(self, defn: OpDef) -> None:
        if not type(defn).__module__.startswith("stepforge."):
            raise Nameless(f"{defn.name} is declared outside of stepforge")
        self._ours.add(defn)

    def _attributes(self, op: Operation) -> list[Any]:
        if "fn" in op.attrs:
            raise Nameless(f"{op.name} is of a function that only this process knows")
        return [(name, _literal(value)) for name, value in op.attrs.items()]

    def _made(self, values: tuple[Value, ...]) -> list[str]:
        texts: list[str] = []
        for value in values:
            self._values[value] = len(self._values)
            texts += value.name, self._type(value.type)
        return texts

    def _operand(self, operand: Operand) -> tuple[Any, ...]:
        if isinstance(operand, Const):
            return self._type(operand.type), _literal(operand.value)
        assert isinstance(operand, Symbol)
        return operand.name, self._type(operand.type), "symbol"

    def _type(self, type_: Any) -> str:
        text = self._types.get(id(type_))
        if text is None:
            text = self._types[id(type_)] = str(type_)
        return text


def _literal(value: Any) -> Any:
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is tuple:
        return tuple([_literal(part) for part in value])
    if kind in _TEXTS:
        return [kind.__name__, str(value)]
    raise Nameless(f"{value!r} is no literal of the IR")


def _declared(entry: Global) -> tuple[str, str, str]:
    return entry.kind, str(entry.type), "" if entry.data is None else _digest(entry.data)


def _digest(data: Array) -> str:
    """A hash of an array; strings are their text."""
    if data.dtype.hasobject:
        return array_text(data, "string")
    elements = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    return f"{data.dtype.str} {hashlib.sha256(elements.data).hexdigest()}"
