"""What a compile found out, on disk: a warm start extracts the function, and runs no pass.

A recipe is everything about a variant but its code and what is the session's: what the entry
checks, what stands in the table, the messages of checks. It is found by what it follows from: the
extracted function, the processor, and our own source as it is now. The code is an object of its
own, which the recipe names. What holds Python (host calls, users' functions) has no recipe. A file
that is no recipe, or names no such object, is as good as none.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import os
import struct
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from stepforge.codegen import entry_support, jit, layout, target
from stepforge.codegen.disk_cache import disk_cache
from stepforge.codegen.disk_cache import key_of as hashed
from stepforge.codegen.jit import Level
from stepforge.codegen.kernel import Check
from stepforge.codegen.signature import Feed, Fetch, Signature, Slot
from stepforge.frontend.extract.program import Extraction
from stepforge.ir.core import Const, Function, Operation, Site
from stepforge.ir.parser import parse_dim, parse_type
from stepforge.ir.text import array_text, print_function
from stepforge.ir.types import Type, from_numpy_dtype, numpy_dtype
from stepforge.passes.order import as_shipped
from stepforge.runtime import backends
from stepforge.runtime.job import Job
from stepforge.runtime.needs import Array, Needs
from stepforge.runtime.variant import Variant

LARGEST = 1 << 18  # bytes of computed constants that a recipe may carry
NOWHERE = -1  # the number of no site
LOADED = time.time_ns()  # what was written later is not what runs here
PACKAGES = ("ir", "frontend", "passes", "codegen", "runtime")


class StoredConstant(NamedTuple):
    """A constant that code finds through the table; without elements, the function has them."""

    name: str
    dtype: str = ""
    shape: Sequence[int] = ()
    elements: str | None = None


@dataclass(frozen=True)
class Recipe:
    """See the module's text. Types and sizes are texts, a site is the number of an operation.

    Slots are (name, type, kind, read, written), fetches (kind, type, source) and checks (message,
    error, site), as in ``Signature`` and ``Check``.
    """

    object: str
    level: Level
    slots: Sequence[tuple[str, str, Any, bool, bool]]
    fetches: Sequence[tuple[Any, Any, int | None]]
    sizes: Sequence[str]
    work: str
    locks: bool
    streams: Sequence[str]
    constants: Sequence[StoredConstant]
    checks: Sequence[tuple[str, str, int]]
    externals: Sequence[str]
    exports: Sequence[str]
    shares: bool


# ---- keys ---------------------------------------------------------------------------------------


def obstacle(job: Job) -> str:
    """In words, why there can be no recipe for a job; nothing where there can be one."""
    backend = backends.chosen(job.store.backend)
    if disk_cache() is None:
        return "the disk cache is off"
    if not as_shipped():
        return "passes were added"
    if backend != backends.DEFAULT:
        return f"the back end is {backend}"
    if not _source():
        return "the sources were written after they were loaded, or when cannot be told"
    return next(filter(None, map(_foreign, job.extraction.function.walk())), "")


def _foreign(op: Operation) -> str:
    """In words, what the text of an operation does not tell; nothing where it tells all."""
    if not type(op.defn).__module__.startswith("stepforge."):
        return f"{op.name} is declared outside of stepforge"
    return f"{op.name} is of a function that only this process knows" if "fn" in op.attrs else ""


def key_of(job: Job) -> str:
    """What the recipe for a job is called."""
    entry = "native" if layout.native_entry() else "plain"
    return hashed([*_surroundings(), entry, *_described(job.extraction), job.structure])


@cache
def _source() -> str:
    """A hash of when each of our files was written last; nothing where that cannot be told, or is
    later than when they were loaded.
    """
    found: list[tuple[str, int, int]] = []
    try:
        for package in PACKAGES:
            module = __import__(f"stepforge.{package}", fromlist=["__path__"])
            found += _written(module.__path__[0])
    except OSError:
        return ""
    if max(written for *_, written in found) > LOADED:
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


@cache
def _surroundings() -> tuple[str, ...]:
    """What code depends on beside the function."""
    host = target.host()
    llvm = ".".join(map(str, target.llvm().llvm_version_info))
    versions = (sys.version, np.__version__, llvm)
    return ("recipe 2", _source(), *versions, host.triple, host.cpu, host.features)


def _described(extraction: Extraction) -> Iterator[str]:
    """Everything about an extraction that a compile sees; of sites only which are the same."""
    function = extraction.function
    yield print_function(Function(function.name, function.body, {}))
    yield repr([_bits(o) for op in function.walk() for o in op.operands if isinstance(o, Const)])
    for name, declared in function.globals.items():
        yield f"{name} {declared.kind} {declared.type} {_digest(declared.data)}"
    yield repr([(fetch.kind, fetch.index) for fetch in extraction.fetches])
    yield repr([(str(a), str(b)) for a, b in extraction.assumptions])
    sites = _sites(function)
    yield repr([sites.get(op.site) for op in function.walk()])


def _bits(constant: Const) -> bytes | None:
    """What a text does not tell of a float: the sign of a NaN, and what else is in it."""
    value = constant.value
    return struct.pack("<d", value) if isinstance(value, float) and math.isnan(value) else None


def _digest(data: Array | None) -> str:
    if data is None:
        return ""
    if data.dtype.hasobject:
        return array_text(data, "string")
    return hashlib.sha256(np.ascontiguousarray(data).reshape(-1).view(np.uint8)).hexdigest()


def _sites(function: Function) -> dict[Site | None, int]:
    """The sites of a function, each with the number of the first operation that has it."""
    found: dict[Site | None, int] = {None: NOWHERE}
    for number, op in enumerate(function.walk()):
        found.setdefault(op.site, number)
    return found


# ---- writing ------------------------------------------------------------------------------------


def keep(variant: Variant, code: str) -> None:
    """Write the recipe of a variant whose object is called ``code``, where it can have one."""
    store = disk_cache()
    recipe = _recipe(variant, code) if store is not None and variant.recipe else None
    if store is not None and recipe is not None:
        store.put(_name(variant.recipe, variant.level), json.dumps(asdict(recipe)).encode())


def _name(key: str, level: Level) -> str:
    return hashed([key, level])


def _recipe(variant: Variant, code: str) -> Recipe | None:
    signature, function, needs = variant.signature, variant.extraction.function, variant.needs
    sites = _sites(function)
    constants = [_constant(name, array, function) for name, array in needs.constants.items()]
    if (
        signature.python
        or needs.functions
        or variant.code is not None
        or [feed.type for feed in signature.feeds] != [param.type for param in function.params]
        or any(check.site not in sites for check in variant.checks)
        or sum(len(constant.elements or "") for constant in constants) > LARGEST
    ):
        return None
    return Recipe(
        code,
        variant.level,
        [(s.name, str(s.type), s.kind, s.read, s.written) for s in signature.slots],
        [(f.kind, f.type and str(f.type), f.source) for f in signature.fetches],
        signature.sizes,
        str(signature.work),
        signature.locks,
        needs.streams,
        constants,
        [(check.message, check.error, sites[check.site]) for check in variant.checks],
        variant.externals,
        variant.exports,
        variant.shares,
    )


def _constant(name: str, array: Array, function: Function) -> StoredConstant:
    given = function.globals.get(name)
    if given is not None and given.data is not None and np.shares_memory(given.data, array):
        return StoredConstant(name)
    elements = base64.b64encode(array.tobytes()).decode()
    return StoredConstant(name, from_numpy_dtype(array.dtype), array.shape, elements)


# ---- reading ------------------------------------------------------------------------------------


def prepared(
    job: Job, key: str, levels: Iterable[Level]
) -> tuple[Variant, jit.Library] | None:
    """The variant of the recipe called ``key`` and its code, of the first of ``levels`` that the
    disk has both for.
    """
    for level in dict.fromkeys(levels):
        found = _read(_name(key, level))
        if found is None:
            continue
        try:
            variant, code = _variant(job, found), found.object
            symbols = entry_support.symbols(variant.externals)
        except Exception:  # it is no recipe, in any of the ways in which a file can be none
            continue
        library = jit.stored(code, symbols, variant.exports)
        if library is not None:
            return variant, library
    return None


def _read(name: str) -> Recipe | None:
    store = disk_cache()
    found = store.get(name) if store is not None and name in store else None
    if found is None:
        return None
    recipe = Recipe(**json.loads(found))
    return replace(recipe, constants=[StoredConstant(*each) for each in recipe.constants])


def _variant(job: Job, recipe: Recipe) -> Variant:
    function = job.extraction.function
    ops = list(function.walk())
    constants = {c.name: _elements(c, function) for c in recipe.constants}
    return Variant(
        job.extraction,
        _signature(job, recipe),
        {},
        Needs(tuple(recipe.streams), constants),
        level=recipe.level,
        checks=[
            Check(message, error, ops[number].site if number != NOWHERE else None)
            for message, error, number in recipe.checks
        ],
        externals=tuple(recipe.externals),
        exports=tuple(recipe.exports),
        shares=recipe.shares,
    )


def _signature(job: Job, recipe: Recipe) -> Signature:
    extraction = job.extraction
    feeds = zip(extraction.feeds, extraction.function.params, strict=True)
    return Signature(
        job.name,
        tuple(Feed(f.tensor.name, param.type, f.tensor.op.site) for f, param in feeds),
        tuple(
            Slot(name, _type(type_), kind, read, written, extraction.variables[name].site)
            for name, type_, kind, read, written in recipe.slots
        ),
        tuple(
            Fetch(kind, _type(type_) if type_ else None, source)
            for kind, type_, source in recipe.fetches
        ),
        job.structure,
        tuple(recipe.sizes),
        extraction.assumptions,
        parse_dim(recipe.work),
        python=False,
        locks=recipe.locks,
    )


def _type(text: str) -> Type:
    found = parse_type(text)
    assert isinstance(found, Type)
    return found


def _elements(constant: StoredConstant, function: Function) -> Array:
    if constant.elements is None:
        return np.ascontiguousarray(function.globals[constant.name].data)
    data = base64.b64decode(constant.elements)
    return np.frombuffer(data, numpy_dtype(constant.dtype)).reshape(constant.shape)
