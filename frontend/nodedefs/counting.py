"""Node types that count: ``Range`` and ``LinSpace``. The length of what they make may be a size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError


@define_node
class Range(NodeDef):
    """``start, start + delta, ...`` up to, and without, ``limit``."""

    inputs = ("start", "limit", "delta")
    no_gradient = True

    def extract(self, x: Any, node: Any, start: Any, limit: Any, delta: Any) -> Any:
        """Known numbers at once, so that they can be axes or shapes; others by counting."""
        first, last, step = (x.static(operand) for operand in (start, limit, delta))
        dtype = start.type.dtype
        if first is not None and last is not None and step is not None:
            count: Dim = _known_count(first, last, step)
            if isinstance(count, int) and count <= SHORT:
                return x.const(first + np.arange(count).astype(first.dtype) * step, dtype)
        elif start.type.kind in "iu":
            count = _integer_count(x, start, limit, delta)
        else:
            wide = [x.emit("cast", operand, dtype="f64") for operand in (limit, start, delta)]
            span = x.emit("div", x.emit("sub", *wide[:2]), wide[2])
            count = _count(x, x.emit("cast", x.emit("ceil", span), dtype="i64"), step)
        numbers = x.emit("iota", shape=(count,), axis=0, dtype=dtype)
        if step is None or step != 1:
            numbers = x.emit("mul", numbers, delta)
        return numbers if first is not None and first == 0 else x.emit("add", numbers, start)


SHORT = 64  # ranges up to this length are constants, which rules can look into


def _known_count(start: Any, limit: Any, delta: Any) -> int:
    """The length of a range of known numbers. Raises: ShapeError where it has no direction."""
    if delta == 0:
        raise ShapeError(f"Requires delta != 0: {delta}")
    if (limit - start) * np.sign(delta) < 0:
        raise ShapeError(f"{_direction(delta)}: {start}/{limit}")
    if start.dtype.kind in "iu":
        return -((int(start) - int(limit)) // int(delta))
    return math.ceil((float(limit) - float(start)) / float(delta))


def _direction(delta: Any) -> str:
    sign, order = ("<", ">=") if delta < 0 else (">", "<=")
    return f"Requires start {order} limit when delta {sign} 0"


def _integer_count(x: Any, start: Any, limit: Any, delta: Any) -> Dim:
    """``limit - start`` divided by ``delta``, rounded up; sizes stay expressions."""
    step = x.static(delta)
    if step is None:
        x.emit("check_nonzero", delta, message="Requires delta != 0")
        short = x.emit("floor_div", x.emit("sub", start, limit), delta)
        return _count(x, x.emit("neg", short), None)
    span = x.emit("sub", limit, start) if step > 0 else x.emit("sub", start, limit)
    size = abs(int(step))
    if size > 1:
        dtype = start.type.dtype
        span = x.emit("add", span, x.const(size - 1, dtype))
        span = x.emit("floor_div", span, x.const(size, dtype))
    return _count(x, span, step)


def _count(x: Any, length: Any, delta: Any) -> Dim:
    """A computed length as a size that is checked not to be negative."""
    known = x.known(length)
    if known is not None and sizes.non_negative(known.item()):
        return known.item()  # type: ignore[no-any-return]
    message = (
        "Requires start and limit in the direction of delta" if delta is None else _direction(delta)
    )
    positive = x.emit("greater_equal", length, x.const(0, length.type.dtype))
    x.emit("require", positive, message=message)
    return x.sizes(length)[0]  # type: ignore[no-any-return]


@define_node
class LinSpace(NodeDef):
    """``num`` evenly spaced numbers from ``start`` to ``stop``, both included."""

    inputs = ("start", "stop", "num")

    def extract(self, x: Any, node: Any, start: Any, stop: Any, num: Any) -> Any:
        """``start + i * step``, the last one exactly ``stop``."""
        for operand in (start, stop, num):
            if x.shape(operand):
                raise ShapeError(f"Shape must be rank 0 but is rank {len(x.shape(operand))}")
        (count,) = x.sizes(num)
        if isinstance(count, int) and count <= 0:
            raise ShapeError(f"Requires num > 0: {count}")
        dtype = start.type.dtype
        last = dims.maximum(count - 1, 1)
        intervals = x.emit("cast", x.dimensions(last, "i64"), dtype=dtype)
        step = x.emit("div", x.emit("sub", stop, start), intervals)
        places = x.emit("iota", shape=(count,), axis=0, dtype="i64")
        numbers = x.emit("mul", x.emit("cast", places, dtype=dtype), step)
        at_end = x.emit("equal", places, x.dimensions(last, "i64"))
        return x.emit("select", at_end, stop, x.emit("add", numbers, start))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Each number is a mixture of the two ends."""
        start, stop, num = op.inputs
        share = tf.linspace(tf.zeros_like(start), tf.ones_like(stop), num)
        return [tf.reduce_sum(grad * (1 - share)), tf.reduce_sum(grad * share), None]
