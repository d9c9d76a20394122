"""Node types that count: ``Range`` and ``LinSpace``. The length of what they make may be a size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from stepforge.frontend.extract.messages import told
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
        for name, operand in zip(self.inputs, (start, limit, delta), strict=True):
            if operand.type.shape:
                raise ShapeError(told(f"{name} must be a scalar, not shape {{}}", x.shape(operand)))
            if operand.type.shape is None:
                return sizes.undetermined(x, start.type.dtype, 1)
        first, last, step = (x.static(operand) for operand in (start, limit, delta))
        dtype = start.type.dtype
        if first is not None and last is not None and step is not None:
            count: Dim = _known_count(first, last, step)
            if isinstance(count, int) and count <= SHORT:
                return x.const(first + np.arange(count).astype(first.dtype) * step, dtype)
        else:
            count = _count(x, start, limit, delta)
        numbers = x.emit("iota", shape=(count,), axis=0, dtype=dtype)
        if step is None or step != 1:
            numbers = x.emit("mul", numbers, delta)
        return numbers if first is not None and first == 0 else x.emit("add", numbers, start)


SHORT = 64  # ranges up to this length are constants, which rules can look into
ZERO_DELTA = "Requires delta != 0: 0"
# (what delta is, how the ends may not lie, the message)
DIRECTIONS = (
    ("greater", "greater", "Requires start <= limit when delta > 0: {0}/{0}"),
    ("less", "less", "Requires start >= limit when delta < 0: {0}/{0}"),
)


def _known_count(start: Any, limit: Any, delta: Any) -> int:
    """The length of a range of known numbers. Raises: ShapeError where it has no direction."""
    if delta == 0:
        raise ShapeError(ZERO_DELTA)
    if (limit - start) * np.sign(delta) < 0:
        message = DIRECTIONS[int(delta < 0)][2].replace("{0}", "{:g}")
        raise ShapeError(message.format(start, limit))
    if start.dtype.kind in "iu":
        return -((int(start) - int(limit)) // int(delta))
    return math.ceil((float(limit) - float(start)) / float(delta))


def _count(x: Any, start: Any, limit: Any, delta: Any) -> Dim:
    """The length of a range that the step checks to have a direction; sizes stay expressions."""
    step = x.static(delta)
    if step is None or step == 0:
        zero = x.const(0, delta.type.dtype)
        x.emit("require", x.emit("not_equal", delta, zero), message=ZERO_DELTA)
    if start.type.kind in "iu":
        length = _integer_length(x, start, limit, delta, step)
    else:
        wide = [x.emit("cast", operand, dtype="f64") for operand in (limit, start, delta)]
        span = x.emit("div", x.emit("sub", *wide[:2]), wide[2])
        length = x.emit("cast", x.emit("ceil", span), dtype="i64")
    known = x.known(length)
    if known is not None and sizes.non_negative(known.item()):
        return known.item()  # type: ignore[no-any-return]
    _require_direction(x, start, limit, delta, step)
    return x.sizes(length)[0]  # type: ignore[no-any-return]


def _integer_length(x: Any, start: Any, limit: Any, delta: Any, step: Any) -> Any:
    """``limit - start`` divided by ``delta``, rounded up."""
    if step is None:
        return x.emit("neg", x.emit("floor_div", x.emit("sub", start, limit), delta))
    span = x.emit("sub", limit, start) if step > 0 else x.emit("sub", start, limit)
    size = abs(int(step))
    if size > 1:
        dtype = start.type.dtype
        span = x.emit("add", span, x.const(size - 1, dtype))
        span = x.emit("floor_div", span, x.const(size, dtype))
    return span


def _require_direction(x: Any, start: Any, limit: Any, delta: Any, step: Any) -> None:
    """The limit must not lie on the other side of ``start`` than ``delta`` goes."""
    place = "{:g}" if start.type.kind == "f" else "{}"
    zero = x.const(0, delta.type.dtype)
    for (sign, wrong, text), excluded in zip(DIRECTIONS, (-1, 1), strict=True):
        if step is not None and np.sign(step) == excluded:
            continue
        astray = x.emit(wrong, start, limit)
        if step is None:
            astray = x.emit("logical_and", astray, x.emit(sign, delta, zero))
        fine = x.emit("logical_not", astray)
        x.emit("require", fine, start, limit, message=text.format(place))


@define_node
class LinSpace(NodeDef):
    """``num`` evenly spaced numbers from ``start`` to ``stop``, both included."""

    inputs = ("start", "stop", "num")

    def extract(self, x: Any, node: Any, start: Any, stop: Any, num: Any) -> Any:
        """``start + i * step``, the last one exactly ``stop``."""
        for operand in (start, stop):
            if x.shape(operand):
                raise ShapeError(f"Shape must be rank 0 but is rank {len(x.shape(operand))}")
        count = sizes.scalar(x, num, "num must be a scalar, not shape {}")
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
