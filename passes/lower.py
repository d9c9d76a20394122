"""From tensors to loops: each operation becomes nests over buffers, by its own rule.

``fused`` and ``reduce`` become coalesced nests whose innermost loop runs by lanes; an op with an
``element`` rule a nest of that rule; an op with a ``lower`` rule what the rule emits; everything
else a host call of the op's ``numpy`` rule. ``bufferize`` has said where results live and in which
order updates run.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.analyses import bound_sizes, checked_sizes
from stepforge.ir.core import Const, Function, Global, Operand, Operation, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ResourceExhaustedError
from stepforge.ir.loop_builder import LoopBuilder, buffer_type
from stepforge.ir.loop_machine import LoopStep
from stepforge.ir.ops.epilogue import WithEpilogue
from stepforge.ir.records import record
from stepforge.ir.types import COMPLEX, NUMERIC, Type, item_bytes, numpy_dtype
from stepforge.passes.bufferize import Homes, bufferize
from stepforge.passes.lower_cuts import CONSUMERS, Cut, cut_in_place
from stepforge.passes.lower_regions import lower_fused, lower_reduce, row_shapes

MOST_BYTES = 2**62  # of a tensor: what comes to more is counted wrongly


@record
class Lowered:
    """A function of the loop level and what its host calls stand for.

    The function's parameters are the feeds' buffers, then one output buffer for each result whose
    sizes are known at entry (``outputs`` numbers them); the other results are made while the step
    runs. ``bounds`` are the most that sizes can be which only values tell.
    """

    function: Function
    host_operations: tuple[Operation, ...]
    outputs: tuple[int, ...]
    results: int
    bounds: Mapping[str, Dim] = field(default_factory=dict)

    def step(self) -> LoopStep:
        """What the reference evaluator of loops runs."""
        return LoopStep(self.function, self.outputs, self.results, self.host_operations)


def lower(function: Function) -> Lowered:
    """Lower a tensor-level function of real, ranked values; see ``lowerable``.

    Raises: ResourceExhaustedError for a tensor whose bytes 63 bits cannot count.
    """
    _check_memory(function)
    return _Lowering(function).run()


def _check_memory(function: Function) -> None:
    for op in function.walk():
        shapes = [(r.type.dtype, r.type.dims) for r in op.results if not r.type.is_object]
        if op.name in ("fused", "reduce"):
            shapes.append(("i8", op.attr("shape")))
        for dtype, shape in shapes:
            size = dims.product(shape)
            if isinstance(size, int) and size > MOST_BYTES // item_bytes(dtype):
                message = f"OOM when allocating tensor with shape{list(shape)}"
                raise ResourceExhaustedError(None, None, message, site=op.site)


def lowerable(function: Function) -> bool:
    """True where all values are numbers of known rank, and no op has regions of its own."""
    values: list[Any] = [*function.params, *function.results]
    values += [o for op in function.walk() if op.defn.effect == "read" for o in op.operands]
    values += [o for op in function.walk() if op.defn.effect == "write" for o in op.operands[1:]]
    values += [r for op in function.walk() for r in op.results]
    if any(not isinstance(v.type, Type) or v.type.is_object for v in values):
        return False
    return all(
        not op.regions or op.name in ("fused", "reduce") or isinstance(op.defn, WithEpilogue)
        for op in function.walk()
    )


class _Builder(LoopBuilder):
    """A builder for rules that do not ask whether an operand is a constant."""

    def load(self, buffer: Operand, *indices: Operand) -> Operand:
        """An element of a buffer; a scalar constant stands for itself."""
        return buffer if isinstance(buffer, Const) else super().load(buffer, *indices)


@record
class _Lowering:
    function: Function
    k: LoopBuilder = field(default_factory=_Builder)
    buffers: dict[Operand, Operand] = field(default_factory=dict)
    slots: dict[Symbol, Operand] = field(default_factory=dict)
    fresh: dict[Symbol, Operand] = field(default_factory=dict)
    host: list[Operation] = field(default_factory=list)
    bounds: dict[str, Dim] = field(default_factory=dict)

    def run(self) -> Lowered:
        self.globals = dict(self.function.globals)
        homes = bufferize(self.function)
        self.cuts = cut_in_place(self.function, homes)
        self.rows = row_shapes(self.function.body.ops, self.cuts)
        names = checked_sizes(self.function)
        self.names = set(names)
        params = [Value(buffer_type(p.type), p.name) for p in self.function.params]
        self.buffers.update(zip(self.function.params, params, strict=True))
        outputs = {
            j: Value(buffer_type(operand.type), f"out_{j}")
            for j, operand in enumerate(self.function.results)
            if all(dims.names(size) <= names for size in operand.type.dims)
        }
        self.outputs: dict[int, Operand] = dict(outputs)
        for op in homes.ops:
            self._operation(op, homes)
        self._copy_results(homes)
        self._copy_to_slots(homes)  # before updates in place: variables may swap their values
        for op in homes.updates:
            self._operation(op, homes)
        self._copy_to_slots(homes)
        self._commit(homes)
        self.k.site = None
        self.k.emit("return")
        lowered = self.k.function(
            self.function.name, [*params, *outputs.values()], self.globals
        )
        count = len(self.function.results)
        return Lowered(lowered, tuple(self.host), tuple(outputs), count, self.bounds)

    # ---- operations -----------------------------------------------------------------------------
    def _operation(self, op: Operation, homes: Homes) -> None:
        self.k.site = op.site
        self.names.update(bound_sizes(op))
        if op.name in ("write", "assume") or any(r in self.cuts for r in op.results):
            return
        if op.name in ("reshape", "refine"):
            self._alias(op)
            return
        if op.name == "read":
            self.buffers[op.result] = self._slot(op.operands[0])
            return
        if bound_sizes(op):
            self._binding(op)
            return
        if not has_loops(op):
            self._host_call(op, [self._home(r, homes) for r in op.results])
            return
        if op.name in CONSUMERS:
            self._region(op, homes)
            return
        operands = [self.buffer(operand) for operand in op.operands]
        results = [self._home(r, homes) for r in op.results]
        if op.regions:
            _epilogue(self.k, op, operands, results[0])
        elif op.defn.lower is not None:
            op.defn.lower(self.k, *results, *operands, **op.all_attrs)
        else:
            self._elements(op, operands, results[0])

    def _region(self, op: Operation, homes: Homes) -> None:
        taken = [self._taken(operand) for operand in op.operands]
        results = [self._home(r, homes) for r in op.results]
        if op.name == "fused":
            lower_fused(self.k, op, taken, results, self.rows)
        else:
            lower_reduce(self.k, op, taken, results[0])

    def _elements(self, op: Operation, operands: Sequence[Operand], out: Operand) -> None:
        rule = op.defn.element
        assert rule is not None
        with self.k.nest(out.type.dims) as at:
            value = rule(self.k, at, *operands, **op.all_attrs)
            self.k.store(value, out, *at)

    def _alias(self, op: Operation) -> None:
        source = self._source(op.operands[0])
        if op.name == "refine":
            self._check_shape(op)
        if isinstance(source, Const):
            target = self.k.alloc(source.type.dtype, op.result.type.dims)
            self.k.copy(source, target)
            source = target
        self.buffers[op.result] = self.k.view(source, op.result.type.dims)

    def _check_shape(self, op: Operation) -> None:
        """What ``refine`` says of a shape: names that it mentions first are bound, others hold."""
        have, want = op.operands[0].type.dims, op.result.type.dims
        for size, wish in zip(have, want, strict=True):
            name = dims.as_name(wish)
            if name is not None and name not in self.names:
                self.k.emit("bind_size", self.k.number(size), binds=name)
                self.names.add(name)
        differ = [(size, wish) for size, wish in zip(have, want, strict=True) if size != wish]
        if differ:
            tests = [self.k.emit("not_equal", *map(self.k.number, pair)) for pair in differ]
            wrong = functools.reduce(lambda a, b: self.k.emit("logical_or", a, b), tests)
            shape = f"[{','.join('{}' for _ in have)}]"
            message = f"a value of shape {shape} cannot have shape {shape}"
            values = map(self.k.number, (*have, *want))
            self.k.emit("fail_if", wrong, *values, message=message)

    def _binding(self, op: Operation) -> None:
        """An op that gives a name to a size which only its values tell."""
        if op.name == "dim":
            position = op.attr("index")
            source = self.buffer(op.operands[0])
            at = () if position is None else (Const(Type("index"), position),)
            value = source if isinstance(source, Const) else self.k.load(source, *at)
            number = self.k.emit("cast", value, dtype="i64")
            negative = self.k.emit("less", number, Const(number.type, 0))
            self.k.emit("fail_if", negative, number, message="Dimension {} must be >= 0")
            self.k.emit("bind_size", value, binds=op.attr("binds"))
            return
        if has_loops(op):
            self._found(op)
        else:
            self._host_call(op, [])

    def _found(self, op: Operation) -> None:
        """Results into memory for the most that there can be, and then their part of it."""
        assert op.defn.lower is not None
        name, capacity = op.attr("binds"), capacity_of(op)
        assert capacity is not None
        operands = [self.buffer(operand) for operand in op.operands]
        count = self.k.alloc("i64", ())
        found = []
        for result in op.results:
            shape = [dims.substitute(size, {name: capacity}) for size in result.type.dims]
            found.append(self.k.alloc(result.type.dtype, shape))
        op.defn.lower(self.k, count, *found, *operands, **op.all_attrs)
        self.k.emit("bind_size", self.k.load(count), binds=name)
        self.bounds[name] = capacity
        for result, large in zip(op.results, found, strict=True):
            self.buffers[result] = self.k.view(large, result.type.dims)

    def _host_call(self, op: Operation, results: Sequence[Operand]) -> None:
        """Constants and symbols are known to the host; it is handed the other operands."""
        arguments = [self.buffer(o) for o in op.operands if isinstance(o, Value)]
        types = () if results else tuple(r.type for r in op.results)
        binds = (op.attr("binds"),) if types else ()
        made = self.k.emit(
            "host_call",
            *arguments,
            *results,
            operation=len(self.host),
            outputs=len(results),
            sizes=sizes_of(op),
            result_types=types,
            binds=binds,
        )
        self.host.append(op)
        if types:
            made = made if isinstance(made, tuple) else (made,)
            self.buffers.update(zip(op.results, made, strict=True))

    def _taken(self, operand: Operand) -> Operand | Cut:
        """What an elementwise operation or a reduction loads an operand's elements from."""
        if operand not in self.cuts:
            return self.buffer(operand)
        cut = self.cuts[operand]
        return Cut.of(cut, self.buffer(cut.operands[0]))

    # ---- buffers --------------------------------------------------------------------------------
    def buffer(self, operand: Operand) -> Operand:
        """The buffer of a tensor; a scalar constant stands for itself."""
        if operand in self.buffers:
            return self.buffers[operand]
        if isinstance(operand, Symbol):
            declared = self.function.globals[operand.name]
            if declared.kind != "constant":
                return operand
            self.buffers[operand] = self.k.emit("constant", operand)
            return self.buffers[operand]
        return operand

    def _source(self, operand: Operand) -> Operand:
        """What a copy of ``operand`` reads;

        loops cannot hold a complex constant, so it has memory.
        """
        if not isinstance(operand, Const) or operand.type.dtype not in COMPLEX:
            return self.buffer(operand)
        name = f"complex_{len(self.globals)}"
        data = np.asarray(operand.value, numpy_dtype(operand.type.dtype))
        self.globals[name] = Global("constant", operand.type, data)
        made: Operand = self.k.emit("constant", Symbol(name, operand.type))
        return made

    def _slot(self, symbol: Any) -> Operand:
        if symbol not in self.slots:
            self.slots[symbol] = self.k.emit("slot", symbol)
        return self.slots[symbol]

    def _home(self, value: Value, homes: Homes) -> Operand:
        shape = value.type.dims
        if value in homes.results:
            index = homes.results[value]
            home = self._output(index)
            self.buffers[value] = self.k.view(home, shape)
        elif value in homes.in_place:
            self.buffers[value] = self._slot(homes.in_place[value])
        elif value in homes.fresh:
            symbol = homes.fresh[value]
            self.fresh[symbol] = self.k.emit("new_slot", symbol, shape=shape)
            self.buffers[value] = self.fresh[symbol]
        else:
            self.buffers[value] = self.k.alloc(value.type.dtype, shape)
        return self.buffers[value]

    def _output(self, index: int) -> Operand:
        if index not in self.outputs:
            type_ = self.function.results[index].type
            self.outputs[index] = self.k.emit(
                "new_result", result=index, shape=type_.dims, dtype=type_.dtype
            )
        return self.outputs[index]

    # ---- the end of the step --------------------------------------------------------------------
    def _copy_results(self, homes: Homes) -> None:
        self.k.site = None
        built = {index for index in homes.results.values()}
        pending = {index for root, index in homes.results.items() if root not in self.buffers}
        for index, operand in enumerate(self.function.results):
            if index in built and index not in pending:
                continue
            if index in pending:
                continue  # an update builds it
            self.k.copy(self._source(operand), self._output(index))

    def _copy_to_slots(self, homes: Homes) -> None:
        """Give every variable that changes and was not built in place its next buffer, as far as
        the values are there.
        """
        for op in self._swaps(homes):
            symbol, operand = op.operands
            assert isinstance(symbol, Symbol)
            ready = not isinstance(operand, Value) or operand in self.buffers
            if symbol not in self.fresh and ready:
                self.k.site = op.site
                target = self.k.emit("new_slot", symbol, shape=operand.type.dims)
                self.k.copy(self._source(operand), target)
                self.fresh[symbol] = target

    def _commit(self, homes: Homes) -> None:
        for op in self._swaps(homes):
            self.k.site = op.site
            symbol, operand = op.operands
            made = self.k.view(self.fresh[symbol], operand.type.dims)  # type: ignore[index]
            self.k.emit("commit", symbol, made)

    def _swaps(self, homes: Homes) -> list[Operation]:
        """The writes that put another buffer into their variable."""
        kept = set(homes.in_place.values())
        ops = self.function.body.ops
        return [op for op in ops if op.name == "write" and op.operands[0] not in kept]


