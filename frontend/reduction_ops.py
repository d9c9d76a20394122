"""API functions that reduce axes or run along one: ``tf.reduce_sum`` and its kin, ``tf.argmax``,
``tf.cumsum``.

``axis=None`` is all axes: a constant ``[0, 1, ...]`` where the rank is known, else
``range(rank(x))``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from stepforge.frontend import elementwise_ops
from stepforge.frontend.convert import constant, constant_of_array, convert_to_tensor
from stepforge.frontend.core_ops import stop_gradient
from stepforge.frontend.dtypes import as_dtype, bool_, int64
from stepforge.frontend.graph import create_op
from stepforge.frontend.node_calls import argument, call, integer_argument, named, renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope


def _all_axes(x: Any) -> Tensor:
    """The constant (or range) that stands for all axes of ``x``."""
    rank = getattr(getattr(x, "shape", None), "ndims", None)
    if isinstance(x, np.ndarray):
        rank = x.ndim
    if rank:
        return constant_of_array(np.arange(rank, dtype=np.int32), "Const")
    if rank == 0:
        limit = constant(0, name="Rank")
    else:
        limit = create_op("Rank", (convert_to_tensor(x),)).outputs[0]
        limit.set_shape(())
    with name_scope("range") as scope:
        start = constant(0, name="start")
        delta = constant(1, name="delta")
        return create_op("Range", (start, limit, delta), None, scope).outputs[0]


def _reduce(type_: str, x: Any, axis: Any, keepdims: Any, name: str | None) -> Tensor:
    """A reduction node; with all axes and none kept its result is known to be a scalar."""
    keep = bool(keepdims)
    axes = _all_axes(x) if axis is None else axis
    if isinstance(x, Tensor) and isinstance(axes, Tensor):
        integer_argument(type_, "reduction_indices", axes)
        result = create_op(type_, (x, axes), {"keep_dims": keep}, name).outputs[0]
    else:
        with name_scope(name, type_, [v for v in (x, axes) if isinstance(v, Tensor)]) as scope:
            inputs = (
                argument(type_, "input", x, None),
                integer_argument(type_, "reduction_indices", axes),
            )
            result = create_op(type_, inputs, {"keep_dims": keep}, scope).outputs[0]
    if axis is None and not keep and result.shape.ndims is None:
        result.set_shape(())
    return result


def _reduction(name: str, type_: str, doc: str) -> Callable[..., Tensor]:
    """A function with TensorFlow 1's five spellings of axes and flags."""

    def function(
        input_tensor: Any,
        axis: Any = None,
        keepdims: Any = None,
        name: str | None = None,
        reduction_indices: Any = None,
        keep_dims: Any = None,
    ) -> Tensor:
        axis = renamed("axis", axis, "reduction_indices", reduction_indices)
        keepdims = renamed("keepdims", keepdims, "keep_dims", keep_dims)
        return _reduce(type_, input_tensor, axis, keepdims, name)

    text = (
        f"{doc} ``axis`` is one axis, a list of them, or None for all; ``keepdims`` keeps them "
        f"with size 1. Makes a node of type ``{type_}``."
    )
    return named(function, name, text)


reduce_sum = _reduction("reduce_sum", "Sum", "The sum over axes.")
reduce_mean = _reduction("reduce_mean", "Mean", "The mean over axes; of integers it truncates.")
reduce_prod = _reduction("reduce_prod", "Prod", "The product over axes.")
reduce_max = _reduction("reduce_max", "Max", "The maximum over axes.")
reduce_min = _reduction("reduce_min", "Min", "The minimum over axes.")
reduce_any = _reduction("reduce_any", "Any", "True where an element is true.")
reduce_all = _reduction("reduce_all", "All", "True where all elements are true.")


