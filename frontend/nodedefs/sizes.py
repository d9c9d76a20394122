"""What the rules of array nodes share: axes, requirements on sizes, results that are not known yet.

A size is a dimension expression, so "must be equal" has three answers: certainly, certainly not
(an error at once), and a check in the step. The functions here turn a requirement into the right
one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stepforge.frontend.extract.extractor import InferenceExtractor, UnknownRank
from stepforge.frontend.extract.messages import told
from stepforge.ir import dims
from stepforge.ir.core import Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError


def building(x: Any) -> bool:
    """True while the graph is built, False when a step is compiled."""
    return isinstance(x, InferenceExtractor)


def undetermined(x: Any, dtype: str, shape: int | Sequence[int | None] | None = None) -> Any:
    """The result of a rule that wants a value which is not known while the graph is built.

    ``shape`` is what is known of it: sizes, the rank, or nothing. Raises: UnknownRank when a step
    is compiled.
    """
    if not building(x):
        raise UnknownRank
    known = (None,) * shape if isinstance(shape, int) else shape
    return Value(x.open_type(dtype, known))


def static_list(x: Any, operand: Any) -> list[int] | None:
    """An integer operand as a flat list of numbers, None where it is not known."""
    value = x.static(operand)
    return None if value is None else [int(v) for v in value.reshape(-1)]


def static_scalar(x: Any, operand: Any) -> int | None:
    """An integer operand of one element as a number, None where it is not known."""
    values = static_list(x, operand)
    if values == []:
        raise ShapeError("a number is needed, not an empty tensor")
    return None if values is None else values[0]


def normal_axis(axis: int, rank: int, message: str) -> int:
    """``axis`` counted from the front.

    Raises: ShapeError with ``message``, which may mention ``{axis}`` and ``{rank}``.
    """
    if not -rank <= axis < rank:
        raise ShapeError(message.format(axis=axis, rank=rank))
    return axis % rank


def bracketed(sizes: Sequence[Dim]) -> str:
    """A shape as TensorFlow's messages print it: ``[?,3]``."""
    return f"[{','.join(str(n) if isinstance(n, int) else '?' for n in sizes)}]"


def non_negative(size: Dim) -> bool:
    """True where a size is certainly at least 0."""
    return dims.maximum(size, 0) == size


def at_least_0(size: Dim) -> Dim:
    """``size``, or 0 where that is less."""
    return dims.maximum(size, 0)


def require_equal(x: Any, a: Dim, b: Dim, message: str) -> None:
    """Two sizes must be equal. Raises: ShapeError where they cannot be."""
    difference = a - b
    if isinstance(difference, int):
        if difference:
            raise ShapeError(message)
        return
    x.emit("require_equal", lhs=a, rhs=b, message=message)


def require_at_most(x: Any, a: Dim, b: Dim, message: str) -> None:
    """``a`` must not be larger than ``b``. Raises: ShapeError where it is."""
    difference = b - a
    if isinstance(difference, int) and difference < 0:
        raise ShapeError(message)
    if not non_negative(difference):
        fits = x.emit("less_equal", x.dimensions(a, "i64"), x.dimensions(b, "i64"))
        x.emit("require", fits, message=message)


def same_shape(x: Any, first: Sequence[Dim], second: Sequence[Dim], context: str) -> list[Dim]:
    """The one shape that two operands must have.

    Raises: ShapeError in TensorFlow's words, with ``context`` appended.
    """
    if len(first) != len(second):
        raise ShapeError(
            f"Shapes must be equal rank, but are {len(first)} and {len(second)}{context}"
        )
    merged = []
    for axis, (a, b) in enumerate(zip(first, second, strict=True)):
        text = "Dimension {} in both shapes must be equal, but are {} and {}. Shapes are {} and {}."
        end = context.replace("{", "{{").replace("}", "}}")
        message = told(text + end, axis, a, b, first, second)
        if isinstance(a - b, int) and a != b:
            raise ShapeError(message)
        merged.append(x.unify(a, b, message))
    return merged


def in_shape(x: Any, value: Any, shape: Sequence[Dim]) -> Any:
    """``value``, whose sizes are required to be those of ``shape``, with these as its type says."""
    if tuple(x.shape(value)) == tuple(shape):
        return value
    return x.emit("refine", value, shape=tuple(shape))


def scalar(x: Any, operand: Any, message: str) -> Dim:
    """An integer scalar as a size. Raises: ShapeError with ``message``, which may have a ``{}`` for
    the shape, where it is none.
    """
    shape = x.shape(operand)
    if shape and building(x):
        raise ShapeError(f"Shape must be rank 0 but is rank {len(shape)}")
    if shape:
        raise ShapeError(told(message, shape) if "{}" in message else message)
    (size,) = x.sizes(operand)
    return size  # type: ignore[no-any-return]


# ---- vectors of sizes ----------------------------------------------------------------------------
def vector(
    x: Any, node: Any, position: int, operand: Any, count: int | None = None
) -> tuple[Dim, ...]:
    """Input ``position`` of ``node``, an integer vector (of ``count`` elements), as sizes.

    Of a vector put together from sizes and values (``[batch, 128]``) what is known stays known;
    only the rest is named by the step.
    """
    if x.known(operand) is None:
        if count is None and len(x.shape(operand)) == 1 and isinstance(x.shape(operand)[0], int):
            count = x.shape(operand)[0]
        if count is not None:
            parts = elements(x, node.inputs[position], operand, count)
            return tuple(p if isinstance(p, (int, dims.Expr)) else x.sizes(p)[0] for p in parts)
    return tuple(x.sizes(operand))


def elements(x: Any, tensor: Any, operand: Any, count: int) -> list[Any]:
    """Each element of an integer vector: a size where it is known as one, else a scalar operand.

    ``tensor`` is the graph's tensor of which ``operand`` is the value.
    """
    known = x.known(operand)
    if known is not None:
        return list(known.reshape(-1))
    parts = _parts(x, tensor, operand)
    if parts is not None:
        return parts
    shape = x.shape(operand)
    require_equal(x, dims.product(shape), count, told(f"Expected {count} sizes, not {{}}", shape))
    flat = x.emit("reshape", operand, shape=(count,))
    return [
        x.emit("reshape", x.emit("slice", flat, begin=(i,), size=(1,)), shape=())
        for i in range(count)
    ]


def _parts(x: Any, tensor: Any, operand: Any) -> list[Any] | None:
    """The elements that a vector was packed or joined from, None where it was not."""
    shape = operand.type.shape
    if shape is None or len(shape) != 1 or not isinstance(shape[0], int):
        return None
    kind, sources = _made_from(x, tensor, operand)
    if kind in ("Pack", "stack"):
        return [part if x.known(part) is None else x.known(part).item() for _, part in sources]
    if kind not in ("ConcatV2", "concat"):
        return None
    found = []
    for source, part in sources:
        length = part.type.shape[0]
        if not isinstance(length, int):
            return None
        found += elements(x, source, part, length)
    return found


def _made_from(x: Any, tensor: Any, operand: Any) -> tuple[str, list[tuple[Any, Any]]]:
    """The node or IR op that made a vector; its operands with their tensors."""
    if building(x):
        inputs = tensor.op.inputs[:-1] if tensor.op.type == "ConcatV2" else tensor.op.inputs
        return tensor.op.type, [(value, value.abstract) for value in inputs]
    made_by = next((op for op in reversed(x.builder.ops) if operand in op.results), None)
    if made_by is None:
        return "", []
    return made_by.name, [(None, part) for part in made_by.operands]