def _epilogue(
    k: LoopBuilder, op: Operation, operands: Sequence[Operand], result: Operand
) -> None:
    assert isinstance(op.defn, WithEpilogue)
    x, y, *taken = operands
    op.defn.lower_epilogue(k, result, (x, y), taken, op.regions[0], **op.all_attrs)


def has_loops(op: Operation) -> bool:
    """True where the loop level can compute ``op``: a rule, and types that loops know."""
    if op.name in ("fused", "reduce"):
        return True
    if op.defn.lower is None and op.defn.element is None:
        return False
    operands = op.operands[1:] if op.defn.effect == "random" else op.operands  # but the stream
    types = [v.type for v in (*operands, *op.results)]
    return all(t.dtype in NUMERIC and t.dtype not in COMPLEX for t in types)


def capacity_of(op: Operation) -> Dim | None:
    """The most that the size can be which ``op`` binds; None where nothing tells."""
    rule = op.defn.capacity
    return None if rule is None else rule(*(o.type for o in op.operands))


def _names_of(op: Operation) -> set[str]:
    """Every size name that a host call of ``op`` needs: in its types and its attributes."""
    found: set[str] = set()
    bound = op.attr("binds") if "binds" in op.defn.defaults else None
    for value in (*op.operands, *op.results):
        for size in value.type.dims:
            found |= dims.names(size)
    for attribute in op.attrs.values():
        for size in attribute if isinstance(attribute, tuple) else (attribute,):
            found |= dims.names(size) if isinstance(size, dims.Expr) else set()
    return found - {bound}


def sizes_of(op: Operation) -> tuple[Dim, ...]:
    """The sizes that a host call of ``op`` is handed, in order."""
    return tuple(dims.named(n) for n in sorted(_names_of(op)))
