"""``tf.gradients``: reverse accumulation on graph nodes.

Gradients are nodes like any other, made with API functions by the rules of the node types. Only
nodes between ``xs`` and ``ys`` are visited, each once all of its consumers among them have been, in
TensorFlow's order, so that names come out the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from typing import Any

from stepforge.frontend import api
from stepforge.frontend.convert import convert_to_tensor_or_indexed_slices
from stepforge.frontend.dtypes import resource
from stepforge.frontend.graph import create_op
from stepforge.frontend.indexed_slices import IndexedSlices
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import colocate_with, name_scope

Gradient = Any  # Tensor or IndexedSlices
_REGISTERED: dict[
    str, Callable[..., Any] | None
] = {}  # what RegisterGradient and NotDifferentiable said


class UnconnectedGradients(Enum):
    """What ``tf.gradients`` gives where ``ys`` do not depend on an ``x``."""

    NONE = "none"
    ZERO = "zero"


class AggregationMethod:
    """How gradients of one tensor add up; all of these come to one ``AddN``."""

    ADD_N = 0
    DEFAULT = ADD_N
    EXPERIMENTAL_TREE = 1
    EXPERIMENTAL_ACCUMULATE_N = 2


class RegisterGradient:
    """Decorator: ``@tf.RegisterGradient("Name") def gradient(op, *grads)``.

    The name is a node type without a gradient of its own or one that ``gradient_override_map``
    mentions.
    Raises: TypeError for a name that is no string, KeyError for a name that is taken.
    """

    def __init__(self, op_type: str) -> None:
        if not isinstance(op_type, str):
            raise TypeError("op_type must be a string")
        self._op_type = op_type

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Register ``function`` and return it."""
        _register(self._op_type, function)
        return function


def NotDifferentiable(op_type: str) -> None:
    """Say that nodes of a type have no gradient. Raises: as ``RegisterGradient``."""
    if not isinstance(op_type, str):
        raise TypeError("op_type must be a string")
    _register(op_type, None)


def _register(op_type: str, function: Callable[..., Any] | None) -> None:
    if op_type in _REGISTERED:
        raise KeyError(f"Registering two gradient with name '{op_type}'!")
    _REGISTERED[op_type] = function


def gradients(
    ys: Any,
    xs: Any,
    grad_ys: Any = None,
    name: str = "gradients",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
    stop_gradients: Any = None,
    unconnected_gradients: Any = UnconnectedGradients.NONE,
) -> list[Any]:
    """The derivatives of the sum of ``ys`` with respect to each of ``xs``.

    ``grad_ys`` are the derivatives to begin with (by default ones), ``stop_gradients`` tensors to
    take for constants. An ``x`` that no ``y`` depends on has None, or zeros as
    ``unconnected_gradients`` says. Gradients of gathers are ``IndexedSlices``.
    Raises: ValueError for lists that do not match, LookupError for a node type without a gradient
    rule.
    """
    ys, xs = _as_list(ys), _as_list(xs)
    stops = [] if stop_gradients is None else _as_list(stop_gradients)
    seeds = [None] * len(ys) if grad_ys is None else _as_list(grad_ys)
    unconnected = _unconnected(unconnected_gradients)
    values = [v for v in [*ys, *stops, *xs, *seeds] if v is not None]
    with name_scope(name, "gradients", values):
        if len(seeds) != len(ys):
            raise ValueError(f"Length mismatch. Passed {len(seeds)} grad_ys for {len(ys)} ys")
        targets = [_dense(convert_to_tensor_or_indexed_slices(y, name="y")) for y in ys]
        sources = [_source(x) for x in xs]
        first = [_first(i, y, seed) for i, (y, seed) in enumerate(zip(targets, seeds, strict=True))]
        stopped = [_source(s) for s in stops]
        walk = _Walk(targets, sources, stopped, colocate_gradients_with_ops, gate_gradients)
        found = walk.run(first)
    if unconnected is UnconnectedGradients.NONE:
        return found
    return [api.zeros_like(x) if g is None else g for g, x in zip(found, sources, strict=True)]


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _unconnected(given: Any) -> UnconnectedGradients:
    try:
        return UnconnectedGradients(given)
    except ValueError:
        raise ValueError(f"Unknown value for unconnected_gradients: '{given}'") from None


def _dense(value: Tensor | IndexedSlices) -> Tensor:
    return value.values if isinstance(value, IndexedSlices) else value


def _source(x: Any) -> Tensor:
    """The tensor that stands for ``x`` in the graph: a variable's own node, not a read of it."""
    handle = getattr(x, "handle", None)
    if isinstance(handle, Tensor):
        return handle
    reference = getattr(x, "ref_tensor", None)
    if isinstance(reference, Tensor):
        return reference
    return _dense(convert_to_tensor_or_indexed_slices(x, name="x"))


