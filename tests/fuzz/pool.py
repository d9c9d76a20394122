"""What a random function is made of: the values so far, and what is known of how they were made.

A value is *exact* where every correct implementation gives the same bits: floats that were only
added, multiplied or divided one by one, integers, bools. Sums of floats are exact as long as no
order of their terms rounds, which ``bits`` keeps account of. Operations that jump (comparisons,
roundings, positions) take exact values only, so that the last bit of an exponential never turns
into a finding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fuzz.shared import Array
from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Global, Operand, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import DTypeError, ShapeError
from stepforge.ir.types import NUMERIC, Type, numpy_dtype

MANTISSA = {"f16": 10, "bf16": 7, "f32": 23, "f64": 52}
INPUT_BITS = 5  # parameters are quarters between -4 and 4
FULL = 99  # bits of a value that was rounded
UNKNOWN_BITS = 12  # of the number of elements of an axis whose size values tell
NAMES = ("n", "m", "k")
SIZES = (1, 2, 3, 4, 7, 8, 16, 17, 33)
FLOATS = ("f32", "f32", "f32", "f64", "f16", "bf16")
INTS = ("i32", "i64", "i32", "u8", "i8")
DTYPES = (*FLOATS, *INTS, "bool", "bool")


@dataclass(frozen=True)
class Known:
    """A value and what is known of it; see the module's text."""

    value: Operand
    exact: bool = True
    bits: int = INPUT_BITS

    @property
    def type(self) -> Type:
        return self.value.type

    @property
    def dims(self) -> tuple[Dim, ...]:
        return self.value.type.dims

    @property
    def kind(self) -> str:
        return self.value.type.kind


@dataclass(repr=False)
class Case:
    """A random function with what it takes: arguments, variables and sizes.

    ``exact`` are the values that every correct implementation computes to the last bit.
    """

    function: Function
    exact: frozenset[Operand]
    sizes: dict[str, int]
    makers: list[Callable[[np.random.Generator], Array]]
    state_makers: dict[str, Callable[[np.random.Generator], Array]]
    seed: int

    def __repr__(self) -> str:
        return f"<case of {len(self.function.body.ops)} operations>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis shows what fails; a finding has the function

    def arguments(self) -> list[Array]:
        rng = np.random.default_rng(self.seed)
        return [make(rng) for make in self.makers]

    def state(self) -> dict[str, Any]:
        rng = np.random.default_rng(self.seed + 1)
        return {name: make(rng) for name, make in self.state_makers.items()}


def numbers(type_: Type, sizes: dict[str, int], special: bool) -> Callable[..., Array]:
    """Makes elements of ``type_``: quarters, small integers, and with ``special`` the odd NaN."""

    def make(rng: np.random.Generator) -> Array:
        shape = [dims.evaluate(size, sizes) for size in type_.dims]
        dtype = numpy_dtype(type_.dtype)
        if type_.kind == "b":
            return np.asarray(rng.random(shape) < 0.5)
        if type_.kind in "iu":
            low = 0 if type_.kind == "u" else -9
            return np.asarray(rng.integers(low, 10, shape)).astype(dtype)
        values = np.asarray(rng.integers(-16, 17, shape) / 4.0)
        if type_.kind == "c":
            values = values + 1j * np.asarray(rng.integers(-16, 17, shape) / 4.0)
        elif special:
            odd = rng.choice([np.nan, np.inf, -np.inf, -0.0], shape)
            values = np.where(rng.random(shape) < 0.1, odd, values)
        return values.astype(dtype)

    return make


