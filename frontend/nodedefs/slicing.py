"""``Slice`` and ``StridedSlice``, with sizes that need not be known while the graph is built.

A bound of a slice is one of three things: a number, a size (``tf.shape(x)[0] - 1``), or a value
that only exists when a step runs. Numbers and sizes stay expressions: of a tensor with ``n`` rows,
``x[:-1]`` and ``x[1:]`` both have ``max(n - 1, 0)``, and are seen to fit together. Other values
are brought into range by the step and then named.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.frontend.nodedefs.joining import cut
from stepforge.frontend.nodedefs.sizes import elements
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.records import record

MASKS = ("begin_mask", "end_mask", "ellipsis_mask", "new_axis_mask", "shrink_axis_mask")


# ---- Slice ---------------------------------------------------------------------------------------
@define_node
class Slice(NodeDef):
    """``size`` elements of each axis from ``begin`` on; a size of -1 takes the rest."""

    inputs = ("input", "begin", "size")

    def extract(self, x: Any, node: Any, value: Any, begin: Any, size: Any) -> Any:
        """Both vectors have one element for each axis."""
        shape = x.shape(value)
        _check_bounds(x, begin, size, len(shape))
        starts: list[Dim] = []
        wanted: list[Dim] = []
        bounds = (
            elements(x, node.inputs[i], operand, len(shape))
            for i, operand in ((1, begin), (2, size))
        )
        for axis, (extent, start, count) in enumerate(zip(shape, *bounds, strict=True)):
            starts.append(_first(x, start, axis, extent))
            wanted.append(_how_many(x, count, axis, extent - starts[-1]))
        if tuple(wanted) == tuple(shape):
            return value
        return x.emit("slice", value, begin=tuple(starts), size=tuple(wanted))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Zeros around the gradient."""
        return [tf.slice_grad(grad, op.inputs[1], op.inputs[0]), None, None]


def _check_bounds(x: Any, begin: Any, size: Any, rank: int) -> None:
    """Both are vectors with one element for each axis. Raises: ShapeError."""
    have = [x.shape(operand) for operand in (begin, size)]
    wrong = f"Expected begin and size arguments to be 1-D tensors of size {rank}, but got shapes "
    message = told(f"{wrong}{{}} and {{}} instead.", *have)
    for shape in have:
        if len(shape) != 1:
            raise ShapeError(message)
        sizes.require_equal(x, shape[0], rank, message)


def _first(x: Any, start: Any, axis: int, extent: Dim) -> Dim:
    """Where a slice begins: a number, a size, or a value that the step checks."""
    text = f"Expected begin[{axis}] in [0, {{}}], but got {{}}"
    if not isinstance(start, (int, dims.Expr)):
        return _checked_size(x, start, extent, text)
    message = told(text, extent, start)
    if isinstance(start, int) and start < 0:
        raise ShapeError(message)
    sizes.require_at_most(x, start, extent, message)
    return start


def _how_many(x: Any, count: Any, axis: int, rest: Dim) -> Dim:
    """The size of a slice of which ``rest`` are left; -1 takes them all."""
    text = f"Expected size[{axis}] in [0, {{}}], but got {{}}"
    if not isinstance(count, (int, dims.Expr)):
        whole = x.emit("equal", count, x.const(-1, count.type.dtype))
        left = x.dimensions(rest, count.type.dtype)
        return _checked_size(x, x.emit("select", whole, left, count), rest, text)
    message = told(text, rest, count)
    if isinstance(count, int) and count < -1:
        raise ShapeError(message)
    taken = rest if count == -1 else count
    sizes.require_at_most(x, taken, rest, message)
    return taken


def _checked_size(x: Any, value: Any, limit: Dim, text: str) -> Dim:
    """A value as a size, which the step checks to be in [0, limit]."""
    last = x.dimensions(limit, value.type.dtype)
    low = x.emit("greater_equal", value, x.const(0, value.type.dtype))
    inside = x.emit("logical_and", low, x.emit("less_equal", value, last))
    x.emit("require", inside, last, value, message=text)
    return x.sizes(value)[0]  # type: ignore[no-any-return]


