"""Feed keys: what a ``feed_dict`` or ``feed_list`` may name, as the tensors that are fed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from stepforge.frontend.operation import Tensor
from stepforge.runtime.errors import feed_of_tensor

FeedFunction = Callable[[Any, Any], "list[tuple[Any, Any]]"]
Registered = Sequence["tuple[type, FeedFunction | None]"]


def bind_feeds(
    graph: Any, feed_dict: Any, registered: Registered
) -> tuple[list[Tensor], list[Any]]:
    """The fed tensors and their values.

    Raises: TypeError for keys that name no tensor and for values that are tensors; ValueError for a
    tensor that may not be fed, or nested keys and values that do not match.
    """
    tensors: dict[Tensor, Any] = {}
    if feed_dict is None:
        return [], []
    if not isinstance(feed_dict, Mapping):
        raise TypeError(f"feed_dict must be a mapping, not {type(feed_dict).__name__}")
    for key, value in _flattened(feed_dict):
        for element, part in expand_feed(key, value, registered):
            tensor = feed_tensor(graph, element)
            if isinstance(part, Tensor) or hasattr(part, "_as_graph_element"):
                raise feed_of_tensor(part)
            tensors[tensor] = part
    return list(tensors), list(tensors.values())


def _flattened(feed_dict: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    for key, value in feed_dict.items():
        if isinstance(key, tuple):
            yield from _nested(key, value)
        else:
            yield key, value


def _nested(key: Any, value: Any) -> Iterator[tuple[Any, Any]]:
    if not isinstance(key, tuple):
        yield key, value
        return
    if not isinstance(value, tuple) or len(value) != len(key):
        raise ValueError(
            f"Could not flatten dictionary. Key had {len(key)} elements, but value had "
            f"{len(value) if isinstance(value, (list, tuple)) else 1} elements. Key: {key}, "
            f"value: {value}."
        )
    for k, v in zip(key, value, strict=True):
        yield from _nested(k, v)


def expand_feed(key: Any, value: Any, registered: Registered) -> list[tuple[Any, Any]]:
    """(element, value) pairs of one key: several where a registered type feeds its components."""
    for type_, function in registered:
        if function is not None and isinstance(key, type_):
            return list(function(key, value))
    return [(key, value)]


def feed_tensor(graph: Any, key: Any) -> Tensor:
    """The tensor that ``key`` names. Raises: TypeError, ValueError."""
    try:
        tensor = graph.as_graph_element(key, allow_tensor=True, allow_operation=False)
    except Exception as error:
        text = error.args[0] if error.args else error
        raise TypeError(f"Cannot interpret feed_dict key as Tensor: {text}") from None
    if not graph.is_feedable(tensor):
        raise ValueError(f"Tensor {tensor.name} may not be fed.")
    assert isinstance(tensor, Tensor)
    return tensor
