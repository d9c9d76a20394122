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
from dataclasses import field

from stepforge.ir import dims, products
from stepforge.ir.analyses import bound_sizes, used_values
from stepforge.ir.core import Block, Function, Operand, Operation, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.records import record
from stepforge.ir.rewrite import with_body
from stepforge.passes.loop_accesses import SOURCES, Access, Roots
from stepforge.passes.merge_loops import BARRIERS, NEAREST
from stepforge.passes.parallelize import work_of

ROWS = products.ROWS  # of a block: a product packs its other matrix once for so many
NUMBER = "rows1"  # of a block; no size is called so, see ``size_name``, and equal nests stay equal
LONG = 512  # elements of a row from which on a block does not fit the first-level cache anyway


def block_products(function: Function) -> Function:
    """Let products and nests over the same rows take turns."""
    ops = function.body.ops
    if sum(op.name == "gemm" for op in ops) < 2:
        return function
    out = _Groups(ops[:-1]).written()
    return with_body(function, Block(function.params, (*out, ops[-1])))


@record(frozen=True)
class _Large:
    """A large temporary: what makes it, and the places of the operations that touch it."""

    maker: Operation
    places: Sequence[int]

    @property
    def first(self) -> int:
        """The place of the first of them."""
        return self.places[0]

    @property
    def last(self) -> int:
        """The place of the last of them."""
        return self.places[-1]


@record
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
        self.large = self._large()
        self.starts = {buffer.first: buffer for buffer in reversed(self.large.values())}
        self.gone: set[Operand] = set()

    def _large(self) -> dict[Operand, _Large]:
        """The large temporaries that pass between products and nests nearby, row by row."""
        users: dict[Operand, list[int]] = {}
        for place, op in enumerate(self.ops):
            for root in self.roots.touched(op).accesses:
                users.setdefault(root, []).append(place)
        viewed = {self.roots[op.result] for op in self.ops if op.name == "view"}
        found: dict[Operand, _Large] = {}
        for op in self.ops:
            if op.name != "alloc" or op.attr("combine") or op.result in viewed:
                continue
            shape, large = op.result.type.dims, _Large(op, users.get(op.result, [0]))
            if len(shape) == 2 and _long(shape[1]) and self._passes(large, shape[0]):
                found[op.result] = large
        return found

    def _passes(self, large: _Large, rows: Dim) -> bool:
        """Whether products and nests touch a temporary, all at the row of their turn, and soon."""
        users = [self.ops[place] for place in large.places]
        names = {op.name for op in users}
        return (
            large.last - large.first < NEAREST
            and {"gemm", "for"} <= names
            and all(
                _rows_of(op) == rows and self._shapes(op, large.maker.result) for op in users
            )
        )

    def written(self) -> list[Operation]:
        """The operations, with a loop in place of each group that is worth one."""
        place = 0
        while place < len(self.ops):
            group = self._group(place)
            inside = self._inside(group)
            if inside:
                self.k.ops += group.before
                self._loop(group.rows, group.members, inside)
                self.k.ops += group.behind
            else:
                self.k.ops += self.ops[place : place + max(len(group.ops), 1)]
            place += max(len(group.ops), 1)
        return [op for op in self.k.ops if not op.results or op.results[0] not in self.gone]

    # ---- finding --------------------------------------------------------------------------------
    def _group(self, place: int) -> _Group:
        """The group that begins at ``place``: up to the last use of the large temporaries that its
        members touch, and the products behind that which take what these leave in the caches.
        """
        begun = self.starts.get(place)
        group = _Group(begun.maker.result.type.dims[0] if begun is not None else 0)
        last = place if begun is not None else -1
        for index, op in enumerate(self.ops[place : place + NEAREST], place):
            if index > last and not self._follows(group, op):
                break
            if not self._added(group, op):
                break
            if group.members and group.members[-1] is op:
                near = self.large.keys() & self._touched(op)
                last = max([last, *(self.large[buffer].last for buffer in near)])
        return group

    def _follows(self, group: _Group, op: Operation) -> bool:
        if op.name in SOURCES:
            return bool(group.members)
        left = self._written(group.members)
        return op.name == "gemm" and _rows_of(op) == group.rows and op.operands[0] in left

    def _added(self, group: _Group, op: Operation) -> bool:
        """Let ``op`` be a part of a group, before its members or behind them, where it can be."""
        if op.name in SOURCES and not any(isinstance(o, Value) for o in op.operands):
            group.before.append(op)
            return True
        if not _movable(op):
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
        written = self._written(every)
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

    def _written(self, ops: Sequence[Operation]) -> set[Operand]:
        return set().union(*(self.roots.touched(op).written for op in ops))

    def _touched(self, op: Operation) -> set[Operand]:
        return set(self.roots.touched(op).accesses)

    def _inside(self, group: _Group) -> dict[Operand, Operation]:
        """The large temporaries that only members of a group use: of these a block is enough."""
        members = set(map(id, group.members))
        near = set().union(*(self._touched(op) for op in group.members)) & self.large.keys()
        return {
            buffer: self.large[buffer].maker
            for buffer in sorted(near, key=lambda buffer: self.large[buffer].first)
            if buffer.type.dims[0] == group.rows
            and all(id(self.ops[place]) in members for place in self.large[buffer].places)
        }

    # ---- writing --------------------------------------------------------------------------------
    def _loop(
        self, rows: Dim, members: Sequence[Operation], inside: dict[Operand, Operation]
    ) -> None:
        k = self.k
        low = ROWS * dims.named(NUMBER)
        whole = isinstance(rows, int) and rows % ROWS == 0
        count = ROWS if whole else dims.minimum(ROWS, rows - low)
        blocks = self._blocks(rows, members, inside)
        k.site = members[0].site
        with k.loop(dims.floor_div(rows + (ROWS - 1), ROWS), binds=NUMBER, name="b"):
            writer = _Turn(k, blocks, low, count)
            for op in members:
                k.site = op.site
                (writer.product if op.name == "gemm" else writer.nest)(op)

    def _blocks(
        self, rows: Dim, members: Sequence[Operation], inside: dict[Operand, Operation]
    ) -> dict[Operand, Operand]:
        """A block for each large temporary, or the one of another that is not needed any more."""
        self.gone |= inside.keys()
        blocks: dict[Operand, Operand] = {}
        last: dict[Operand, int] = {}  # the member that uses a block last
        for buffer, maker in inside.items():
            users = [i for i, op in enumerate(members) if buffer in self._touched(op)]
            shape = (dims.minimum(ROWS, rows), *buffer.type.dims[1:])
            wanted = buffer.type.with_shape(shape)
            free = [b for b, end in last.items() if end < users[0] and b.type == wanted]
            self.k.site = maker.site
            blocks[buffer] = free[0] if free else self.k.alloc(wanted.dtype, shape)
            last[blocks[buffer]] = users[-1]
        return blocks


@record
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


def _movable(op: Operation) -> bool:
    """True for what does nothing but read and write buffers."""
    outside = any(isinstance(operand, Symbol) for operand in op.operands)
    binds = op.name != "for" and bound_sizes(op)
    checks = any(each.defn.effect in BARRIERS for each in (op, *_inner(op)))
    return not (outside or binds or checks)


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