@dataclass
class Pool:
    """A function under construction."""

    draw: Any
    build: Builder = field(default_factory=Builder)
    known: list[Known] = field(default_factory=list)
    params: list[Value] = field(default_factory=list)
    makers: list[Callable[[np.random.Generator], Array]] = field(default_factory=list)
    globals: dict[str, Global] = field(default_factory=dict)
    state_makers: dict[str, Callable[[np.random.Generator], Array]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    special: bool = False
    bound: int = 0  # names that ops have bound

    # ---- draws ----------------------------------------------------------------------------------
    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def flag(self) -> bool:
        return bool(self.draw(st.booleans()))

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def pick(self, test: Callable[[Known], bool]) -> Known | None:
        """One of the values that pass ``test``; None where none does."""
        fitting = [each for each in self.known if test(each)]
        return self.choose(fitting) if fitting else None

    # ---- making ---------------------------------------------------------------------------------
    def emit(
        self,
        op: str,
        *operands: Operand | Known,
        exact: bool | None = None,
        bits: int | None = None,
        **attrs: Any,
    ) -> list[Known]:
        """Emit an op and remember its results; nothing where the operands do not fit.

        Results are as exact as the operands, and full of bits, unless that is said.
        """
        values = [o.value if isinstance(o, Known) else o for o in operands]
        known = [o for o in operands if isinstance(o, Known)]
        try:
            made = self.build.operation(op, values, attrs)
        except (ShapeError, DTypeError, ZeroDivisionError):
            return []
        if made.defn.elementwise and not fit([v.type.dims for v in values]):
            return []
        if any(_broadcasts(result.type) for result in made.results):
            return []
        self.build.ops.append(made)
        all_exact = all(each.exact for each in known)
        found = []
        for result in made.results:
            jumps = result.type.kind in "biu"
            is_exact = all_exact if exact is None else exact
            found.append(Known(result, is_exact or jumps, FULL if bits is None else bits))
        self.known += found
        return found

    def move(self, op: str, x: Known, *others: Operand | Known, **attrs: Any) -> None:
        """Emit an op that moves elements of ``x`` and leaves them as they are."""
        self.emit(op, x, *others, exact=x.exact, bits=x.bits, **attrs)

    def constant(self, dtype: str) -> Const:
        """A scalar that rules and rounding care about."""
        kind = NUMERIC[dtype][1]
        options: dict[str, tuple[Any, ...]] = {
            "b": (True, False),
            "i": (0, 1, -1, 2, 3, 7),
            "u": (0, 1, 2, 3, 7),
            "f": (0.0, -0.0, 1.0, -1.0, 2.0, 0.5, -2.25, 4.0, float("inf"), float("nan")),
            "c": (1 + 0j, 0j, 0.5 - 1j),
        }
        shown = options[kind][:-2] if kind == "f" and not self.special else options[kind]
        return Const(Type(dtype), self.choose(shown))

    def parameter(self, type_: Type, make: Callable[..., Array] | None = None) -> Known:
        """A new parameter."""
        value = Value(type_, f"x{len(self.params)}")
        self.params.append(value)
        self.makers.append(make or numbers(type_, self.sizes, self.special))
        rounded = self.special or make is not None  # what others make may have any bits
        self.known.append(Known(value, True, FULL if rounded else INPUT_BITS))
        return self.known[-1]

    def variable(self, type_: Type) -> Known:
        """A new variable, read."""
        name = f"v{len(self.state_makers)}"
        self.globals[name] = Global("variable", type_)
        self.state_makers[name] = numbers(type_, self.sizes, self.special)
        (read,) = self.emit("read", Symbol(name, type_), bits=INPUT_BITS)
        return read

    def fresh(self) -> str:
        """A size name that nothing bound before."""
        self.bound += 1
        return f"s{self.bound}"

    def size(self, size: Dim) -> int | None:
        """What ``size`` is in this case; None where values tell."""
        known = all(name in self.sizes for name in dims.names(size))
        return dims.evaluate(size, self.sizes) if known else None

    def count_bits(self, sizes: Sequence[Dim]) -> int:
        """Bits that a sum over axes of ``sizes`` has more than its terms."""
        known = [self.size(size) for size in sizes]
        return sum([UNKNOWN_BITS if n is None else n.bit_length() for n in known])

    def below(self, index: Known, size: Dim) -> Known | None:
        """``index`` taken modulo ``size``: an index that is in range; None where none may be."""
        if index.type.dtype not in ("i32", "i64") or not self.size(size):
            return None
        limit = self.build.emit("dims", values=(size,), dtype=index.type.dtype, scalar=True)
        made = self.emit("floor_mod", index, limit, exact=True)
        return made[0] if made else None


def is_exact(operand: Const | Known) -> bool:
    return isinstance(operand, Const) or operand.exact


def bits_of(operand: Const | Known) -> int:
    return 3 if isinstance(operand, Const) else operand.bits


def rounds(known: Known, bits: int) -> bool:
    """True where ``bits`` more are too many for the dtype."""
    return known.kind == "f" and known.bits + bits > MANTISSA[known.type.dtype]


def fit(shapes: Sequence[tuple[Dim, ...]]) -> bool:
    """True where sizes broadcast whatever the names in them stand for."""
    rank = max(map(len, shapes))
    whole = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return all(len(set(axis) - {1}) <= 1 for axis in zip(*whole, strict=True))


def _broadcasts(type_: Any) -> bool:
    """True where a size is whatever two sizes broadcast to."""
    return "broadcast(" in str(type_)
