"""What a node's ``extract`` rule talks to: it emits IR, asks for types, sizes and known values.

The same rules serve two masters. ``InferenceExtractor`` runs them when a node is created: nothing
is kept but the types, which give the node its static shape. ``program.ProgramExtractor`` runs them
when a step is compiled, from actual feeds.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Hashable, Iterator, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from stepforge.frontend.extract import symbolic
from stepforge.frontend.extract.messages import disagreement, literal, told
from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Block, Const, Global, Operand, Site, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError, UnknownRankError, UnprovenSizes
from stepforge.ir.opdef import lookup
from stepforge.ir.types import NUMERIC, Type, from_numpy_dtype, numpy_dtype

INCOMPATIBLE = "Incompatible shapes"  # how messages about operands that do not broadcast begin


INDICES = ("i32", "i64")  # the dtypes of sizes and axes
RANKS = (1, 2, 3, 4, 0)  # tried where a rank is unknown, those that most rules take first
MOST_TRIALS = 400


_replaced = re.compile(r"[^\w.]").sub


class UnknownRank(Exception):
    """A rule needs the rank of an operand that has none yet."""


def identifier(name: str) -> str:
    """A node's name as an IR name."""
    return _replaced(".", name)


class Extractor:
    """Emits operations and keeps what is known of integer values; see the module's text."""

    def __init__(self) -> None:
        self.builder = Builder()
        self.globals: dict[str, Global] = {}
        self._known: dict[Operand, symbolic.ShapeValue] = {}
        self._names: tuple[str, ...] = ()  # for the results of what is emitted
        self._counter = itertools.count()

    # ---- emitting -------------------------------------------------------------------------------
    def emit(
        self,
        op: str,
        *operands: Operand,
        types: Sequence[Type] | None = None,
        regions: Sequence[Block] = (),
        **attrs: Any,
    ) -> Any:
        """Emit an operation and return its result, or the tuple of its results.

        Integer arithmetic on sizes is evaluated at once. Raises: ShapeError, DTypeError.
        """
        value = self._evaluate(op, operands, attrs)
        if value is not None:
            return self.dimensions(value, self._dtype(op, operands, attrs))
        if lookup(op).elementwise and len(operands) > 1:
            operands = tuple(self.matched(operands))
        return self._emit(op, operands, types, regions, literal(attrs))

    def _emit(
        self,
        op: str,
        operands: Sequence[Operand],
        types: Sequence[Type] | None,
        regions: Sequence[Block],
        attrs: dict[str, Any],
    ) -> Any:
        """Emit; where sizes must be equal and nothing proves it, state it and try again."""
        while True:
            try:
                made = self.builder.operation(
                    op, operands, attrs, types=types, regions=regions, names=self._names
                )
                return self.builder.append(made)
            except UnknownRankError as error:  # noqa: PERF203 - raised at most once
                raise UnknownRank from error
            except UnprovenSizes as unproven:
                a, b = unproven.lhs, unproven.rhs
                kept = self.unify(a, b, str(unproven).partition(":")[0])
                gone = b if kept == a else a
                following = [self._with_size(operand, gone, kept) for operand in operands]
                if all(new is old for new, old in zip(following, operands, strict=True)):
                    raise  # the size is in no operand's type, so stating it again helps nothing
                operands = following

    def _with_size(self, operand: Operand, gone: Dim, kept: Dim) -> Operand:
        """``operand`` with the size ``gone``, which is equal to ``kept``, written as ``kept``."""
        shape = operand.type.shape
        if shape is None or gone not in shape:
            return operand
        return self._refined(operand, tuple(kept if n == gone else n for n in shape))

    def _refined(self, operand: Operand, shape: tuple[Dim, ...]) -> Operand:
        return self.builder.emit("refine", operand, shape=shape)  # type: ignore[no-any-return]

    def _evaluate(
        self, op: str, operands: Sequence[Operand], attrs: dict[str, Any]
    ) -> symbolic.ShapeValue | None:
        if op not in symbolic.TABLE:
            return None
        values = []
        for operand in operands:
            value = self.known(operand)
            if value is None:
                return None
            values.append(value)
        return symbolic.evaluate(op, values, attrs)

    def _dtype(self, op: str, operands: Sequence[Operand], attrs: dict[str, Any]) -> str:
        return str(attrs["dtype"]) if op == "cast" else str(operands[0].type.dtype)

    def dimensions(self, value: Any, dtype: str = "i32") -> Operand:
        """An integer tensor of dimensions: a constant where all are known."""
        elements = value if isinstance(value, np.ndarray) else symbolic.shape_value(value)
        if all(isinstance(e, int) for e in elements.flat):
            return self.const(elements.astype(np.int64), dtype)
        flat = self.builder.emit("dims", values=tuple(elements.flat), dtype=dtype)
        result = flat
        if elements.ndim != 1:
            result = self.builder.emit("reshape", flat, shape=elements.shape)
        self._known[result] = elements
        return result  # type: ignore[no-any-return]

    def const(self, value: Any, dtype: str | None = None) -> Operand:
        """A constant operand: scalars stand in place, arrays become constant symbols."""
        if type(value) is float and dtype in NUMERIC:
            return _number(value, math.copysign(1.0, value), dtype)
        array = np.asarray(value)
        name = dtype or from_numpy_dtype(array.dtype)
        if name in NUMERIC:
            array = _cast(array, name)
            if array.ndim == 0:
                return Const(Type(name), _python_scalar(array))
        symbol = self._constant(array, name)
        known = symbolic.of_array(array)
        if known is not None:
            self._known[symbol] = known
        return symbol

    def _constant(self, array: np.ndarray[Any, Any], dtype: str) -> Symbol:
        name = self.unique(f"const_{next(self._counter)}")
        type_ = Type(dtype, tuple(int(n) for n in array.shape))
        self.globals[name] = Global("constant", type_, array)
        return Symbol(name, type_)

    # ---- asking ---------------------------------------------------------------------------------
    def type(self, operand: Operand) -> Type:
        """The operand's type."""
        return operand.type

    def shape(self, operand: Operand) -> tuple[Dim, ...]:
        """The operand's sizes. Raises: UnknownRank."""
        shape = operand.type.shape
        if shape is None:
            raise UnknownRank
        return shape

    def ranked(self, operand: Operand) -> Operand:
        """The operand, which has a rank. Raises: UnknownRank."""
        self.shape(operand)
        return operand

    def known(self, operand: Operand) -> symbolic.ShapeValue | None:
        """The value as an array of dimensions, where it is one."""
        if isinstance(operand, Const):
            return symbolic.of_constant(operand)
        return self._known.get(operand)

    def static(self, operand: Operand) -> np.ndarray[Any, Any] | None:
        """The value where it is known now, else None."""
        if isinstance(operand, Const):
            return np.asarray(operand.value, dtype=numpy_dtype(operand.type.dtype))
        if isinstance(operand, Symbol):
            return self.globals[operand.name].data
        known = self._known.get(operand)
        if known is not None and all(isinstance(e, int) for e in known.flat):
            return known.astype(numpy_dtype(operand.type.dtype))
        return None

    def sizes(self, operand: Operand) -> tuple[Dim, ...]:
        """An integer vector (or scalar) as sizes; what is not known yet gets a fresh name at run
        time.

        Raises: UnknownRank where the length is not known, ShapeError for a matrix.
        """
        known = self.known(operand)
        if known is not None:
            return tuple(known.reshape(-1))
        shape = self.shape(operand)
        if len(shape) > 1:
            raise ShapeError(f"sizes must be a vector, not {operand.type}")
        if not shape:
            return (self._bind(operand, None),)
        if not isinstance(shape[0], int):
            raise UnknownRank
        return tuple(self._bind(operand, i) for i in range(shape[0]))

    def at_hand(self, size: Dim) -> int | None:
        """A size as a number, where it is known or may be chosen for the variant of a step."""
        return size if isinstance(size, int) else None

    def _bind(self, operand: Operand, index: int | None) -> Dim:
        name = self.fresh("k")
        self.builder.emit("dim", operand, index=index, binds=name)
        return dims.named(name)

    def fresh(self, prefix: str) -> str:
        """A size name that nothing else uses."""
        return self.unique(f"{prefix}_{next(self._counter)}")

    def unique(self, name: str, key: Hashable = None) -> str:
        """``name``, or one like it where that is taken by something else than ``key``."""
        return name

    # ---- sizes that must fit --------------------------------------------------------------------
    def unify(self, a: Dim, b: Dim, message: str) -> Dim:
        """Declare two sizes equal; the better known one is returned. Raises: ShapeError."""
        difference = a - b
        if difference == 0:
            return a
        if isinstance(difference, int):
            raise ShapeError(disagreement(message, a, b, _as_number))
        return self._unproven(a, b, message)

    def _unproven(self, a: Dim, b: Dim, message: str) -> Dim:
        raise NotImplementedError

    def matched(self, operands: Sequence[Operand]) -> Sequence[Operand]:
        """Operands of an elementwise op, made to broadcast for certain."""
        return operands

    def broadcast(self, *shapes: tuple[Dim, ...]) -> tuple[Dim, ...]:
        """The common shape of broadcast operands. Raises: ShapeError."""
        message = told(f"{INCOMPATIBLE}: {' vs. '.join(['{}'] * len(shapes))}", *shapes)
        rank = max(map(len, shapes), default=0)
        padded = [(1,) * (rank - len(s)) + tuple(s) for s in shapes]
        out = []
        for column in zip(*padded, strict=True):
            size: Dim = 1
            for dim in column:
                size = self.broadcast_sizes(size, dim, message)
            out.append(size)
        return tuple(out)

    def broadcast_sizes(self, a: Dim, b: Dim, message: str = INCOMPATIBLE) -> Dim:
        """One axis of ``broadcast``."""
        if isinstance(a, int) and isinstance(b, int) and a != b and 1 not in (a, b):
            raise ShapeError(message)
        return dims.broadcast(a, b)

    # ---- state ----------------------------------------------------------------------------------
    def variable(self, node: Any, type_: Type) -> Operand:
        """The output of a variable node; what its consumers get is the value that they see."""
        raise NotImplementedError

    def write(self, target: Any, value: Operand) -> Operand:
        """Assign to the variable behind the node input ``target`` (a Tensor);

        returns the new value.
        """
        raise NotImplementedError

    def read(self, target: Any) -> Operand:
        """The variable behind the node input ``target``, with all writes made before this node.

        What an update starts from, and what a resource variable's read gives.
        """
        raise NotImplementedError

    def initialized(self, target: Any) -> Operand:
        """Whether the variable behind ``target`` has a value: a bool scalar."""
        raise NotImplementedError

    def placeholder(self, node: Any, type_: Type) -> Operand:
        """The value of a placeholder that was not fed."""
        raise NotImplementedError

    def symbol(self, node: Any, kind: str, type_: Type) -> Symbol:
        """A symbol of its own for ``node``: a random stream, say."""
        name = self.unique(identifier(node.name), node)
        self.globals[name] = Global(kind, type_)
        return Symbol(name, type_)

    def at(self, site: Site | None) -> None:
        """Operations emitted from here on stem from ``site``."""
        self.builder.site = site