def _first(index: int, y: Tensor, given: Any) -> Gradient:
    """The derivative to begin with at one of ``ys``."""
    label = f"grad_ys_{index}"
    if given is None:
        if y.dtype.is_complex:
            raise TypeError(
                f"Gradients of complex tensors ({y}) must set grad_ys (y.dtype = {y.dtype.name})"
            )
        return api.ones(api.shape(y), dtype=y.dtype.base_dtype, name=label)
    if isinstance(given, IndexedSlices):
        return given
    gradient = convert_to_tensor_or_indexed_slices(given, name=label)
    if y.dtype.is_complex != gradient.dtype.is_complex:
        kind = "complex" if y.dtype.is_complex else "real or integer"
        raise TypeError(
            f"Gradient type {gradient.dtype.name} generated for {kind}-valued tensor {y} with type "
            f"{y.dtype.name} must be {kind}"
        )
    return api.identity(gradient, name=label)


class _Walk:
    """One reverse pass over the nodes between ``sources`` and ``targets``."""

    def __init__(
        self,
        targets: Sequence[Tensor],
        sources: Sequence[Tensor],
        stops: Sequence[Tensor],
        colocate: bool,
        gate: bool,
    ) -> None:
        self.targets, self.sources = targets, sources
        self.colocate, self.gate = colocate, gate
        self.grads: dict[Tensor, list[Gradient]] = {}
        self.pending = _pending_counts(targets, sources)
        self.stops = {t.op for t in stops}
        for op in {t.op for t in sources}:
            if not any(self.pending.get(t.op) for t in op.inputs):
                self.stops.add(op)

    def run(self, first: Sequence[Gradient]) -> list[Gradient | None]:
        for y, gradient in zip(self.targets, first, strict=True):
            self.grads.setdefault(y, []).append(gradient)
        begin = dict.fromkeys(y.op for y in self.targets)
        queue = deque(op for op in begin if self.pending.get(op) == 0)
        while queue:
            op = queue.popleft()
            for tensor in op.outputs:
                self._aggregate(tensor)
            self._propagate(op)
            for tensor in op.inputs:
                if tensor.op in self.pending:
                    self.pending[tensor.op] -= 1
                    if self.pending[tensor.op] == 0:
                        queue.append(tensor.op)
        found = [self.grads.get(x) for x in self.sources]
        return [grads[0] if grads else None for grads in found]

    def _aggregate(self, tensor: Tensor) -> None:
        grads = self.grads.get(tensor)
        if grads and len(grads) > 1:
            self.grads[tensor] = [aggregated(grads)]

    def _propagate(self, op: Operation) -> None:
        """Add what the rule of ``op`` says to the gradients of its inputs."""
        out = [self.grads.get(tensor, [None])[0] for tensor in op.outputs]
        if op in self.stops or all(gradient is None for gradient in out):
            return
        rule = _rule(op)
        if rule is None:
            return
        place: AbstractContextManager[Any] = colocate_with(op) if self.colocate else nullcontext()
        with name_scope(f"{op.name}_grad"), place:
            complete = [
                api.zeros_like(tensor) if gradient is None and trainable(tensor) else gradient
                for tensor, gradient in zip(op.outputs, out, strict=True)
            ]
            into = _as_list_of(rule(op, *complete), op)
            if self.gate and sum(gradient is not None for gradient in into) > 1:
                into = api.tuple_(into)
        for tensor, gradient in zip(op.inputs, into, strict=True):
            if gradient is not None:
                _check_shape(op, tensor, gradient)
                self.grads.setdefault(tensor, []).append(gradient)


def trainable(tensor: Tensor) -> bool:
    """True where gradients flow through a tensor: floats, complex numbers, variables."""
    dtype = tensor.dtype.base_dtype
    return dtype.is_floating or dtype.is_complex or dtype is resource


def _users(targets: Iterable[Tensor]) -> dict[Tensor, list[Operation]]:
    """Every tensor that the targets are made from, with the nodes among them that take it."""
    users: dict[Tensor, list[Operation]] = {}
    needed: set[Operation] = set()
    pending = [y.op for y in targets]
    while pending:
        op = pending.pop()
        if op not in needed:
            needed.add(op)
            for tensor in op.inputs:
                users.setdefault(tensor, []).append(op)
                pending.append(tensor.op)
    return users


