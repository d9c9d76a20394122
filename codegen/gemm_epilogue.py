"""Epilogues: what is computed of each element of a product before it is stored.

An epilogue is a region ``|%acc, %p, ...|`` of elementwise operations. Its operands are matrices,
rows, columns or scalars that broadcast to the product. A light one runs on the sums while they are
in registers; others, and those behind a library call, are a pass over rows in the cache.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from stepforge.codegen.gemm_shapes import load, store
from stepforge.codegen.lane_core import Lane, bits_of, storage_element
from stepforge.codegen.lanes import LaneBuilder
from stepforge.codegen.llvm import NO_UNROLL, FunctionWriter, ModuleWriter
from stepforge.codegen.symbol_names import kernel_label
from stepforge.codegen.target import Target
from stepforge.ir.core import Block, Const, Operand, Operation, Value
from stepforge.ir.records import record

# Operations of few instructions; an epilogue of some of them costs nothing in registers.
_ARITHMETIC = ("add", "sub", "mul", "neg", "abs", "square", "maximum", "minimum", "relu", "relu6")
_COMPARISONS = ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal")
_LOGIC = ("select", "logical_and", "logical_or", "logical_not")
LIGHT = frozenset((*_ARITHMETIC, *_COMPARISONS, *_LOGIC))
LIGHT_OPS = 5


@record(frozen=True, slots=True)
class Spread:
    """An operand of an epilogue: along which axes of the product its elements differ."""

    dtype: str
    rows: bool
    columns: bool


@record(frozen=True, eq=False)
class Epilogue:
    """The region, and how each operand behind the first parameter is addressed.

    ``label`` says in the names of functions what the first product is for that ends like this.
    """

    region: Block
    operands: tuple[Spread, ...]
    label: str = ""

    @staticmethod
    def of(module: ModuleWriter, op: Operation, operands: Sequence[Spread]) -> Epilogue | None:
        """The epilogue of a product, where it has one."""
        if not op.regions:
            return None
        plain = Epilogue(op.regions[0], tuple(operands))
        return replace(plain, label=module.first_label(plain.key, kernel_label(op)))

    @property
    def light(self) -> bool:
        """True where the region belongs into the tile."""
        ops = self.region.ops[:-1]
        return len(ops) <= LIGHT_OPS and all(op.name in LIGHT for op in ops)

    @property
    def turned(self) -> Epilogue:
        """The same for the transposed product."""
        swapped = [replace(s, rows=s.columns, columns=s.rows) for s in self.operands]
        return replace(self, operands=tuple(swapped))

    @property
    def key(self) -> str:
        """A short name that two epilogues share only where they do the same."""
        names: dict[Operand, str] = {p: f"x{i}" for i, p in enumerate(self.region.params)}
        parts = [repr(self.operands)]
        for number, op in enumerate(self.region.ops):
            arguments = [names.get(o) or _constant_text(o) for o in op.operands]
            parts.append(f"{op.name}({arguments}, {sorted(op.attrs.items())})")
            names.update((result, f"v{number}") for result in op.results)
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
        return f"{self.label}_{digest}" if self.label else digest


def _constant_text(operand: Operand) -> str:
    assert isinstance(operand, Const)
    return f"{operand.value!r}: {operand.type}"


def apply(k: LaneBuilder, epilogue: Epilogue, total: Lane, operands: Sequence[Lane]) -> Lane:
    """The region's value for the element ``total`` of the product."""
    region = epilogue.region
    lanes: dict[Operand, Lane] = dict(zip(region.params, (total, *operands), strict=True))

    def lane(operand: Operand) -> Lane:
        if isinstance(operand, Value):
            return lanes[operand]
        assert isinstance(operand, Const)
        return k.constant(operand.value.real, operand.type.dtype)

    for op in region.ops[:-1]:
        assert op.defn.scalar is not None
        lanes[op.result] = op.defn.scalar(k, *map(lane, op.operands), **op.all_attrs)
    (result,) = region.terminator.operands
    return lane(result)


