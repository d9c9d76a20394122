"""The loop level as Python: ``for`` over ``range``, array elements, assignments.

The sibling of ``loops``, which writes the same operations as LLVM. numba's own vectoriser makes the
vectors here, so a loop by lanes is a plain loop. Variables are called after the user's nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

from stepforge.codegen.kernel import NotSupported
from stepforge.codegen.numba_scalars import (
    CHOICE,
    LIBRARY,
    NEGATION,
    NUMBA_NAMES,
    PRODUCT,
    SUM,
    ScalarText,
    Term,
    kind_of,
)
from stepforge.codegen.numba_source import Source
from stepforge.ir import dims
from stepforge.ir.core import Block, Const, Operand, Operation, Site, Value
from stepforge.ir.dims import Apply, Atom, Dim
from stepforge.ir.records import record
from stepforge.ir.types import Type, item_bytes

COUNTERS = "ijklpq"
# operations that nothing in memory depends on: a load may be written behind them
_SILENT = ("load", "index", "index_div", "index_mod", "to_index", "from_index")


@record(frozen=True, slots=True)
class Array:
    """A buffer: the name of its array, which has one axis where the buffer has none."""

    name: str
    type: Type


class LoopText:
    """Writes operations of the loop level into ``source``.

    ``sizes`` gives the expression of each size name, ``values`` what is known of values.
    """

    def __init__(self, source: Source, used: Mapping[Operand, int]) -> None:
        self.source = source
        self.k = ScalarText(source.use)
        self.sizes: dict[str, Term] = {}
        self.values: dict[Operand, Any] = {}
        self.used = used  # how often each value is an operand
        self.depth = 0  # of loops that are open

    # ---- operations -----------------------------------------------------------------------------
    def block(self, block: Block) -> None:
        """Write all operations of a region but the last."""
        ops = block.ops
        for position, op in enumerate(ops[:-1]):
            self.operation(op, ops[position + 1 :])

    def operation(self, op: Operation, behind: Sequence[Operation] = ()) -> None:
        """Write one operation; ``behind`` are those that follow it in its block."""
        handler = self.handlers.get(op.name)
        if handler is not None:
            handler(self, op, behind)
        elif op.defn.elementwise and op.defn.scalar is not None:
            self._elementwise(op, behind)
        else:
            self.other(op)

    def other(self, op: Operation) -> None:
        """Write an operation that Python has no words for. Raises: NotSupported."""
        raise NotSupported(f"the operation {op.name}")

    def _elementwise(self, op: Operation, behind: Sequence[Operation]) -> None:
        kind_of(op.result.type.dtype)
        assert op.defn.scalar is not None
        term = op.defn.scalar(self.k, *map(self.term, op.operands), **op.all_attrs)
        ends = bool(behind) and behind[0].name in ("store", "yield")
        self._define(op, term, in_place=ends and op.result in behind[0].operands)

    def _define(self, op: Operation, term: Term, *, in_place: bool, hint: str = "") -> None:
        """Give ``op`` its value: a variable; or, ``in_place``, the expression itself for its only
        use.
        """
        if in_place and self.used.get(op.result, 0) == 1:
            self.values[op.result] = term
        else:
            self.values[op.result] = self.source.assign(hint or self.hint(op), term)

    def hint(self, op: Operation) -> str:
        """What a variable for a result of ``op`` is called, more or less."""
        named = next((r.name for r in op.results if r.name), "")
        return named or node_name(op.site) or op.name

    def term(self, operand: Operand) -> Term:
        """An element or an index as an expression."""
        if isinstance(operand, Const):
            return self.k.constant(_real(operand), operand.type.dtype)
        value = self.values[operand]
        assert isinstance(value, Term)
        return value

    # ---- sizes ----------------------------------------------------------------------------------
    def size(self, dim: Dim) -> Term:
        """A size as an expression of i64."""
        if not isinstance(dim, dims.Expr):
            return self.k.constant(dim, "i64")
        total: Term | None = None
        for monomial, coefficient in sorted(dim.terms, key=lambda term: term[1] < 0):
            factors = [self._atom(atom) for atom in monomial]
            if abs(coefficient) != 1 or not factors:
                factors.insert(0, self.k.constant(abs(coefficient), "i64"))
            product = factors[0]
            for factor in factors[1:]:
                product = _infix("*", PRODUCT, product, factor)
            if total is None:
                total = product if coefficient > 0 else self.k.neg(product)
            else:
                total = _infix("+" if coefficient > 0 else "-", SUM, total, product)
        assert total is not None
        return total

    def _atom(self, atom: Atom) -> Term:
        if isinstance(atom, str):
            return self.sizes[atom]
        a, b = (self.size(arg) for arg in atom.args)
        return self._applied(atom, a, b)

    def _applied(self, atom: Apply, a: Term, b: Term) -> Term:
        divisor = atom.args[1]
        if atom.fn == "floordiv" and isinstance(divisor, int) and divisor > 0:
            return _infix("//", PRODUCT, a, b)
        name = {"floordiv": "size_div"}.get(atom.fn, atom.fn)
        if name not in ("min", "max"):
            self.source.use(LIBRARY, name)
        return Term("i64", f"{name}({{0}}, {{1}})", (a, b), (0, 0))

    def size_text(self, dim: Dim, need: int = 0) -> str:
        """The text of a size."""
        return self.source.expression(self.size(dim), need)

    def shape_text(self, shape: Iterable[Dim]) -> str:
        """A tuple of sizes; of one 1 for no axes."""
        texts = [self.size_text(n) for n in shape] or ["1"]
        return f"({', '.join(texts)}{',' if len(texts) == 1 else ''})"

    # ---- loops ----------------------------------------------------------------------------------
    def _for(self, op: Operation, behind: Sequence[Operation]) -> None:
        region = op.regions[0]
        counter = COUNTERS[self.depth] if self.depth < len(COUNTERS) else f"i{self.depth}"
        makers: dict[Operand, Operation] = {
            result: inner for inner in region.ops for result in inner.results
        }
        carried = [
            self.source.name(self.hint(makers.get(value, op)))
            for value in region.terminator.operands
        ]
        for name, operand in zip(carried, op.operands, strict=True):
            self.source.line(f"{name} = {self.source.expression(self.term(operand))}")
        index = Term("index", counter)
        self.values[region.params[0]] = index
        if op.attr("binds"):
            self.sizes[op.attr("binds")] = index
        for param, name in zip(region.params[1:], carried, strict=True):
            self.values[param] = Term(param.type.dtype, name)
        with self.source.block(f"for {counter} in range({self._bounds(op)}):"):
            self.depth += 1
            self.block(region)
            self._carry(carried, region.terminator.operands)
            self.depth -= 1
        for result, name in zip(op.results, carried, strict=True):
            self.values[result] = Term(result.type.dtype, name)

    def _bounds(self, op: Operation) -> str:
        low, high, step = (op.attr(name) for name in ("low", "high", "step"))
        texts = [self.size_text(high)]
        if low != 0 or step != 1:
            texts.insert(0, self.size_text(low))
        return ", ".join([*texts, str(step)] if step != 1 else texts)

    def _carry(self, names: Sequence[str], following: Sequence[Operand]) -> None:
        """Assign the next values of what a loop carries, all at once."""
        if names:
            need = CHOICE if len(names) == 1 else NEGATION
            texts = [self.source.expression(self.term(value), need) for value in following]
            self.source.line(f"{', '.join(names)} = {', '.join(texts)}")

    # ---- memory ---------------------------------------------------------------------------------
    def array(self, name: str, address: str, type_: Type) -> Array:
        """An array on the memory that ``address``, an expression, leads to."""
        carray = self.source.use("numba", "carray")
        dtype = self.source.use("numba", self.element_type(type_.dtype))
        self.source.line(f"{name} = {carray}({address}, {self.shape_text(type_.dims)}, {dtype})")
        return Array(name, type_)

    def element_type(self, dtype: str) -> str:
        """numba's name of a dtype. Raises: NotSupported."""
        if dtype not in NUMBA_NAMES:
            raise NotSupported(f"elements of {dtype}")
        return NUMBA_NAMES[dtype]

    def address(self, operand: Operand) -> str:
        """Where the memory of a buffer is, as a word."""
        return f"{self.values[operand].name}.ctypes.data"

    def at(self, address: str) -> str:
        """A word as a pointer."""
        return f"{self.source.use(LIBRARY, 'at')}({address})"

    def _element(self, buffer: Operand, indices: Sequence[Operand]) -> Term:
        """An element of a buffer as an expression."""
        array: Array = self.values[buffer]
        terms = tuple(map(self.term, indices)) or (self.k.constant(0, "index"),)
        places = ", ".join(f"{{{i}}}" for i in range(len(terms)))
        form = f"{array.name}[{places}]"
        return Term(array.type.dtype, form, terms, (0,) * len(terms))

    def _load(self, op: Operation, behind: Sequence[Operation]) -> None:
        kind_of(op.result.type.dtype)
        element = self._element(op.operands[0], op.operands[1:])
        hint = f"{self.values[op.operands[0]].name}_value"
        here = _used_before_writes(op.result, behind)
        self._define(op, element, in_place=here, hint=hint)

    def _store(self, op: Operation, behind: Sequence[Operation]) -> None:
        value, buffer, *indices = op.operands
        kind_of(buffer.type.dtype)
        text = self.source.expression(self.term(value))
        place = self.source.expression(self._element(buffer, indices))
        self.source.line(f"{place} = {text}")

    def _alloc(self, op: Operation, behind: Sequence[Operation]) -> None:
        """A small temporary inside a nest, on the stack."""
        type_ = op.result.type
        assert isinstance(type_.size, int)
        stack = self.source.use(LIBRARY, "stack")
        size = max(type_.size, 1) * item_bytes(type_.dtype)
        address = self.at(f"{stack}({size})")
        name = self.source.name(self.hint(op))
        self.values[op.result] = self.array(name, address, type_)

    def _view(self, op: Operation, behind: Sequence[Operation]) -> None:
        address = self.at(self.address(op.operands[0]))
        name = self.source.name(self.values[op.operands[0]].name)
        self.values[op.result] = self.array(name, address, op.result.type)

    def _subview(self, op: Operation, behind: Sequence[Operation]) -> None:
        array: Array = self.values[op.operands[0]]
        name = self.source.name(array.name)
        *first, last = [self.source.expression(self.term(i)) for i in op.operands[1:]]
        if not op.result.type.rank:
            last = f"{last} : {last} + 1"
        self.source.line(f"{name} = {array.name}[{', '.join([*first, last])}]")
        self.values[op.result] = Array(name, op.result.type)

    def _rows(self, op: Operation, behind: Sequence[Operation]) -> None:
        array: Array = self.values[op.operands[0]]
        name = self.source.name(array.name)
        low, count = (self.size_text(op.attr(bound)) for bound in ("low", "count"))
        self.source.line(f"{name} = {array.name}[{low} : {low} + {count}]")
        self.values[op.result] = Array(name, op.result.type)

    # ---- indices --------------------------------------------------------------------------------
    def _index(self, op: Operation, behind: Sequence[Operation]) -> None:
        total = self.size(op.attr("offset")) if op.attr("offset") != 0 else None
        for counter, scale in reversed(list(zip(op.operands, op.attr("scale"), strict=True))):
            term = self.term(counter)
            if scale != 1:
                term = _infix("*", PRODUCT, self.size(scale), term)
            total = term if total is None else _infix("+", SUM, term, total)
        term = total if total is not None else self.k.constant(0, "index")
        self._define(op, term, in_place=_used_in(op.result, behind))

    def _divided(self, symbol: str, op: Operation, behind: Sequence[Operation]) -> None:
        term = _infix(symbol, PRODUCT, self.term(op.operands[0]), self.size(op.attr("by")))
        self._define(op, term, in_place=_used_in(op.result, behind))

    def _to_index(self, op: Operation, behind: Sequence[Operation]) -> None:
        value = self.k.convert(self.term(op.operands[0]), "i64")
        form = f"{self.source.use(LIBRARY, 'clamped')}({{0}}, {{1}})"
        term = Term("index", form, (value, self.size(op.attr("limit"))), (0, 0))
        self._define(op, term, in_place=_used_before_writes(op.result, behind))

    def _from_index(self, op: Operation, behind: Sequence[Operation]) -> None:
        term = self.k.convert(self.term(op.operands[0]), op.attr("dtype"))
        self._define(op, term, in_place=_used_in(op.result, behind))

    handlers: ClassVar[dict[str, Callable[..., None]]] = {
        "for": _for,
        "load": _load,
        "store": _store,
        "alloc": _alloc,
        "view": _view,
        "subview": _subview,
        "rows": _rows,
        "index": _index,
        "index_div": lambda self, op, behind: self._divided("//", op, behind),
        "index_mod": lambda self, op, behind: self._divided("%", op, behind),
        "to_index": _to_index,
        "from_index": _from_index,
    }


