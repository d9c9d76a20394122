"""Names of nodes and scopes: which are valid, and how a wish becomes a unique name."""

from __future__ import annotations

import re

_OP_NAME = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$")
_SCOPE_NAME = re.compile(r"^[A-Za-z0-9_.\\/>-]*$")


def check_op_name(name: str) -> None:
    """Raises: ValueError where ``name`` cannot name a node."""
    if not _OP_NAME.match(name):
        raise ValueError(
            f"`{name}` is not a valid node name. Accepted names conform to Regex /{_OP_NAME}/"
        )


def check_scope_name(name: str, *, root: bool) -> None:
    """Raises: ValueError where ``name`` cannot name a scope (at the root or inside another)."""
    pattern = _OP_NAME if root else _SCOPE_NAME
    if not pattern.match(name):
        kind = "root scope name" if root else "scope name"
        article = "A root scope name" if root else "A scope name"
        raise ValueError(
            f"'{name}' is not a valid {kind}. {article} has to match the following pattern: "
            f"{pattern.pattern}"
        )


class NameTable:
    """The names in use in one graph. Upper and lower case are told apart in spelling only."""

    def __init__(self) -> None:
        self._in_use: dict[str, int] = {}

    def unique(self, name: str, *, mark_as_used: bool = True) -> str:
        """``name``, or ``name_1``, ``name_2`` ... where that is taken."""
        in_use = self._in_use
        key = name.lower()
        count = in_use.get(key, 0)
        if mark_as_used:
            in_use[key] = count + 1
        if count == 0:
            return name
        base = key
        while key in in_use:
            key = f"{base}_{count}"
            count += 1
        if mark_as_used:
            in_use[key] = 1
        return f"{name}_{count - 1}"
