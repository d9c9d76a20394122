"""The API functions that random programs call: each as a line of Python and as NumPy.

A maker draws operands from the nodes so far and adds one node; where nothing fits it does nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from fuzz.graphs import (
    FULL,
    MANTISSA,
    Graph,
    anything,
    broadcast,
    count_bits,
    has_axes,
    is_float,
    is_int,
)
from fuzz.programs import Node, Wrong
from fuzz.shared import Array

Maker = Callable[[Graph], Any]

# ---- elementwise --------------------------------------------------------------------------------

# zeros_like would not run what it is given where the shape is known, unless it is told to.
UNARY: tuple[tuple[str, Callable[[Array], Any], bool], ...] = (  # line, NumPy, smooth
    ("-{}", np.negative, True),
    ("tf.square({})", np.square, True),
    ("tf.tanh({})", np.tanh, True),
    ("tf.sigmoid({})", special.expit, True),
    ("tf.exp(-tf.square({}))", lambda x: np.exp(-np.square(x)), True),
    ("tf.sin({})", np.sin, True),
    ("tf.nn.softplus({})", lambda x: np.logaddexp(x, 0), True),
    ("tf.log(1.0 + tf.square({}))", lambda x: np.log(1 + np.square(x)), True),
    ("tf.sqrt(tf.square({}) + 1.0)", lambda x: np.sqrt(np.square(x) + 1), True),
    ("tf.identity({})", lambda x: x, True),
    ("tf.stop_gradient({}) * 1.0", lambda x: x, False),
    ("tf.nn.relu({})", lambda x: np.maximum(x, 0), False),
    ("tf.abs({})", np.abs, False),
    ("tf.clip_by_value({}, -1.0, 2.0)", lambda x: np.clip(x, -1, 2), False),
    ("tf.zeros_like({}, optimize=False)", np.zeros_like, False),
    ("tf.ones_like({}, optimize=False)", np.ones_like, False),
    ("2.0 * {} + 1.0", lambda x: 2 * x + 1, True),
)
BITS: dict[str, Callable[[int], int]] = {  # of the lines that are exact: bits of the result
    **dict.fromkeys(
        ("-{}", "tf.identity({})", "tf.nn.relu({})", "tf.abs({})"),
        lambda bits: bits,
    ),
    "tf.zeros_like({}, optimize=False)": lambda _: 1,
    "tf.square({})": lambda bits: 2 * bits,
    "2.0 * {} + 1.0": lambda bits: bits + 3,
}
BINARY: tuple[tuple[str, Callable[[Array, Array], Any], bool], ...] = (
    ("{} + {}", np.add, True),
    ("{} - {}", np.subtract, True),
    ("{} * {}", np.multiply, True),
    ("{} / (tf.square({}) + 1.0)", lambda x, y: x / (np.square(y) + 1), True),
    ("tf.squared_difference({}, {})", lambda x, y: np.square(x - y), True),
    ("tf.maximum({}, {})", np.maximum, False),
    ("tf.minimum({}, {})", np.minimum, False),
)
COMPARE: tuple[tuple[str, Callable[[Array, Array], Any]], ...] = (
    ("tf.less({}, {})", np.less),
    ("tf.greater_equal({}, {})", np.greater_equal),
    ("tf.equal({}, {})", np.equal),
    ("tf.not_equal({}, {})", np.not_equal),
)


def divide(x: Array, y: Array) -> Array:
    if np.any(y == 0):
        raise Wrong("division by 0")
    return np.asarray(np.floor_divide(x, y))


INTEGER: tuple[tuple[str, Callable[[Array, Array], Any]], ...] = (
    ("{} + {}", np.add),
    ("{} - {}", np.subtract),
    ("{} * {}", np.multiply),
    ("tf.maximum({}, {})", np.maximum),
    ("{} // {}", divide),
)


def unary(graph: Graph) -> None:
    x = graph.pick(is_float)
    if x is None:
        return
    line, function, _ = graph.choose([u for u in UNARY if u[2] or not graph.smooth])
    exact, bits = x.exact and line in BITS, BITS.get(line, lambda _: FULL)(x.bits)
    graph.add(line, [x], function, x.shape, x.dtype, exact=exact, bits=bits)


def binary(graph: Graph) -> None:
    x = graph.pick(lambda n: n.dtype != "bool")
    if x is None:
        return
    y = graph.pick(lambda n: n.dtype == x.dtype, lambda n: broadcast(n.shape, x.shape) is not None)
    if y is None:
        return
    shape = broadcast(x.shape, y.shape) or max(x.shape, y.shape, key=len)
    if is_int(x):
        line, function = graph.choose(INTEGER)
        graph.add(line, [x, y], function, shape, x.dtype)
        return
    exact = x.exact and y.exact
    if exact and not graph.smooth and graph.rarely(4):
        line, function = graph.choose(COMPARE)
        graph.add(line, [x, y], function, shape, "bool")
        return
    line, function, _ = graph.choose([b for b in BINARY if b[2] or not graph.smooth])
    bits = x.bits + y.bits if "*" in line else 2 * max(x.bits, y.bits) + 2
    exact = exact and "/" not in line
    graph.add(line, [x, y], function, shape, x.dtype, exact=exact, bits=bits)


def choice(graph: Graph) -> None:
    x = graph.pick(is_float)
    if x is None:
        return
    y = graph.pick(lambda n: n.dtype == x.dtype and n.shape == x.shape)
    c = graph.pick(lambda n: n.dtype == "bool" and n.shape == x.shape)
    if y is not None and c is not None:
        bits = max(x.bits, y.bits)
        graph.add("tf.where({}, {}, {})", [c, x, y], np.where, x.shape, x.dtype, bits=bits)


def cast(graph: Graph) -> None:
    x = graph.pick(lambda n: n.exact)
    dtype = graph.choose(("float32", "int32", "float64", "bool", "int64"))
    if x is not None and x.dtype != dtype:  # or one tensor would be fed under two names
        line = f"tf.cast({{}}, tf.{dtype})"
        graph.add(line, [x], lambda v: converted(v, dtype), x.shape, dtype, bits=FULL)


def converted(value: Array, dtype: str) -> Array:
    """As stepforge converts: floats that integers cannot hold become the nearest, NaN 0."""
    if value.dtype.kind != "f" or not dtype.startswith("int"):
        return value.astype(dtype)
    limits = np.iinfo(dtype)
    inside = np.where(np.isfinite(value) & (np.abs(value) < 2.0 ** (limits.bits - 1)), value, 0)
    whole = inside.astype(dtype)
    whole = np.where(value >= 2.0 ** (limits.bits - 1), limits.max, whole)
    return np.where(value <= -(2.0 ** (limits.bits - 1)), limits.min, whole)


# ---- reductions and products --------------------------------------------------------------------


def largest(function: Callable[..., Any], start: float) -> Callable[..., Any]:
    """A reduction that gives ``start`` where there is nothing."""
    return lambda x, **how: function(x, initial=start, **how)


def logsumexp(x: Array, **how: Any) -> Any:
    return special.logsumexp(x, **how) if x.size else np.log(np.sum(x, **how))


def mean(x: Array, **how: Any) -> Any:
    """NaN of nothing, without NumPy's warning."""
    return np.sum(x, **how) / np.sum(np.ones_like(x), **how)


