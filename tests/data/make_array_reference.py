"""What array functions do in TensorFlow: the cases, and the script that records them.

``python tests/data/make_array_reference.py`` (with TensorFlow installed) writes
``array_reference.json``; ``test_array_nodes.py`` runs the same cases on stepforge and compares:
nodes, values, gradients, errors.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

OUTPUT = Path(__file__).with_name("array_reference.json")


@dataclass(frozen=True)
class Case:
    """A function of a namespace and placeholders, and what is fed to these.

    ``shapes``: what is known of the placeholders' shapes where sizes are unknown, instead of only
    ranks. ``nodes``: the nodes it makes are compared too. ``error``: what a run raises, as (class,
    fragment of the message); ``static_error`` is the class that building with known shapes raises
    already.
    """

    build: Callable[..., Any]
    feeds: dict[str, np.ndarray[Any, Any]]
    nodes: bool = True
    gradient: bool = True
    error: tuple[str, str] | None = None
    static_error: str | None = None
    shapes: dict[str, list[int | None]] = field(default_factory=dict)


def floats(*shape: int, dtype: str = "float32") -> np.ndarray[Any, Any]:
    """Numbers without a pattern that an error could hide in."""
    count = int(np.prod(shape))
    return (((np.arange(count) * 37 + 5) % 101 - 50) / 8).astype(dtype).reshape(shape)


def ints(*values: Any, dtype: str = "int32") -> np.ndarray[Any, Any]:
    """An integer array."""
    return np.array(values[0] if len(values) == 1 else values, dtype=dtype)


def bools(*values: Any) -> np.ndarray[Any, Any]:
    """A bool array."""
    return np.array(values[0] if len(values) == 1 else values, dtype=bool)


def nn(tf: Any) -> Any:
    """The namespace of ``embedding_lookup``."""
    return getattr(tf, "nn", tf)


CASES: dict[str, Case] = {}
OPTIONS = ("nodes", "gradient", "error", "static_error", "shapes")


def case(name: str, build: Callable[..., Any], **options: Any) -> None:
    """Add a case; options that are no fields of ``Case`` are feeds."""
    fields = {k: options.pop(k) for k in OPTIONS if k in options}
    assert name not in CASES, name
    CASES[name] = Case(build, options, **fields)


# ---- shapes --------------------------------------------------------------------------------------
X = floats(2, 3, 4)
M = floats(3, 4)
V = floats(5)
INVALID = "InvalidArgumentError"

case("shape", lambda tf, x: tf.shape(x), x=X)
case("shape_int64", lambda tf, x: tf.shape(x, out_type=tf.int64), x=X)
case("shape_n", lambda tf, x, y: tf.shape_n([x, y]), x=X, y=V)
case("size", lambda tf, x: tf.size(x), x=X)
case("rank", lambda tf, x: tf.rank(x), x=X)
case("reshape", lambda tf, x: tf.reshape(x, [-1, 6]), x=X)
case("reshape_by_shape", lambda tf, x: tf.reshape(x, [tf.shape(x)[0], -1]), x=X)
case("reshape_flat", lambda tf, x: tf.reshape(x, [-1]), x=M)
case("reshape_scalar", lambda tf, x: tf.reshape(x, []), x=floats(1, 1), nodes=False)
case("reshape_fed", lambda tf, x, s: tf.reshape(x, s), x=M, s=ints(6, 2), shapes={"s": [2]})
case("reshape_partly_fed", lambda tf, x, n: tf.reshape(x, [n, 2, -1]), x=M, n=ints(3))
case(
    "reshape_wrong",
    lambda tf, x: tf.reshape(x, [3, 7]),
    x=floats(4),
    static_error="ValueError",
    error=(INVALID, "but the requested shape has 21"),
)
case(
    "reshape_not_divisible",
    lambda tf, x: tf.reshape(x, [-1, 3]),
    x=floats(4),
    static_error="ValueError",
    error=(INVALID, "the requested shape requires a multiple of 3"),
)
case("transpose", lambda tf, x: tf.transpose(x), x=X)
case("transpose_perm", lambda tf, x: tf.transpose(x, [1, 2, 0]), x=X)
case(
    "transpose_conjugate",
    lambda tf, x: tf.transpose(x, [1, 0], conjugate=True),
    x=(floats(2, 3) + 1j * floats(2, 3)).astype("complex64"),
    gradient=False,
)
case("matrix_transpose", lambda tf, x: tf.matrix_transpose(x), x=X)
case("expand_dims", lambda tf, x: tf.expand_dims(x, -1), x=M)
case("expand_dims_0", lambda tf, x: tf.expand_dims(x, 0), x=M)
case("squeeze_axes", lambda tf, x: tf.squeeze(x, [0, 2]), x=floats(1, 3, 1))
case("squeeze_negative", lambda tf, x: tf.squeeze(x, axis=-1), x=floats(2, 3, 1))
case(
    "squeeze_wrong",
    lambda tf, x: tf.squeeze(x, [0]),
    x=M,
    static_error="ValueError",
    error=(INVALID, "Can not squeeze dim[0], expected a dimension of 1, got"),
)
case("broadcast_to", lambda tf, x: tf.broadcast_to(x, [2, 5]), x=V)
case(
    "broadcast_to_axis",
    lambda tf, x: tf.broadcast_to(x, [2, 3, 4]),
    x=floats(3, 1),
    shapes={"x": [None, 1]},
)
case(
    "broadcast_dynamic_shape",
    lambda tf, x, y: tf.broadcast_dynamic_shape(tf.shape(x), tf.shape(y)),
    x=floats(3, 1),
    y=V,
)
case("invert_permutation", lambda tf, p: tf.invert_permutation(p), p=ints(2, 0, 1))
case("zeros_like", lambda tf, x: tf.zeros_like(x), x=M)
case("ones_like", lambda tf, x: tf.ones_like(x), x=M)
case("zeros_like_int", lambda tf, x: tf.zeros_like(x, dtype=tf.int32), x=M)
case("zeros_by_shape", lambda tf, x: tf.zeros(tf.stack([tf.shape(x)[0], 2])), x=M)
case("zeros_fed_size", lambda tf, n: tf.zeros([n, 2]), n=ints(3))
case("zeros_constant", lambda tf: tf.zeros([2, 3]))
case("zeros_large", lambda tf: tf.zeros([40, 30], tf.int64))
case("zeros_of_number", lambda tf: tf.zeros(5, tf.int32))
case("ones_constant", lambda tf: tf.ones((2,), tf.float64))
case("fill", lambda tf, v: tf.fill([2, 3], v), v=floats()[()])
case("fill_fed_size", lambda tf, v, n: tf.fill([n, 3], v), v=floats()[()], n=ints(2))
case("range", lambda tf: tf.range(5))
case("range_fed", lambda tf, n: tf.range(n), n=ints(4))
case("range_from_to", lambda tf, a, n: tf.range(a, n, 3), a=ints(-4), n=ints(9))
case("range_down", lambda tf, a, n: tf.range(a, n, -2), a=ints(9), n=ints(0))
case("range_delta", lambda tf, n, d: tf.range(1, n, d), n=ints(-9), d=ints(-4))
case("range_float", lambda tf, n: tf.range(0.5, n, 0.7), n=floats()[()] * 0 + np.float32(6))
case("range_long", lambda tf, n: tf.range(n), n=ints(100))
case(
    "range_wrong",
    lambda tf, n: tf.range(n, 2),
    n=ints(5),
    error=(INVALID, "Requires start <= limit when delta > 0"),
)
case(
    "linspace",
    lambda tf, a, b: tf.linspace(a, b, 7),
    nodes=False,
    a=np.float32(0.3),
    b=np.float32(7.77),
)
case(
    "linspace_1",
    lambda tf, a, b: tf.linspace(a, b, 1),
    nodes=False,
    a=np.float32(0.3),
    b=np.float32(7.77),
)

# ---- joining, cutting ----------------------------------------------------------------------------
case("concat", lambda tf, x, y: tf.concat([x, y], 1), x=M, y=floats(3, 2))
case("concat_0", lambda tf, x, y: tf.concat([x, y, x], 0), x=M, y=floats(1, 4))
case("concat_constant", lambda tf, x: tf.concat([x, [[1.0, 2.0]]], 0), x=floats(3, 2))
case("concat_single", lambda tf, x: tf.concat([x], 1), x=M)
case("concat_sizes", lambda tf, x: tf.concat([tf.shape(x)[:1], [7]], 0), x=M)
case(
    "concat_wrong",
    lambda tf, x, y: tf.concat([x, y], 0),
    x=M,
    y=floats(3, 2),
    static_error="ValueError",
    error=(INVALID, ""),
)
case("stack", lambda tf, x, y: tf.stack([x, y]), x=M, y=M + 1)
case("stack_axis", lambda tf, x, y: tf.stack([x, y], axis=-1), x=M, y=M + 1)
case("stack_numbers", lambda tf, n: tf.stack([n, 2, 3]), n=ints(1))
case(
    "stack_wrong",
    lambda tf, x, y: tf.stack([x, y], 1),
    x=V,
    y=floats(4),
    static_error="ValueError",
    error=(INVALID, ""),
)
case("unstack", lambda tf, x: tf.unstack(x, num=3, axis=1), x=X)
case("unstack_some", lambda tf, x: tf.unstack(x, num=3)[1], x=M)
case("split", lambda tf, x: tf.split(x, 2, axis=-1), x=M)
case("split_some", lambda tf, x: tf.split(x, 3)[2], x=M)
case("split_sizes", lambda tf, x: tf.split(x, [1, 3], 1), x=M)
case("split_rest", lambda tf, x: tf.split(x, [1, -1, 1], 1), x=M)
case("split_fed", lambda tf, x, s: tf.split(x, s, 1, num=2), x=M, s=ints(3, 1))
case(
    "split_wrong",
    lambda tf, x: tf.split(x, 2),
    x=M,
    static_error="ValueError",
    error=(INVALID, "Number of ways to split should evenly divide the split dimension"),
)
case(
    "split_sizes_wrong",
    lambda tf, x: tf.split(x, [1, 1]),
    x=M,
    static_error="ValueError",
    error=(INVALID, "Determined shape must either match input shape along split_dim exactly"),
)
case("tile", lambda tf, x: tf.tile(x, [2, 3]), x=M)
case("tile_fed", lambda tf, x, n: tf.tile(x, [1, n]), x=M, n=ints(2))
case("pad", lambda tf, x: tf.pad(x, [[1, 2], [0, 3]]), x=M)
case("pad_value", lambda tf, x: tf.pad(x, [[1, 0], [2, 0]], constant_values=5), x=M)
case("pad_fed", lambda tf, x, p: tf.pad(x, p), x=M, p=ints([[1, 1], [2, 0]]))
case("pad_reflect", lambda tf, x: tf.pad(x, [[2, 1], [0, 3]], "REFLECT"), x=M)
case("pad_symmetric", lambda tf, x: tf.pad(x, [[3, 1], [0, 4]], "symmetric"), x=M)
case(
    "pad_reflect_wrong",
    lambda tf, x: tf.pad(x, [[3, 0], [0, 0]], "REFLECT"),
    x=M,
    static_error="ValueError",
    error=(INVALID, "paddings must be less than the dimension size: 3, 0"),
)
case("reverse", lambda tf, x: tf.reverse(x, [0, -1]), x=X)
case("reverse_sequence", lambda tf, x, n: tf.reverse_sequence(x, n, seq_axis=1), x=X, n=ints(3, 2))
case(
    "reverse_sequence_axes",
    lambda tf, x, n: tf.reverse_sequence(x, n, seq_axis=0, batch_axis=2),
    x=X,
    n=ints(1, 2, 0, 2),
)
case("space_to_depth", lambda tf, x: tf.space_to_depth(x, 2), x=floats(1, 4, 2, 3))
case("depth_to_space", lambda tf, x: tf.depth_to_space(x, 2), x=floats(2, 1, 2, 12))

# ---- slicing -------------------------------------------------------------------------------------
case("slice", lambda tf, x: tf.slice(x, [0, 1], [-1, 2]), x=M)
case("slice_fed", lambda tf, x, b, s: tf.slice(x, [b, 1], [s, -1]), x=M, b=ints(1), s=ints(2))
case(
    "slice_wrong",
    lambda tf, x: tf.slice(x, [1, 0], [5, -1]),
    x=M,
    static_error="ValueError",
    error=(INVALID, "Expected size[0] in [0, "),
)
case(
    "slice_begin_wrong",
    lambda tf, x, b: tf.slice(x, b, [1, 1]),
    x=M,
    b=ints(4, 0),
    error=(INVALID, "Expected begin[0] in [0, "),
)
case("strided_slice", lambda tf, x: tf.strided_slice(x, [0, 1], [2, 4], [1, 2]), x=M)
case(
    "strided_slice_masks",
    lambda tf, x: tf.strided_slice(x, [0, 1], [2, 3], [1, 2], begin_mask=1, shrink_axis_mask=2),
    x=M,
)
GETITEMS: dict[str, Callable[[Any], Any]] = {
    "0": lambda x: x[0],
    "-1": lambda x: x[-1],
    "1,2": lambda x: x[1, 2],
    "1,-2,3": lambda x: x[1, -2, 3],
    "1:": lambda x: x[1:],
    ":-1": lambda x: x[:-1],
    ":,1:3": lambda x: x[:, 1:3],
    ":,::-1": lambda x: x[:, ::-1],
    "::2,1::2": lambda x: x[::2, 1::2],
    "...,::3": lambda x: x[..., ::3],
    "...,None,::2": lambda x: x[..., None, ::2],
    "-1,None": lambda x: x[-1, None],
    "None,...,0": lambda x: x[None, ..., 0],
    ":,-2:": lambda x: x[:, -2:],
    ":,-2:-1": lambda x: x[:, -2:-1],
    ":,5:": lambda x: x[:, 5:],
    ":,:9": lambda x: x[:, :9],
    ":,-9:9": lambda x: x[:, -9:9],
    ":,2:1": lambda x: x[:, 2:1],
    ":,:,3:0:-2": lambda x: x[:, :, 3:0:-2],
    ":,:,-1:-9:-1": lambda x: x[:, :, -1:-9:-1],
    ":,:,9::-3": lambda x: x[:, :, 9::-3],
    ":,:,1:3:-1": lambda x: x[:, :, 1:3:-1],
    "()": lambda x: x[()],
}
for _text, _item in GETITEMS.items():
    case(f"x[{_text}]", lambda tf, x, item=_item: item(x), x=X)
case("x[i]", lambda tf, x, i: x[i], x=X, i=ints(1))
case("x[negative i]", lambda tf, x, i: x[:, i], x=X, i=ints(-2))
case("x[i:i+2]", lambda tf, x, i: x[:, i : i + 2, 1], x=X, i=ints(1))
case("x[i:] negative", lambda tf, x, i: x[:, i:], x=X, i=ints(-1))
case("x[:i] large", lambda tf, x, i: x[:, :i], x=X, i=ints(9))
case("x[i] int64", lambda tf, x, i: x[i, 1:2], x=X, i=ints(1, dtype="int64"))
case(
    "x[i] wrong",
    lambda tf, x, i: x[i],
    x=X,
    i=ints(2),
    error=(INVALID, " of dimension 0 out of bounds."),
)
case(
    "x[3] wrong",
    lambda tf, x: x[2],
    x=X,
    static_error="ValueError",
    error=(INVALID, "slice index 2 of dimension 0 out of bounds."),
)
case("x[n-1]", lambda tf, x: x[:, tf.shape(x)[1] - 1], x=X)
case("x[:n//2]", lambda tf, x: x[:, :, : tf.shape(x)[2] // 2], x=X)
case("x[mask]", lambda tf, x, m: x[m], x=M, m=bools(True, False, True))
case("shift", lambda tf, x: x[:, 1:] - x[:, :-1], x=M)

# ---- indexing ------------------------------------------------------------------------------------
case("gather", lambda tf, x, i: tf.gather(x, i), x=M, i=ints([[2, 0], [2, 1]]))
case("gather_scalar", lambda tf, x, i: tf.gather(x, i), x=M, i=ints(1))
case("gather_axis", lambda tf, x, i: tf.gather(x, i, axis=1), x=X, i=ints([[2, 0], [2, 1]]))
case("gather_last", lambda tf, x, i: tf.gather(x, i, axis=-1), x=X, i=ints(3, 3, 0))
case(
    "gather_batch",
    lambda tf, x, i: tf.gather(x, i, axis=1, batch_dims=1),
    x=X,
    i=ints([[2, 0], [1, 1]]),
)
case(
    "gather_batch_axis",
    lambda tf, x, i: tf.gather(x, i, axis=2, batch_dims=1),
    x=X,
    i=ints([[2, 0, 0], [1, 1, 3]]),
)
case(
    "batch_gather",
    lambda tf, x, i: tf.batch_gather(x, i),
    x=M,
    nodes=False,
    i=ints([[2, 0], [1, 1], [3, 2]]),
)
case(
    "gather_wrong",
    lambda tf, x, i: tf.gather(x, i),
    x=M,
    i=ints([[0, 5]]),
    error=(INVALID, "indices[0,1] = 5 is not in [0, 3)"),
)
case(
    "gather_negative",
    lambda tf, x, i: tf.gather(x, i, axis=1),
    x=M,
    i=ints(0, -1),
    error=(INVALID, "indices[1] = -1 is not in [0, 4)"),
)
case(
    "gather_nd",
    lambda tf, x, i: tf.gather_nd(x, i),
    x=X,
    i=ints([[0, 2], [1, 1], [0, 2]]),
    shapes={"i": [None, 2]},
)
case(
    "gather_nd_rows",
    lambda tf, x, i: tf.gather_nd(x, i),
    x=M,
    i=ints([[2], [0], [2]]),
    shapes={"i": [None, 1]},
)
case(
    "gather_nd_wrong",
    lambda tf, x, i: tf.gather_nd(x, i),
    x=M,
    i=ints([[0, 5]]),
    shapes={"i": [None, 2]},
    error=(INVALID, ""),
)
case(
    "scatter_nd",
    lambda tf, i, x: tf.scatter_nd(i, x, [5, 4]),
    i=ints([[3], [0], [3]]),
    x=M,
    shapes={"i": [None, 1]},
)
case(
    "scatter_nd_points",
    lambda tf, i, x: tf.scatter_nd(i, x, [2, 3]),
    i=ints([[0, 1], [1, 2], [0, 1], [1, 0], [0, 0]]),
    x=V,
    shapes={"i": [None, 2]},
)
case(
    "scatter_nd_wrong",
    lambda tf, i, x: tf.scatter_nd(i, x, [2, 4]),
    i=ints([[3], [0], [3]]),
    x=M,
    shapes={"i": [None, 1]},
    error=(INVALID, ""),
)
for _kind in ("update", "add", "sub", "max", "min"):
    _name = {
        "update": "tensor_scatter_update",
        "add": "tensor_scatter_add",
        "sub": "tensor_scatter_sub",
        "max": "tensor_scatter_nd_max",
        "min": "tensor_scatter_nd_min",
    }[_kind]
    case(
        _name,
        lambda tf, x, i, u, name=_name: getattr(tf, name)(x, i, u),
        x=floats(4, 2),
        i=ints([[3], [1]]),
        u=floats(2, 2) * 3 + 1,
        shapes={"i": [None, 1]},
    )
case("one_hot", lambda tf, i: tf.one_hot(i, 4), i=ints([0, 3], [7, -1]))
case("one_hot_values", lambda tf, i: tf.one_hot(i, 3, 5.0, -1.0, axis=0), i=ints(0, 2))
case("one_hot_int", lambda tf, i: tf.one_hot(i, 3, dtype=tf.int64), i=ints(0, 2))
case("one_hot_fed_depth", lambda tf, i, n: tf.one_hot(i, n), i=ints(0, 2), n=ints(4))
case("where", lambda tf, c: tf.where(c), c=bools([[True, False], [False, True], [True, True]]))
case("where_numbers", lambda tf, c: tf.where(c), c=ints([0, 2, 0, -1]))
case("where_choose", lambda tf, c, x, y: tf.where(c, x, y), c=M > 0, x=M, y=M * 2)
case("where_rows", lambda tf, c, x, y: tf.where(c, x, y), c=bools(True, False, True), x=M, y=M * 2)
case("where_scalar", lambda tf, c, x, y: tf.where(c, x, y), c=bools(True), x=M, y=M * 2)
case(
    "where_v2",
    lambda tf, c, x, y: tf.where_v2(c, x, y),
    c=bools([[True], [False], [True]]),
    x=floats(4),
    y=floats()[()],
)
case(
    "where_wrong",
    lambda tf, c, x, y: tf.where(c, x, y),
    c=bools(True, False),
    x=M,
    y=M,
    static_error="ValueError",
    error=(INVALID, ""),
)
case("boolean_mask", lambda tf, x, m: tf.boolean_mask(x, m), x=M, m=bools(True, False, True))
case(
    "boolean_mask_axis",
    lambda tf, x, m: tf.boolean_mask(x, m, axis=1),
    x=M,
    m=bools(True, False, True, True),
)
case(
    "boolean_mask_matrix",
    lambda tf, x, m: tf.boolean_mask(x, m),
    x=X,
    m=bools([[True, False, True], [False, False, True]]),
)
case("unique", lambda tf, x: tf.unique(x), x=ints(5, 3, 5, 1, 3))
case("unique_with_counts", lambda tf, x: tf.unique_with_counts(x, tf.int64), x=ints(5, 3, 5, 1, 3))
case("setdiff1d", lambda tf, x, y: tf.setdiff1d(x, y), x=ints(5, 3, 5, 1), y=ints(3, 9))
case("dynamic_partition", lambda tf, x, p: tf.dynamic_partition(x, p, 3), x=M, p=ints(2, 0, 2))
case(
    "dynamic_partition_points",
    lambda tf, x, p: tf.dynamic_partition(x, p, 2),
    x=floats(2, 3),
    p=ints([0, 1, 1], [1, 0, 1]),
)
case(
    "dynamic_partition_wrong",
    lambda tf, x, p: tf.dynamic_partition(x, p, 2),
    x=floats(3),
    p=ints(0, 1, 2),
    error=(INVALID, "partitions[2] = 2 is not in [0, 2)"),
)
case(
    "dynamic_stitch",
    lambda tf, i, j, x, y: tf.dynamic_stitch([i, j], [x, y]),
    i=ints(0, 3),
    j=ints(2, 1, 3),
    x=floats(2, 2),
    y=floats(3, 2) + 10,
    gradient=False,
)
case(
    "dynamic_stitch_gradient",
    lambda tf, i, j, x, y: tf.dynamic_stitch([i, j], [x, y]),
    i=ints(0, 3),
    j=ints(2, 1),
    x=floats(2, 2),
    y=floats(2, 2) + 10,
)
case("sequence_mask", lambda tf, n: tf.sequence_mask(n, 4), n=ints(1, 0, 3))
case("sequence_mask_longest", lambda tf, n: tf.sequence_mask(n, dtype=tf.float32), n=ints(1, 0, 3))
case("meshgrid", lambda tf, x, y: tf.meshgrid(x, y), x=V, y=floats(3))
case("meshgrid_ij", lambda tf, x, y: tf.meshgrid(x, y, indexing="ij"), x=V, y=floats(3))
case("repeat", lambda tf, x: tf.repeat(x, 2, axis=1), x=M, nodes=False)
case("repeat_each", lambda tf, x, n: tf.repeat(x, n, axis=0), x=M, n=ints(2, 0, 3), nodes=False)
case("repeat_flat", lambda tf, x: tf.repeat(x, 2), x=M, nodes=False)
case("sort", lambda tf, x: tf.sort(x), x=M)
case("sort_axis", lambda tf, x: tf.sort(x, axis=0, direction="DESCENDING"), x=M)
case("sort_int", lambda tf, x: tf.sort(x), x=ints(5, -(2**31), 2**31 - 1, 0))
case("argsort", lambda tf, x: tf.argsort(x), x=M)
case(
    "argsort_ties",
    lambda tf, x: tf.argsort(x, direction="DESCENDING", stable=True),
    x=np.float32([1, 0, 1, 2, 0]),
)
for _kind in ("sum", "mean", "prod", "max", "min"):
    case(
        f"segment_{_kind}",
        lambda tf, x, i, kind=_kind: getattr(tf, f"segment_{kind}")(x, i),
        x=floats(5, 2),
        i=ints(0, 0, 1, 3, 3),
    )
for _kind in ("sum", "prod", "max", "min"):
    case(
        f"unsorted_segment_{_kind}",
        lambda tf, x, i, kind=_kind: getattr(tf, f"unsorted_segment_{kind}")(x, i, 4),
        x=floats(5, 2),
        i=ints(3, -1, 1, 3, 0),
    )
case(
    "unsorted_segment_mean",
    lambda tf, x, i: tf.unsorted_segment_mean(x, i, 4),
    nodes=False,
    x=floats(5, 2),
    i=ints(3, 0, 1, 3, 0),
)
case(
    "unsorted_segment_sqrt_n",
    lambda tf, x, i: tf.unsorted_segment_sqrt_n(x, i, 4),
    nodes=False,
    x=floats(5, 2),
    i=ints(3, 0, 1, 3, 0),
)
case(
    "unsorted_segment_matrix",
    lambda tf, x, i: tf.unsorted_segment_sum(x, i, 3),
    x=X,
    i=ints([0, 2, 2], [1, 0, 2]),
)
case(
    "segment_unsorted",
    lambda tf, x, i: tf.segment_sum(x, i),
    x=V,
    i=ints(0, 2, 1, 3, 3),
    error=(INVALID, "segment ids are not increasing"),
)
case(
    "embedding_lookup", lambda tf, x, i: nn(tf).embedding_lookup(x, i), x=M, i=ints([2, 0], [2, 1])
)
case(
    "embedding_lookup_max_norm",
    lambda tf, x, i: nn(tf).embedding_lookup(x, i, max_norm=2.0),
    x=M,
    i=ints(2, 0, 2),
)
case(
    "embedding_lookup_mod",
    lambda tf, x, y, i: nn(tf).embedding_lookup([x, y], i),
    x=M,
    y=floats(2, 4) + 20,
    i=ints(0, 1, 4, 3, 0),
)


# ---- recording -----------------------------------------------------------------------------------
def weights(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The gradient that comes from above: one number for each element of an output."""
    return ((np.arange(int(np.prod(shape))) * 5 % 7 - 3) / 2).reshape(shape)


