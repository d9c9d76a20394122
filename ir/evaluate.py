"""The meaning of a function, executed with NumPy: what every pass and back end is compared with.

Operations run in order by their ``numpy`` rule, with all attributes, dimension expressions in them
replaced by their present values. A declaration with regions gives a rule ``evaluate(op, run,
*operands)`` instead, where ``run(region, *arguments)`` runs a region and returns what it yields;
with ``space=shape`` the scalars of the region are arrays of that shape, every element at once.

A symbol reaches a rule as the data of a constant, the ``Cell`` of a variable, or what the caller
keeps as the state of a random stream.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.analyses import bound_sizes, refined_sizes
from stepforge.ir.core import Block, Const, Function, Operand, Operation, Value
from stepforge.ir.dims import Expr
from stepforge.ir.errors import IRError, OpError, ShapeError
from stepforge.ir.records import record
from stepforge.ir.text import print_operation
from stepforge.ir.types import AnyType, ListType, Type, numpy_dtype, unify_numpy_shape

State = MutableMapping[str, Any]
Observe = Callable[[Operation, tuple[Any, ...]], None]


@record
class Cell:
    """A variable while it is evaluated; ``value`` is None where it is not initialised."""

    name: str
    value: Any = None


def evaluate(
    function: Function,
    arguments: Sequence[Any],
    state: State | None = None,
    *,
    observe: Observe | None = None,
) -> tuple[Any, ...]:
    """The results of ``function``, as arrays (of rank 0 for scalars).

    ``arguments`` are array-likes in the order of the parameters; ``state`` maps the names of
    variables to their values (missing or None: not initialised) and of random streams to their
    states, and is changed by writes unless the function fails. ``observe`` is called after each
    operation with its results.

    Raises: ShapeError or TypeError for arguments that do not fit, OpError as the operations do,
    IRError where a rule is missing or gives another type than the operation says.
    """
    machine = _Machine(function, {} if state is None else state, observe)
    results = machine.function(arguments)
    if state is not None:
        state.update({name: cell.value for name, cell in machine.cells.items()})
    return results


def as_value(type_: AnyType, value: Any) -> Any:
    """``value`` as a value of ``type_``: an array of its dtype, or an object as it is.

    Raises: TypeError where NumPy cannot convert it safely.
    """
    if isinstance(type_, ListType) or type_.dtype == "resource":
        return value
    dtype = numpy_dtype(type_.dtype)
    array = np.asarray(value, dtype if type(value) in (bool, int, bytes) else None)
    if array.dtype == dtype:
        return array
    return array.astype(dtype, casting="same_kind" if array.size else "unsafe")


class _Machine:
    """One evaluation: the values, the state, and the sizes that are known at this point."""

    def __init__(self, function: Function, state: State, observe: Observe | None) -> None:
        self.root = function
        self.state = state
        self.cells = {
            name: Cell(name, state.get(name))
            for name, entry in function.globals.items()
            if entry.kind == "variable"
        }
        self.observe = observe
        self.values: dict[Value, Any] = {}
        self.sizes: dict[str, int] = {}
        self.space: tuple[int, ...] = ()  # the shape of what stands for a scalar

    def function(self, arguments: Sequence[Any]) -> tuple[Any, ...]:
        params = self.root.params
        if len(params) != len(arguments):
            raise TypeError(
                f"@{self.root.name} takes {len(params)} arguments, not {len(arguments)}"
            )
        entries = [
            (p.name, p.type, as_value(p.type, a)) for p, a in zip(params, arguments, strict=True)
        ]
        for name, cell in self.cells.items():
            if cell.value is not None:
                type_ = self.root.globals[name].type
                cell.value = as_value(type_, cell.value)
                entries.append((name, type_, cell.value))
        for _ in range(2):  # a compound size is checked once all names are known
            for name, type_, value in entries:
                self._bind(type_, value, f"'{name}'")
        with np.errstate(all="ignore"):
            return self._run(
                self.root.body, tuple([value for _, _, value in entries[: len(params)]])
            )

    def region(
        self, block: Block, *arguments: Any, space: tuple[int, ...] = ()
    ) -> tuple[Any, ...]:
        """Run a region; the sizes that it binds are forgotten behind it."""
        outside = self.sizes, self.space
        self.sizes, self.space = dict(self.sizes), space
        try:
            for param, argument in zip(block.params, arguments, strict=True):
                self._bind(param.type, argument, f"parameter '{param.name}'")
            return self._run(block, arguments)
        finally:
            self.sizes, self.space = outside

    def _run(self, block: Block, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        self.values.update(zip(block.params, arguments, strict=True))
        for op in block.ops[:-1]:
            self._operation(op)
        return tuple([self._operand(o) for o in block.terminator.operands])

    def _operation(self, op: Operation) -> None:
        try:
            returned = self._apply(op)
            results = self._results(op, returned)
        except OpError as error:
            if error.site is None:
                error.site = op.site
            raise
        if self.observe is not None:
            self.observe(op, results)

    def _apply(self, op: Operation) -> Any:
        operands = [self._operand(o) for o in op.operands]
        rule = getattr(op.defn, "evaluate", None)
        if rule is not None:
            return rule(op, self.region, *operands, **self._attributes(op))
        numpy_rule = op.defn.numpy
        if numpy_rule is None or op.regions:
            raise IRError(f"{op.name} has no numpy rule\n    {print_operation(op)}")
        if not op.results and bound_sizes(op):
            numpy_rule = getattr(op.defn, "bound", numpy_rule)
        return numpy_rule(*operands, **self._attributes(op))

    def _attributes(self, op: Operation) -> dict[str, Any]:
        own = {*bound_sizes(op), *refined_sizes(op)} - self.sizes.keys()
        return {name: self._resolved(value, own) for name, value in op.all_attrs.items()}

    def _resolved(self, value: Any, own: set[str]) -> Any:
        """An attribute with sizes as ints; None for those that the op itself is about to bind."""
        if isinstance(value, Expr):
            unknown = dims.names(value) - self.sizes.keys()
            if not unknown:
                return dims.evaluate(value, self.sizes)
            if unknown <= own:
                return None
            raise IRError(f"the size {', '.join(sorted(unknown))} is not bound")
        if isinstance(value, tuple):
            return tuple([self._resolved(v, own) for v in value])
        return value

    def _operand(self, operand: Operand) -> Any:
        if isinstance(operand, Value):
            return self.values[operand]
        if isinstance(operand, Const):
            return np.asarray(operand.value, numpy_dtype(operand.type.dtype))
        entry = self.root.globals[operand.name]
        if entry.kind == "constant":
            return entry.data
        return self.cells.get(operand.name) or self.state[operand.name]

    def _results(self, op: Operation, returned: Any) -> tuple[Any, ...]:
        """What a rule returned as the values of the results, checked against their types."""
        if not op.results:
            fresh = bound_sizes(op)
            if fresh and returned is not None:
                self.sizes[fresh[0]] = int(returned)
            return ()
        values = returned if isinstance(returned, tuple) else (returned,)
        if len(values) != len(op.results):
            raise IRError(f"{op.name} gave {len(values)} values for {len(op.results)} results")
        made = []
        for result, value in zip(op.results, values, strict=True):
            made.append(self._checked(op, result.type, value))
            self.values[result] = made[-1]
        return tuple(made)

    def _checked(self, op: Operation, type_: AnyType, value: Any) -> Any:
        if isinstance(type_, ListType) or type_.dtype == "resource":
            return value
        array = np.asarray(value)
        if type_.dtype == "string" and array.dtype.kind in "SU":
            array = array.astype(object)
        problem = None if array.dtype == numpy_dtype(type_.dtype) else f"dtype {array.dtype}"
        if problem is None:
            problem = self._misfit(type_, array.shape)
        if problem is not None:
            raise IRError(
                f"{op.name} gave {problem} for a result {type_}\n    {print_operation(op)}"
            )
        return array

    def _bind(self, type_: AnyType, value: Any, what: str) -> None:
        if isinstance(type_, ListType) or type_.dtype == "resource":
            return
        problem = self._misfit(type_, np.shape(value))
        if problem is not None:
            raise ShapeError(f"{what} is no {type_}: {problem}")

    def _misfit(self, type_: Type, shape: tuple[int, ...]) -> str | None:
        if self.space and type_.shape == () and shape == self.space:
            return None
        return unify_numpy_shape(type_, shape, self.sizes)


def same_results(
    first: Iterable[Any], second: Iterable[Any], *, rtol: float = 0.0, atol: float = 0.0
) -> bool:
    """True where the values agree in type, shape and content; NaN agrees with NaN."""
    return all(same_value(a, b, rtol=rtol, atol=atol) for a, b in zip(first, second, strict=True))


def same_value(a: Any, b: Any, *, rtol: float = 0.0, atol: float = 0.0) -> bool:
    """True where two values agree; numbers within ``atol + rtol * abs(b)``."""
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and same_results(a, b, rtol=rtol, atol=atol)
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray):
        return a is b or bool(np.all(a == b))
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind in "OSUbiu":
        return bool(np.array_equal(a, b))
    wide = np.complex128 if a.dtype.kind == "c" else np.float64
    return bool(np.allclose(a.astype(wide), b.astype(wide), rtol=rtol, atol=atol, equal_nan=True))


def is_static(type_: AnyType) -> bool:
    """True where every size of a tensor type is known."""
    if not isinstance(type_, Type) or type_.shape is None:
        return False
    return all(isinstance(size, int) for size in type_.shape)