@define_node
class SliceGrad(NodeDef):
    """The adjoint of ``Slice``: ``dy`` with zeros around it, in the shape of ``input``."""

    inputs = ("dy", "begin", "input")

    def extract(self, x: Any, node: Any, dy: Any, begin: Any, value: Any) -> Any:
        """A pad."""
        shape, inner = x.shape(value), x.shape(dy)
        if len(shape) != len(inner):
            raise ShapeError(told("a gradient of shape {} for a slice of {}", inner, shape))
        low = sizes.vector(x, node, 1, begin, len(shape))
        high = [n - a - m for n, a, m in zip(shape, low, inner, strict=True)]
        return x.emit("pad", dy, x.const(0, dy.type.dtype), low=low, high=tuple(high))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The slice."""
        return [tf.slice(grad, op.inputs[1], tf.shape(op.inputs[0])), None, None]


# ---- StridedSlice --------------------------------------------------------------------------------
@record(frozen=True)
class Cut:
    """What is taken of one axis: ``size`` elements from ``begin`` on, ``stride`` apart."""

    begin: Dim
    size: Dim
    stride: int


@record(frozen=True)
class Spec:
    """What the program asks of one axis of the input; without bounds, all of it."""

    begin: Any = None
    end: Any = None
    stride: int = 1
    shrink: bool = False


class StridedSliceNode(NodeDef):
    """Base of ``StridedSlice`` and its gradient: bit i of a mask is about element i of the spec."""

    attrs: ClassVar[dict[str, Any]] = dict.fromkeys(MASKS, 0)


@define_node
class StridedSlice(StridedSliceNode):
    """``x[begin:end:stride, ...]`` with new and dropped axes: Python's indexing of tensors."""

    inputs = ("input", "begin", "end", "strides")

    def extract(self, x: Any, node: Any, value: Any, begin: Any, end: Any, strides: Any) -> Any:
        """A slice and a reshape."""
        shape = x.shape(value)
        plan = planned(x, node, shape, begin, end, strides)
        if plan is None:
            return sizes.undetermined(x, value.type.dtype)
        cuts, result = plan
        if any(c != Cut(0, n, 1) for c, n in zip(cuts, shape, strict=True)):
            value = x.emit(
                "slice",
                value,
                begin=tuple(c.begin for c in cuts),
                size=tuple(c.size for c in cuts),
                strides=tuple(c.stride for c in cuts),
            )
        return value if x.shape(value) == result else x.emit("reshape", value, shape=result)

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Zeros in the shape of the input with the gradient where the slice was."""
        value, begin, end, strides = op.inputs
        shape = tf.shape(value, out_type=begin.dtype)
        masks = {mask: op.attrs[mask] for mask in MASKS}
        return [tf.strided_slice_grad(shape, begin, end, strides, grad, **masks), None, None, None]


@define_node
class StridedSliceGrad(StridedSliceNode):
    """The adjoint of ``StridedSlice``: zeros of ``shape`` with ``dy`` where the slice was."""

    inputs = ("shape", "begin", "end", "strides", "dy")

    def extract(
        self, x: Any, node: Any, shape: Any, begin: Any, end: Any, strides: Any, dy: Any
    ) -> Any:
        """Pads, and for steps other than 1 zeros between the elements."""
        whole = tuple(x.sizes(shape))
        plan = planned(x, node, whole, begin, end, strides)
        if plan is None:
            return sizes.undetermined(x, dy.type.dtype, len(whole))
        cuts, _ = plan
        have, count = dims.product(x.shape(dy)), dims.product([cut.size for cut in cuts])
        sizes.require_equal(x, have, count, told("{} gradients of {} elements", have, count))
        spread = x.emit("reshape", dy, shape=tuple(c.size for c in cuts))
        for axis, taken in enumerate(cuts):
            spread = _placed(x, spread, axis, taken, whole[axis])
        return spread

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """The slice."""
        _, begin, end, strides, _ = op.inputs
        masks = {mask: op.attrs[mask] for mask in MASKS}
        return [None, None, None, None, tf.strided_slice(grad, begin, end, strides, **masks)]


def _placed(x: Any, value: Any, axis: int, taken: Cut, extent: Dim) -> Any:
    """``value`` with zeros along ``axis``, so that its elements lie where ``taken`` took them."""
    begin, step = taken.begin, abs(taken.stride)
    if taken.stride < 0:
        begin = begin - (taken.size - 1) * step
        value = x.emit("reverse", value, axes=(axis,))
    length = taken.size
    if step > 1:
        shape = x.shape(value)
        single = x.emit("reshape", value, shape=(*shape[: axis + 1], 1, *shape[axis + 1 :]))
        gaps = _padded(x, single, axis + 1, 0, step - 1)
        length = taken.size * step
        value = x.emit("reshape", gaps, shape=(*shape[:axis], length, *shape[axis + 1 :]))
    if step == 1:
        return _padded(x, value, axis, begin, extent - begin - length)
    wide = _padded(x, value, axis, begin, sizes.at_least_0(extent - begin - length))
    return cut(x, wide, axis, 0, extent)


def _padded(x: Any, value: Any, axis: int, before: Dim, after: Dim) -> Any:
    if before == 0 and after == 0:
        return value
    rank = len(x.shape(value))
    low = tuple(before if i == axis else 0 for i in range(rank))
    high = tuple(after if i == axis else 0 for i in range(rank))
    return x.emit("pad", value, x.const(0, value.type.dtype), low=low, high=high)


def planned(
    x: Any, node: Any, shape: Sequence[Dim], begin: Any, end: Any, strides: Any
) -> tuple[list[Cut], tuple[Dim, ...]] | None:
    """What is taken of each axis and the shape of the result; None where the spec is not known yet.

    Raises: ShapeError in TensorFlow's words.
    """
    steps = sizes.static_list(x, strides)
    if steps is None:
        return None
    first = elements(x, node.inputs[1], begin, len(steps))
    last = elements(x, node.inputs[2], end, len(steps))
    cuts: list[Cut] = []
    result: list[Dim] = []
    for spec in _specs(node.attrs, first, last, steps, len(shape)):
        if spec is None:
            result.append(1)
            continue
        axis = len(cuts)
        cuts.append(_taken(x, spec, axis, shape[axis]))
        if not spec.shrink:
            result.append(cuts[-1].size)
    return cuts, tuple(result)


def _specs(
    masks: dict[str, Any],
    first: Sequence[Any],
    last: Sequence[Any],
    steps: Sequence[int],
    rank: int,
) -> Iterator[Spec | None]:
    """For each axis of the input its spec, for each new one None, in the result's order."""
    flags = [{m for m in MASKS if masks[m] >> i & 1} for i in range(len(steps))]
    if sum("ellipsis_mask" in flag for flag in flags) > 1:
        raise ShapeError("Multiple ellipses in slice spec not allowed")
    named = sum(not flag & {"ellipsis_mask", "new_axis_mask"} for flag in flags)
    if named > rank == 0:
        raise ShapeError("Attempting to slice scalar input.")
    if named > rank:
        raise ShapeError(f"Index out of range using input dim {rank}; input has only {rank} dims")
    for i, flag in enumerate(flags):
        if "ellipsis_mask" in flag:
            yield from [Spec()] * (rank - named)
        elif "new_axis_mask" in flag:
            yield None
        else:
            if steps[i] == 0:
                raise ShapeError(f"strides[{i}] must be non-zero")
            yield Spec(
                None if "begin_mask" in flag else first[i],
                None if "end_mask" in flag else last[i],
                steps[i],
                "shrink_axis_mask" in flag,
            )
    if not any("ellipsis_mask" in flag for flag in flags):
        yield from [Spec()] * (rank - named)


