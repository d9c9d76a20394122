"""The base class of optimizers: gradients, slots, and the nodes that apply one to the other."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from stepforge.frontend import api, slots
from stepforge.frontend.convert import convert_to_tensor_or_indexed_slices
from stepforge.frontend.core_ops import group, tuple_
from stepforge.frontend.dtypes import DType, bfloat16, float16, float32, float64
from stepforge.frontend.dtypes import resource as resource_dtype
from stepforge.frontend.gradients import gradients
from stepforge.frontend.graph import create_op, get_default_graph
from stepforge.frontend.graph_collections import GraphKeys
from stepforge.frontend.indexed_slices import IndexedSlices
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import colocate_with, control_dependencies, init_scope, name_scope
from stepforge.frontend.state_ops import assign_add
from stepforge.frontend.variable_lists import trainable_variables
from stepforge.frontend.variables import Variable

GradientsAndVariables = Sequence[tuple[Any, Any]]


class Optimizer:
    """Computes gradients and applies them. A subclass makes slots and one update for each variable.

    Hyperparameters may be numbers, tensors or functions without arguments. Subclasses define
    ``_create_slots``, ``_prepare`` and ``_updates``; programs may instead define TensorFlow's
    ``_apply_dense`` and ``_apply_sparse``.
    """

    GATE_NONE = 0
    GATE_OP = 1
    GATE_GRAPH = 2
    _sums_duplicates = False  # True where a sparse update adds up equal indices by itself

    def __init__(self, use_locking: bool, name: str) -> None:
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._use_locking, self._name = use_locking, name
        self._slots: dict[str, dict[Any, Any]] = {}  # slot name -> variable -> slot
        self._non_slots: dict[tuple[str, Any], Any] = {}  # (name, graph) -> variable

    def get_name(self) -> str:
        """The optimizer's name."""
        return self._name

    # ---- the three steps ------------------------------------------------------------------------
    def minimize(
        self,
        loss: Any,
        global_step: Any = None,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        name: str | None = None,
        grad_loss: Any = None,
    ) -> Operation:
        """A node that makes one step towards less ``loss`` and increments ``global_step``.

        Raises: ValueError where no variable has a gradient.
        """
        pairs = self.compute_gradients(
            loss,
            var_list,
            gate_gradients,
            aggregation_method,
            colocate_gradients_with_ops,
            grad_loss,
        )
        if all(gradient is None for gradient, _ in pairs):
            raise ValueError(
                "No gradients provided for any variable, check your graph for ops that do not "
                f"support gradients, between variables {[str(v) for _, v in pairs]} and loss "
                f"{loss}."
            )
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(
        self,
        loss: Any,
        var_list: Any = None,
        gate_gradients: int = GATE_OP,
        aggregation_method: int | None = None,
        colocate_gradients_with_ops: bool = False,
        grad_loss: Any = None,
    ) -> list[tuple[Any, Any]]:
        """Pairs of gradient (or None) and variable, by default of trainable variables.

        Raises: ValueError without variables, or for a loss or variable that is not floating.
        """
        if gate_gradients not in (Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH):
            raise ValueError(
                "gate_gradients must be one of: Optimizer.GATE_NONE, Optimizer.GATE_OP, "
                f"Optimizer.GATE_GRAPH.  Not {gate_gradients}"
            )
        self._check_dtypes([t for t in (loss, grad_loss) if t is not None])
        chosen = _variables(var_list)
        if not chosen:
            raise ValueError("No variables to optimize.")
        found = gradients(
            loss,
            chosen,
            grad_ys=grad_loss,
            aggregation_method=aggregation_method,
            colocate_gradients_with_ops=colocate_gradients_with_ops,
        )
        if gate_gradients == Optimizer.GATE_GRAPH:
            found = tuple_(found)
        pairs = list(zip(found, chosen, strict=True))
        self._check_dtypes([v for g, v in pairs if g is not None and v.dtype != resource_dtype])
        return pairs

    def apply_gradients(
        self,
        grads_and_vars: Iterable[tuple[Any, Any]],
        global_step: Any = None,
        name: str | None = None,
    ) -> Operation:
        """A node that applies gradients to variables and then increments ``global_step``.

        Raises: TypeError for what is no gradient, ValueError where all of them are None.
        """
        pairs = [(_gradient(g), v) for g, v in grads_and_vars]
        if not pairs:
            raise ValueError("No variables provided.")
        variables = [v for g, v in pairs if g is not None]
        if not variables:
            raise ValueError(
                f"No gradients provided for any variable: {[str(v) for _, v in pairs]}."
            )
        with init_scope():
            self._create_slots(variables)
        with name_scope(name, self._name) as scope:
            self._prepare()
            updates = [self._update(g, v) for g, v in pairs if g is not None]
            train_op = self._finished(updates, global_step, scope)
        collection = get_default_graph().get_collection_ref(GraphKeys.TRAIN_OP)
        if train_op not in collection:
            collection.append(train_op)
        return train_op

    def _update(self, gradient: Any, variable: Any) -> Any:
        if isinstance(variable, Tensor):
            raise NotImplementedError("Trying to update a Tensor ", variable)
        with name_scope(f"update_{variable.op.name}"), colocate_with(variable.op):
            update = self._apply(gradient, variable)
            if variable.constraint is None:
                return update
            with control_dependencies([update]):
                return variable.assign(variable.constraint(variable))

    def _finished(self, updates: list[Any], global_step: Any, scope: str) -> Operation:
        if global_step is None:
            return self._finish(updates, scope)
        update = self._finish(updates, "update")
        with control_dependencies([update]), colocate_with(global_step.op):
            stepped = assign_add(global_step, 1, name=scope)
        op: Operation = stepped.op
        return op

    # ---- what subclasses define -----------------------------------------------------------------
    def _create_slots(self, var_list: Sequence[Any]) -> None:
        """Make the slots of ``var_list``."""

    def _prepare(self) -> None:
        """Make tensors of the hyperparameters."""

    def _updates(self, gradient: Any, variable: Any) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """What updates a variable: the name of the update, its inputs by name, its attributes."""
        raise NotImplementedError

    def _finish(self, update_ops: list[Any], name_scope: str) -> Operation:
        """A node that runs after all updates."""
        return group(*update_ops, name=name_scope)

    def _valid_dtypes(self) -> tuple[DType, ...]:
        return float32, float64, float16, bfloat16

    # ---- one update -----------------------------------------------------------------------------
    def _apply(self, gradient: Any, variable: Any) -> Any:
        resource = _is_resource(variable)
        if not isinstance(gradient, IndexedSlices):
            if resource:
                return self._resource_apply_dense(gradient, variable)
            return self._apply_dense(gradient, variable)
        if self._sums_duplicates:
            values, indices = gradient.values, gradient.indices
        else:
            values, indices = deduplicated(gradient)
        if resource:
            return self._resource_apply_sparse(values, variable, indices)
        return self._apply_sparse(IndexedSlices(values, indices, gradient.dense_shape), variable)

    def _apply_dense(self, grad: Any, var: Any) -> Any:
        return self._node(grad, var, None)

    def _apply_sparse(self, grad: Any, var: Any) -> Any:
        return self._node(grad.values, var, grad.indices)

    def _resource_apply_dense(self, grad: Any, handle: Any) -> Any:
        return self._node(grad, handle, None)

    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        return self._node(grad, handle, indices)

    def _node(self, gradient: Any, variable: Any, indices: Any) -> Operation:
        """The node of type ``Apply...`` that ``_updates`` describes."""
        update, inputs, attrs = self._updates(gradient, variable)
        resource = _is_resource(variable)
        kind = f"{'Resource' if resource else ''}{'' if indices is None else 'Sparse'}Apply{update}"
        operands = []
        for value in inputs.values():
            operands.append(_reference(value) if isinstance(value, Variable) else value)
            if value is gradient and indices is not None:
                operands.append(indices)
        attrs = {"use_locking": self._use_locking, **attrs}
        return create_op(kind, operands, attrs)

    # ---- slots ----------------------------------------------------------------------------------
    def variables(self) -> list[Any]:
        """The optimizer's own variables in the current graph, by name."""
        graph = get_default_graph()
        found = [v for (_, owner), v in self._non_slots.items() if owner is graph]
        for by_variable in self._slots.values():
            found += [slot for variable, slot in by_variable.items() if variable.graph is graph]
        return sorted(found, key=lambda v: v.name)

    def get_slot(self, var: Any, name: str) -> Any:
        """The slot ``name`` of a variable, None where there is none."""
        return self._slots.get(name, {}).get(var)

    def get_slot_names(self) -> list[str]:
        """Names of all slots."""
        return sorted(self._slots)

    def _zeros_slot(self, var: Any, slot_name: str, op_name: str) -> Any:
        return self._slot(var, slot_name, lambda: slots.create_zeros_slot(var, op_name))

    def _get_or_make_slot_with_initializer(
        self, var: Any, initializer: Any, shape: Any, dtype: Any, slot_name: str, op_name: str
    ) -> Any:
        return self._slot(
            var,
            slot_name,
            lambda: slots.create_slot_with_initializer(var, initializer, shape, dtype, op_name),
        )

    def _get_or_make_slot(self, var: Any, val: Any, slot_name: str, op_name: str) -> Any:
        return self._slot(var, slot_name, lambda: slots.create_slot(var, val, op_name))

    def _slot(self, var: Any, slot_name: str, make: Callable[[], Any]) -> Any:
        by_variable = self._slots.setdefault(slot_name, {})
        if var not in by_variable:
            by_variable[var] = make()
        return by_variable[var]

    def _create_non_slot_variable(self, initial_value: Any, name: str, colocate_with: Any) -> Any:
        graph = get_default_graph()
        if (name, graph) not in self._non_slots:
            with graph.colocate_with(colocate_with.op):
                self._non_slots[name, graph] = Variable(
                    initial_value,
                    name=name,
                    trainable=False,
                    use_resource=_is_resource(colocate_with),
                )
        return self._non_slots[name, graph]

    def _get_non_slot_variable(self, name: str, graph: Any = None) -> Any:
        return self._non_slots.get((name, graph))

    def _call_if_callable(self, param: Any) -> Any:
        return param() if callable(param) else param

    def _check_dtypes(self, tensors: Iterable[Any]) -> None:
        valid = self._valid_dtypes()
        for tensor in tensors:
            dtype = tensor.dtype.base_dtype
            if dtype not in valid:
                raise ValueError(
                    f"Invalid type {dtype!r} for {tensor.name}, expected: {list(valid)}."
                )


