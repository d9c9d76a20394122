"""What a compile found out, on disk: a warm start extracts the function, and runs no pass.

A recipe is everything about a variant but its code and what is the session's: what the entry
checks, what stands in the table, the messages of checks. It is found by what it follows from
(``recipe_keys``). The code is an object of its own, which the recipe names. What holds Python (host
calls, users' functions) has no recipe. A file that is no recipe, or names no such object, is as
good as none.
"""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import numpy as np

from stepforge.codegen import entry_support, jit
from stepforge.codegen.disk_cache import disk_cache
from stepforge.codegen.disk_cache import key_of as hashed
from stepforge.codegen.jit import Level
from stepforge.codegen.kernel import Check
from stepforge.codegen.signature import Feed, Fetch, Signature, Slot
from stepforge.ir.core import Function, Site
from stepforge.ir.dims import Apply, Dim, Expr
from stepforge.ir.parser import parse_type
from stepforge.ir.records import record
from stepforge.ir.types import Type, from_numpy_dtype, numpy_dtype
from stepforge.runtime.job import Job
from stepforge.runtime.needs import Array, Needs
from stepforge.runtime.variant import Variant

LARGEST = 1 << 18  # bytes of computed constants that a recipe may carry
NOWHERE = -1  # the number of no site


class StoredConstant(NamedTuple):
    """A constant that code finds through the table; without elements, the function has them."""

    name: str
    dtype: str = ""
    shape: Sequence[int] = ()
    elements: str | None = None


@record(frozen=True)
class Recipe:
    """See the module's text. Types are texts, a site is the number of an operation, a size the
    terms of its polynomial.

    Slots are (name, type, kind, read, written), fetches (kind, type, source) and checks (message,
    error, site), as in ``Signature`` and ``Check``.
    """

    object: str
    level: Level
    slots: Sequence[tuple[str, str, Any, bool, bool]]
    fetches: Sequence[tuple[Any, Any, int | None]]
    sizes: Sequence[str]
    work: int | Sequence[Any]
    locks: bool
    streams: Sequence[str]
    constants: Sequence[StoredConstant]
    checks: Sequence[tuple[str, str, int]]
    externals: Sequence[str]
    exports: Sequence[str]
    shares: bool


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
    constants = needs.constants.items()
    computed = {name for name, array in constants if not _is_given(name, array, function)}
    if (
        signature.python
        or needs.functions
        or variant.code is not None
        or [feed.type for feed in signature.feeds] != [param.type for param in function.params]
        or any(check.site not in sites for check in variant.checks)
        or sum(needs.constants[name].nbytes for name in computed) > LARGEST
    ):
        return None
    return Recipe(
        code,
        variant.level,
        [(s.name, str(s.type), s.kind, s.read, s.written) for s in signature.slots],
        [(f.kind, f.type and str(f.type), f.source) for f in signature.fetches],
        signature.sizes,
        _terms(signature.work),
        signature.locks,
        needs.streams,
        [
            _constant(name, array) if name in computed else StoredConstant(name)
            for name, array in constants
        ],
        [(check.message, check.error, sites[check.site]) for check in variant.checks],
        variant.externals,
        variant.exports,
        variant.shares,
    )


def _terms(size: Dim) -> int | Sequence[Any]:
    if isinstance(size, int):
        return size
    return [
        ([a if isinstance(a, str) else (a.fn, *map(_terms, a.args)) for a in monomial], number)
        for monomial, number in size.terms
    ]


def _sites(function: Function) -> dict[Site | None, int]:
    """The sites of a function, each with the number of the first operation that has it."""
    found: dict[Site | None, int] = {None: NOWHERE}
    for number, op in enumerate(function.walk()):
        found.setdefault(op.site, number)
    return found


def _is_given(name: str, array: Array, function: Function) -> bool:
    """True for a constant of the extracted function, as it is there."""
    given = function.globals.get(name)
    if given is None or given.data is None or given.data.nbytes != array.nbytes:
        return False
    return given.data is array or given.data.tobytes() == array.tobytes()


def _constant(name: str, array: Array) -> StoredConstant:
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
        with contextlib.suppress(Exception):  # there are many ways in which a file is no recipe
            recipe = _read(_name(key, level))
            found = _linked(job, recipe) if recipe is not None else None
            if found is not None:
                return found
    return None


def _linked(job: Job, recipe: Recipe) -> tuple[Variant, jit.Library] | None:
    variant = _variant(job, recipe)
    symbols = entry_support.symbols(variant.externals)
    library = jit.stored(recipe.object, symbols, variant.exports)
    return (variant, library) if library is not None else None


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
    extraction, types = job.extraction, _Types(job.extraction.function)
    feeds = zip(extraction.feeds, extraction.function.params, strict=True)
    return Signature(
        job.name,
        tuple(Feed(f.tensor.name, param.type, f.tensor.op.site) for f, param in feeds),
        tuple(
            Slot(name, types[type_], kind, read, written, extraction.variables[name].site)
            for name, type_, kind, read, written in recipe.slots
        ),
        tuple(
            Fetch(kind, types[type_] if type_ else None, source)
            for kind, type_, source in recipe.fetches
        ),
        job.structure,
        tuple(recipe.sizes),
        extraction.assumptions,
        _size(recipe.work),
        python=False,
        locks=recipe.locks,
    )


def _size(terms: int | Sequence[Any]) -> Dim:
    """What ``_terms`` was made of; much faster than from a text."""
    if isinstance(terms, int):
        return terms
    return Expr(tuple([(tuple(map(_atom, monomial)), number) for monomial, number in terms]))


def _atom(part: str | Sequence[Any]) -> str | Apply:
    return part if isinstance(part, str) else Apply(part[0], tuple(map(_size, part[1:])))


class _Types(dict[str, Type]):
    """Types by their texts; those that the function has need not be read."""

    def __init__(self, function: Function) -> None:
        declared = [entry.type for entry in function.globals.values()]
        given = [type_ for type_ in function.result_types if isinstance(type_, Type)]
        super().__init__({str(type_): type_ for type_ in (*declared, *given)})

    def __missing__(self, text: str) -> Type:
        found = parse_type(text)
        assert isinstance(found, Type)
        return found


def _elements(constant: StoredConstant, function: Function) -> Array:
    if constant.elements is None:
        return np.ascontiguousarray(function.globals[constant.name].data)
    data = base64.b64decode(constant.elements)
    return np.frombuffer(data, numpy_dtype(constant.dtype)).reshape(constant.shape)
