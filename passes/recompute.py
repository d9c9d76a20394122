"""Computes cheap values again where they are used, instead of keeping them in memory.

A value that several loops use is stored by one and loaded by the others. Where it is a little
arithmetic on a single array that was fed and values with fewer elements (x minus the mean of its
row), loading that array again costs as much as loading the value, and the value is never stored:
each user gets a copy, which fusion then takes in.

    %c = sub(%x, %m) : f32[n, 8]           %c = sub(%x, %m) : f32[n, 8]
    %s = square(%c) : f32[n, 8]            %s = square(%c) : f32[n, 8]
    %t = reduce_sum(%s, axes=[1])    ->    %t = reduce_sum(%s, axes=[1])
    %u = mul(%c, %t) : f32[n, 8]           %c_1 = sub(%x, %m) : f32[n, 8]
                                           %u = mul(%c_1, %t) : f32[n, 8]

Arrays that the step computes are left alone, as they may be updated in place or be the product that
a cheap value ends; and so are variables, whose old values would have to outlive an update.
"""

from __future__ import annotations

from collections.abc import Iterable

from stepforge.ir.builder import Builder
from stepforge.ir.core import Function, Operand, Operation, Value
from stepforge.ir.rewrite import with_operands
from stepforge.passes.cost import length
from stepforge.passes.fuse import is_map, is_reduction

MOST = 3  # operations on one array that are worth a load


def recompute(function: Function) -> Function:
    """``function`` with copies of cheap values; the same object where there are none."""
    return _Recompute(function).run()


class _Recompute:
    """Which values are copied, and the copies made for the user at hand."""

    def __init__(self, function: Function) -> None:
        self._function = function
        self._maker: dict[Operand, Operation] = {
            r: op for op in function.body.ops for r in op.results
        }
        self._cheap: dict[Operand, int] = {}  # the operations on what was fed
        self._copied: set[Operand] = set()
        self._builder = Builder()

    def run(self) -> Function:
        users = _users(self._function.body.ops)
        for op in self._function.body.ops:
            if is_map(op) and op.result.type.dims:
                self._weigh(op, users.get(op.result, []))
        if not self._copied:
            return self._function
        given: set[Operand] = set()  # the values that a user has in their first place
        for op in self._function.body.ops:
            wanted = [o for o in op.operands if o in self._copied]
            again = [o for o in dict.fromkeys(wanted) if o in given]
            given.update(wanted)
            copies = {o: self._copy(o) for o in again}
            operands = tuple(copies.get(o, o) for o in op.operands)
            self._builder.ops.append(with_operands(op, operands) if copies else op)
        body = self._builder.block(self._function.params)
        return Function(self._function.name, body, self._function.globals)

    def _weigh(self, op: Operation, users: list[Operation]) -> None:
        """Note whether the value of ``op`` is cheap, and to be copied."""
        whole = {o for o in op.operands if isinstance(o, Value) and not _smaller(o, op)}
        if len(whole) != 1 or length(op) != 1:
            return
        (source,) = whole
        if source not in self._cheap and source in self._maker:
            return
        steps = 1 + self._cheap.get(source, 0)
        if steps > MOST or any(self._is_read(operand) for operand in op.operands):
            return
        self._cheap[op.result] = steps
        dims = op.result.type.dims
        if len(users) > 1 and all(_takes_in(user, dims) for user in users):
            self._copied.add(op.result)

    def _is_read(self, operand: Operand) -> bool:
        return operand in self._maker and self._maker[operand].name == "read"

    def _copy(self, value: Operand) -> Operand:
        """``value`` computed once more, from the array behind it."""
        op = self._maker[value]
        operands = [self._copy(o) if o in self._cheap else o for o in op.operands]
        self._builder.site = op.site
        copy = self._builder.operation(op.defn, operands, op.attrs, names=(op.result.name,))
        self._builder.ops.append(copy)
        return copy.result


def _smaller(operand: Value, op: Operation) -> bool:
    """True for an operand that is repeated along some axis of the result."""
    return bool(operand.type.dims != op.result.type.dims)


def _takes_in(user: Operation, dims: tuple[object, ...]) -> bool:
    """True for an operation that fusion merges with what makes its operand."""
    if is_reduction(user):
        return bool(user.operands[0].type.dims == dims)
    return is_map(user) and bool(user.result.type.dims == dims)


def _users(ops: Iterable[Operation]) -> dict[Operand, list[Operation]]:
    users: dict[Operand, list[Operation]] = {}
    for op in ops:
        for inner in (op, *(o for region in op.regions for o in region.walk())):
            for operand in set(inner.operands):
                if isinstance(operand, Value):
                    users.setdefault(operand, []).append(op)
    return users
