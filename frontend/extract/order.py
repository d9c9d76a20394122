"""Which nodes a step needs, and in which order they are visited."""

from __future__ import annotations

from collections.abc import Sequence, Set
from typing import Any

from stepforge.frontend.nodedefs.state import variable_output


def sources(node: Any, fed: Set[Any]) -> list[Any]:
    """The nodes that ``node`` depends on: a fed tensor needs none, but assignments find the
    variable behind it all the same. Who waits for a placeholder waits for its feed.
    """
    found = []
    for index, tensor in enumerate(node.inputs):
        if tensor not in fed:
            found.append(tensor.op)
        elif node.definition.takes_reference(node, index):
            found.append(variable_output(tensor).op)
    return found + [other for other in node.control_inputs if not _is_feed(other, fed)]


def _is_feed(node: Any, fed: Set[Any]) -> bool:
    """True for a placeholder that is fed: nothing is left of it to run."""
    return node.type == "Placeholder" and node.outputs[0] in fed


def needed(fetches: Sequence[Any], fed: Set[Any]) -> list[Any]:
    """The nodes that ``fetches`` (tensors and operations) depend on, cut at fed tensors, in order.

    The order is that of creation; a node with an input made later (a loop's back edge) comes after
    it.
    """
    found: set[Any] = set()
    pending = [getattr(leaf, "op", leaf) for leaf in fetches if leaf not in fed]
    late = False
    while pending:
        node = pending.pop()
        if node in found:
            continue
        found.add(node)
        before = sources(node, fed)
        late = late or any(source.id > node.id for source in before)
        pending += before
    ordered = sorted(found, key=lambda node: node.id)
    return _topological(ordered, fed) if late else ordered


def _topological(nodes: list[Any], fed: Set[Any]) -> list[Any]:
    ordered: list[Any] = []
    done: set[Any] = set()
    for root in nodes:
        stack = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                ordered.append(node)
                continue
            if node in done:
                continue
            done.add(node)
            stack.append((node, True))
            before = reversed(sources(node, fed))
            stack += [(source, False) for source in before if source not in done]
    return ordered
