"""Static shapes as the API shows them: TensorFlow 1's ``Dimension`` and ``TensorShape``.

What the IR knows of a size beyond "unknown" (that two are equal, that one is the product of others)
does not show here: a symbolic size is ``Dimension(None)``.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from stepforge.ir.types import Shape


class Dimension:
    """One size, or None where it is not known. Comparisons with an unknown size give None."""

    __slots__ = ("_value",)
    __hash__ = None  # type: ignore[assignment]  # equality is not transitive, so it cannot be a key

    def __init__(self, value: Any) -> None:
        if value is None or type(value) is int:
            number = value
        elif isinstance(value, Dimension):
            number = value.value
        else:
            number = _index(value)
        if number is not None and number < 0:
            raise ValueError(f"Dimension {number} must be >= 0")
        self._value: int | None = number

    @property
    def value(self) -> int | None:
        """The number, None where it is unknown."""
        return self._value

    def __repr__(self) -> str:
        return f"Dimension({self._value})"

    def __str__(self) -> str:
        return "?" if self._value is None else str(self._value)

    def __int__(self) -> int:
        return self._value  # type: ignore[return-value]  # None raises the TypeError that it should

    def __index__(self) -> int:
        return self._value  # type: ignore[return-value]

    def __bool__(self) -> bool:
        return bool(self._value)

    def _compare(self, other: Any, compare: Callable[[int, int], bool]) -> Any:
        value = as_dimension(other).value
        if self._value is None or value is None:
            return None
        return compare(self._value, value)

    def __eq__(self, other: object) -> Any:
        try:
            return self._compare(other, operator.eq)
        except (TypeError, ValueError):
            return NotImplemented

    def __ne__(self, other: object) -> Any:
        try:
            return self._compare(other, operator.ne)
        except (TypeError, ValueError):
            return NotImplemented

    def __lt__(self, other: Any) -> Any:
        return self._compare(other, operator.lt)

    def __le__(self, other: Any) -> Any:
        return self._compare(other, operator.le)

    def __gt__(self, other: Any) -> Any:
        return self._compare(other, operator.gt)

    def __ge__(self, other: Any) -> Any:
        return self._compare(other, operator.ge)

    def _arithmetic(
        self, other: Any, compute: Callable[[int, int], int], reverse: bool = False
    ) -> Any:
        try:
            value = as_dimension(other).value
        except (TypeError, ValueError):
            return NotImplemented
        if self._value is None or value is None:
            return Dimension(None)
        left, right = (value, self._value) if reverse else (self._value, value)
        return Dimension(compute(left, right))

    def __add__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.add)

    def __radd__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.add, reverse=True)

    def __sub__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.sub)

    def __rsub__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.sub, reverse=True)

    def __mul__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.mul)

    def __rmul__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.mul, reverse=True)

    def __floordiv__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.floordiv)

    def __rfloordiv__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.floordiv, reverse=True)

    def __mod__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.mod)

    def __rmod__(self, other: Any) -> Any:
        return self._arithmetic(other, operator.mod, reverse=True)

    def __truediv__(self, other: Any) -> Any:
        raise _no_division("Dimension", type(other).__name__)

    def __rtruediv__(self, other: Any) -> Any:
        raise _no_division(type(other).__name__, "Dimension")

    def __reduce__(self) -> tuple[Any, ...]:
        return Dimension, (self._value,)

    def is_compatible_with(self, other: Any) -> bool:
        """True where the sizes are equal or one is unknown."""
        value = as_dimension(other).value
        return self._value is None or value is None or self._value == value

    def assert_is_compatible_with(self, other: Any) -> None:
        """Raises: ValueError where the sizes differ."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {as_dimension(other)} are not compatible")

    def merge_with(self, other: Any) -> Dimension:
        """The better known of two sizes. Raises: ValueError where they differ."""
        other = as_dimension(other)
        self.assert_is_compatible_with(other)
        return Dimension(other.value if self._value is None else self._value)


def _index(value: Any) -> int:
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(
            "Dimension value must be integer or None or have an __index__ method, got value "
            f"'{value!r}' with type '{type(value)!r}'"
        ) from None


def _no_division(left: str, right: str) -> TypeError:
    return TypeError(
        f"unsupported operand type(s) for /: '{left}' and '{right}', please use // instead"
    )


