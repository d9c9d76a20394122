"""Checks of values at run time, and the ops that turn values into sizes.

A check has no results: it raises InvalidArgumentError or does nothing. Its place in the program
counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from stepforge.ir.core import Const, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.errors import BY_NAME, MOST_QUOTED, InvalidArgumentError, ShapeError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.inference import (
    BOOL,
    INDICES,
    INTEGER,
    certainly_differ,
    check_dtype,
    check_rank,
    known_dims,
)
from stepforge.ir.types import Type, index

Dims = tuple[Dim, ...]


def _fail(message: str) -> NoReturn:
    raise InvalidArgumentError(None, None, message)


class Check(OpDef):
    """Base class: no results, may fail."""

    effect = "check"


@define_op
class CheckNonzero(Check):
    """No element of ``y`` is 0. ``check_nonzero(%y, message="Integer division by zero")``"""

    cases = ("check_nonzero(i32[3])", "check_nonzero(i64)", 'check_nonzero(u8[0], message="zero")')

    def infer(self, y: Type, *, message: str = "Integer division by zero") -> tuple[Type, ...]:
        check_dtype("check_nonzero", INTEGER, y=y)
        return ()

    def numpy(self, y: Array, *, message: str) -> None:
        if not np.all(y):
            _fail(message)

    def lower(self, k: LoopBuilder, y: Operand, *, message: str) -> None:
        k.fail_if_any(y, lambda v: k.emit("equal", v, Const(v.type, 0)), message)


@define_op
class CheckBounds(Check):
    """Every index is in [0, limit). ``check_bounds(%i, limit=n, message="indices")``

    The error reads ``indices[1,0] = 5 is not in [0, 3)``: position and value of the first that is
    not. A message of its own has ``{value}`` and ``{limit}`` in it.
    """

    cases = (
        "check_bounds(i32[2, 3], limit=4)",
        'check_bounds(i64, limit=4, message="segment_ids")',
        "check_bounds(i32[0], limit=0)",
    )

    def infer(self, indices: Type, *, limit: Dim, message: str = "indices") -> tuple[Type, ...]:
        check_dtype("check_bounds", INTEGER, indices=indices)
        return ()

    def numpy(self, indices: Array, *, limit: int, message: str) -> None:
        outside = np.argwhere((indices < 0) | (indices >= limit))
        if len(outside):
            at = tuple(outside[0])
            place = f"[{','.join(map(str, at))}]" if at else ""
            plain = f"{message}{place} = {indices[at]} is not in [0, {limit})"
            own = message.format(value=indices[at], limit=limit)
            _fail(own if "{value}" in message else plain)

    def lower(self, k: LoopBuilder, indices: Operand, *, limit: Dim, message: str) -> None:
        shape = indices.type.dims
        place = f"[{','.join('{}' for _ in shape)}]" if shape else ""
        text = f"{message}{place} = {{}} is not in [0, {{}})"
        if "{value}" in message:
            text = message.format(value=f"{{{len(shape)}}}", limit=f"{{{len(shape) + 1}}}")
        with k.nest(shape, simd=False) as at:
            value = k.emit("cast", k.element(indices, shape, at), dtype="i64")
            end = k.number(limit)
            below = k.emit("less", value, Const(value.type, 0))
            outside = k.emit("logical_or", below, k.emit("greater_equal", value, end))
            k.emit("fail_if", outside, *at, value, end, message=text)


@define_op
class CheckVectors(Check):
    """Every index vector, in the last axis of ``indices``, is inside of the first sizes of
    ``shape``. ``check_vectors(%i, shape=[n, 3], message="indices{place} = {value}: {shape}")``

    The message has the place of the first that is not (``[1,0]``), the vector (``{value}`` or,
    without blanks, ``{compact}``) and the shape.
    """

    cases = (
        'check_vectors(i32[0, 2], shape=[4, 3], message="indices{place} = {value}, {shape}")',
        'check_vectors(i64[2, 3, 1], shape=[9, 2], message="indices{place} = {value}, {shape}")',
        'check_vectors(i32[2], shape=[9, 9], message="indices{place} = {value}, {shape}")',
    )

    def infer(self, indices: Type, *, shape: Dims, message: str) -> tuple[Type, ...]:
        check_dtype("check_vectors", INDICES, indices=indices)
        depth = known_dims("check_vectors", indices=indices)[-1:]
        if not depth or not isinstance(depth[0], int) or depth[0] > len(shape):
            raise ShapeError(f"check_vectors: {indices} does not index into rank {len(shape)}")
        return ()

    def numpy(self, indices: Array, *, shape: tuple[int, ...], message: str) -> None:
        depth = indices.shape[-1]
        outside = ((indices < 0) | (indices >= np.array(shape[:depth], np.int64))).any(axis=-1)
        found = np.argwhere(outside)
        if len(found):
            at = tuple(found[0])
            _fail(_about_vector(message, len(at), depth, shape).format(*at, *indices[at], *shape))

    def lower(self, k: LoopBuilder, indices: Operand, *, shape: Dims, message: str) -> None:
        outer, depth = indices.type.dims[:-1], indices.type.dims[-1]
        assert isinstance(depth, int)
        with k.nest(outer, simd=False) as at:
            elements = [k.element(indices, indices.type.dims, (*at, Const(index, i)))
                        for i in range(depth)]  # fmt: skip
            values = [k.emit("cast", element, dtype="i64") for element in elements]
            outside: Operand = Const(Type("bool"), False)
            for value, limit in zip(values, shape, strict=False):
                low = k.emit("less", value, Const(value.type, 0))
                high = k.emit("greater_equal", value, k.number(limit))
                outside = k.emit("logical_or", outside, k.emit("logical_or", low, high))
            text = _about_vector(message, len(at), depth, shape)
            quoted = [*at, *values, *map(k.number, shape)][: text.count("{}")]
            k.emit("fail_if", outside, *quoted, message=text)


def _about_vector(message: str, rank: int, depth: int, shape: Sequence[object]) -> str:
    """A message about index vectors with a ``{}`` for each number in it."""
    counts = (rank, depth, len(shape) if rank + depth + len(shape) <= MOST_QUOTED else 0)
    place, value, whole = (["{}"] * count for count in counts)
    return message.format(
        place=f"[{','.join(place)}]" if place else "",
        value=f"[{', '.join(value)}]",
        compact=f"[{','.join(value)}]",
        shape=f"[{','.join(whole)}]" if whole or not shape else "[...]",
    )


@define_op
class Require(Check):
    """The scalar ``condition`` is true. The scalars ``quoted``, and then the sizes ``values``, fill
    the ``{}`` of ``message`` where there are any, floats a ``{:g}``; ``error`` is the class.
    ``require(%c, %got, message="got {}, not {}", values=[n], error="InvalidArgumentError")``
    """

    cases = (
        'require(bool, message="it does not hold")',
        'require(bool, message="{} and {} do not fit", values=[2, 3])',
        'require(bool, i32, f32, message="{}, {:g}, {}", values=[2], error="OutOfRangeError")',
    )

    def infer(
        self,
        condition: Type,
        *quoted: Type,
        message: str,
        values: Dims = (),
        error: str = "InvalidArgumentError",
    ) -> tuple[Type, ...]:
        check_dtype("require", BOOL, condition=condition)
        check_rank("require", 0, condition=condition, **{f"x{i}": t for i, t in enumerate(quoted)})
        return ()

    def numpy(
        self, condition: Array, *quoted: Array, message: str, values: tuple[int, ...], error: str
    ) -> None:
        if not condition:
            numbers = [*(number.item() for number in quoted), *values]
            raise BY_NAME[error](None, None, message.format(*numbers) if numbers else message)

    def lower(
        self,
        k: LoopBuilder,
        condition: Operand,
        *quoted: Operand,
        message: str,
        values: Dims,
        error: str,
    ) -> None:
        literal = not quoted and not values
        text = message.replace("{", "{{").replace("}", "}}") if literal else message
        wrong = k.emit("logical_not", k.element(condition, (), ()))
        numbers = [*(k.element(number, (), ()) for number in quoted), *map(k.number, values)]
        k.emit("fail_if", wrong, *numbers, message=text, error=error)


@define_op
class RequireEqual(Check):
    """Two sizes are equal. ``require_equal(lhs=n, rhs=m, message="Incompatible shapes")``

    The error adds the sizes to the message: ``Incompatible shapes: 2 is not 3``. Where there are
    ``values``, they fill the ``{}`` of the message instead.
    """

    cases = (
        'require_equal(lhs=3, rhs=3, message="sizes differ")',
        'require_equal(lhs=3, rhs=3, message="{} and {} do not fit", values=[3, 3])',
    )

    def infer(self, *, lhs: Dim, rhs: Dim, message: str, values: Dims = ()) -> tuple[Type, ...]:
        return ()

    def numpy(self, *, lhs: int, rhs: int, message: str, values: tuple[int, ...]) -> None:
        if lhs != rhs:
            _fail(message.format(*values) if values else f"{message}: {lhs} is not {rhs}")

    def lower(self, k: LoopBuilder, *, lhs: Dim, rhs: Dim, message: str, values: Dims) -> None:
        if not values:
            k.emit("fail_unless", lhs=lhs, rhs=rhs, message=f"{message}: {{}} is not {{}}")
            return
        differ = k.emit("not_equal", k.number(lhs), k.number(rhs))
        k.emit("fail_if", differ, *map(k.number, values), message=message)


@define_op
class Refine(OpDef):
    """``x`` with a better known shape, which its sizes are checked against.
    ``%r = refine(%x, shape=[n, 3]) : f32[n, 3]``

    Names that ``shape`` mentions for the first time are bound to the actual sizes.
    """

    effect = "check"
    cases = (
        "refine(f32[2, 3], shape=[2, 3])",
        "refine(string[4], shape=[4])",
        "refine(i32, shape=[])",
    )

    def infer(self, x: Type, *, shape: Dims) -> Type:
        if x.shape is not None:
            problem = len(x.shape) != len(shape) or any(map(certainly_differ, x.shape, shape))
            if problem:
                raise ShapeError(f"refine: x is {x}, which cannot be {x.with_shape(shape)}")
        return x.with_shape(shape)

    def numpy(self, x: Array, *, shape: tuple[int, ...]) -> Array:
        """Entries of ``shape`` that are no numbers (names not bound yet) take any size."""
        fits = len(shape) == x.ndim and all(
            n == want for n, want in zip(x.shape, shape, strict=True) if isinstance(want, int)
        )
        if not fits:
            have, want = (str(list(s)).replace(" ", "") for s in (x.shape, shape))
            _fail(f"a value of shape {have} cannot have shape {want}")
        return x


@define_op
class DimOp(Check):
    """Element ``index`` of an integer vector (None: a scalar) becomes the size named ``binds``.

    ``dim(%s, index=1, binds="k")``. Sizes are not negative: a negative value raises.
    """

    name = "dim"
    cases = ('dim(i32[3], index=1, binds="k")', 'dim(i64, binds="k")')

    def infer(self, x: Type, *, index: int | None = None, binds: str) -> tuple[Type, ...]:
        check_dtype("dim", INTEGER, x=x)
        check_rank("dim", 0 if index is None else 1, x=x)
        if index is not None:
            length = known_dims("dim", x=x)[0]
            if index < 0 or (isinstance(length, int) and index >= length):
                raise ShapeError(f"dim: there is no element {index} in x, which is {x}")
        return ()

    def numpy(self, x: Array, *, index: int | None, binds: str) -> None:
        self.bound(x, index=index, binds=binds)

    def bound(self, x: Array, *, index: int | None, binds: str) -> int:
        """The size that the name in ``binds`` gets. Raises: InvalidArgumentError where it is
        negative.
        """
        size = int(x if index is None else x[index])
        if size < 0:
            _fail(f"Dimension {size} must be >= 0")
        return size
