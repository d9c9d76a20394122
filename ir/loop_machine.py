"""What ``evaluate_loops`` runs on: buffers of which it is known what was stored, and the machine
that holds the sizes, values and variables of one run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Block, Const, Function, Operand, Operation, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import IRError, OpError, ShapeError
from stepforge.ir.evaluate import Cell, Observe, State, as_value
from stepforge.ir.records import record
from stepforge.ir.text import print_operation
from stepforge.ir.types import Type, numpy_dtype, unify_numpy_shape

Array: TypeAlias = np.ndarray[Any, Any]
UNWRITTEN = 0xA5  # every byte of fresh memory
# What sizes that do not broadcast give: buffers may be made before the check that finds that out.
NO_SIZE = -1
Handler: TypeAlias = "Callable[[LoopMachine, Operation], Any]"


@record(frozen=True)
class LoopStep:
    """A function of the loop level and what belongs to it.

    Its last parameters are outputs, numbered by ``outputs`` among all ``results``; the other
    results are made while it runs. ``host`` are the operations that host calls stand for,
    ``arena`` the bytes that places lie in.
    """

    function: Function
    outputs: tuple[int, ...] = ()
    results: int = 0
    host: tuple[Operation, ...] = ()
    arena: Dim = 0


@record(frozen=True, slots=True)
class Buffer:
    """Row-major memory: its elements, which of them were stored, and its sizes.

    Sizes that do not fit the memory are an error of those who use it, not of a view that has them.
    """

    data: Array
    written: Array
    shape: tuple[int, ...]

    @property
    def array(self) -> Array:
        """The elements in their shape."""
        return self.data.reshape(self.shape)


def filled(array: Array) -> Buffer:
    """A buffer on the memory of a contiguous array, all of whose elements are there."""
    flat = array.reshape(-1)
    return Buffer(flat, np.ones(flat.size, bool), array.shape)


def fresh(dtype: str, shape: tuple[int, ...]) -> Buffer:
    """A buffer of its own, nothing of which was stored yet."""
    kind, size = numpy_dtype(dtype), count(shape)
    data = np.full(size * kind.itemsize, UNWRITTEN, np.uint8).view(kind)
    return Buffer(data, np.zeros(size, bool), shape)


def count(shape: Sequence[int]) -> int:
    """The elements of a shape; none where one of its sizes is ``NO_SIZE``."""
    return max(math.prod(shape), 0)


class LoopMachine:
    """One run: sizes, values (buffers, elements, indices; arrays of them in lanes) and state."""

    def __init__(
        self,
        step: LoopStep,
        state: State,
        handlers: Mapping[str, Handler],
        *,
        lanes: bool,
        observe: Observe | None,
    ) -> None:
        self.step = step
        self.handlers = handlers
        self.root = step.function
        self.state = state
        self.cells: dict[str, Cell] = {}
        for name, entry in self.root.globals.items():
            if entry.kind == "variable":
                value = state.get(name)
                known = None if value is None else np.array(as_value(entry.type, value), order="C")
                self.cells[name] = Cell(name, known)
        self.lanes = lanes
        self.observe = observe
        self.sizes: dict[str, int] = {}
        self.values: dict[Value, Any] = {}
        self.inside_lanes = False
        self.results: dict[int, Buffer] = {}
        self.arena = np.empty(0, np.uint8)

    def run(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        """The whole step."""
        params = self.root.params
        given = params[: len(params) - len(self.step.outputs)]
        arrays = [as_value(p.type, a) for p, a in zip(given, arguments, strict=True)]
        self._bind_sizes([(p.name, p.type, a) for p, a in zip(given, arrays, strict=True)])
        for param, array in zip(given, arrays, strict=True):
            self.values[param] = filled(np.ascontiguousarray(array).reshape(np.shape(array)))
        for number, param in zip(self.step.outputs, params[len(given) :], strict=True):
            self.results[number] = fresh(param.type.dtype, self.shape(param.type.dims))
            self.values[param] = self.results[number]
        (arena,) = self.shape((self.step.arena,))
        self.arena = np.full(count((arena,)), UNWRITTEN, np.uint8)
        with np.errstate(all="ignore"):
            self.block(self.root.body)
        return tuple([self._result(number) for number in range(self.step.results)])

    def _bind_sizes(self, entries: list[tuple[str, Type, Array]]) -> None:
        for name, cell in self.cells.items():
            if cell.value is not None:
                entries.append((name, self.root.globals[name].type, cell.value))
        for _ in range(2):  # a compound size is checked once all names are known
            for name, type_, value in entries:
                problem = unify_numpy_shape(type_, np.shape(value), self.sizes)
                if problem is not None:
                    raise ShapeError(f"'{name}' is no {type_}: {problem}")

    def _result(self, number: int) -> Array:
        buffer = self.results.get(number)
        if buffer is None or not buffer.written.all():
            raise IRError(f"result {number} was not stored in full")
        return buffer.array

    # ---- operations -----------------------------------------------------------------------------
    def block(self, block: Block) -> list[Any]:
        """Run a region; what its terminator is given."""
        for op in block.ops[:-1]:
            self.operation(op)
        return [self.value(o) for o in block.terminator.operands]

    def operation(self, op: Operation) -> None:
        """Run one operation."""
        handler = self.handlers.get(op.name)
        try:
            if handler is not None:
                returned = handler(self, op)
            elif op.defn.elementwise and op.defn.numpy is not None:
                elements = [self.value(o) for o in op.operands]
                returned = np.asarray(op.defn.numpy(*elements, **op.all_attrs))
                self._check_element(op, returned)
            else:
                raise IRError(f"{op.name} has no place among loops")
        except OpError as error:
            error.site = error.site or op.site
            raise
        if len(op.results) == 1 and returned is not None:
            self.values[op.result] = returned
        if self.observe is not None and isinstance(returned, np.ndarray):
            self.observe(op, (returned,))

    def _check_element(self, op: Operation, value: Array) -> None:
        if value.dtype != numpy_dtype(op.result.type.dtype):
            raise self.wrong(op, f"gave {value.dtype}")

    def wrong(self, op: Operation, problem: str) -> IRError:
        """The error of an operation that does what it must not."""
        site = f"\n  {op.site}" if op.site is not None else ""
        return IRError(f"{op.name} {problem}\n    {print_operation(op)}{site}")

    # ---- values ---------------------------------------------------------------------------------
    def value(self, operand: Operand) -> Any:
        """What an operand is here: a buffer, an element, an index."""
        if isinstance(operand, Value):
            return self.values[operand]
        if isinstance(operand, Const):
            if operand.type.dtype == "index":
                return int(operand.value.real)
            return np.asarray(operand.value, numpy_dtype(operand.type.dtype))
        raise IRError(f"@{operand.name} is no value")

    def size(self, size: Dim) -> int:
        """The number that a dimension expression stands for here."""
        try:
            return dims.evaluate(size, self.sizes)
        except KeyError as error:
            raise IRError(f"the size {error} is not bound") from None

    def shape(self, shape: Sequence[Dim]) -> tuple[int, ...]:
        """Dimension expressions as numbers, ``NO_SIZE`` for those that have no value."""
        sizes = []
        for size in shape:
            try:
                sizes.append(self.size(size))
            except ValueError:  # noqa: PERF203 - rare
                sizes.append(NO_SIZE)
        return tuple(sizes)

    def place_of(self, op: Operation, buffer: Buffer, indices: Sequence[Operand]) -> Any:
        """The flat position (in lanes: positions) of an element. Raises: IRError outside."""
        flat: Any = 0
        positions = [self.value(i) for i in indices]
        for axis, (index, size) in enumerate(zip(positions, buffer.shape, strict=False)):
            outside = (index < 0) | (index >= size)
            if outside if isinstance(outside, bool) else np.any(outside):
                raise self.wrong(op, f"takes index {index} of axis {axis}, which has size {size}")
            flat = flat * size + index
        behind = np.max(flat, initial=-1) + 1
        if behind * count(buffer.shape[len(indices) :]) > buffer.data.size:
            raise self.wrong(op, f"leaves a memory of {buffer.data.size} elements")
        return flat