def reduce_euclidean_norm(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """The square root of the sum of squares over axes."""
    return _reduce("EuclideanNorm", input_tensor, axis, keepdims, name)


def reduce_logsumexp(
    input_tensor: Any,
    axis: Any = None,
    keepdims: Any = None,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
) -> Tensor:
    """``log(sum(exp(x)))`` over axes, without overflow."""
    axis = renamed("axis", axis, "reduction_indices", reduction_indices)
    keepdims = renamed("keepdims", keepdims, "keep_dims", keep_dims)
    with name_scope(name, "ReduceLogSumExp") as scope:
        largest = reduce_max(input_tensor, axis, keepdims=True)
        finite = call("IsFinite", (largest,))
        zero = constant(0, largest.dtype.base_dtype, name="SelectV2/e")
        shift = stop_gradient(create_op("SelectV2", (finite, largest, zero)).outputs[0])
        powers = elementwise_ops.exp(elementwise_ops.subtract(input_tensor, shift))
        result = elementwise_ops.log(reduce_sum(powers, axis, keepdims))
        if not keepdims:
            shape = create_op("Shape", (result,)).outputs[0]
            shift = create_op("Reshape", (shift, shape)).outputs[0]
        total = elementwise_ops.add(result, shift, scope)
    if axis is None and not keepdims and total.shape.ndims is None:
        total.set_shape(())
    return total


def reduce_variance(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """The mean squared distance from the mean. Raises: TypeError for integers."""
    with name_scope(name or "reduce_variance"):
        value = convert_to_tensor(input_tensor)
        means = reduce_mean(value, axis, keepdims=True)
        if means.dtype.is_integer:
            raise TypeError(
                f"Input must be either real or complex. Received integer type {means.dtype}."
            )
        deviation = call("Sub", (value, means), None, "sub")
        if value.dtype.is_complex:
            conjugate = create_op("Conj", (deviation,)).outputs[0]
            product = call("Mul", (conjugate, deviation))
            squares = create_op("Real", (product,)).outputs[0]
        else:
            squares = call("Square", (deviation,))
        return _reduce("Mean", squares, axis, keepdims, None)


def reduce_std(
    input_tensor: Any, axis: Any = None, keepdims: bool = False, name: str | None = None
) -> Tensor:
    """The square root of ``reduce_variance``."""
    with name_scope(name or "reduce_std"):
        return elementwise_ops.sqrt(
            reduce_variance(convert_to_tensor(input_tensor), axis, keepdims)
        )


def count_nonzero(
    input_tensor: Any = None,
    axis: Any = None,
    keepdims: Any = None,
    dtype: Any = int64,
    name: str | None = None,
    reduction_indices: Any = None,
    keep_dims: Any = None,
    input: Any = None,
) -> Tensor:
    """The number of elements that are not 0 (or are true), as ``dtype``."""
    axis = renamed("axis", axis, "reduction_indices", reduction_indices)
    keepdims = renamed("keepdims", keepdims, "keep_dims", keep_dims)
    value = renamed("input", input, "input_tensor", input_tensor)
    with name_scope(name, "count_nonzero"):
        tensor = convert_to_tensor(value, name="input")
        present = tensor
        if tensor.dtype.base_dtype is not bool_:
            zero = constant(0, tensor.dtype.base_dtype, name="zeros")
            present = call("NotEqual", (tensor, zero))
        counts = reduce_sum(elementwise_ops.cast(present, int64), axis, keepdims)
        result: Tensor = elementwise_ops.cast(counts, dtype)
        return result


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The share of elements that are 0, as float32."""
    with name_scope(name, "zero_fraction"):
        tensor = convert_to_tensor(value, name="value")
        size = create_op("Size", (tensor,), {"out_type": "i64"}).outputs[0]
        zeros = call("Sub", (size, count_nonzero(tensor)), None, "sub")
        with name_scope("counts_to_fraction"):
            parts = [elementwise_ops.to_float(count, "Cast") for count in (zeros, size)]
            share = call("RealDiv", parts, None, "truediv")
        return create_op("Identity", (share,), None, "fraction").outputs[0]


# ---- positions ----------------------------------------------------------------------------------
def _arg_extremum(type_: str, x: Any, axis: Any, output_type: Any, name: str | None) -> Tensor:
    attrs = {"output_type": as_dtype(output_type).ir}
    with name_scope(name, type_, [v for v in (x, axis) if isinstance(v, Tensor)]) as scope:
        inputs = (
            argument(type_, "input", x, None),
            integer_argument(type_, "dimension", 0 if axis is None else axis),
        )
        return create_op(type_, inputs, attrs, scope).outputs[0]


def argmax(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = int64,
) -> Tensor:
    """The index of the (first) largest element along ``axis``, by default the first one."""
    axis = renamed("axis", axis, "dimension", dimension)
    return _arg_extremum("ArgMax", input, axis, output_type, name)


def argmin(
    input: Any,
    axis: Any = None,
    name: str | None = None,
    dimension: Any = None,
    output_type: Any = int64,
) -> Tensor:
    """The index of the (first) smallest element along ``axis``, by default the first one."""
    axis = renamed("axis", axis, "dimension", dimension)
    return _arg_extremum("ArgMin", input, axis, output_type, name)


def arg_max(
    input: Any, dimension: Any, output_type: Any = int64, name: str | None = None
) -> Tensor:
    """``argmax`` under its first name."""
    return _arg_extremum("ArgMax", input, dimension, output_type, name)


def arg_min(
    input: Any, dimension: Any, output_type: Any = int64, name: str | None = None
) -> Tensor:
    """``argmin`` under its first name."""
    return _arg_extremum("ArgMin", input, dimension, output_type, name)


# ---- running totals -----------------------------------------------------------------------------
def _scan(type_: str, x: Any, axis: Any, flags: dict[str, bool], name: str | None) -> Tensor:
    with name_scope(name, type_, [v for v in (x, axis) if isinstance(v, Tensor)]) as scope:
        inputs = (convert_to_tensor(x, name="x"), integer_argument(type_, "axis", axis))
        return create_op(type_, inputs, flags, scope).outputs[0]


def cumsum(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """The running sum along ``axis``; ``exclusive`` leaves out the element itself."""
    return _scan("Cumsum", x, axis, {"exclusive": exclusive, "reverse": reverse}, name)


def cumprod(
    x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None
) -> Tensor:
    """The running product along ``axis``; ``exclusive`` leaves out the element itself."""
    return _scan("Cumprod", x, axis, {"exclusive": exclusive, "reverse": reverse}, name)


def expand_reduced(
    value: Any, like: Any, axes: Any, *, keep_dims: bool = False, mean: bool = False
) -> Tensor:
    """A reduced tensor over the shape of ``like``, what was reduced, again; for gradients.

    ``axes`` and ``keep_dims`` are those of the reduction; with ``mean`` it is divided by their
    number.
    """
    inputs = (convert_to_tensor(value), like, axes)
    attrs = {"keep_dims": keep_dims, "mean": mean}
    return create_op("ExpandReduced", inputs, attrs).outputs[0]
