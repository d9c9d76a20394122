"""Feed keys: what a ``feed_dict`` or ``feed_list`` may name, as the tensors that are fed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from stepforge.frontend.operation import Tensor
from stepforge.runtime import errors
from stepforge.runtime.registered import conversions


def bind_feeds(graph: Any, feed_dict: Any) -> tuple[list[Tensor], list[Any]]:
    """The fed tensors and their values.

    Raises: TypeError for keys that name no tensor and for values that are tensors; ValueError for a
    tensor that may not be fed, or nested keys and values that do not match.
    """
    if feed_dict is None:
        return [], []
    if not isinstance(feed_dict, Mapping):
        raise TypeError(f"feed_dict must be a mapping, not {type(feed_dict).__name__}")
    tensors: dict[Tensor, Any] = {}
    for key, value in feed_dict.items():
        for element, part in _pairs(key, value):
            tensor = feed_tensor(graph, element)
            check_value(part, tensor)
            tensors[tensor] = part
    return list(tensors), list(tensors.values())


def feed_tensors(graph: Any, key: Any) -> list[Tensor]:
    """The tensors that ``key`` feeds. Raises: TypeError, ValueError."""
    return [feed_tensor(graph, element) for element in _elements(key)]


def is_composite(key: Any) -> bool:
    """True where the value for ``key`` is taken apart or converted before it is fed."""
    conversion = conversions().of(key)
    return isinstance(key, tuple) or (conversion is not None and conversion.feed is not None)


def feed_tensor(graph: Any, key: Any) -> Tensor:
    """The tensor that ``key`` names. Raises: TypeError, ValueError."""
    try:
        tensor = graph.as_graph_element(key, allow_tensor=True, allow_operation=False)
    except (TypeError, ValueError, KeyError) as error:
        text = error.args[0] if error.args else error
        raise TypeError(f"Cannot interpret feed_dict key as Tensor: {text}") from None
    if not graph.is_feedable(tensor):
        raise ValueError(f"Tensor {tensor.name} may not be fed.")
    assert isinstance(tensor, Tensor)
    return tensor


def check_value(value: Any, tensor: Tensor) -> None:
    """Raises: TypeError where the value for ``tensor`` is itself a tensor or variable."""
    if isinstance(value, Tensor) or hasattr(value, "_as_graph_element"):
        raise errors.feed_of_tensor(value, tensor)


def _pairs(key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    """(element, value) pairs of one key, which may be a nested tuple."""
    if isinstance(key, tuple):
        if not isinstance(value, (tuple, list)) or len(value) != len(key):
            raise _not_alike(key, value)
        for inner_key, inner_value in zip(key, value, strict=True):
            yield from _pairs(inner_key, inner_value)
        return
    conversion = conversions().of(key)
    if conversion is not None and conversion.feed is not None:
        yield from conversion.feed(key, value)
    else:
        yield key, value


def _elements(key: Any) -> Iterator[Any]:
    if isinstance(key, tuple):
        for inner in key:
            yield from _elements(inner)
        return
    conversion = conversions().of(key)
    yield from [key] if conversion is None else conversion.parts(key)


def _not_alike(key: Any, value: Any) -> ValueError:
    count = len(value) if isinstance(value, (tuple, list)) else 1
    return ValueError(
        f"Could not flatten dictionary. Key had {len(key)} elements, but value had {count} "
        f"elements. Key: {key}, value: {value}."
    )