def as_dimension(value: Any) -> Dimension:
    """``value`` as a Dimension. Raises: TypeError, ValueError as ``Dimension`` does."""
    return value if isinstance(value, Dimension) else Dimension(value)


def dimension_value(dimension: Any) -> int | None:
    """The number of a Dimension or an ``int``; None stays None."""
    return dimension.value if isinstance(dimension, Dimension) else dimension


class TensorShape:
    """A possibly unknown shape: a rank with known and unknown sizes, or no known rank at all."""

    __slots__ = ("_sizes",)

    def __init__(self, dims: Any) -> None:
        self._sizes: tuple[int | None, ...] | None = _sizes_of(dims)

    # ---- reading --------------------------------------------------------------------------------
    @property
    def sizes(self) -> tuple[int | None, ...] | None:
        """Plain numbers with None where unknown; None where the rank is."""
        return self._sizes

    @property
    def dims(self) -> list[Dimension] | None:
        """The dimensions, or None where the rank is unknown."""
        return None if self._sizes is None else [Dimension(n) for n in self._sizes]

    @property
    def ndims(self) -> int | None:
        """The rank, or None where it is unknown."""
        return None if self._sizes is None else len(self._sizes)

    @property
    def rank(self) -> int | None:
        """The rank, None where it is unknown."""
        return self.ndims

    def __repr__(self) -> str:
        return f"TensorShape({self.dims})"

    def __str__(self) -> str:
        if self._sizes is None:
            return "<unknown>"
        if len(self._sizes) == 1:
            return f"({Dimension(self._sizes[0])},)"
        return f"({', '.join('?' if n is None else str(n) for n in self._sizes)})"

    def __len__(self) -> int:
        if self._sizes is None:
            raise ValueError("Cannot take the length of shape with unknown rank.")
        return len(self._sizes)

    def __bool__(self) -> bool:
        return self._sizes is not None

    def __iter__(self) -> Iterator[Dimension]:
        if self._sizes is None:
            raise ValueError("Cannot iterate over a shape with unknown rank.")
        return iter([Dimension(n) for n in self._sizes])

    def __getitem__(self, key: Any) -> Any:
        if self._sizes is None:
            return _slice_unknown(key) if isinstance(key, slice) else Dimension(None)
        if isinstance(key, slice):
            return TensorShape(self._sizes[key])
        try:
            return Dimension(self._sizes[key])
        except IndexError:
            raise IndexError("list index out of range") from None

    def as_list(self) -> list[int | None]:
        """Plain numbers, None where unknown. Raises: ValueError where the rank is unknown."""
        if self._sizes is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape.")
        return list(self._sizes)

    def num_elements(self) -> int | None:
        """The number of elements, or None where it is not known."""
        if self._sizes is None:
            return None
        total = 1
        for size in self._sizes:
            if size is None:
                return None
            total *= size
        return total

    def is_fully_defined(self) -> bool:
        """True where rank and all sizes are known."""
        return self._sizes is not None and None not in self._sizes

    def __eq__(self, other: object) -> bool:
        try:
            return self._sizes == as_shape(other).sizes
        except (TypeError, ValueError):
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self._sizes)

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorShape, (self._sizes,)

    # ---- combining ------------------------------------------------------------------------------
    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: Any) -> TensorShape:
        return as_shape(other).concatenate(self)

    def concatenate(self, other: Any) -> TensorShape:
        """This shape followed by ``other``; unknown where either is."""
        sizes = as_shape(other).sizes
        if self._sizes is None or sizes is None:
            return TensorShape(None)
        return TensorShape(self._sizes + sizes)

    def merge_with(self, other: Any) -> TensorShape:
        """What both shapes say together. Raises: ValueError where they contradict each other."""
        shape = as_shape(other)
        if self._sizes is None:
            return shape
        if shape.sizes is None:
            return self
        if not self.is_compatible_with(shape):
            raise ValueError(f"Shapes {self} and {shape} are not compatible")
        pairs = zip(self._sizes, shape.sizes, strict=True)
        return TensorShape([b if a is None else a for a, b in pairs])

    def most_specific_compatible_shape(self, other: Any) -> TensorShape:
        """What both shapes agree on."""
        other = as_shape(other)
        if self._sizes is None or other.sizes is None or len(self._sizes) != len(other.sizes):
            return TensorShape(None)
        pairs = zip(self._sizes, other.sizes, strict=True)
        return TensorShape([a if a == b else None for a, b in pairs])

    def is_compatible_with(self, other: Any) -> bool:
        """True where one tensor may have both shapes."""
        sizes = as_shape(other).sizes
        if self._sizes is None or sizes is None:
            return True
        return len(self._sizes) == len(sizes) and all(
            a == b or a is None or b is None for a, b in zip(self._sizes, sizes, strict=True)
        )

    def is_subtype_of(self, other: Any) -> bool:
        """True where every tensor of this shape has ``other`` as well."""
        sizes = as_shape(other).sizes
        if sizes is None:
            return True
        if self._sizes is None or len(self._sizes) != len(sizes):
            return False
        return all(b is None or a == b for a, b in zip(self._sizes, sizes, strict=True))

    # ---- demanding ------------------------------------------------------------------------------
    def assert_is_compatible_with(self, other: Any) -> None:
        """Raises: ValueError where no tensor can have both shapes."""
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {other} are incompatible")

    def assert_is_fully_defined(self) -> None:
        """Raises: ValueError where a size is unknown."""
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def assert_same_rank(self, other: Any) -> None:
        """Raises: ValueError where the ranks are known and differ."""
        other = as_shape(other)
        if None not in (self.ndims, other.ndims) and self.ndims != other.ndims:
            raise ValueError(f"Shapes {self} and {other} must have the same rank")

    def assert_has_rank(self, rank: int | None) -> None:
        """Raises: ValueError where the rank is known and is not ``rank``."""
        if rank is not None and self.ndims not in (None, rank):
            raise ValueError(f"Shape {self} must have rank {rank}")

    def with_rank(self, rank: int | None) -> TensorShape:
        """The shape with its rank known. Raises: ValueError where it has another."""
        try:
            return self.merge_with(unknown_shape(rank))
        except ValueError:
            raise ValueError(f"Shape {self} must have rank {rank}") from None

    def with_rank_at_least(self, rank: int) -> TensorShape:
        """The shape itself. Raises: ValueError where its rank is known and lower."""
        if self.ndims is not None and self.ndims < rank:
            raise ValueError(f"Shape {self} must have rank at least {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> TensorShape:
        """The shape itself. Raises: ValueError where its rank is known and higher."""
        if self.ndims is not None and self.ndims > rank:
            raise ValueError(f"Shape {self} must have rank at most {rank}")
        return self


def _sizes_of(dims: Any) -> tuple[int | None, ...] | None:
    if dims is None:
        return None
    if isinstance(dims, TensorShape):
        return dims.sizes
    if isinstance(dims, (tuple, list)):
        return tuple([_size(n) for n in dims])
    if isinstance(dims, (str, bytes)):
        raise TypeError(
            f"Failed to convert '{dims!r}' to a shape: it could not be converted to a dimension. "
            "A shape should either be single dimension (e.g. 10), or an iterable of dimensions "
            "(e.g. [1, 10, None])."
        )
    if isinstance(dims, Iterable) and getattr(dims, "ndim", 1) != 0:
        return tuple([_size(n) for n in dims])
    return (_size(dims),)


def _size(value: Any) -> int | None:
    if value is None or (type(value) is int and value >= 0):
        return value
    return Dimension(value).value


def _slice_unknown(key: slice) -> TensorShape:
    """A slice of a shape without known rank: its length is known only where both ends are."""
    start, stop = key.start or 0, key.stop
    if key.step is not None:
        raise ValueError("Steps are not yet handled")
    if stop is None or start < 0 or stop < 0:
        return TensorShape(None)
    return unknown_shape(max(0, stop - start))


def as_shape(value: Any) -> TensorShape:
    """``value`` as a TensorShape. Raises: TypeError, ValueError where it is none."""
    return value if isinstance(value, TensorShape) else TensorShape(value)


def unknown_shape(ndims: int | None = None) -> TensorShape:
    """A shape of ``ndims`` unknown sizes, or of unknown rank."""
    return TensorShape(None if ndims is None else [None] * ndims)


def from_ir(shape: Shape) -> TensorShape:
    """The static shape that an IR shape shows: symbolic sizes are unknown."""
    if shape is None:
        return TensorShape(None)
    return TensorShape([n if isinstance(n, int) else None for n in shape])


def dimension_at_index(shape: TensorShape, index: int) -> Dimension:
    """One dimension of a shape, unknown where the rank is."""
    return Dimension(None) if shape.dims is None else shape.dims[index]