def as_list(result: Any) -> list[Any]:
    """One output or several as a list."""
    return list(result) if isinstance(result, (list, tuple)) else [result]


def as_json(value: Any) -> Any:
    """An array as dtype, shape and elements."""
    array = np.asarray(value)
    flat = array.reshape(-1)
    if array.dtype.kind == "c":
        flat = flat.view(flat.real.dtype)
    return {"dtype": str(array.dtype), "shape": list(array.shape), "values": flat.tolist()}


def placeholders(tf: Any, entry: Case, static: bool) -> dict[str, Any]:
    """A placeholder for each feed, of its shape or of what is known of it."""
    found = {}
    for name, array in entry.feeds.items():
        shape = array.shape if static else entry.shapes.get(name, [None] * array.ndim)
        found[name] = tf.placeholder(str(array.dtype), shape, name=name)
    return found


def described(ops: list[Any]) -> list[Any]:
    """Name, type and inputs of nodes."""
    return [[op.name, op.type, [t.name for t in op.inputs]] for op in ops]


def record(tf: Any, entry: Case) -> dict[str, Any]:
    """What TensorFlow makes of a case."""
    found: dict[str, Any] = {}
    with tf.Graph().as_default() as graph:
        inputs = placeholders(tf, entry, static=False)
        count = len(graph.get_operations())
        outputs = as_list(entry.build(tf, **inputs))
        if entry.nodes:
            found["nodes"] = described(graph.get_operations()[count:])
        feed = {inputs[name]: array for name, array in entry.feeds.items()}
        with tf.Session() as session:
            try:
                values = session.run(outputs, feed)
            except tf.errors.OpError as error:
                message = re.sub(
                    r"(?s)^Graph execution error:.*?\nNode: [^\n]*\n", "", error.message
                )
                found["error"] = [type(error).__name__, message.split("\n\t [[")[0]]
                return found
            found["values"] = [as_json(value) for value in values]
            found["gradients"] = gradients(tf, session, entry, inputs, outputs, values, feed)
    return found


