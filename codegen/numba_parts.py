"""A long kernel in parts: functions of some hundred operations each, because numba's passes take
time that grows faster than the function.

A part makes the arrays that it uses from the same addresses as every other part. What else goes
from one part to a later one, an element, the address of memory that was taken, a size, is kept in
*cells*, a block of words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from stepforge.codegen.numba_calls import sizes_of
from stepforge.codegen.numba_loops import Array, LoopText
from stepforge.codegen.numba_scalars import LIBRARY, Term
from stepforge.codegen.numba_source import Source
from stepforge.ir.analyses import bound_sizes, used_values
from stepforge.ir.core import Operand, Operation, Value
from stepforge.ir.records import record

LONGEST = 250  # operations that one function has
PART = 120  # operations of a part, about
# Operations that lead to memory which every part can find again.
ROOTED = ("view", "place", "slot", "constant")


@record(frozen=True)
class _Recipe:
    """How a function finds a buffer: the expression of its address, and the sizes in that."""

    address: Callable[[], str]
    sizes: frozenset[str]


def parts_of(ops: Sequence[Operation]) -> list[list[Operation]]:
    """The operations in runs that are parts; one run where they are few."""
    weights = [1 + sum(1 for region in op.regions for _ in region.walk()) for op in ops]
    if sum(weights) <= LONGEST:
        return [list(ops)]
    parts: list[list[Operation]] = [[]]
    room = PART
    for op, weight in zip(ops, weights, strict=True):
        if room <= 0:
            parts.append([])
            room = PART
        parts[-1].append(op)
        room -= weight
    return parts


def kept_between(parts: Sequence[Sequence[Operation]]) -> dict[Value | str, int]:
    """What a part makes and a later one uses, values and names of sizes: the cell of each."""
    base: dict[Operand, Operand] = {
        op.result: op.operands[0] for part in parts for op in part if op.name == "view"
    }
    made: dict[Operand | str, int] = {}
    cells: dict[Value | str, int] = {}
    for number, part in enumerate(parts):
        for op in part:
            values = list(used_values(op))
            free = [_root(value, base) for value in values]
            for used in (*free, *sorted(sizes_of(op, [*free, *values]))):
                if made.get(used, number) < number and isinstance(used, (Value, str)):
                    cells.setdefault(used, len(cells))
            if op.name not in ROOTED:
                made.update(dict.fromkeys((*op.results, *bound_sizes(op)), number))
    return cells


def _root(value: Operand, base: Mapping[Operand, Operand]) -> Operand:
    while value in base:
        value = base[value]
    return value


class PartText(LoopText):
    """Knows what is at hand in the function that is being written, and brings what is not."""

    def __init__(
        self,
        source: Source,
        used: Mapping[Operand, int],
        cells: Mapping[Value | str, int],
        sizes: Sequence[str],
    ) -> None:
        super().__init__(source, used)
        self.cells = cells
        self._entry_sizes = {size: index for index, size in enumerate(sizes)}
        self._arrays: dict[Operand, _Recipe] = {}
        self._names: dict[Value | str, str] = {}

    def library(self, name: str) -> str:
        """A function of ``numba_library``."""
        return self.source.use(LIBRARY, name)

    def begin(self) -> None:
        """A function begins: nothing is at hand."""
        self.values.clear()
        self.sizes.clear()

    def offer(
        self, value: Value, hint: str, address: Callable[[], str], sizes: Iterable[str] = ()
    ) -> None:
        """Any function can find the memory of a buffer: ``address()`` writes the expression.

        It needs ``sizes`` at hand.
        """
        self._arrays[value] = _Recipe(address, frozenset(sizes) | sizes_of(None, [value]))
        if value not in self._names:
            self._names[value] = self.source.name(hint)

    def name_of(self, value: Value) -> str:
        """What the array of a buffer is called, wherever it is made."""
        made = self.values.get(value)
        return made.name if isinstance(made, Array) else self._names[value]

    # ---- bringing -------------------------------------------------------------------------------
    def bring(self, op: Operation) -> None:
        """Have at hand what ``op`` uses."""
        free = list(used_values(op))
        self.bring_sizes(sizes_of(op, free))
        for value in free:
            self.bring_value(value)

    def bring_value(self, value: Value) -> None:
        """Have a value at hand: make its array, or take it from its cell."""
        if value in self.values:
            return
        if value in self._arrays:
            recipe = self._arrays[value]
            self.bring_sizes(recipe.sizes)
            self.values[value] = self.array(self._names[value], recipe.address(), value.type)
        elif value in self.cells:
            self.values[value] = self._from_cell(value, self.cells[value])

    def _from_cell(self, value: Value, cell: int) -> Array | Term:
        name = self._names[value]
        if value.type.buffer:
            self.bring_sizes(sizes_of(None, [value]))
            return self.array(name, f"{self.library('pointer')}(cells, {cell})", value.type)
        self.source.line(f"{name} = {self._cell(cell, value.type.dtype)}")
        return Term(value.type.dtype, name)

    def _cell(self, cell: int, dtype: str) -> str:
        """The element in a cell, to be read or assigned to."""
        element = self.source.use("numba", self.element_type("i64" if dtype == "index" else dtype))
        carray = self.source.use("numba", "carray")
        return f"{carray}({self.at(f'cells + {8 * cell}')}, (1,), {element})[0]"

    def bring_sizes(self, sizes: Iterable[str]) -> None:
        """Have the values of sizes at hand."""
        for size in sorted(set(sizes) - self.sizes.keys()):
            if size in self._entry_sizes:
                text = f"{self.library('word')}(sizes, {self._entry_sizes[size]})"
            elif size in self.cells:
                text = f"{self.library('word')}(cells, {self.cells[size]})"
            else:
                continue  # a counter of a loop inside
            if size not in self._names:
                self._names[size] = self.source.name(size)
            self.source.line(f"{self._names[size]} = {text}")
            self.sizes[size] = Term("i64", self._names[size])

    # ---- keeping --------------------------------------------------------------------------------
    def keep(self, op: Operation) -> None:
        """Put into cells what later parts use of ``op``."""
        for result in op.results:
            if result in self.cells:
                self._to_cell(result, self.cells[result])
        for size in bound_sizes(op):
            if size in self.cells:
                self._names[size] = self.sizes[size].form
                self.source.line(f"{self.library('put')}(cells, {self.cells[size]}, "
                                 f"{self._names[size]})")

    def _to_cell(self, value: Value, cell: int) -> None:
        kept = self.values[value]
        if isinstance(kept, Array):
            self._names[value] = kept.name
            address = f"{kept.name}.ctypes.data"
            self.source.line(f"{self.library('put')}(cells, {cell}, {address})")
            return
        self._names[value] = kept.form if kept.form.isidentifier() else self.source.name("kept")
        text = self.source.expression(kept)
        self.source.line(f"{self._cell(cell, value.type.dtype)} = {text}")
