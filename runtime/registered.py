"""Types that sessions learn to fetch and feed: those of stepforge and those that users register."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from stepforge.frontend.indexed_slices import IndexedSlices, IndexedSlicesValue
from stepforge.frontend.sparse_ops import SparseTensor, SparseTensorValue
from stepforge.ir.records import record


@record(frozen=True)
class Conversion:
    """How sessions treat objects of a type.

    ``fetch(object)`` gives (elements, builder of the result), ``feed(key, value)`` (element, value)
    pairs, and ``elements(key)`` what that feeds. Without ``feed``, an object is no key of a feed.
    """

    type: type
    fetch: Callable[[Any], tuple[list[Any], Callable[[list[Any]], Any]]]
    feed: Callable[[Any, Any], Sequence[tuple[Any, Any]]] | None = None
    elements: Callable[[Any], Sequence[Any]] | None = None

    def parts(self, key: Any) -> Sequence[Any]:
        """What ``key`` feeds, when there is no value yet."""
        if self.elements is not None:
            return self.elements(key)
        return [key] if self.feed is None else [element for element, _ in self.feed(key, None)]


class Conversions:
    """All conversions; the first whose type an object is an instance of decides."""

    def __init__(self) -> None:
        slices = Conversion(IndexedSlices, _fetch_slices, _feed_slices, _parts_of_slices)
        sparse = Conversion(SparseTensor, _fetch_sparse, _feed_sparse, _parts_of_sparse)
        self._known: list[Conversion] = [slices, sparse]

    def register(self, conversion: Conversion) -> None:
        """Teach all sessions a type.

        Raises: ValueError where it or a base of it is known already.
        """
        if any(issubclass(conversion.type, known.type) for known in self._known):
            raise ValueError(f"{conversion.type} has already been registered so ignore it.")
        self._known.insert(0, conversion)

    def of(self, value: Any) -> Conversion | None:
        """The conversion of an object, if there is one."""
        return next((known for known in self._known if isinstance(value, known.type)), None)


@cache
def conversions() -> Conversions:
    """The conversions of this process."""
    return Conversions()


def register_session_run_conversion_functions(
    tensor_type: type,
    fetch_function: Callable[[Any], Any],
    feed_function: Callable[[Any, Any], Any] | None = None,
    feed_function_for_partial_run: Callable[[Any], Any] | None = None,
) -> None:
    """Let sessions fetch and feed objects of ``tensor_type``, as TensorFlow's function of that
    name.

    ``fetch_function(obj)`` gives (elements, builder), ``feed_function(key, value)`` (element,
    value) pairs, ``feed_function_for_partial_run(key)`` the elements alone.
    """
    conversions().register(
        Conversion(tensor_type, fetch_function, feed_function, feed_function_for_partial_run)
    )


def _fetch_slices(slices: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    elements = list(_parts_of_slices(slices))
    return elements, lambda values: IndexedSlicesValue(*values, *[None] * (3 - len(values)))


def _feed_slices(key: Any, value: Any) -> list[tuple[Any, Any]]:
    parts = _parts_of_slices(key)
    given = tuple(value)[: len(parts)]
    if len(given) < len(parts):
        raise ValueError(f"{key} is fed by {len(parts)} arrays, not {len(given)}")
    return list(zip(parts, given, strict=True))


def _parts_of_slices(slices: Any) -> list[Any]:
    parts = [slices.values, slices.indices, slices.dense_shape]
    return [part for part in parts if part is not None]


def _fetch_sparse(sparse: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    return _parts_of_sparse(sparse), lambda values: SparseTensorValue(*values)


def _feed_sparse(key: Any, value: Any) -> list[tuple[Any, Any]]:
    """A value may leave out the shape, which then is that of the placeholder."""
    return list(zip(_parts_of_sparse(key), tuple(value), strict=False))


def _parts_of_sparse(sparse: Any) -> list[Any]:
    return [sparse.indices, sparse.values, sparse.dense_shape]
