"""Moving averages of variables and tensors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from stepforge.frontend import api, dtypes, slots
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.core_ops import group
from stepforge.frontend.graph import get_default_graph
from stepforge.frontend.graph_collections import GraphKeys
from stepforge.frontend.initializers import Zeros
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import colocate_with, init_scope, name_scope
from stepforge.frontend.state_ops import assign, assign_add, assign_sub
from stepforge.frontend.variable_lists import (
    global_variables,
    moving_average_variables,
    trainable_variables,
)
from stepforge.frontend.variable_scope import get_variable, get_variable_scope, variable_scope
from stepforge.frontend.variables import Variable


def assign_moving_average(
    variable: Any, value: Any, decay: Any, zero_debias: bool = True, name: str | None = None
) -> Any:
    """``variable = variable * decay + value * (1 - decay)``; the result has the new value.

    ``zero_debias`` makes up for a variable that began with 0, by dividing by what the weights sum
    to.
    """
    values = [v for v in (variable, value, decay) if not isinstance(v, (int, float))]
    with name_scope(name, "AssignMovingAvg", values) as scope:
        weight = convert_to_tensor(1.0 - decay, name="decay")
        weight = api.cast(weight, variable.dtype.base_dtype)
        if zero_debias:
            return _unbiased(variable, value, weight, scope)
        return assign_sub(variable, (variable - value) * weight, name=scope)


def _unbiased(variable: Any, value: Any, weight: Any, scope: str) -> Any:
    with variable_scope(variable.op.name, values=[variable, weight]):
        dtype = variable.dtype.base_dtype
        with colocate_with(variable.op):
            biased = get_variable(
                _unique("biased"),
                shape=variable.get_shape(),
                dtype=dtype,
                initializer=Zeros(),
                trainable=False,
            )
            count = get_variable(
                _unique("local_step"), shape=[], dtype=dtype, initializer=Zeros(), trainable=False
            )
        summed = assign_sub(biased, (biased - value) * weight)
        steps = assign_add(count, 1)
        return assign(variable, summed / (1 - api.pow(1.0 - weight, steps)), name=scope)


def _unique(name: str) -> str:
    scope = get_variable_scope()
    taken = {variable.op.name for variable in scope.global_variables()}
    chosen, number = name, 0
    while not scope.reuse and f"{scope.name}/{chosen}" in taken:
        number += 1
        chosen = f"{name}_{number}"
    return chosen


class ExponentialMovingAverage:
    """Keeps moving averages: ``average = decay * average + (1 - decay) * value``.

    With ``num_updates`` the decay begins lower: ``min(decay, (1 + num_updates) / (10 +
    num_updates))``.
    """

    def __init__(
        self,
        decay: Any,
        num_updates: Any = None,
        zero_debias: bool = False,
        name: str = "ExponentialMovingAverage",
    ) -> None:
        self._decay, self._num_updates = decay, num_updates
        self._zero_debias, self._name = zero_debias, name
        self._averages: dict[Any, Any] = {}

    @property
    def name(self) -> str:
        """The name of the scope and of the slots."""
        return self._name

    def apply(self, var_list: Iterable[Any] | None = None) -> Operation:
        """A node that updates the averages of ``var_list``, by default of trainable variables.

        Raises: TypeError for a value that is not floating, ValueError for one that has an average.
        """
        chosen = trainable_variables() if var_list is None else list(var_list)
        debiased = set()
        for value in chosen:
            if not value.dtype.base_dtype.is_floating:
                raise TypeError(f"The variables must be half, float, or double: {value.name}")
            if value not in self._averages:
                self._averages[value] = self._make(value)
                if self._zero_debias and not isinstance(value, Variable):
                    debiased.add(self._averages[value])
        with name_scope(self._name) as scope:
            decay = self._decay_now()
            updates = [
                assign_moving_average(
                    self._averages[value], value, decay, self._averages[value] in debiased
                )
                for value in chosen
            ]
            return group(*updates, name=scope)

    def _make(self, value: Any) -> Any:
        with init_scope():
            if isinstance(value, Variable):
                average = slots.create_slot(value, value.initialized_value(), self._name)
                collection = GraphKeys.MOVING_AVERAGE_VARIABLES
                get_default_graph().add_to_collection(collection, value)
                return average
            return slots.create_zeros_slot(value, self._name, colocate_with_primary=False)

    def _decay_now(self) -> Any:
        decay = convert_to_tensor(self._decay, dtypes.float32, name="decay")
        if self._num_updates is None:
            return decay
        count = api.cast(self._num_updates, dtypes.float32, name="num_updates")
        return api.minimum(decay, (1.0 + count) / (10.0 + count))

    def average(self, var: Any) -> Any:
        """The variable that holds the average of ``var``, None where there is none."""
        return self._averages.get(var)

    def average_name(self, var: Any) -> str:
        """The name that the average of ``var`` has or would have."""
        if var in self._averages:
            found: str = self._averages[var].op.name
            return found
        return f"{var.op.name}/{self._name}"

    def variables_to_restore(
        self, moving_avg_variables: Iterable[Any] | None = None
    ) -> dict[str, Any]:
        """Names to restore from, for ``Saver``: a variable takes its average's name."""
        averaged = (
            trainable_variables() + moving_average_variables()
            if moving_avg_variables is None
            else list(moving_avg_variables)
        )
        names = {self.average_name(variable): variable for variable in dict.fromkeys(averaged)}
        known = {variable.op.name for variable in averaged}
        for variable in global_variables():
            if variable.op.name not in known and variable.op.name not in names:
                names[variable.op.name] = variable
        return names


def weighted_moving_average(
    value: Any, decay: Any, weight: Any, truediv: bool = True, name: str = "WeightedMovingAvg"
) -> Tensor:
    """The moving average of ``value * weight`` over that of ``weight``; updated where it is run."""
    with variable_scope(name, values=[value, weight]):
        product, weights = value * weight, weight
        top = get_variable(
            "value",
            initializer=Zeros(),
            shape=product.get_shape(),
            dtype=product.dtype.base_dtype,
            trainable=False,
        )
        below = get_variable(
            "weight",
            initializer=Zeros(),
            shape=weights.get_shape(),
            dtype=weights.dtype.base_dtype,
            trainable=False,
        )
        numerator = assign_moving_average(top, product, decay, zero_debias=False)
        denominator = assign_moving_average(below, weights, decay, zero_debias=False)
        divide = api.truediv if truediv else api.div
        return divide(numerator, denominator)  # type: ignore[no-any-return]
