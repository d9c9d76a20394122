"""The API functions in one namespace, for gradient rules and what else reads like user code.

A name is looked up in the modules below when it is first used, so that importing this costs nothing
and the modules may use it in turn.
"""

from __future__ import annotations

import importlib
from typing import Any

_MODULES = (
    "core_ops",
    "check_ops",
    "convert",
    "elementwise_ops",
    "comparison_ops",
    "reduction_ops",
    "linalg_ops",
    "contraction_ops",
    "diagonal_ops",
    "nn_ops",
    "conv_ops",
    "pool_ops",
    "normalization_ops",
    "cross_entropy_ops",
    "shape_ops",
    "array_ops",
    "array_calls",
    "joining_ops",
    "slicing",
    "indexing_ops",
    "sparse_ops",
    "segment_ops",
    "sorting_ops",
    "random_ops",
    "state_ops",
    "gradients",
    "clipping",
    "scopes",
    "graph",
    "indexed_slices",
    "dtypes",
)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    importlib.import_module("stepforge.frontend.math_ops")  # the operators of tensors
    for module in _MODULES:
        try:
            found = getattr(importlib.import_module(f"stepforge.frontend.{module}"), name)
        except AttributeError:
            continue
        globals()[name] = found
        return found
    raise AttributeError(f"stepforge has no API function {name!r}")