def _taken(x: Any, spec: Spec, axis: int, extent: Dim) -> Cut:
    if spec.shrink:
        if spec.stride < 0:
            raise ShapeError("only stride 1 allowed on non-range indexing.")
        return Cut(_element(x, 0 if spec.begin is None else spec.begin, axis, extent), 1, 1)
    if spec.stride > 0:
        return _forward(x, spec, extent)
    return _backward(x, spec, extent)


def _element(x: Any, index: Any, axis: int, extent: Dim) -> Dim:
    """The place of a single element, which the step checks to be there."""
    if not isinstance(index, (int, dims.Expr)):
        place = _from_front(x, index, extent)
        low = x.emit("greater_equal", place, x.const(0, "i64"))
        high = x.emit("less", place, x.dimensions(extent, "i64"))
        message = f"slice index of dimension {axis} out of bounds."
        x.emit("require", x.emit("logical_and", low, high), message=message)
        return x.sizes(place)[0]  # type: ignore[no-any-return]
    message = f"slice index {index} of dimension {axis} out of bounds."
    if isinstance(index, int) and index < 0:
        sizes.require_at_most(x, -index, extent, message)
        return extent + index
    sizes.require_at_most(x, index + 1, extent, message)
    return index


def _from_front(x: Any, index: Any, extent: Dim) -> Any:
    """A run-time index as i64, counted from the front."""
    wide = x.emit("cast", index, dtype="i64")
    negative = x.emit("less", wide, x.const(0, "i64"))
    return x.emit("select", negative, x.emit("add", wide, x.dimensions(extent, "i64")), wide)


