"""Shape values: small integer tensors evaluated as dimension expressions while a graph is
extracted.

``tf.reshape(x, [tf.shape(x)[0], -1])`` is no computation at run time: the vector is ``[n, -1]``
when the reshape is made. A shape value is a NumPy object array whose elements are ``int`` or
``dims.Expr``; the table says how each op acts on such arrays. What is not in the table, or too
large, is an ordinary tensor.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Const, Operand
from stepforge.ir.types import INTEGERS

ShapeValue = np.ndarray[Any, np.dtype[Any]]
MAX_ELEMENTS = 64  # shapes are short; longer integer tensors are data


def shape_value(elements: Any) -> ShapeValue:
    """An object array of dimensions from a dimension, or a (nested) sequence of them."""
    if isinstance(elements, (int, np.integer, dims.Expr)):
        cell = np.empty((), dtype=object)
        cell[()] = elements if isinstance(elements, dims.Expr) else int(elements)
        return cell
    out = np.empty(len(elements), dtype=object)
    for i, element in enumerate(elements):
        out[i] = element if isinstance(element, dims.Expr) else int(element)
    return out


def of_array(array: np.ndarray[Any, Any]) -> ShapeValue | None:
    """The shape value of a known integer array; None where it is no candidate."""
    if array.dtype.kind not in "iu" or array.size > MAX_ELEMENTS:
        return None
    value: ShapeValue = np.array(array.tolist(), dtype=object).reshape(array.shape)
    return value


def of_constant(operand: Operand) -> ShapeValue | None:
    """The shape value of a scalar integer constant."""
    if isinstance(operand, Const) and operand.type.dtype in INTEGERS:
        return shape_value(int(operand.value.real))
    return None


def elementwise(fn: Callable[..., Any]) -> Callable[..., ShapeValue]:
    """A function of dimensions, applied to broadcast arrays of them."""
    inputs = 1 if fn in (operator.neg, abs) else 2
    universal = np.frompyfunc(fn, inputs, 1)
    return lambda *arrays, **attrs: np.asarray(universal(*arrays), dtype=object)


def _truncated(a: dims.Dim, b: dims.Dim) -> dims.Dim:
    if isinstance(a, int) and isinstance(b, int):
        quotient = abs(a) // abs(b)
        return quotient if (a < 0) == (b < 0) else -quotient
    return dims.floor_div(a, b)  # sizes are not negative, so truncation is the same


def _product(x: ShapeValue, *, axes: tuple[int, ...], keep_dims: bool = False) -> ShapeValue:
    return np.asarray(np.prod(x, axis=axes, keepdims=keep_dims), dtype=object)


def _sum(x: ShapeValue, *, axes: tuple[int, ...], keep_dims: bool = False) -> ShapeValue:
    return np.asarray(np.sum(x, axis=axes, keepdims=keep_dims), dtype=object)


def _slice(x: ShapeValue, *, begin: Any, size: Any, strides: Any = None) -> ShapeValue:
    out = x
    steps = strides or (1,) * len(begin)
    for axis, (start, count, step) in enumerate(zip(begin, size, steps, strict=True)):
        out = np.take(out, [start + i * step for i in range(count)], axis=axis)
    return out


def _cast(x: ShapeValue, *, dtype: str) -> ShapeValue:
    if dtype not in INTEGERS:
        raise TypeError("not an integer: a value, no shape")
    return x


def _gather(x: ShapeValue, i: ShapeValue, *, axis: int = 0, batch_dims: int = 0) -> ShapeValue:
    if batch_dims:
        raise TypeError("no shape arithmetic")
    return np.asarray(np.take(x, i.astype(np.int64), axis=axis), dtype=object)


TABLE: dict[str, Callable[..., ShapeValue]] = {
    "add": elementwise(operator.add),
    "sub": elementwise(operator.sub),
    "mul": elementwise(operator.mul),
    "neg": elementwise(operator.neg),
    "floor_div": elementwise(dims.floor_div),
    "trunc_div": elementwise(_truncated),
    "floor_mod": elementwise(lambda a, b: a - dims.floor_div(a, b) * b),
    "maximum": elementwise(dims.maximum),
    "minimum": elementwise(dims.minimum),
    "cast": _cast,
    "reshape": lambda x, *, shape: x.reshape(shape),
    "concat": lambda *xs, axis: np.concatenate(xs, axis=axis),
    "stack": lambda *xs, axis: np.stack(xs, axis=axis),
    "slice": _slice,
    "gather": _gather,
    "reduce_prod": _product,
    "reduce_sum": _sum,
    "broadcast_to": lambda x, *, shape: np.broadcast_to(x, shape),
    "fill": lambda x, *, shape: np.broadcast_to(x, shape),
    "transpose": lambda x, *, perm: np.transpose(x, perm),
    "reverse": lambda x, *, axes: np.flip(x, axes),
    "tile": lambda x, *, multiples: np.tile(x, multiples),
}


def evaluate(op: str, values: list[ShapeValue], attrs: dict[str, Any]) -> ShapeValue | None:
    """The shape value that ``op`` gives, or None where it has none."""
    rule = TABLE.get(op)
    if rule is None:
        return None
    try:
        result = rule(*values, **attrs)
    except (TypeError, ValueError, IndexError, ZeroDivisionError):
        return None  # what does not evaluate stays a tensor; its own op reports what is wrong
    return result if result.size <= MAX_ELEMENTS else None
