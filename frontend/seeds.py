"""Seeds of random nodes: how the graph's and the node's combine (TensorFlow 2's rules for v1).

Nodes without a seed of their own count up from 0 in a graph that has one, whatever else is in the
graph.
"""

from __future__ import annotations

from typing import Any

from stepforge.frontend.graph import get_default_graph

DEFAULT_GRAPH_SEED = 87654321
_MAX_INT32 = 2**31 - 1


def get_seed(op_seed: int | None) -> tuple[int | None, int | None]:
    """The pair of seeds for a node that was given ``op_seed``.

    Both are None where neither the graph nor the node has a seed: the numbers then differ from run
    to run.
    """
    graph = get_default_graph()
    graph_seed = graph.seed
    if graph_seed is None:
        if op_seed is None:
            return None, None
        seeds = DEFAULT_GRAPH_SEED, op_seed % _MAX_INT32
    else:
        if op_seed is None:
            op_seed = graph.next_op_seed()
        seeds = graph_seed % _MAX_INT32, op_seed % _MAX_INT32
    return (0, _MAX_INT32) if seeds == (0, 0) else seeds  # (0, 0) stands for "no seed"


def set_random_seed(seed: Any) -> None:
    """Set the seed of the default graph; it counts for random nodes that are made from here on."""
    get_default_graph().seed = seed
