"""Python functions that IR refers to by name: attributes are literals, so a function has a token.

Entries live as long as the process, as a graph that names them may be run at any time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

PYTHON_FUNCTIONS: dict[str, Callable[..., Any]] = {}
_tokens = itertools.count()


def register_function(function: Callable[..., Any]) -> str:
    """A token by which IR can name ``function``."""
    token = f"pyfunc_{next(_tokens)}"
    PYTHON_FUNCTIONS[token] = function
    return token
