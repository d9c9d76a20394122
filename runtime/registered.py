"""Types that sessions learn to fetch and feed: those of stepforge and those that users register."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from stepforge.frontend.indexed_slices import IndexedSlices, IndexedSlicesValue


class Conversions:
    """Fetch and feed functions by type; the first type that an object is an instance of decides."""

    def __init__(self) -> None:
        self.fetches: list[tuple[type, Callable[[Any], Any]]] = [(IndexedSlices, _fetch_slices)]
        self.feeds: list[tuple[type, Callable[[Any, Any], Any] | None]] = [
            (IndexedSlices, _feed_slices)
        ]

    def register(
        self, type_: type, fetch: Callable[[Any], Any], feed: Callable[[Any, Any], Any] | None
    ) -> None:
        """Teach all sessions a type.

        Raises: ValueError where it or a base of it is known already.
        """
        for known, _ in self.fetches:
            if issubclass(type_, known):
                raise ValueError(f"{type_} has already been registered so ignore it.")
        self.fetches.insert(0, (type_, fetch))
        self.feeds.insert(0, (type_, feed))


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
    value) pairs.
    """
    conversions().register(tensor_type, fetch_function, feed_function)


def _fetch_slices(slices: Any) -> tuple[list[Any], Callable[[list[Any]], Any]]:
    elements = [slices.values, slices.indices]
    if slices.dense_shape is not None:
        elements.append(slices.dense_shape)
    return elements, lambda values: IndexedSlicesValue(*values, *[None] * (3 - len(values)))


def _feed_slices(key: Any, value: Any) -> list[tuple[Any, Any]]:
    parts = [key.values, key.indices, key.dense_shape]
    given = (None,) * 3 if value is None else tuple(value)
    return [(p, v) for p, v in zip(parts, given, strict=False) if p is not None]