REDUCE: tuple[tuple[str, Any, bool], ...] = (
    ("reduce_sum", np.sum, True),
    ("reduce_mean", mean, True),
    ("reduce_max", largest(np.max, -np.inf), False),
    ("reduce_min", largest(np.min, np.inf), False),
    ("reduce_logsumexp", logsumexp, True),
)


def reduction(graph: Graph) -> None:
    x = graph.pick(lambda n: is_float(n) and has_axes(n))
    if x is None:
        return
    name, function, _ = graph.choose([r for r in REDUCE if r[2] or not graph.smooth])
    axis: Any = None if graph.flag() else graph.number(0, len(x.shape) - 1)
    keep = graph.flag()
    gone = list(range(len(x.shape))) if axis is None else [axis]
    shape = [1 if i in gone else n for i, n in enumerate(x.shape) if keep or i not in gone]
    bits = x.bits + count_bits([x.shape[i] for i in gone])
    extreme = name in ("reduce_max", "reduce_min")
    exact = x.exact and (extreme or (name == "reduce_sum" and bits <= MANTISSA[x.dtype]))
    graph.add(
        f"tf.{name}({{}}, axis={axis}, keepdims={keep})", [x],
        lambda v: function(v, axis=axis, keepdims=keep), shape, x.dtype, exact=exact,
        bits=x.bits if extreme else bits if exact else FULL, mixes=not extreme,
    )  # fmt: skip


def scan(graph: Graph) -> None:
    x = graph.pick(lambda n: is_float(n) and has_axes(n))
    if x is None:
        return
    axis = graph.number(0, len(x.shape) - 1)
    bits = x.bits + count_bits([x.shape[axis]])
    exact = x.exact and bits <= MANTISSA[x.dtype]
    graph.add(
        f"tf.cumsum({{}}, axis={axis})", [x], lambda v: np.cumsum(v, axis), x.shape, x.dtype,
        exact=exact, bits=bits if exact else FULL, mixes=True,
    )  # fmt: skip


