"""How each op of the vocabulary gets operands: one function for each kind of op.

A maker draws operands from the pool and emits; where nothing fits it does nothing. Those of ops of
one theme are in ``elements``, ``moving`` and ``reducing``; here are those of sizes, checks and of
any declared op, and the table of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from contract import inputs, parse_case

from fuzz import elements, moving, reducing
from fuzz.pool import INTS, Pool
from stepforge.ir.dims import named
from stepforge.ir.opdef import REGISTRY, lookup
from stepforge.ir.types import Type

lookup("add")  # fills the registry
Maker = Callable[[Pool], Any]

QUIET = ("print", "py_func", "numba_call", "assert_true", "dim")
UNORDERED = ("qr", "svd", "self_adjoint_eig")  # signs of vectors are anybody's choice
CASES: Sequence[str] = tuple(
    text
    for name, defn in sorted(REGISTRY.items())
    if defn.level != "loop" and name not in QUIET + UNORDERED and defn.effect in ("pure", "check")
    for text in defn.cases[:4]
    if "string" not in text and "@" not in text and "c128" not in text
)


def dynamic(pool: Pool) -> None:
    if pool.flag():
        condition = pool.pick(lambda each: each.kind == "b" and 0 < len(each.dims) < 3)
        if condition is not None:
            pool.emit("where", condition, binds=pool.fresh())
        return
    vector = pool.pick(lambda each: each.exact and len(each.dims) == 1 and each.kind in "iu")
    if vector is None:
        return
    if pool.flag():
        pool.emit("unique", vector, binds=pool.fresh())
        return
    small = pool.below(vector, 5)
    if small is not None and isinstance(vector.dims[0], int) and vector.dims[0]:
        name = pool.fresh()
        pool.emit("dim", small, index=0, binds=name)
        pool.emit("fill", pool.constant("f32"), shape=(named(name), 2), bits=3)


def check(pool: Pool) -> None:
    name = pool.choose(("require", "check_nonzero", "require_equal", "refine"))
    if name == "require":
        condition = pool.pick(lambda each: each.kind == "b" and not each.dims)
        if condition is not None:
            pool.emit(name, condition, message="it does not hold")
    elif name == "check_nonzero":
        x = pool.pick(lambda each: each.kind in "iu")
        if x is not None:
            pool.emit(name, x)
    else:
        x = pool.pick(lambda each: any(not isinstance(n, int) for n in each.dims))
        if x is None:
            return
        size = pool.choose([n for n in x.dims if not isinstance(n, int)])
        other = pool.choose((2, 3, *[n for each in pool.known for n in each.dims]))
        if name == "require_equal":
            pool.emit(name, lhs=size, rhs=other, message="sizes differ")
        else:
            shape = tuple(other if n == size else n for n in x.dims)
            pool.move("refine", x, shape=shape)


def declared_case(pool: Pool) -> None:
    """Any op at all, by a case that it declares, on parameters of its own."""
    text = pool.choose(CASES)
    case = parse_case(text)
    arrays = inputs(case, pool.number(0, 3))
    operands = [
        pool.parameter(type_, lambda rng, array=array: array)
        for type_, array in zip(case.types, arrays, strict=True)
    ]
    attrs = {**case.attrs, **({"binds": pool.fresh()} if "binds" in case.attrs else {})}
    pool.emit(case.op, *operands, exact=False, **attrs)


def integers(pool: Pool) -> None:
    """Another parameter that may be an index."""
    other = pool.choose([p for p in pool.params if p.type.dims] or pool.params)
    pool.parameter(Type(pool.choose(INTS[:2]), other.type.dims[: pool.number(0, 2)]))


MAKERS: tuple[Maker, ...] = (
    *[elements.unary] * 3, *[elements.binary] * 4, elements.select, elements.cast,
    moving.reshape, moving.transpose, moving.broadcast, moving.fill, moving.counting,
    moving.concat, *[moving.slice_] * 2, moving.pad, moving.repeat, moving.matrices,
    *[reducing.reduction] * 3, reducing.scan, reducing.position, reducing.rows,
    *[reducing.matmul] * 2, moving.gather, moving.scatter, moving.scatter_nd, moving.one_hot,
    reducing.segments, dynamic, check, declared_case, integers,
)  # fmt: skip