def gradients(
    tf: Any, session: Any, entry: Case, inputs: Any, outputs: Any, values: Any, feed: Any
) -> dict[str, Any]:
    """The gradients of all floating outputs for each floating input."""
    wanted = {k: t for k, t in inputs.items() if t.dtype.is_floating}
    ys = [(t, v) for t, v in zip(outputs, values, strict=True) if t.dtype.is_floating]
    if not entry.gradient or not wanted or not ys:
        return {}
    above = [tf.constant(weights(np.shape(v)), t.dtype) for t, v in ys]
    slopes = tf.gradients([t for t, _ in ys], list(wanted.values()), above)
    found = {}
    for name, slope in zip(wanted, slopes, strict=True):
        if slope is not None:
            found[name] = as_json(session.run(tf.convert_to_tensor(slope), feed))
            found[name]["sparse"] = isinstance(slope, tf.IndexedSlices)
    return found


def main() -> None:
    """Write the reference."""
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    tf.logging.set_verbosity(tf.logging.ERROR)
    found = {name: record(tf, entry) for name, entry in CASES.items()}
    for name, entry in CASES.items():
        if ("error" in found[name]) != (entry.error is not None):
            sys.exit(f"{name}: {found[name].get('error')}")
        if entry.error and entry.error[1] not in found[name]["error"][1]:
            sys.exit(f"{name}: {found[name]['error']}")
    OUTPUT.write_text(json.dumps(found, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
