"""Functions that users write for numba, and the tokens by which IR names them.

Such a function takes the arrays of its inputs and of its outputs, and fills the latter. Entries
live as long as the process, as a graph that names them may be run at any time.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from stepforge.ir.records import record
from stepforge.ir.types import Type

NUMBA_FUNCTIONS: dict[str, NumbaFunction] = {}
_numbers = itertools.count()


@record(frozen=True, eq=False)
class NumbaFunction:
    """A user's function: a plain Python one, or one that numba compiled already.

    ``results`` gives the types of its outputs for those of its inputs; ``gradient`` is a rule of
    graph nodes.
    """

    name: str
    function: Callable[..., Any]
    results: Callable[[Sequence[Type]], tuple[Type, ...]]
    gradient: Callable[..., Any] | None = None

    @cached_property
    def compiled(self) -> Callable[..., Any]:
        """The function for numba's nopython mode. Raises: ImportError that says what to install."""
        if hasattr(self.function, "py_func"):
            return self.function
        try:
            from numba import njit
        except ImportError as error:
            raise ImportError(
                f"{self.name}: tf.numba_op needs numba: pip install 'stepforge[full]'"
            ) from error
        compiled: Callable[..., Any] = njit(self.function)
        return compiled


def register_numba_function(function: NumbaFunction) -> str:
    """A token by which IR can name ``function``; no symbol of a step is called like it."""
    token = f"numba:{function.name}:{next(_numbers)}"
    NUMBA_FUNCTIONS[token] = function
    return token
