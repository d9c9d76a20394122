"""Errors that stepforge raises, all of them of the class that TensorFlow 1 raises for the same
mistake.

``OpError`` and its subclasses are what a running step raises (``tf.errors``). What is wrong already
when a graph is built is a ``ValueError`` or ``TypeError`` (``ShapeError``, ``DTypeError``).
``IRError`` is for text and structure of the IR.
"""

from __future__ import annotations

import linecache
from typing import Any

from stepforge.ir.core import Site


def quote(site: Site | None) -> str:
    """The lines that show the user where a node was made; empty where that is not known."""
    if site is None:
        return ""
    linecache.checkcache(site.file)  # the file may be another one by now
    source = linecache.getline(site.file, site.line).strip() if site.file else ""
    return f"\n  {site}" + (f"\n      {source}" if source else "")


class IRError(Exception):
    """The text or structure of the IR is wrong.

    The message shows line, column and a caret where there is text.
    """


class ShapeError(ValueError):
    """Shapes do not fit together; raised while a graph is built and by inference rules."""


class UnknownRankError(ShapeError):
    """An operand must have a known rank and has none."""


class UnprovenSizes(ShapeError):
    """Two sizes must be equal but are not provably so:

    a check must say it before (``lhs`` and ``rhs``).
    """

    def __init__(self, message: str, lhs: Any, rhs: Any) -> None:
        super().__init__(message)
        self.lhs, self.rhs = lhs, rhs


class DTypeError(TypeError):
    """A dtype is not one that the op takes;

    raised while a graph is built and by inference rules.
    """


class OpError(Exception):
    """What a running step raises:

    ``message``, the graph node ``op`` and the site that it was created at.
    """

    error_code = 2

    def __init__(
        self,
        node_def: Any,
        op: Any,
        message: str,
        error_code: int | None = None,
        *,
        site: Site | None = None,
    ) -> None:
        super().__init__(message)
        self._node_def, self._op, self._message, self.site = node_def, op, message, site
        if error_code is not None:
            self.error_code = error_code

    @property
    def message(self) -> str:
        """What went wrong, and the name of the node."""
        return self._message + self._at()

    def _at(self) -> str:
        name = self.site.node if self.site is not None else getattr(self._op, "name", "")
        return f"\n\t [[{{{{node {name}}}}}]]" if name else ""

    def attach(self, op: Any) -> None:
        """Say which graph node failed, once that is known."""
        self._op = op

    @property
    def op(self) -> Any:
        """The graph node that failed, where it is known."""
        return self._op

    @property
    def node_def(self) -> Any:
        """The node as a ``NodeDef``; of the node itself where none was given."""
        return self._op.node_def if self._node_def is None and self._op else self._node_def

    def __str__(self) -> str:
        return f"{self.message}{quote(self.site)}"

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self._message, self.error_code, self.site)


def _rebuild(cls: type[OpError], message: str, error_code: int, site: Site | None) -> OpError:
    error = cls(None, None, message, site=site)
    error.error_code = error_code
    return error


class CancelledError(OpError):
    """The step was cancelled, by ``close`` or by the user."""

    error_code = 1


class UnknownError(OpError):
    """An error without a better class, such as an exception of a Python function in the graph."""

    error_code = 2


class InvalidArgumentError(OpError):
    """A value is not one that the op takes:

    a missing feed, sizes that do not fit, an index out of range.
    """

    error_code = 3


class DeadlineExceededError(OpError):
    """The step took longer than its time-out."""

    error_code = 4


class NotFoundError(OpError):
    """Something named does not exist."""

    error_code = 5


class AlreadyExistsError(OpError):
    """Something to be made exists already."""

    error_code = 6


class PermissionDeniedError(OpError):
    """The caller may not do that."""

    error_code = 7


class ResourceExhaustedError(OpError):
    """Memory ran out."""

    error_code = 8


class FailedPreconditionError(OpError):
    """The system is not in the state that the op needs: an uninitialised variable, for one."""

    error_code = 9


class AbortedError(OpError):
    """The op was aborted."""

    error_code = 10


class OutOfRangeError(OpError):
    """The end was passed: of a data set, of a closed queue."""

    error_code = 11


class UnimplementedError(OpError):
    """The op is not implemented for these types."""

    error_code = 12


class InternalError(OpError):
    """An invariant of the system is broken: a bug of stepforge."""

    error_code = 13


class UnavailableError(OpError):
    """A service cannot be reached now."""

    error_code = 14


class DataLossError(OpError):
    """Data is corrupt."""

    error_code = 15


class UnauthenticatedError(OpError):
    """The caller did not say who it is."""

    error_code = 16


BY_CODE: dict[int, type[OpError]] = {cls.error_code: cls for cls in OpError.__subclasses__()}
MOST_QUOTED = 16  # the numbers that an error of compiled code can quote
BY_NAME: dict[str, type[OpError]] = {cls.__name__: cls for cls in BY_CODE.values()}
