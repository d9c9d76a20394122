"""The optimizers of ``tf.train``: one node per variable, whose formula is in its node type."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.frontend import api, initializers
from stepforge.frontend.core_ops import group
from stepforge.frontend.graph import get_default_graph
from stepforge.frontend.operation import Operation
from stepforge.frontend.optimizer import Optimizer, hyperparameter, like
from stepforge.frontend.scopes import colocate_with, control_dependencies
from stepforge.frontend.state_ops import scatter_resource, scatter_sub

Described = tuple[str, dict[str, Any], dict[str, Any]]


class GradientDescentOptimizer(Optimizer):
    """``variable -= learning_rate * gradient``."""

    _sums_duplicates = True

    def __init__(
        self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent"
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate

    def _prepare(self) -> None:
        self._learning_rate_tensor = hyperparameter(self._learning_rate, "learning_rate")

    def _updates(self, gradient: Any, variable: Any) -> Described:
        rate = like(self._learning_rate_tensor, variable)
        return "GradientDescent", {"var": variable, "alpha": rate, "delta": gradient}, {}

    def _apply_sparse(self, grad: Any, var: Any) -> Any:
        delta = grad.values * like(self._learning_rate_tensor, var)
        return scatter_sub(var, grad.indices, delta, use_locking=self._use_locking).op

    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        delta = -grad * like(self._learning_rate_tensor, handle)
        return scatter_resource("ResourceScatterAdd", handle, indices, delta)


class MomentumOptimizer(Optimizer):
    """Steps by an accumulation: ``accumulation = momentum * accumulation + gradient``.

    ``use_nesterov`` looks ahead: the gradient enters once more with the next accumulation.
    """

    def __init__(
        self,
        learning_rate: Any,
        momentum: Any,
        use_locking: bool = False,
        name: str = "Momentum",
        use_nesterov: bool = False,
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate, self._momentum = learning_rate, momentum
        self._use_nesterov = use_nesterov

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for variable in var_list:
            self._zeros_slot(variable, "momentum", self._name)

    def _prepare(self) -> None:
        self._learning_rate_tensor = hyperparameter(self._learning_rate, "learning_rate")
        self._momentum_tensor = hyperparameter(self._momentum, "momentum")

    def _updates(self, gradient: Any, variable: Any) -> Described:
        inputs = {
            "var": variable,
            "accum": self.get_slot(variable, "momentum"),
            "lr": like(self._learning_rate_tensor, variable),
            "grad": gradient,
            "momentum": like(self._momentum_tensor, variable),
        }
        return "Momentum", inputs, {"use_nesterov": self._use_nesterov}


class AdamOptimizer(Optimizer):
    """Adam: steps by the mean of gradients over the root of the mean of their squares.

    ``epsilon`` is the "epsilon hat" of section 2.1 of Kingma and Ba. Slices decay all rows.
    """

    def __init__(
        self,
        learning_rate: Any = 0.001,
        beta1: Any = 0.9,
        beta2: Any = 0.999,
        epsilon: Any = 1e-08,
        use_locking: bool = False,
        name: str = "Adam",
    ) -> None:
        super().__init__(use_locking, name)
        self._lr, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon

    def _get_beta_accumulators(self) -> tuple[Any, Any]:
        graph = get_default_graph()
        return (
            self._get_non_slot_variable("beta1_power", graph),
            self._get_non_slot_variable("beta2_power", graph),
        )

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        first = min(var_list, key=lambda variable: variable.name)
        for name, value in (("beta1_power", self._beta1), ("beta2_power", self._beta2)):
            self._create_non_slot_variable(self._call_if_callable(value), name, first)
        for variable in var_list:
            self._zeros_slot(variable, "m", self._name)
            self._zeros_slot(variable, "v", self._name)

    def _prepare(self) -> None:
        self._lr_tensor = hyperparameter(self._lr, "learning_rate")
        self._beta1_tensor = hyperparameter(self._beta1, "beta1")
        self._beta2_tensor = hyperparameter(self._beta2, "beta2")
        self._epsilon_tensor = hyperparameter(self._epsilon, "epsilon")

    def _updates(self, gradient: Any, variable: Any) -> Described:
        beta1_power, beta2_power = self._get_beta_accumulators()
        inputs = {
            "var": variable,
            "m": self.get_slot(variable, "m"),
            "v": self.get_slot(variable, "v"),
            "beta1_power": like(beta1_power.value(), variable),
            "beta2_power": like(beta2_power.value(), variable),
            "lr": like(self._lr_tensor, variable),
            "beta1": like(self._beta1_tensor, variable),
            "beta2": like(self._beta2_tensor, variable),
            "epsilon": like(self._epsilon_tensor, variable),
            "grad": gradient,
        }
        return "Adam", inputs, {}

    def _apply_sparse(self, grad: Any, var: Any) -> Any:
        return self._decayed(var, grad.values, grad.indices)

    def _resource_apply_sparse(self, grad: Any, handle: Any, indices: Any) -> Any:
        return self._decayed(handle, grad, indices)

    def _decayed(self, variable: Any, rows: Any, indices: Any) -> Operation:
        """The update for slices: means decay everywhere, the gradient adds to rows."""
        beta1_power, beta2_power = self._get_beta_accumulators()
        powers = like(beta1_power.value(), variable), like(beta2_power.value(), variable)
        rate = like(self._lr_tensor, variable) * api.sqrt(1 - powers[1]) / (1 - powers[0])
        beta1, beta2 = like(self._beta1_tensor, variable), like(self._beta2_tensor, variable)
        m = self._mean("m", variable, beta1, rows * (1 - beta1), indices)
        v = self._mean("v", variable, beta2, rows * rows * (1 - beta2), indices)
        root = api.sqrt(v)
        step = rate * m / (root + like(self._epsilon_tensor, variable))
        return group(variable.assign_sub(step, use_locking=self._use_locking), m, v)

    def _mean(self, slot_name: str, variable: Any, beta: Any, part: Any, indices: Any) -> Any:
        """The new value of a slot that decays everywhere and gets ``part`` added to its rows."""
        slot = self.get_slot(variable, slot_name)
        decayed = slot.assign(slot * beta, use_locking=self._use_locking)
        with control_dependencies([decayed]):
            return api.convert_to_tensor(api.scatter_add(slot, indices, part))

    def _finish(self, update_ops: list[Any], name_scope: str) -> Operation:
        with control_dependencies(update_ops):
            powers = self._get_beta_accumulators()
            with colocate_with(powers[0].op):
                steps = [
                    power.assign(power * beta, use_locking=self._use_locking)
                    for power, beta in zip(
                        powers, (self._beta1_tensor, self._beta2_tensor), strict=True
                    )
                ]
        return group(*update_ops, *steps, name=name_scope)


class RMSPropOptimizer(Optimizer):
    """Steps by the gradient over the root of a moving mean of its squares, with momentum.

    ``centered`` takes the mean's square off, which makes it a variance.
    """

    def __init__(
        self,
        learning_rate: Any,
        decay: Any = 0.9,
        momentum: Any = 0.0,
        epsilon: Any = 1e-10,
        use_locking: bool = False,
        centered: bool = False,
        name: str = "RMSProp",
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate, self._decay = learning_rate, decay
        self._momentum, self._epsilon, self._centered = momentum, epsilon, centered

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for variable in var_list:
            dtype = variable.dtype.base_dtype
            ones = initializers.Ones(dtype)
            self._get_or_make_slot_with_initializer(
                variable, ones, variable.get_shape(), dtype, "rms", self._name
            )
            if self._centered:
                self._zeros_slot(variable, "mg", self._name)
            self._zeros_slot(variable, "momentum", self._name)

    def _prepare(self) -> None:
        self._tensors = {
            "lr": hyperparameter(self._learning_rate, "learning_rate"),
            "rho": hyperparameter(self._decay, "decay"),
            "momentum": hyperparameter(self._momentum, "momentum"),
            "epsilon": hyperparameter(self._epsilon, "epsilon"),
        }

    def _updates(self, gradient: Any, variable: Any) -> Described:
        inputs = {"var": variable}
        if self._centered:
            inputs["mg"] = self.get_slot(variable, "mg")
        inputs["ms"] = self.get_slot(variable, "rms")
        inputs["mom"] = self.get_slot(variable, "momentum")
        inputs |= {name: like(tensor, variable) for name, tensor in self._tensors.items()}
        inputs["grad"] = gradient
        return "CenteredRMSProp" if self._centered else "RMSProp", inputs, {}


class AdagradOptimizer(Optimizer):
    """Steps by the gradient over the root of the sum of all its squares so far.

    Raises: ValueError where ``initial_accumulator_value`` is not positive.
    """

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        use_locking: bool = False,
        name: str = "Adagrad",
    ) -> None:
        if initial_accumulator_value <= 0.0:
            raise ValueError(
                f"initial_accumulator_value must be positive: {initial_accumulator_value}"
            )
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._initial_accumulator_value = initial_accumulator_value

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for variable in var_list:
            dtype = variable.dtype.base_dtype
            start = initializers.Constant(self._initial_accumulator_value, dtype)
            self._get_or_make_slot_with_initializer(
                variable, start, variable.get_shape(), dtype, "accumulator", self._name
            )

    def _prepare(self) -> None:
        self._learning_rate_tensor = hyperparameter(self._learning_rate, "learning_rate")

    def _updates(self, gradient: Any, variable: Any) -> Described:
        inputs = {
            "var": variable,
            "accum": self.get_slot(variable, "accumulator"),
            "lr": like(self._learning_rate_tensor, variable),
            "grad": gradient,
        }
        return "Adagrad", inputs, {}


class AdadeltaOptimizer(Optimizer):
    """Steps by the gradient times the ratio of two moving means, of steps and of gradients."""

    def __init__(
        self,
        learning_rate: Any = 0.001,
        rho: Any = 0.95,
        epsilon: Any = 1e-8,
        use_locking: bool = False,
        name: str = "Adadelta",
    ) -> None:
        super().__init__(use_locking, name)
        self._lr, self._rho, self._epsilon = learning_rate, rho, epsilon

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for variable in var_list:
            self._zeros_slot(variable, "accum", self._name)
            self._zeros_slot(variable, "accum_update", self._name)

    def _prepare(self) -> None:
        self._tensors = {
            "lr": hyperparameter(self._lr, "lr"),
            "rho": hyperparameter(self._rho, "rho"),
            "epsilon": hyperparameter(self._epsilon, "epsilon"),
        }

    def _updates(self, gradient: Any, variable: Any) -> Described:
        inputs = {
            "var": variable,
            "accum": self.get_slot(variable, "accum"),
            "accum_update": self.get_slot(variable, "accum_update"),
        }
        inputs |= {name: like(tensor, variable) for name, tensor in self._tensors.items()}
        inputs["grad"] = gradient
        return "Adadelta", inputs, {}


class FtrlOptimizer(Optimizer):
    """Follow the regularized leader, with L1, L2 and "shrinkage" L2 regularization.

    Raises: ValueError for negative strengths, a negative accumulator or a positive power.
    """

    def __init__(
        self,
        learning_rate: Any,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "Ftrl",
        accum_name: str | None = None,
        linear_name: str | None = None,
        l2_shrinkage_regularization_strength: float = 0.0,
        beta: float = 0.0,
    ) -> None:
        super().__init__(use_locking, name)
        _check_ftrl(initial_accumulator_value, learning_rate_power)
        strengths = {
            "l1_regularization_strength": l1_regularization_strength,
            "l2_regularization_strength": l2_regularization_strength,
            "l2_shrinkage_regularization_strength": l2_shrinkage_regularization_strength,
        }
        for label, strength in strengths.items():
            if strength < 0.0:
                raise ValueError(f"{label} {strength} needs to be greater than or equal to zero")
        self._learning_rate, self._power = learning_rate, learning_rate_power
        self._initial, self._strengths, self._beta = initial_accumulator_value, strengths, beta
        self._accum_name, self._linear_name = accum_name, linear_name

    def _create_slots(self, var_list: Sequence[Any]) -> None:
        for variable in var_list:
            dtype = variable.dtype.base_dtype
            start = initializers.Constant(self._initial, dtype)
            self._get_or_make_slot_with_initializer(
                variable,
                start,
                variable.get_shape(),
                dtype,
                "accum",
                self._accum_name or self._name,
            )
            self._zeros_slot(variable, "linear", self._linear_name or self._name)

    def _prepare(self) -> None:
        l1, l2, shrinkage = self._strengths.values()
        rate = hyperparameter(self._learning_rate, "learning_rate")
        adjusted = l2
        if self._beta:  # adds beta / (2 * learning rate), as TensorFlow's documentation has it
            adjusted = l2 + self._beta / (2.0 * api.maximum(rate, 1e-36))
        self._tensors = {
            "lr": rate,
            "l1": hyperparameter(l1, "l1_regularization_strength"),
            "l2": hyperparameter(adjusted, "l2_regularization_strength"),
        }
        if shrinkage:
            label = "l2_shrinkage_regularization_strength"
            self._tensors["l2_shrinkage"] = hyperparameter(shrinkage, label)
        self._tensors["lr_power"] = hyperparameter(self._power, "learning_rate_power")

    def _updates(self, gradient: Any, variable: Any) -> Described:
        inputs = {
            "var": variable,
            "accum": self.get_slot(variable, "accum"),
            "linear": self.get_slot(variable, "linear"),
            "grad": gradient,
        }
        inputs |= {name: like(tensor, variable) for name, tensor in self._tensors.items()}
        return "FtrlV2" if "l2_shrinkage" in inputs else "Ftrl", inputs, {}


def _check_ftrl(initial: float, power: float) -> None:
    if initial < 0.0:
        raise ValueError(
            f"initial_accumulator_value {initial} needs to be greater than or equal to zero"
        )
    if power > 0.0:
        raise ValueError(f"learning_rate_power {power} needs to be less than or equal to zero")


class ProximalGradientDescentOptimizer(Optimizer):
    """Gradient descent followed by a step towards 0 (L1) and a scaling (L2)."""

    def __init__(
        self,
        learning_rate: Any,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalGradientDescent",
    ) -> None:
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate
        self._l1, self._l2 = l1_regularization_strength, l2_regularization_strength

    def _prepare(self) -> None:
        self._tensors = {
            "alpha": hyperparameter(self._learning_rate, "learning_rate"),
            "l1": hyperparameter(self._l1, "l1_regularization_strength"),
            "l2": hyperparameter(self._l2, "l2_regularization_strength"),
        }

    def _updates(self, gradient: Any, variable: Any) -> Described:
        inputs = {"var": variable}
        inputs |= {name: like(tensor, variable) for name, tensor in self._tensors.items()}
        inputs["delta"] = gradient
        return "ProximalGradientDescent", inputs, {}


class ProximalAdagradOptimizer(AdagradOptimizer):
    """Adagrad followed by a step towards 0 (L1) and a scaling (L2)."""

    def __init__(
        self,
        learning_rate: Any,
        initial_accumulator_value: float = 0.1,
        l1_regularization_strength: float = 0.0,
        l2_regularization_strength: float = 0.0,
        use_locking: bool = False,
        name: str = "ProximalAdagrad",
    ) -> None:
        super().__init__(learning_rate, initial_accumulator_value, use_locking, name)
        self._l1, self._l2 = l1_regularization_strength, l2_regularization_strength

    def _prepare(self) -> None:
        super()._prepare()
        self._strengths = {
            "l1": hyperparameter(self._l1, "l1_regularization_strength"),
            "l2": hyperparameter(self._l2, "l2_regularization_strength"),
        }

    def _updates(self, gradient: Any, variable: Any) -> Described:
        _, inputs, _ = super()._updates(gradient, variable)
        del inputs["grad"]
        inputs |= {name: like(tensor, variable) for name, tensor in self._strengths.items()}
        return "ProximalAdagrad", {**inputs, "grad": gradient}, {}
