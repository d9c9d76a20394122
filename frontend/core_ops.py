"""API functions that pass values on, order nodes or call Python: identity, group, py_func ..."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from stepforge.frontend.convert import convert_to_tensor, convert_to_tensor_or_indexed_slices
from stepforge.frontend.dtypes import as_dtype
from stepforge.frontend.graph import create_op
from stepforge.frontend.indexed_slices import IndexedSlices
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import colocate_with, control_dependencies, device, name_scope
from stepforge.frontend.shapes import as_shape
from stepforge.ir.host_functions import register_function


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor whose value every run must feed. ``shape`` may have unknown sizes or be None."""
    attrs = {"dtype": as_dtype(dtype).base_dtype.ir, "shape": as_shape(shape).sizes}
    return create_op("Placeholder", (), attrs, name).outputs[0]


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor with the value of ``input`` in runs that feed none; feeds may have ``shape``.

    Raises: ValueError where the default itself has not that shape.
    """
    with name_scope(name, "PlaceholderWithDefault") as scope:
        value = convert_to_tensor(input, name="input")
        sizes = as_shape(shape)
        if not sizes.is_compatible_with(value.shape):
            raise ValueError(f"Shapes {value.shape} and {sizes} are not compatible")
        attrs = {"dtype": value.dtype.base_dtype.ir, "shape": sizes.sizes}
        return create_op("PlaceholderWithDefault", [value], attrs, scope).outputs[0]


def identity(input: Any, name: str | None = None) -> Any:
    """A tensor with the value of ``input``; a variable is read where this node is made."""
    if isinstance(input, Tensor):
        return create_op("Identity", [input], None, name).outputs[0]
    if isinstance(input, IndexedSlices):
        return IndexedSlices(identity(input.values, name), input.indices, input.dense_shape)
    with name_scope(name, "Identity", [input]) as scope:
        value = convert_to_tensor(input, name="input")
        return create_op("Identity", [value], None, scope).outputs[0]


def identity_n(input: Sequence[Any], name: str | None = None) -> list[Tensor]:
    """Tensors with the values of all of ``input``, available once all of them are."""
    values = [convert_to_tensor(value) for value in input]
    return create_op("IdentityN", values, None, name).outputs


def stop_gradient(input: Any, name: str | None = None) -> Tensor:
    """The value of ``input``, a constant in the eyes of ``tf.gradients``."""
    value = convert_to_tensor(input, name="input")
    return create_op("StopGradient", [value], None, name).outputs[0]


def prevent_gradient(input: Any, message: str = "", name: str | None = None) -> Tensor:
    """The value of ``input``; ``tf.gradients`` through it raises LookupError with ``message``."""
    value = convert_to_tensor(input, name="input")
    return create_op("PreventGradient", [value], {"message": message}, name).outputs[0]


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Tensor:
    """The value of ``tensor``; a run raises InvalidArgumentError for a NaN or an infinity."""
    value = convert_to_tensor(tensor, name="tensor")
    return create_op("CheckNumerics", [value], {"message": message}, name).outputs[0]


def no_op(name: str | None = None) -> Operation:
    """A node that does nothing but wait for its control inputs."""
    return create_op("NoOp", (), None, name)


# ---- order ---------------------------------------------------------------------------------------
def group(*inputs: Any, name: str | None = None) -> Operation:
    """A node that has run once all ``inputs`` (nodes, tensors, variables, lists of them) have.

    Raises: TypeError for anything else.
    """
    elements = list(_flatten(inputs))
    if not elements:
        return no_op("group_deps" if name is None else name)
    with name_scope(name, "group_deps", elements) as scope:
        by_device: dict[str, list[Any]] = {}
        for element in elements:
            if not hasattr(element, "device"):
                raise TypeError(
                    f"'inputs' should be zero or more (nested) Tensors. Received '{element}' with "
                    f"type '{type(element)}'."
                )
            by_device.setdefault(element.device, []).append(element)
        if len(by_device) == 1:
            ((place, ops),) = by_device.items()
            return _group_on(place, ops, scope)
        groups = [_group_on(place, by_device[place], None) for place in sorted(by_device)]
        with control_dependencies(groups):
            return no_op(scope)


def _flatten(inputs: Iterable[Any]) -> Iterable[Any]:
    for element in inputs:
        if isinstance(element, (list, tuple)):
            yield from _flatten(element)
        elif isinstance(element, dict):
            yield from _flatten([element[key] for key in sorted(element)])
        else:
            yield element


def _group_on(place: str, ops: Sequence[Any], name: str | None) -> Operation:
    with control_dependencies(ops):
        if not place:
            return no_op(name)
        with device(place):
            return no_op(name)


def with_dependencies(
    dependencies: Sequence[Any], output_tensor: Any, name: str | None = None
) -> Any:
    """The value of ``output_tensor``, available once ``dependencies`` have run."""
    values = [*dependencies, output_tensor]
    with (
        name_scope(name, "control_dependency", values) as scope,
        colocate_with(output_tensor.op),
        control_dependencies(dependencies),
    ):
        return identity(convert_to_tensor_or_indexed_slices(output_tensor), scope)


def tuple_(
    tensors: Sequence[Any],
    name: str | None = None,
    control_inputs: Sequence[Any] | None = None,
) -> list[Any]:
    """The values of ``tensors`` (None stays None), available once all of them are.

    Raises: ValueError where all are None, TypeError for control inputs that are no nodes.
    """
    with name_scope(name, "tuple", [t for t in tensors if t is not None]):
        gates = [t.op for t in tensors if t is not None]
        gates += [_node_of(control) for control in control_inputs or ()]
        if not gates:
            raise ValueError(f"'tensors' must have at least one Tensor. Received: {tensors}.")
        gate = group(*gates)
        return [None if t is None else with_dependencies([gate], t) for t in tensors]


def _node_of(control: Any) -> Operation:
    if isinstance(control, Tensor):
        return control.op
    if not isinstance(control, Operation):
        raise TypeError(
            f"'control_inputs' must only contain Operation or Tensor. Got {type(control)}"
        )
    return control


# ---- Python and the console ----------------------------------------------------------------------
def Assert(
    condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None
) -> Operation:
    """A node that raises InvalidArgumentError, quoting ``data``, where ``condition`` is false."""
    with name_scope(name, "Assert", [condition, *data]):
        values = [convert_to_tensor(value) for value in data]
        test = convert_to_tensor(condition, name="condition")
        attrs = {"summarize": 3 if summarize is None else summarize}
        return create_op("Assert", [test, *values], attrs, "Assert")


def Print(
    input_: Any,
    data: Sequence[Any],
    message: str | None = None,
    first_n: int | None = None,
    summarize: int | None = None,
    name: str | None = None,
) -> Tensor:
    """The value of ``input_``; runs print ``message`` and ``data``, ``first_n`` times at most."""
    value = convert_to_tensor(input_)
    values = [convert_to_tensor(item) for item in data]
    attrs: dict[str, Any] = {
        "message": message or "",
        "summarize": 3 if summarize is None else summarize,
    }
    if first_n is not None and first_n >= 0:
        attrs["first_n"] = first_n
    return create_op("Print", [value, *values], attrs, name).outputs[0]


def py_func(
    func: Callable[..., Any],
    inp: Sequence[Any],
    Tout: Any,
    stateful: bool = True,
    name: str | None = None,
) -> Any:
    """What calling ``func`` with NumPy arrays gives; ``Tout`` is one dtype or a list of them.

    Values of rank 0 come as NumPy scalars, strings as bytes. Returns one tensor for one dtype, a
    list for a list, the node where the list is empty.
    """
    several = isinstance(Tout, (list, tuple))
    kinds = [as_dtype(t) for t in (Tout if several else [Tout])]
    token = register_function(lambda *arrays: func(*map(_argument, arrays)))
    values = [convert_to_tensor(value) for value in inp]
    attrs = {"token": token, "Tout": tuple(kind.ir for kind in kinds)}
    op = create_op("PyFunc" if stateful else "PyFuncStateless", values, attrs, name)
    if not several:
        return op.outputs[0]
    return op.outputs or op


def _argument(array: np.ndarray[Any, Any]) -> Any:
    """What a Python function gets: a copy, which it may change."""
    copy = np.array(array)
    return copy if copy.ndim else copy[()]


def numpy_function(
    func: Callable[..., Any],
    inp: Sequence[Any],
    Tout: Any,
    name: str | None = None,
) -> Any:
    """``py_func`` under its later name."""
    return py_func(func, inp, Tout, stateful=True, name=name)


def is_tensor(value: Any) -> bool:
    """True for tensors, slices and whatever else converts to a tensor without a constant."""
    return isinstance(value, (Tensor, IndexedSlices)) or hasattr(type(value), "__tf_tensor__")