def product(graph: Graph) -> None:
    a = graph.pick(lambda n: is_float(n) and len(n.shape) == 2)
    if a is None:
        return
    flag = graph.flag()
    inner = a.shape[0 if flag else 1]
    b = graph.pick(lambda n: n.dtype == a.dtype and len(n.shape) == 2, lambda n: inner in n.shape)
    if b is None:
        return
    turned = b.shape[0] != inner
    shape = (a.shape[1 if flag else 0], b.shape[0 if turned else 1])
    bits = a.bits + b.bits + count_bits([inner])
    exact = a.exact and b.exact and bits <= MANTISSA[a.dtype]
    graph.add(
        f"tf.matmul({{}}, {{}}, transpose_a={flag}, transpose_b={turned})", [a, b],
        lambda x, y: (x.T if flag else x) @ (y.T if turned else y), shape, a.dtype,
        exact=exact, bits=bits if exact else FULL, mixes=True,
    )  # fmt: skip


def by_rows(function: Callable[..., Array]) -> Callable[[Array], Array]:
    """``function`` along the last axis, of nothing too."""
    return lambda v: function(v, -1) if v.size else v


ROWS: tuple[tuple[str, Callable[[Array], Any]], ...] = (
    ("tf.nn.softmax({})", by_rows(special.softmax)),
    ("tf.nn.log_softmax({})", by_rows(special.log_softmax)),
    ("tf.nn.l2_loss({})", lambda v: np.sum(np.square(v)) / 2),
)


def rows(graph: Graph) -> None:
    x = graph.pick(lambda n: is_float(n) and has_axes(n))
    if x is not None:
        line, function = graph.choose(ROWS)
        shape = () if "l2_loss" in line else x.shape
        graph.add(line, [x], function, shape, x.dtype, exact=False, mixes=True)


def position(graph: Graph) -> None:
    x = graph.pick(lambda n: is_float(n) and n.exact and has_axes(n))
    if x is not None:
        axis = graph.number(0, len(x.shape) - 1)
        shape = x.shape[:axis] + x.shape[axis + 1 :]
        graph.add(
            f"tf.argmax({{}}, axis={axis})", [x], lambda v: np.argmax(v, axis), shape, "int64"
        )


# ---- moving elements ----------------------------------------------------------------------------