def hyperparameter(value: Any, name: str, dtype: Any = None) -> Tensor:
    """A number, tensor or function without arguments as a tensor."""
    return api.convert_to_tensor(  # type: ignore[no-any-return]
        value() if callable(value) else value, dtype, name
    )


def like(tensor: Tensor, variable: Any) -> Any:
    """A hyperparameter in the dtype of a variable."""
    return api.cast(tensor, variable.dtype.base_dtype)


def deduplicated(gradient: IndexedSlices) -> tuple[Tensor, Tensor]:
    """Values and indices of slices in which no index stands twice: duplicates are summed."""
    unique, positions = api.unique(gradient.indices)
    count = api.shape(unique)[0]
    return api.unsorted_segment_sum(gradient.values, positions, count), unique


def _is_resource(variable: Any) -> bool:
    return getattr(variable, "handle", None) is not None


def _reference(variable: Any) -> Tensor:
    found: Tensor = variable.handle if _is_resource(variable) else variable.ref_tensor
    return found


def _gradient(given: Any) -> Any:
    if given is None:
        return None
    try:
        return convert_to_tensor_or_indexed_slices(given)
    except TypeError:
        raise TypeError(
            f"Gradient must be convertible to a Tensor or IndexedSlices, or None: {given}"
        ) from None


def _variables(given: Any) -> list[Any]:
    if given is None:
        chosen = trainable_variables()
        return chosen + get_default_graph().get_collection(GraphKeys.TRAINABLE_RESOURCE_VARIABLES)
    if isinstance(given, dict):
        return [variable for key in sorted(given) for variable in _variables(given[key])]
    if isinstance(given, (list, tuple, set)):
        return [variable for part in given for variable in _variables(part)]
    return [given]