def _infix(symbol: str, level: int, a: Term, b: Term) -> Term:
    return Term("i64", f"{{0}} {symbol} {{1}}", (a, b), (level, level + 1), level)


def _real(operand: Const) -> Any:
    return int(operand.value) if isinstance(operand.value, bool) else operand.value


def _used_in(value: Value, behind: Sequence[Operation]) -> bool:
    """True where an operation of the same block, not of one inside, uses ``value``."""
    return any(value in op.operands for op in behind)


def _used_before_writes(value: Value, behind: Sequence[Operation]) -> bool:
    """True where the first use of ``value`` comes before anything is written to memory."""
    for op in behind:
        if value in op.operands:
            return op.name != "for"
        if op.name not in _SILENT and not op.defn.elementwise:
            return False
    return False


def node_name(site: Site | None) -> str:
    """The last part of a node's name; that of a gradient's node with the name it belongs to."""
    if site is None:
        return ""
    *scopes, last = site.node.split("/")
    return f"{scopes[-1]}_{last}" if scopes and scopes[-1].endswith("_grad") else last


def use_counts(block: Block) -> dict[Operand, int]:
    """How often each value is an operand, regions included."""
    counts: dict[Operand, int] = {}
    for op in block.walk():
        for operand in op.operands:
            if isinstance(operand, Value):
                counts[operand] = counts.get(operand, 0) + 1
    return counts