def _clamped(x: Any, bound: Any, extent: Dim) -> Dim:
    """A run-time bound of a slice as a size in [0, extent]."""
    place = x.emit("maximum", _from_front(x, bound, extent), x.const(0, "i64"))
    (size,) = x.sizes(x.emit("minimum", place, x.dimensions(extent, "i64")))
    return size  # type: ignore[no-any-return]


def _place(x: Any, bound: Any, extent: Dim) -> Dim:
    """A bound counted from the front. It may still lie outside of the axis."""
    if isinstance(bound, int):
        return extent + bound if bound < 0 else bound
    if isinstance(bound, dims.Expr):
        if sizes.non_negative(-bound):
            return _clamped(x, x.dimensions(bound, "i64"), extent)
        return sizes.at_least_0(bound)
    return _clamped(x, bound, extent)


def _forward(x: Any, spec: Spec, extent: Dim) -> Cut:
    """A range with a positive step. Its length matters: an empty one may begin anywhere."""
    begin = 0 if spec.begin is None else _place(x, spec.begin, extent)
    end = extent if spec.end is None else dims.minimum(_place(x, spec.end, extent), extent)
    if sizes.non_negative(begin):
        length = sizes.at_least_0(end - begin)
    else:  # end - max(begin, 0), in a form in which sizes cancel
        length = sizes.at_least_0(dims.minimum(end - begin, end))
        begin = sizes.at_least_0(begin)
    size = length if spec.stride == 1 else dims.floor_div(length + spec.stride - 1, spec.stride)
    return Cut(0 if size == 0 else begin, size, spec.stride)


def _backward(x: Any, spec: Spec, extent: Dim) -> Cut:
    """A range with a negative step; its end may be -1, before the first element."""
    last = extent - 1
    begin = last if spec.begin is None else dims.minimum(_place(x, spec.begin, extent), last)
    end: Dim = -1
    if spec.end is not None:
        end = dims.maximum(dims.minimum(_place(x, spec.end, extent), last), -1)
    step = -spec.stride
    length = (
        begin - end if spec.begin is None and spec.end is None else sizes.at_least_0(begin - end)
    )
    size = length if step == 1 else dims.floor_div(length + step - 1, step)
    return Cut(0 if size == 0 else begin, size, spec.stride)
