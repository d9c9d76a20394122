"""Products and the nests between them, done for a block of rows at a time.

The scores of attention, ``softmax(x @ y) @ z``, are large, and nobody needs them but the nest and
the product that follow row by row. So all three run for some rows before they go on to the next:

    gemm(%x, %y, %t)                        for(high=ceil(n / 256), binds="rows1") |%b| {
    for(high=n) |%i| { ... %t[%i, %j] ... }   %x1 = rows(%x, low=256*rows1, ...)
    gemm(%t, %z, %out)                  ->    gemm(%x1, %y, %t1)
                                              for(high=...) |%i| { ... %t1[%i, %j] ... }
                                              gemm(%t1, %z, %out1)
                                            }

and of each such buffer there is one block. Gradients are the same, but for what sums over the rows,
which comes behind. The products of a block are done by tiles, as those of all rows would be.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from stepforge.ir import dims, products
from stepforge.ir.analyses import used_values
from stepforge.ir.core import Block, Function, Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.rewrite import with_body
from stepforge.passes.loop_accesses import SOURCES, Access, Roots
from stepforge.passes.merge_loops import BARRIERS
from stepforge.passes.parallelize import work_of

ROWS = products.ROWS  # of a block: a product packs its other matrix once for so many
LONG = 512  # elements of a row from which on a block does not fit the first-level cache anyway


def block_products(function: Function) -> Function:
    """Let products and nests over the same rows take turns."""
    ops = function.body.ops
    if sum(op.name == "gemm" for op in ops) < 2:
        return function
    out = _Groups(ops[:-1]).written()
    return with_body(function, Block(function.params, (*out, ops[-1])))


@dataclass
class _Group:
    """Operations over ``rows`` that may take turns, and what may stand before and behind them."""

    rows: Dim
    before: list[Operation] = field(default_factory=list)
    members: list[Operation] = field(default_factory=list)
    behind: list[Operation] = field(default_factory=list)

    @property
    def ops(self) -> list[Operation]:
        """All of them, in an order that does the same as their first one."""
        return [*self.before, *self.members, *self.behind]


class _Groups:
    """Finds the groups among the operations of a function, and writes each as a loop."""

    def __init__(self, ops: Sequence[Operation]) -> None:
        self.ops = ops
        self.roots = Roots(ops)
        self.k = LoopBuilder()
        self.names = 0
        self.users: dict[Operand, list[Operation]] = {}
        for op in ops:
            for root in self.roots.touched(op).accesses:
                self.users.setdefault(root, []).append(op)
        self.viewed = {self.roots[op.result] for op in ops if op.name == "view"}

    def written(self) -> list[Operation]:
        """The operations, with a loop in place of each group that is worth one."""
        for group in self._groups():
            if isinstance(group, Operation):
                self.k.ops.append(group)
                continue
            inside = self._inside(group)
            if not _pays(group.members, inside):
                self.k.ops += group.ops
                continue
            early, turns, late = self._parted(group.members, set(inside))
            self.k.ops += [*group.before, *early]
            self._loop(group.rows, turns, inside)
            self.k.ops += [*late, *group.behind]
        return self.k.ops

    def _parted(
        self, members: Sequence[Operation], near: set[Operand]
    ) -> tuple[list[Operation], list[Operation], list[Operation]]:
        """Members before those that have something to do with buffers that are still ``near`` when
        they come: these themselves, which add what they write to them; and those behind.
        """
        early: list[Operation] = []
        turns: list[Operation] = []
        last = 0
        for op in members:
            if not near.isdisjoint(self._touched(op)):
                near = near | self.roots.touched(op).written
                turns.append(op)
                last = len(turns)
            else:
                (turns if turns else early).append(op)
        return early, turns[:last], turns[last:]

    # ---- finding --------------------------------------------------------------------------------
    def _groups(self) -> Iterator[_Group | Operation]:
        group: _Group | None = None
        for op in self.ops:
            if group is not None and self._added(group, op):
                continue
            if group is not None:
                yield group
            rows = _rows_of(op)
            group = None if rows is None else _Group(rows, members=[op])
            if group is None or not self._apart(op, []):
                group = None
                yield op
        if group is not None:
            yield group

    def _added(self, group: _Group, op: Operation) -> bool:
        """Let ``op`` be a part of a group, before its members or behind them, where it can be."""
        if op.name in SOURCES and not op.operands:
            group.before.append(op)
            return True
        if any(each.defn.effect in BARRIERS for each in (op, *_inner(op))):
            return False
        late = self._depends(op, group.behind)
        if not late and _rows_of(op) == group.rows and self._apart(op, group.members):
            group.members.append(op)
        elif not late and not self._depends(op, group.members):
            group.before.append(op)
        else:
            group.behind.append(op)
        return True

    def _depends(self, op: Operation, earlier: Sequence[Operation]) -> bool:
        """Whether ``op`` has to stay behind ``earlier``."""
        touched, used = self.roots.touched(op), used_values(op)
        return any(
            not set(used).isdisjoint(each.results) or touched.conflicts(self.roots.touched(each))
            for each in earlier
        )

    def _apart(self, op: Operation, members: Sequence[Operation]) -> bool:
        """Whether operations touch what one of them writes at the row of their turn only."""
        every = [*members, op]
        if not set(used_values(op)).isdisjoint(r for each in members for r in each.results):
            return False
        written = set().union(*(self.roots.touched(each).written for each in every))
        scratch = {each.operands[3] for each in every if each.name == "gemm"}
        shapes: dict[Operand, set[object]] = {}
        for each in every:
            for root in written & self._touched(each) - scratch:
                found = self._shapes(each, root)
                if not found:
                    return False
                shapes.setdefault(root, set()).update(found)
        return all(len(found) == 1 for found in shapes.values())

    def _shapes(self, op: Operation, root: Operand) -> set[object]:
        """The shapes of a buffer of which ``op`` touches the row of its turn; none if others too.
        """
        if op.name == "gemm":
            ours = [o for o in op.operands if self.roots[o] is root]
            by_rows = [o for i, o in enumerate(op.operands) if _by_rows(op, i)]
            alike = all(any(o is each for each in by_rows) for o in ours)
            return {o.type.shape for o in ours} if alike and op.operands[1] not in ours else set()
        accesses = self.roots.touched(op).accesses[root]
        counter = op.regions[0].params[0]
        return (
            {a.buffer.type.shape for a in accesses}
            if all(_at(a, counter) for a in accesses)
            else set()
        )

    def _touched(self, op: Operation) -> set[Operand]:
        return set(self.roots.touched(op).accesses)

    def _inside(self, group: _Group) -> dict[Operand, Operation]:
        """The large temporaries that only members of a group use: of these a block is enough."""
        found: dict[Operand, Operation] = {}
        for op in self.ops:
            if op.name != "alloc" or op.attr("combine") or op.result in self.viewed:
                continue
            users, shape = self.users.get(op.result, []), op.result.type.dims
            if len(shape) != 2 or shape[0] != group.rows or not _long(shape[1]):
                continue
            if users and all(any(user is each for each in group.members) for user in users):
                found[op.result] = op
        return found

    # ---- writing --------------------------------------------------------------------------------
    def _loop(
        self, rows: Dim, members: Sequence[Operation], inside: dict[Operand, Operation]
    ) -> None:
        k = self.k
        self.names += 1
        name = f"rows{self.names}"  # which no size is called, see ``size_name``
        low = ROWS * dims.named(name)
        whole = isinstance(rows, int) and rows % ROWS == 0
        count = ROWS if whole else dims.minimum(ROWS, rows - low)
        k.ops = [op for op in k.ops if not op.results or op.results[0] not in inside]
        blocks: dict[Operand, Operand] = {}
        for buffer, maker in inside.items():
            k.site = maker.site
            shape = (dims.minimum(ROWS, rows), *buffer.type.dims[1:])
            blocks[buffer] = k.alloc(buffer.type.dtype, shape)
        k.site = members[0].site
        with k.loop(dims.floor_div(rows + (ROWS - 1), ROWS), binds=name, name="b"):
            writer = _Turn(k, blocks, low, count)
            for op in members:
                k.site = op.site
                (writer.product if op.name == "gemm" else writer.nest)(op)


@dataclass
class _Turn:
    """Writes what is done for the rows from ``low`` on, ``count`` of them."""

    k: LoopBuilder
    blocks: dict[Operand, Operand]
    low: Dim
    count: Dim

    def product(self, op: Operation) -> None:
        """A product, of these rows of the matrix on its left."""
        operands = [
            self._rows(operand) if _by_rows(op, index) else operand
            for index, operand in enumerate(op.operands)
        ]
        made = Operation(op.defn, tuple(operands), op.attrs, (), op.regions, op.site)
        self.k.ops.append(made)

    def _rows(self, buffer: Operand) -> Operand:
        block = self.blocks.get(buffer)
        source, low = (buffer, self.low) if block is None else (block, 0)
        made: Operand = self.k.emit("rows", source, low=low, count=self.count)
        return made

    def nest(self, op: Operation) -> None:
        """A nest, of these rows; in blocks they are counted from 0."""
        region = op.regions[0]
        counter, *_ = region.params
        own = Value(counter.type, counter.name)
        with self.k.nested() as ops:
            row = self.k.index((own, 1), offset=self.low)
            inside = [self._moved(inner, counter, own, row) for inner in region.ops]
            if not any(row is value for inner in inside for value in used_values(inner)):
                ops.clear()
            ops += inside
        attrs = {**op.attrs, "high": self.count}
        block = Block((own,), tuple(ops))
        made = Operation(op.defn, (), attrs, (), (block,), op.site)
        attrs = {**attrs, "work": work_of(made)}
        self.k.ops.append(Operation(op.defn, (), attrs, (), (block,), op.site))

    def _moved(self, op: Operation, counter: Value, own: Value, row: Operand) -> Operation:
        operands = list(op.operands)
        for index, operand in enumerate(op.operands):
            if operand in self.blocks:
                operands[index : index + 2] = [self.blocks[operand], own]
        operands = [row if operand is counter else operand for operand in operands]
        regions = tuple(
            Block(r.params, tuple([self._moved(o, counter, own, row) for o in r.ops]))
            for r in op.regions
        )
        return Operation(op.defn, tuple(operands), op.attrs, op.results, regions, op.site)


def _inner(op: Operation) -> Iterator[Operation]:
    for region in op.regions:
        yield from region.walk()


def _rows_of(op: Operation) -> Dim | None:
    """How many rows an operation goes through whose turns may come block by block."""
    if op.name == "gemm":
        if op.attr("transpose_a") or not _by_tiles(op):
            return None
        rows: Dim = op.operands[2].type.dims[0]
    elif op.name == "for" and op.attr("parallel") and not op.attr("simd"):
        simple = op.attr("low") == 0 and op.attr("step") == 1 and not op.attr("binds")
        if not simple or any(each.name in ("gemm", "subview") for each in _inner(op)):
            return None
        rows = op.attr("high")
    else:
        return None
    return None if isinstance(rows, int) and rows <= ROWS else rows


def _by_tiles(op: Operation) -> bool:
    """True for a product that a library never does, however many rows it has."""
    sizes = (op.operands[2].type.dims[1], op.operands[0].type.dims[1])
    return any(isinstance(n, int) and n < products.LIBRARY_FROM for n in sizes)


def _by_rows(op: Operation, index: int) -> bool:
    """Whether a product's operand has the rows of the product."""
    if index in (0, 2):
        return True
    return index > 3 and op.operands[index].type.dims[0] == op.operands[2].type.dims[0]


def _at(access: Access, counter: Operand) -> bool:
    return bool(access.indices) and access.indices[0] is counter  # type: ignore[index]


def _long(row: Dim) -> bool:
    return not isinstance(row, int) or row >= LONG


def _pays(members: Sequence[Operation], inside: dict[Operand, Operation]) -> bool:
    """Whether some large temporary passes between a product and a nest."""
    for buffer in inside:
        users = {op.name for op in members if any(buffer is value for value in used_values(op))}
        if {"gemm", "for"} <= users:
            return True
    return False