def reshape(graph: Graph) -> None:
    x = graph.pick(anything)
    if x is None:
        return
    how = graph.choose(("flat", "expand", "rows", "like"))
    if how == "flat":
        known = [n for n in x.shape if isinstance(n, int)]
        size = math.prod(known) if len(known) == len(x.shape) else f"size of {x.name}"
        graph.move("tf.reshape({}, [-1])", x, lambda v: v.reshape(-1), (size,))
    elif how == "expand":
        axis = graph.number(0, len(x.shape))
        shape = (*x.shape[:axis], 1, *x.shape[axis:])
        line = f"tf.expand_dims({{}}, {axis})"
        graph.move(line, x, lambda v: np.expand_dims(v, axis), shape)
    elif how == "rows":
        width = graph.choose((2, 3, 4))
        shape = (f"rows of {x.name}", width)
        line = f"tf.reshape({{}}, [-1, {width}])"
        graph.move(line, x, lambda v: v.reshape(v.size // width, width), shape)
    else:
        like(graph, x)


def is_open(node: Node) -> bool:
    """True where only the run tells the first size: ``tf.shape`` of what is known is a constant,
    and does not run the node, which might fail.
    """
    return len(node.shape) > 0 and not isinstance(node.shape[0], int)


def like(graph: Graph, x: Node) -> None:
    y = graph.pick(is_open, lambda n: n.shape == x.shape)
    if y is not None:
        graph.add(
            "tf.reshape({}, tf.shape({}))", [x, y], lambda v, w: v.reshape(w.shape), y.shape,
            x.dtype, exact=x.exact, bits=x.bits,
        )  # fmt: skip


def transpose(graph: Graph) -> None:
    x = graph.pick(lambda n: len(n.shape) > 1)
    if x is not None:
        graph.move("tf.transpose({})", x, np.transpose, x.shape[::-1])


def cut(graph: Graph) -> None:
    x = graph.pick(has_axes)
    if x is None:
        return
    first, rest = x.shape[0], x.shape[1:]
    shapes: dict[str, Any] = {
        "{}[0]": rest, "{}[-1]": rest, "{}[1:]": (f"less of {x.name}", *rest),
        "{}[::-1]": x.shape, "{}[..., 0]": x.shape[:-1], "{}[:, tf.newaxis]": (first, 1, *rest),
        "{}[:2]": (f"two of {x.name}", *rest),
    }  # fmt: skip
    line = graph.choose(list(shapes))
    code = compile(line.format("v").replace("tf.newaxis", "None"), "<slice>", "eval")
    graph.move(line, x, lambda v: eval(code, {"v": v}), shapes[line])


def join(graph: Graph) -> None:
    x = graph.pick(has_axes)
    if x is None:
        return
    y = graph.pick(
        lambda n: n.dtype == x.dtype and len(n.shape) == len(x.shape),
        lambda n: n.shape[1:] == x.shape[1:],
    )
    if y is None:
        return
    both: Any = {"exact": x.exact and y.exact, "bits": max(x.bits, y.bits)}
    if graph.flag():
        shape: Any = (f"joined of {x.name} {y.name}", *x.shape[1:])
        graph.add("tf.concat([{}, {}], 0)", [x, y], lambda a, b: np.concatenate([a, b], 0),
                  shape, x.dtype, **both)  # fmt: skip
    else:
        shape = (2, *x.shape)
        graph.add("tf.stack([{}, {}], 0)", [x, y], lambda a, b: np.stack([a, b], 0), shape,
                  x.dtype, **both)  # fmt: skip


def spread(graph: Graph) -> None:
    x = graph.pick(has_axes)
    if x is None:
        return
    rank = len(x.shape)
    if graph.flag() and x.dtype != "bool":
        pads = [[graph.number(0, 2), graph.number(0, 2)] for _ in range(rank)]
        kept = zip(x.shape, pads, strict=True)
        shape = [n if p == [0, 0] else f"padded {n} {p}" for n, p in kept]
        graph.move(f"tf.pad({{}}, {pads})", x, lambda v: np.pad(v, pads), shape)
    else:
        times = [graph.number(1, 2) for _ in range(rank)]
        shape = [n if t == 1 else f"{n} {t} times" for n, t in zip(x.shape, times, strict=True)]
        graph.move(f"tf.tile({{}}, {times})", x, lambda v: np.tile(v, times), shape)


# ---- indices and sizes --------------------------------------------------------------------------


def take(params: Array, index: Array) -> Array:
    if np.any((index < 0) | (index >= params.shape[0])):
        raise Wrong("an index is out of range")
    return np.asarray(params[index])


def take_modulo(params: Array, index: Array) -> Array:
    if len(params) == 0:
        raise Wrong("division by 0")
    return take(params, np.mod(index, len(params)))


def gather(graph: Graph) -> None:
    x, index = graph.pick(has_axes), graph.pick(is_int)
    if x is None or index is None:
        return
    size = f"tf.shape({{0}}, out_type=tf.{index.dtype})[0]"
    line, compute = f"tf.gather({{0}}, {{1}} % {size})", take_modulo
    if graph.rarely(5):
        line, compute = "tf.gather({}, {})", take
    shape = (*index.shape, *x.shape[1:])
    graph.add(line, [x, index], compute, shape, x.dtype, exact=x.exact, bits=x.bits)


def mask(graph: Graph) -> None:
    x = graph.pick(has_axes)
    if x is None:
        return
    keep = graph.pick(lambda n: n.dtype == "bool" and n.shape == x.shape[:1])
    if keep is not None:
        shape = (f"some of {x.name}", *x.shape[1:])
        graph.add("tf.boolean_mask({}, {})", [x, keep], lambda v, c: v[c], shape, x.dtype,
                  exact=x.exact, bits=x.bits)  # fmt: skip


def codes(graph: Graph) -> None:
    index = graph.pick(is_int)
    if index is not None:
        graph.add(
            "tf.one_hot({}, 3)", [index], lambda i: i[..., None] == np.arange(3),
            (*index.shape, 3), "float32", bits=3,
        )  # fmt: skip


def sizes(graph: Graph) -> None:
    x = graph.pick(is_open)
    if x is None:
        return
    if graph.flag():
        graph.add("tf.shape({})[0]", [x], lambda v: v.shape[0], (), "int32")
    else:
        line = "tf.fill(tf.shape({}), 0.5)"
        graph.add(line, [x], lambda v: np.full(v.shape, 0.5), x.shape, "float32", exact=True,
                  bits=3)  # fmt: skip


MAKERS: tuple[Maker, ...] = (
    *[unary] * 6, *[binary] * 8, *[choice] * 2, *[cast] * 2, *[reduction] * 4, scan,
    *[product] * 2, *[rows] * 2, position, *[reshape] * 2, *[transpose] * 2, *[cut] * 2,
    *[join] * 2, *[spread] * 2, *[gather] * 2, *[codes] * 2, sizes, mask,
)  # fmt: skip
SMOOTH_MAKERS: tuple[Maker, ...] = (
    *[unary] * 4, *[binary] * 4, *[reduction] * 2, scan, *[product] * 2, *[rows] * 2, transpose,
    cut, spread, reshape, join,
)  # fmt: skip
