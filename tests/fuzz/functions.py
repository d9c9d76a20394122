"""Strategies for random functions of the tensor level."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from fuzz.makers import MAKERS
from fuzz.pool import DTYPES, NAMES, SIZES, Case, Known, Pool
from stepforge.ir.core import Symbol
from stepforge.ir.dims import named
from stepforge.ir.types import Type
from stepforge.ir.verify import verify

SHAPES: tuple[tuple[Any, ...], ...] = (
    (), ("n",), ("n", 3), ("n", "m"), (4,), (3,), ("m",), (1, 3), ("n", 1), (2, "n"), ("n", 8),
    ("m", "n"), (2, "n", 3), ("n", 4, "m"),
)  # fmt: skip


@st.composite
def functions(draw: st.DrawFn, *, most: int = 14) -> Case:
    """A function as extraction leaves one: variables are read, and written at the end."""
    pool = Pool(draw)
    pool.sizes.update({name: pool.choose(SIZES) for name in NAMES})
    pool.special = pool.number(0, 4) == 0
    for _ in range(pool.number(1, 4)):
        pool.parameter(_type(pool))
    for _ in range(pool.number(0, 2) if pool.flag() else 0):
        pool.variable(_type(pool))
    for _ in range(pool.number(1, most)):
        pool.choose(MAKERS)(pool)
    results = _results(pool)
    for name, entry in pool.globals.items():
        _write(pool, Symbol(name, entry.type))
    pool.build.emit("return", *[each.value for each in results])
    function = pool.build.function("f", pool.params, pool.globals)
    verify(function)
    exact = frozenset([each.value for each in pool.known if each.exact])
    seed = pool.number(0, 99)
    return Case(function, exact, pool.sizes, pool.makers, pool.state_makers, seed)


def _type(pool: Pool) -> Type:
    """A type of a parameter or variable; the names in it are bound by it or by those before."""
    shape = pool.choose(SHAPES)
    return Type(pool.choose(DTYPES), tuple(named(n) if isinstance(n, str) else n for n in shape))


def _results(pool: Pool) -> list[Known]:
    """Some of the values, the last one always."""
    chosen = [pool.known[-1]]
    chosen.extend(pool.choose(pool.known) for _ in range(pool.number(0, 5)))
    return chosen


def _write(pool: Pool, symbol: Symbol) -> None:
    if pool.number(0, 3) == 0:
        return
    value = pool.pick(lambda each: each.type == symbol.type)
    if value is None or pool.number(0, 5) == 0:
        value = pool.pick(lambda each: each.type.dtype == symbol.type.dtype)
    if value is not None:
        pool.emit("write", symbol, value)