@record(frozen=True)
class Operands:
    """The operands of an epilogue inside a function: their pointers, and the product's columns."""

    fn: FunctionWriter
    epilogue: Epilogue
    pointers: Sequence[str]
    columns: str

    @staticmethod
    def of(fn: FunctionWriter, epilogue: Epilogue | None) -> Operands | None:
        """Those that ``fn`` has as parameters, in a function with the columns ``%n``."""
        if epilogue is None:
            return None
        pointers = [f"%e{i}" for i in range(len(epilogue.operands))]
        return Operands(fn, epilogue, pointers, "%n")

    @staticmethod
    def parameters(epilogue: Epilogue | None) -> list[tuple[str, str]]:
        """What a function takes for them."""
        return [] if epilogue is None else [("ptr", f"e{i}") for i in range(len(epilogue.operands))]

    def at(self, row: str, column: str) -> list[str]:
        """Pointers to the elements that belong to a place of the product."""
        found = []
        for spread, pointer in zip(self.epilogue.operands, self.pointers, strict=True):
            element = storage_element(spread.dtype)
            if spread.rows:
                step = self.row_step(spread)
                skipped = row if step == "1" else self.fn.emit(f"mul i64 {row}, {step}")
                pointer = self.fn.offset(pointer, skipped, element)
            found.append(self.fn.offset(pointer, column, element) if spread.columns else pointer)
        return found

    def row_step(self, spread: Spread) -> str:
        """Elements from one row to the next."""
        if not spread.rows:
            return "0"
        return self.columns if spread.columns else "1"

    def load(self, k: LaneBuilder, pointers: Sequence[str], mask: Lane | None) -> list[Lane]:
        """The elements of as many columns as ``k`` has lanes."""
        pairs = zip(self.epilogue.operands, pointers, strict=True)
        return [self.load_one(k, spread, pointer, mask) for spread, pointer in pairs]

    def load_one(self, k: LaneBuilder, spread: Spread, pointer: str, mask: Lane | None) -> Lane:
        """The elements of one operand."""
        if not spread.columns:
            return k.splat(k.rewritten(width=1).load(pointer, spread.dtype))
        return load(k, pointer, spread.dtype, mask)


def rows_pass(module: ModuleWriter, target: Target, dtype: str, epilogue: Epilogue) -> str:
    """A function ``(c, rows, n, columns, operands...)`` that replaces products by results in place,
    where rows of c are ``n`` elements apart.
    """
    name = f"rows_{dtype}_{epilogue.key}"
    return module.helper(name, lambda: _rows_pass(module, name, target, dtype, epilogue))


def _rows_pass(
    module: ModuleWriter, name: str, target: Target, dtype: str, epilogue: Epilogue
) -> str:
    params = [("ptr", "c"), ("i64", "m"), ("i64", "n"), ("i64", "columns")]
    params += Operands.parameters(epilogue)
    fn = FunctionWriter(module, name, "void", params, linkage="internal", attributes="noinline")
    operands = Operands.of(fn, epilogue)
    assert operands is not None
    k = LaneBuilder(fn, target.vector_bits // bits_of(dtype), target.capabilities)
    element = storage_element(dtype)

    def rows(row: str) -> None:
        start = fn.offset("%c", fn.emit(f"mul i64 {row}, %n"), element)

        def columns(column: str, mask: Lane | None = None) -> None:
            pointer = fn.offset(start, column, element)
            others = operands.load(k, operands.at(row, column), mask)
            total = load(k, pointer, dtype, mask)
            store(k, apply(k, epilogue, total, others), pointer, mask)

        full = fn.emit(f"and i64 %columns, {-k.width}")
        fn.loop("0", full, columns, step=k.width, metadata=NO_UNROLL)
        rest = fn.emit(f"sub i64 %columns, {full}")
        fn.if_(fn.emit(f"icmp sgt i64 {rest}, 0"), lambda: columns(full, k.tail_mask(rest)))

    fn.loop("0", "%m", rows, metadata=NO_UNROLL)
    fn.do("ret void")
    return fn.finish()