def _as_number(size: Dim) -> int | None:
    return size if isinstance(size, int) else None


@lru_cache(maxsize=1024)
def _number(value: float, sign: float, dtype: str) -> Const:
    """A constant; ``sign`` tells 0.0 from -0.0."""
    return Const(Type(dtype), _python_scalar(_cast(np.asarray(value), dtype)))


def _cast(array: np.ndarray[Any, Any], dtype: str) -> np.ndarray[Any, Any]:
    wanted = numpy_dtype(dtype)
    if array.dtype == wanted:
        return array
    with np.errstate(all="ignore"):
        return array.astype(wanted)


def _python_scalar(array: np.ndarray[Any, Any]) -> Any:
    item = array.item()
    return (
        item if isinstance(item, (bool, int, float, complex)) else float(array.astype(np.float64))
    )


class InferenceExtractor(Extractor):
    """Runs rules for their types alone: unknown sizes are fresh names, nothing is assumed."""

    def __init__(self) -> None:
        super().__init__()
        self._variables: dict[Any, Value] = {}

    def outputs(self, node: Any) -> tuple[Operand, ...]:
        """One operand for each output of a node; its inputs are the tensors' ``abstract`` values.

        Raises: ShapeError, DTypeError as the rule does.
        """
        operands = [tensor.abstract for tensor in node.inputs]
        try:
            return self._run(node, operands)
        except UnknownRank:
            return self._unranked(node, operands)
        finally:
            self.builder.ops.clear()

    def _run(self, node: Any, operands: Sequence[Operand]) -> tuple[Operand, ...]:
        result = node.definition.extract(self, node, *operands)
        if result is None:
            return ()
        return tuple(result) if isinstance(result, (tuple, list)) else (result,)

    def _unranked(self, node: Any, operands: Sequence[Operand]) -> tuple[Operand, ...]:
        """Find the dtypes by trying ranks; the ranks themselves stay unknown."""
        failure: Exception | None = None
        for trial in self._trials(operands):
            try:
                found = self._run(node, trial)
            except (UnknownRank, ShapeError) as error:
                failure = error
                continue
            return tuple(Value(Type(v.type.dtype, None)) for v in found)
        raise ShapeError(f"{node.type}: no rank of the unknown inputs fits") from failure

    def _trials(self, operands: Sequence[Operand]) -> Iterator[list[Operand]]:
        """Operands with ranks: first the same for all, then any combination."""
        for rank in RANKS:
            yield [self._with_rank(operand, rank) for operand in operands]
        choices = [
            [operand] if tried == [operand] * len(tried) else tried
            for operand in operands
            for tried in [self._choices(operand)]
        ]
        for combination in itertools.islice(itertools.product(*choices), MOST_TRIALS):
            yield list(combination)

    def _choices(self, operand: Operand) -> list[Operand]:
        """What an operand of unknown rank may be; integers may also be vectors of known length."""
        choices: list[Operand] = []
        if operand.type.shape is None and operand.type.dtype in INDICES:
            choices += [Value(Type(operand.type.dtype, (length,))) for length in (2, 1, 3, 4)]
        return choices + [self._with_rank(operand, rank) for rank in RANKS]

    def _with_rank(self, operand: Operand, rank: int) -> Operand:
        type_ = operand.type
        if type_.shape is None:
            return Value(Type(type_.dtype, self._fresh_shape((None,) * rank)))
        if len(type_.shape) == 1 and not isinstance(type_.shape[0], int):
            return Value(Type(type_.dtype, (rank,)))  # a vector of sizes of unknown length
        return operand

    def _fresh_shape(self, shape: Sequence[int | None]) -> tuple[Dim, ...]:
        return tuple(dims.named(self.fresh("d")) if n is None else n for n in shape)

    def open_type(self, dtype: str, shape: Sequence[int | None] | None) -> Type:
        """A type whose unknown sizes have fresh names."""
        return Type(dtype, None if shape is None else self._fresh_shape(shape))

    def _unproven(self, a: Dim, b: Dim, message: str) -> Dim:
        return a if isinstance(a, int) else b

    def matched(self, operands: Sequence[Operand]) -> Sequence[Operand]:
        """See the base class."""
        shapes = [operand.type.shape[::-1] for operand in operands if operand.type.shape]
        for column in itertools.zip_longest(*shapes, fillvalue=1):
            sizes = list(dict.fromkeys(n for n in column if isinstance(n, int) and n != 1))
            if len(sizes) > 1:
                raise ShapeError(f"Dimensions must be equal, but are {sizes[0]} and {sizes[1]}")
        return operands

    def variable(self, node: Any, type_: Type) -> Operand:
        """See the base class."""
        return self._variables.setdefault(node, Value(type_))

    def write(self, target: Any, value: Operand) -> Operand:
        """See the base class."""
        return value

    def read(self, target: Any) -> Operand:
        """See the base class."""
        return self._variables[target.op]

    def initialized(self, target: Any) -> Operand:
        """See the base class."""
        return Value(Type("bool"))

    def placeholder(self, node: Any, type_: Type) -> Operand:
        """See the base class."""
        return Value(type_)
