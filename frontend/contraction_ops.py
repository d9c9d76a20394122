"""API functions that contract axes: ``tf.tensordot``, ``tf.einsum``, ``tf.norm``."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.frontend import elementwise_ops, linalg_ops, reduction_ops
from stepforge.frontend.array_calls import constant_value
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.dtypes import int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.indexing_ops import gather
from stepforge.frontend.joining_ops import concat, stack
from stepforge.frontend.node_calls import call, renamed
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import expand_dims, reshape, shape, squeeze, transpose


# ---- tensordot ----------------------------------------------------------------------------------
def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """The sum of products over ``axes``: a number of them (last of a, first of b), or two lists.

    Raises: ValueError for axes that do not fit.
    """
    with name_scope(name, "Tensordot") as scope:
        left = convert_to_tensor(a, name="a")
        right = convert_to_tensor(b, name="b")
        left_axes, right_axes = _contracted(left, right, axes)
        first, left_sizes = _flattened(left, left_axes, flipped=False)
        second, right_sizes = _flattened(right, right_axes, flipped=True)
        product = linalg_ops.matmul(first, second)
        if isinstance(left_sizes, list) and isinstance(right_sizes, list):
            sizes = left_sizes + right_sizes
            known = product.shape.is_fully_defined() and product.shape.as_list() == sizes
            return product if known else reshape(product, sizes, name=scope)
        parts = [convert_to_tensor(sizes, int32) for sizes in (left_sizes, right_sizes)]
        return reshape(product, concat(parts, 0), name=scope)


def _contracted(a: Tensor, b: Tensor, axes: Any) -> tuple[list[int], list[int]]:
    """The contracted axes of both, >= 0."""
    if isinstance(axes, Tensor):
        axes = constant_value(axes)
        if axes is None:
            raise ValueError("tensordot: `axes` must be known while the graph is built")
        axes = axes.tolist()
    ranks = a.shape.ndims, b.shape.ndims
    if ranks[0] is None or ranks[1] is None:
        raise ValueError("tensordot: the ranks of both tensors must be known")
    if isinstance(axes, (int, np.integer)):
        if axes < 0:
            raise ValueError(f"`axes` must be at least 0. Received: {axes}.")
        if axes > ranks[0]:
            raise ValueError(
                f"`axes` must not be larger than the number of dimensions of tensor {a}.  "
                f"Received {axes}, vs tensor dimensions {ranks[0]}."
            )
        return list(range(ranks[0] - axes, ranks[0])), list(range(axes))
    if len(axes) != 2:
        raise ValueError(f"`axes` must be an integer or have length 2. Received {axes}.")
    first, second = [np.atleast_1d(np.asarray(part, np.int64)).tolist() for part in axes]
    if len(first) != len(second):
        raise ValueError(
            f"Different number of contraction axes `a` and `b`, {len(first)} != {len(second)}."
        )
    return [n % ranks[0] for n in first], [n % ranks[1] for n in second]


def _flattened(value: Tensor, axes: list[int], *, flipped: bool) -> tuple[Tensor, Any]:
    """The tensor as a matrix of free by contracted axes (or ``flipped``), and the free sizes."""
    free = [axis for axis in range(value.shape.ndims or 0) if axis not in axes]
    perm = axes + free if flipped else free + axes
    if not value.shape.is_fully_defined():
        sizes = shape(value)
        free_sizes = gather(sizes, convert_to_tensor(free, int32, "free"))
        axes_sizes = gather(sizes, convert_to_tensor(axes, int32, "axes"))
        counts = [reduction_ops.reduce_prod(part) for part in (free_sizes, axes_sizes)]
        new_shape = stack(counts[::-1] if flipped else counts)
        return reshape(transpose(value, perm), new_shape), free_sizes
    static = [n or 0 for n in value.shape.as_list()]
    groups = [math.prod([static[axis] for axis in part]) for part in (free, axes)]
    matrix_shape = groups[::-1] if flipped else groups
    moved = value if perm == list(range(len(static))) else transpose(value, perm)
    matrix = moved if moved.shape.as_list() == matrix_shape else reshape(moved, matrix_shape)
    return matrix, [static[axis] for axis in free]


# ---- einsum -------------------------------------------------------------------------------------
def einsum(equation: str, *inputs: Any, **keywords: Any) -> Tensor:
    """The sum of products that ``equation`` (``"ij,jk->ik"``) describes; ``...`` broadcasts.

    More than two inputs are contracted in pairs, in the order that costs least.
    Raises: ValueError for an equation that does not fit the inputs, TypeError for unknown keywords.
    """
    name = keywords.pop("name", None)
    optimize = keywords.pop("optimize", "greedy")
    if keywords:
        raise TypeError(
            f"Invalid keyword arguments for einsum: {', '.join(keywords)}. Valid arguments: name, "
            "optimize, greedy."
        )
    with name_scope(name, "einsum"):
        tensors = [convert_to_tensor(value, name=f"inputs_{i}") for i, value in enumerate(inputs)]
        resolved = _resolved(equation, len(tensors))
        while len(tensors) > 2:
            resolved = _contract_pair(resolved, tensors, optimize)
        return einsum_node(tensors, resolved)


def einsum_node(inputs: Sequence[Tensor], equation: str) -> Tensor:
    """One ``Einsum`` node of one or two tensors."""
    return create_op("Einsum", inputs, {"equation": equation}).outputs[0]


def _resolved(equation: str, count: int) -> str:
    """The equation with its result spelt out. Raises: ValueError where it is malformed."""
    compact = equation.replace(" ", "")
    match = re.fullmatch(r"((?:[a-zA-Z,]|\.\.\.)*)(->(?:[a-zA-Z]|\.\.\.)*)?", compact)
    if not match:
        raise ValueError(f"Subscripts have incorrect format: {compact}")
    sources, target = match.group(1), match.group(2)
    if len(sources.split(",")) != count:
        raise ValueError(
            f'Got {count} inputs for equation "{equation}", expecting {len(sources.split(","))}'
        )
    labels = Counter(sources.replace("...", "").replace(",", ""))
    if target is None:
        hidden = "..." if "..." in sources else ""
        target = "->" + hidden + "".join(n for n in sorted(labels) if labels[n] == 1)
    _check_target(target[2:], labels, equation)
    return sources + target


def _check_target(target: str, labels: Counter[str], equation: str) -> None:
    if target.count("...") > 1:
        raise ValueError(f"Output subscripts contain multiple ellipsis: {equation}")
    letters = target.replace("...", "")
    if len(set(letters)) < len(letters):
        raise ValueError(f"Output subscripts contain a label appearing more than once: {equation}")
    for label in letters:
        if label not in labels:
            raise ValueError(
                f"Output subscripts contain the label {label} not present in the input subscripts."
            )


def _contract_pair(equation: str, tensors: list[Tensor], optimize: Any) -> str:
    """Contract the best pair of ``tensors`` in place; returns the equation of the rest."""
    sources, target = equation.split("->")
    parts = sources.split(",")
    first, second = sorted(_best_pair(equation, tensors, optimize))
    chosen = [parts[first], parts[second]]
    rest = [part for i, part in enumerate(parts) if i not in (first, second)]
    hidden = "..." if any("..." in part for part in chosen) else ""
    needed = set("".join(rest) + target)
    result = hidden + "".join(
        n for n in dict.fromkeys("".join(chosen).replace(".", "")) if n in needed
    )
    pair = [tensors[first], tensors[second]]
    del tensors[second], tensors[first]
    tensors.append(einsum_node(pair, f"{','.join(chosen)}->{result}"))
    return ",".join([*rest, result]) + "->" + target


def _best_pair(equation: str, tensors: list[Tensor], optimize: Any) -> tuple[int, int]:
    """The two operands to begin with; unknown sizes count as 32."""
    shapes = [tuple(n or 32 for n in t.shape.sizes or ()) for t in tensors]
    try:
        models = [np.broadcast_to(np.float32(0), sizes) for sizes in shapes]
        path = np.einsum_path(equation, *models, optimize=optimize or "greedy")[0]
    except ValueError:
        return 0, 1  # the nodes will say what does not fit
    pair = tuple(path[1])
    return (int(pair[0]), int(pair[1])) if len(pair) == 2 else (0, 1)


# ---- norms --------------------------------------------------------------------------------------
def norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: Any = None,
    name: str | None = None,
    keep_dims: Any = None,
) -> Tensor:
    """The norm of vectors along one axis, of matrices along two, or of all elements.

    ``ord`` is "euclidean", 1, 2, infinity, any positive number (vectors), or "fro" (matrices).
    Raises: ValueError for another ``ord`` or ``axis``.
    """
    keepdims = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    matrix = isinstance(axis, (tuple, list)) and len(axis) == 2
    axes = _norm_axes(axis, matrix)
    _check_order(ord, matrix)
    with name_scope(name, "norm"):
        value = convert_to_tensor(tensor)
        result = _norm(value, ord, axes, matrix)
        if keepdims:
            return result
        return squeeze(result, axes)


def _norm_axes(axis: Any, matrix: bool) -> tuple[int, ...] | None:
    whole = "'axis' must be None, an integer, or a tuple of 2 unique integers, got"
    if matrix:
        if not all(isinstance(a, int) for a in axis) or axis[0] == axis[1]:
            raise ValueError(f"{whole} {axis}")
        return tuple(axis)
    if axis is not None and not isinstance(axis, int):
        raise ValueError(f"{whole} {axis}")
    return None if axis is None else (axis,)


def _check_order(ord: Any, matrix: bool) -> None:
    names = ["euclidean", "fro"] if matrix else ["euclidean"]
    if ord in [*names, 1, 2, np.inf]:
        return
    if matrix:
        supported = [*names, 1, 2, np.inf]
        raise ValueError(f"'ord' must be a supported matrix norm in {supported}, got {ord}")
    if isinstance(ord, str) or not np.isreal(ord) or ord <= 0:
        raise ValueError(f"'ord' must be a supported vector norm, got {ord}")


def _norm(value: Tensor, ord: Any, axes: tuple[int, ...] | None, matrix: bool) -> Tensor:
    reduce_sum, reduce_max = reduction_ops.reduce_sum, reduction_ops.reduce_max
    if ord in ("fro", "euclidean", 2):
        if matrix and ord == 2:
            return _spectral_norm(value, axes or ())
        squares = call("Mul", (value, elementwise_ops.conj(value)), None, "mul")
        return elementwise_ops.sqrt(reduce_sum(squares, axes, keepdims=True))
    size = elementwise_ops.abs(value)
    if ord == 1:
        result = reduce_sum(size, None if axes is None else axes[0], keepdims=True)
        return reduce_max(result, axes[-1], keepdims=True) if matrix and axes else result
    if ord == np.inf:
        if matrix and axes:
            size = reduce_sum(size, axes[1], keepdims=True)
        return reduce_max(size, None if axes is None else axes[0], keepdims=True)
    powers = reduce_sum(elementwise_ops.pow(size, ord), axes, keepdims=True)
    return elementwise_ops.pow(powers, 1.0 / ord)


def _spectral_norm(value: Tensor, axes: Sequence[int]) -> Tensor:
    """The largest singular value; the two axes go last meanwhile and come back with size 1."""
    rank = value.shape.ndims
    if rank is None:
        raise ValueError("norm: the 2-norm of matrices wants a known rank")
    pair = [axis % rank for axis in axes]
    order = [axis for axis in range(rank) if axis not in pair] + pair
    values = linalg_ops.svd(transpose(value, order), compute_uv=False)
    largest = expand_dims(reduction_ops.reduce_max(values, -1, keepdims=True), -1)
    return transpose(largest, [order.index(axis) for axis in range(rank)])
