"""Array functions as cases to compare with TensorFlow: shapes, joining and cutting, slicing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np


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
case(
    "reshape_fed_rest",
    lambda tf, x, s: tf.reshape(x, s),
    x=M,
    s=ints(2, -1, 3),
    shapes={"s": [3]},
)
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