def _pending_counts(targets: Iterable[Tensor], sources: Iterable[Tensor]) -> dict[Operation, int]:
    """The nodes between sources and targets, each with the number of its uses among them.

    Only what the targets are made from is looked at: other users of the sources, however many the
    graph has, cost nothing.
    """
    users = _users(targets)
    reached: set[Operation] = set()
    pending = [x.op for x in sources]
    while pending:
        op = pending.pop()
        if op not in reached:
            reached.add(op)
            for tensor in op.outputs:
                if trainable(tensor):
                    pending += users.get(tensor, ())
    counts: dict[Operation, int] = {}
    pending = [y.op for y in targets]
    while pending:
        op = pending.pop()
        if op in reached and op not in counts:
            counts[op] = 0
            pending += [tensor.op for tensor in op.inputs]
    for op in counts:
        for tensor in op.inputs:
            if tensor.op in counts:
                counts[tensor.op] += 1
    return counts


def _rule(op: Operation) -> Callable[..., Any] | None:
    """The gradient function ``rule(op, *grads)`` of a node, None where nothing flows through it."""
    name = op.attrs.get("_gradient_op_type", op.type)
    if name in _REGISTERED:
        return _REGISTERED[name]
    if name != op.type:
        raise LookupError(f"gradient registry has no entry for: {name}")
    definition = op.definition
    if definition.gradient is None:
        return None
    rule = definition.gradient
    return lambda node, *grads: rule(api, node, *grads)


def _as_list_of(given: Any, op: Operation) -> list[Any]:
    into = list(given) if isinstance(given, (list, tuple)) else [given]
    if len(into) != len(op.inputs):
        raise ValueError(
            f"Num gradients {len(into)} generated for op {op} do not match num inputs "
            f"{len(op.inputs)}"
        )
    return into


def _check_shape(op: Operation, tensor: Tensor, gradient: Gradient) -> None:
    """Give the gradient the static shape of its tensor. Raises: ValueError where it has another."""
    if isinstance(gradient, IndexedSlices) or tensor.dtype.base_dtype is resource:
        return
    try:
        gradient.set_shape(tensor.shape)
    except ValueError:
        raise ValueError(
            "Incompatible shapes between op input and calculated input gradient. Forward "
            f"operation: {op.name}. Input index: {op.inputs.index(tensor)}. Original input shape: "
            f"{tensor.shape}. Calculated input gradient shape: {gradient.shape}"
        ) from None


def aggregated(grads: Sequence[Gradient]) -> Gradient:
    """The sum of several gradients of one tensor; slices stay slices where all are."""
    if all(isinstance(gradient, IndexedSlices) for gradient in grads):
        values = api.concat([gradient.values for gradient in grads], 0)
        indices = api.concat(_same_dtype([gradient.indices for gradient in grads]), 0)
        return IndexedSlices(values, indices, grads[0].dense_shape)
    return api.add_n([api.convert_to_tensor(gradient) for gradient in grads])


def _same_dtype(indices: Sequence[Tensor]) -> list[Tensor]:
    if len({tensor.dtype.base_dtype for tensor in indices}) == 1:
        return list(indices)
    return [api.cast(tensor, api.int64) for tensor in indices]


def sum_to(x: Any, like: Tensor) -> Any:
    """``x`` summed over what broadcasting from the shape of ``like`` has repeated.

    The shape of ``like`` is that of its tensor in the step; no node is made where it is that of
    ``x`` for certain.
    """
    if isinstance(x, IndexedSlices):
        x = api.convert_to_tensor(x)
    have, wanted = x.abstract.type.shape, like.abstract.type.shape
    if wanted is not None and have == wanted:
        return x
    if like.shape.is_fully_defined():
        attrs = {"shape": like.shape.sizes}
        return create_op("SumToShape", [x], attrs).outputs[0]
    return create_op("SumToLike", [x, like]).outputs[0]


def hessians(
    ys: Any,
    xs: Any,
    name: str = "hessians",
    colocate_gradients_with_ops: bool = False,
    gate_gradients: bool = False,
    aggregation_method: int | None = None,
) -> list[Any]:
    """The second derivatives of the sum of ``ys`` by each of ``xs``, of shape ``x.shape * 2``.

    Raises: ValueError where an ``x`` has no static shape.
    """
    sources = _as_list(xs)
    firsts = gradients(
        ys, sources, None, name, colocate_gradients_with_ops, gate_gradients, aggregation_method
    )
    found = []
    for first, x in zip(firsts, sources, strict=True):
        count = x.shape.num_elements()
        if count is None:
            raise ValueError(f"hessians: {x} must have a static shape")
        flat = api.reshape(first, [-1])
        rows = [api.gradients(flat[i], x, name=name)[0] for i in range(count)]
        rows = [api.zeros_like(x) if row is None else row for row in rows]
        sizes = x.shape.as_list()
        found.append(api.reshape(api.stack(rows), [*sizes, *sizes]))
    return found
