"""How the modules of the public API find their names: in tables, when a name is first used.

A program touches few of the modules behind the API, and importing all of them would cost more than
the rest of a small script.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any


def namespace(
    module: str, table: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """``__getattr__`` and ``__dir__`` of ``module``.

    ``table`` maps the module that names come from (below ``stepforge``) to these names, separated
    by blanks; ``tuple=tuple_`` is a name that is spelled otherwise there, ``nn=`` the module
    itself.
    """
    sources = dict(_sources(table))

    def lookup(name: str) -> Any:
        if name not in sources:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        found = _resolve(*sources[name])
        setattr(sys.modules[module], name, found)
        return found

    def listing() -> list[str]:
        return sorted({*vars(sys.modules[module]), *sources})

    return lookup, listing


def _sources(table: Mapping[str, str]) -> list[tuple[str, tuple[str, str]]]:
    found = []
    for source, names in table.items():
        for entry in names.split():
            name, renamed, original = entry.partition("=")
            found.append((name, (source, original if renamed else name)))
    return found


def _resolve(source: str, name: str) -> Any:
    if source.startswith("frontend"):
        importlib.import_module("stepforge.frontend.math_ops")  # defines the operators of tensors
        importlib.import_module("stepforge.frontend.slicing")
    module = importlib.import_module(f"stepforge.{source}")
    return getattr(module, name) if name else module
