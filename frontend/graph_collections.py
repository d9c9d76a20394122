"""Collections of a graph: named lists in which programs find variables, losses, updates."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any


class GraphKeys:
    """Names of the collections that TensorFlow itself uses."""

    GLOBAL_VARIABLES = "variables"
    VARIABLES = "variables"  # the older name of GLOBAL_VARIABLES
    LOCAL_VARIABLES = "local_variables"
    METRIC_VARIABLES = "metric_variables"
    MODEL_VARIABLES = "model_variables"
    TRAINABLE_VARIABLES = "trainable_variables"
    SUMMARIES = "summaries"
    QUEUE_RUNNERS = "queue_runners"
    TABLE_INITIALIZERS = "table_initializer"
    ASSET_FILEPATHS = "asset_filepaths"
    MOVING_AVERAGE_VARIABLES = "moving_average_variables"
    REGULARIZATION_LOSSES = "regularization_losses"
    CONCATENATED_VARIABLES = "concatenated_variables"
    SAVERS = "savers"
    WEIGHTS = "weights"
    BIASES = "biases"
    ACTIVATIONS = "activations"
    UPDATE_OPS = "update_ops"
    LOSSES = "losses"
    SAVEABLE_OBJECTS = "saveable_objects"
    RESOURCES = "resources"
    LOCAL_RESOURCES = "local_resources"
    TRAINABLE_RESOURCE_VARIABLES = "trainable_resource_variables"
    INIT_OP = "init_op"
    LOCAL_INIT_OP = "local_init_op"
    READY_OP = "ready_op"
    READY_FOR_LOCAL_INIT_OP = "ready_for_local_init_op"
    SUMMARY_OP = "summary_op"
    GLOBAL_STEP = "global_step"
    EVAL_STEP = "eval_step"
    TRAIN_OP = "train_op"
    COND_CONTEXT = "cond_context"
    WHILE_CONTEXT = "while_context"


class Collections:
    """The collections of one graph, keyed by any hashable value."""

    def __init__(self) -> None:
        self._lists: dict[Any, list[Any]] = {}

    def add(self, name: Any, value: Any) -> None:
        """Append ``value`` to the collection ``name``."""
        self._lists.setdefault(name, []).append(value)

    def add_to_all(self, names: Any, value: Any) -> None:
        """Append ``value`` once to each of ``names``; a string counts as one name."""
        listed = (names,) if isinstance(names, str) else names
        for name in dict.fromkeys(listed):
            self.add(name, value)

    def reference(self, name: Any) -> list[Any]:
        """The list itself, made where it does not exist yet."""
        return self._lists.setdefault(name, [])

    def find(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of the list, or of its members whose ``name`` matches the pattern ``scope``."""
        members = self._lists.get(name, [])
        if scope is None:
            return list(members)
        pattern = re.compile(scope)
        return [m for m in members if hasattr(m, "name") and pattern.match(m.name)]

    def keys(self) -> list[Any]:
        """Names of collections, of text names only, that have ever been used."""
        return [name for name in self._lists if isinstance(name, str)]

    def clear(self, name: Any) -> None:
        """Forget the collection ``name``."""
        self._lists.pop(name, None)

    def items(self) -> Iterable[tuple[Any, list[Any]]]:
        """Pairs of name and list."""
        return self._lists.items()
