"""What the ``infer`` rules share: which dtypes an op takes, and how shapes with unknown sizes
combine.

An error says which op, what is wrong, and the type of every operand concerned. Sizes that may or
may not be equal at run time pass: extraction states what must hold of them (``require_equal``,
``assume``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import DTypeError, ShapeError, UnknownRankError, UnprovenSizes
from stepforge.ir.records import record
from stepforge.ir.types import COMPLEX, INTEGERS, OBJECTS, Type


@record(frozen=True)
class DTypes:
    """A set of dtypes that an op takes, with the words that an error uses for it.

    ``listed`` are those that test cases are made for; ``names`` adds ``index`` where counters
    will do.
    """

    listed: tuple[str, ...]
    text: str
    names: frozenset[str]


def _dtypes(text: str, *groups: Sequence[str], index: bool = False) -> DTypes:
    listed = tuple(name for group in groups for name in group)
    return DTypes(listed, text, frozenset(listed) | ({"index"} if index else set()))


_BOOL = ("bool",)
BOOL = _dtypes("bool", _BOOL)
INTEGER = _dtypes("an integer", INTEGERS, index=True)
FLOAT = _dtypes("a float", ("f32", "f64", "f16", "bf16"))  # f32 leads the test cases
COMPLEX_NUMBER = _dtypes("a complex number", COMPLEX)
FLOAT_OR_COMPLEX = _dtypes("a float or complex number", FLOAT.listed, COMPLEX)
DECOMPOSABLE = _dtypes("f32, f64 or complex", ("f32", "f64"), COMPLEX)
REAL = _dtypes("a real number", FLOAT.listed, INTEGERS, index=True)
NUMBER = _dtypes("a number", FLOAT.listed, INTEGERS, COMPLEX, index=True)
PLAIN = _dtypes("a number or bool", FLOAT.listed, INTEGERS, COMPLEX, _BOOL, index=True)
COMPARABLE = _dtypes("a number, bool or string", PLAIN.listed, ("string",), index=True)
SORTABLE = _dtypes("a real number, bool or string", FLOAT.listed, INTEGERS, _BOOL, ("string",))
INDICES = _dtypes("i32 or i64", ("i32", "i64"))
ANY = _dtypes("any dtype", FLOAT.listed, INTEGERS, COMPLEX, _BOOL, OBJECTS, index=True)


def describe(operands: Mapping[str, Type]) -> str:
    """``x is f32[2, 3], y is i32[3]``, for error messages."""
    return ", ".join(f"{name} is {type_}" for name, type_ in operands.items())


def check_dtype(op: str, accepts: DTypes, **operands: Type) -> None:
    """Each operand has a dtype of ``accepts``. Raises: DTypeError naming the operand."""
    for name, type_ in operands.items():
        if type_.dtype not in accepts.names:
            raise DTypeError(f"{op}: {name} must be {accepts.text}, but is {type_}")


def check_same_dtype(op: str, **operands: Type) -> None:
    """All operands have one dtype. Raises: DTypeError naming all of them."""
    if len({type_.dtype for type_ in operands.values()}) > 1:
        raise DTypeError(f"{op}: dtypes differ: {describe(operands)}")


def known_dims(op: str, **operand: Type) -> tuple[Dim, ...]:
    """The shape of the one operand given. Raises: UnknownRankError where its rank is unknown."""
    ((name, type_),) = operand.items()
    if type_.shape is None:
        raise UnknownRankError(f"{op}: the rank of {name} must be known, but it is {type_}")
    return type_.shape


def check_rank(op: str, rank: int, **operands: Type) -> None:
    """Each operand has exactly ``rank`` axes. Raises: ShapeError."""
    for name, type_ in operands.items():
        if len(known_dims(op, **{name: type_})) != rank:
            raise ShapeError(f"{op}: {name} must have rank {rank}, but is {type_}")


def check_min_rank(op: str, rank: int, **operands: Type) -> None:
    """Each operand has at least ``rank`` axes. Raises: ShapeError."""
    for name, type_ in operands.items():
        if len(known_dims(op, **{name: type_})) < rank:
            raise ShapeError(f"{op}: {name} must have rank {rank} or more, but is {type_}")


def known_axis(op: str, axis: int, **operand: Type) -> int:
    """``axis`` of the one operand given, counted from the front.

    Raises: ShapeError where there is no such axis.
    """
    ((name, type_),) = operand.items()
    rank = len(known_dims(op, **operand))
    if not -rank <= axis < rank:
        raise ShapeError(f"{op}: there is no axis {axis} in {name}, which is {type_}")
    return axis % rank


def known_axes(op: str, axes: Sequence[int], **operand: Type) -> tuple[int, ...]:
    """Distinct axes of the one operand given. Raises: ShapeError."""
    found = tuple([known_axis(op, axis, **operand) for axis in axes])
    if len(set(found)) != len(found):
        raise ShapeError(f"{op}: an axis appears twice in {list(axes)} of {describe(operand)}")
    return found


def certainly_differ(a: Dim, b: Dim) -> bool:
    """True where no values of the names make the two sizes equal: 3 and 4, ``n`` and ``n + 1``."""
    if a is b:
        return False
    difference = a - b
    return isinstance(difference, int) and difference != 0


def check_equal(op: str, a: Dim, b: Dim, what: str, operands: Mapping[str, Type]) -> None:
    """Two sizes are the same.

    Raises: ShapeError where they certainly differ, UnprovenSizes where they may.
    """
    if a == b:
        return
    message = f"{op}: {what} ({a} and {b}): {describe(operands)}"
    if certainly_differ(a, b):
        raise ShapeError(message)
    raise UnprovenSizes(message, a, b)


def merge_dims(
    op: str, shapes: Mapping[str, Sequence[Dim]], operands: Mapping[str, Type], what: str = "shapes"
) -> tuple[Dim, ...]:
    """The one shape that all ``shapes`` (parts of the operands' shapes) must be.

    Raises: ShapeError naming the dimension, where two of them cannot be equal.
    """
    given = list(shapes.values())
    merged = tuple(given[0])
    for shape in given[1:]:
        if len(shape) != len(merged):
            raise ShapeError(f"{op}: {what} differ in rank: {describe(operands)}")
        for axis, (a, b) in enumerate(zip(merged, shape, strict=True)):
            check_equal(op, a, b, f"{what} differ in dimension {axis}", operands)
    return merged


def broadcast_dims(
    op: str, shapes: Sequence[Sequence[Dim]], operands: Mapping[str, Type]
) -> tuple[Dim, ...]:
    """The shape that ``shapes`` (of the operands, or of their batches) broadcast to.

    Raises: ShapeError naming the dimension of the result where two known sizes differ and none is
    1.
    """
    rank = max(map(len, shapes), default=0)
    out: list[Dim] = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, rank - len(shape)):
            known = out[axis]
            if isinstance(known, int) and isinstance(size, int) and 1 != known != size != 1:
                raise ShapeError(
                    f"{op}: dimension {axis} differs ({known} and {size}) and neither is 1: "
                    f"{describe(operands)}"
                )
            out[axis] = dims.broadcast(known, size)
    return tuple(out)


def broadcast_types(op: str, **operands: Type) -> tuple[Dim, ...] | None:
    """The common shape of whole operands; None where the rank of one is unknown."""
    shapes = [type_.shape for type_ in operands.values()]
    known = [shape for shape in shapes if shape is not None]
    return broadcast_dims(op, known, operands) if len(known) == len(shapes) else None
