"""Fetches: any nesting of containers around tensors, operations, variables and names.

A ``FetchTree`` lists the graph elements that are to be computed, each once, and knows how to build
the result from their values.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from stepforge.codegen.signature import Structure
from stepforge.frontend.operation import Operation, Tensor
from stepforge.ir.records import record
from stepforge.runtime import errors
from stepforge.runtime.handles import is_handle, is_resource, resource_array, wrapped
from stepforge.runtime.registered import conversions

Pack = Callable[[Sequence[Any]], Any]


@record(frozen=True)
class FetchTree:
    """``leaves``: tensors and operations, each once. ``structure``: "single", "list" or "tuple"
    where the leaves in order are the whole result, else "packed", and ``pack`` builds the result
    from their values."""

    leaves: tuple[Any, ...]
    structure: Structure
    pack: Pack


def bind_fetches(graph: Any, fetches: Any, *, handles: bool = False) -> FetchTree:
    """The tree of ``fetches``. With ``handles``, those of kept tensors come as ``TensorHandle``.

    Raises: TypeError for something that cannot be fetched, ValueError for an element that is not in
    ``graph`` or may not be fetched.
    """
    return _Binder(graph, handles).bind(fetches)


class _Binder:
    def __init__(self, graph: Any, handles: bool) -> None:
        self.graph = graph
        self.handles = handles
        self.leaves: dict[Any, int] = {}
        self.built = False  # the leaves in order are not the result

    def bind(self, fetches: Any) -> FetchTree:
        pack = self._pack(fetches)
        structure: Structure = "packed"
        if not self.built:
            if type(fetches) in (list, tuple) and all(_plain(f) for f in fetches) and fetches:
                structure = "list" if type(fetches) is list else "tuple"
            elif _plain(fetches):
                structure = "single"
        return FetchTree(tuple(self.leaves), structure, pack)

    def _pack(self, fetch: Any) -> Pack:
        if fetch is None:
            raise TypeError('Argument `fetch` = None has invalid type "NoneType". Cannot be None')
        if isinstance(fetch, (list, tuple)):
            return self._sequence(fetch)
        if isinstance(fetch, Mapping):
            return self._mapping(fetch)
        if hasattr(type(fetch), "__attrs_attrs__"):
            names = [a.name for a in type(fetch).__attrs_attrs__]
            items = [self._pack(getattr(fetch, name)) for name in names]
            return lambda values: type(fetch)(
                **dict(zip(names, (i(values) for i in items), strict=True))
            )
        conversion = conversions().of(fetch)
        if conversion is not None:
            return self._converted(*conversion.fetch(fetch))
        return self._leaf(fetch)

    def _sequence(self, fetch: Sequence[Any]) -> Pack:
        items = [self._pack(item) for item in fetch]
        if isinstance(fetch, list):
            return lambda values: [item(values) for item in items]
        if hasattr(fetch, "_fields"):
            return lambda values: type(fetch)(*[item(values) for item in items])
        return lambda values: tuple(item(values) for item in items)

    def _mapping(self, fetch: Mapping[Any, Any]) -> Pack:
        items = {key: self._pack(value) for key, value in fetch.items()}
        factory = getattr(fetch, "default_factory", None)
        kind: Any = type(fetch)

        def build(values: Sequence[Any]) -> Any:
            pairs = [(key, item(values)) for key, item in items.items()]
            return kind(factory, pairs) if hasattr(fetch, "default_factory") else kind(pairs)

        return build

    def _converted(self, elements: list[Any], build: Callable[[list[Any]], Any]) -> Pack:
        items = [self._pack(element) for element in elements]
        return lambda values: build([item(values) for item in items])

    def _leaf(self, fetch: Any) -> Pack:
        element = self._element(fetch)
        if is_resource(element):
            self.built = True
            self.leaves.setdefault(element.op, len(self.leaves))
            return lambda values: resource_array(element.op)
        if element in self.leaves:
            self.built = True
        index = self.leaves.setdefault(element, len(self.leaves))
        if self.handles and is_handle(element):
            self.built = True
            return lambda values: wrapped(element, values[index])
        return lambda values: values[index]

    def _element(self, fetch: Any) -> Any:
        try:
            element = self.graph.as_graph_element(fetch, allow_tensor=True, allow_operation=True)
        except TypeError as error:
            raise TypeError(
                f'Argument `fetch` = {fetch} has invalid type "{type(fetch).__name__}" must be a '
                f"string or Tensor. ({error})"
            ) from None
        except (ValueError, KeyError) as error:
            text = error.args[0] if error.args else error
            raise ValueError(
                f"Argument `fetch` = {fetch} cannot be interpreted as a Tensor. ({text})"
            ) from None
        if not self.graph.is_fetchable(element):
            node = getattr(element, "op", element)
            raise ValueError(f"Operation {node.name} has been marked as not fetchable.")
        return element


def _plain(fetch: Any) -> bool:
    """True for a fetch that is one leaf by itself."""
    return isinstance(fetch, (Tensor, Operation, str, bytes)) or hasattr(fetch, "_as_graph_element")


def named_element(graph: Any, name: str, *, node: bool = False) -> Any:
    """The tensor, or the ``node``, of a name. Raises: InvalidArgumentError where there is none."""
    try:
        return graph.as_graph_element(name, allow_tensor=not node, allow_operation=node)
    except (KeyError, ValueError, TypeError) as error:
        raise errors.unknown_name("Node" if node else "Tensor", name) from error
