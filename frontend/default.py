"""The default graph and the default session: one stack of each per thread.

Sessions are objects of a higher layer, so here they are only held.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

_Item = TypeVar("_Item")


class DefaultStack(threading.local, Generic[_Item]):
    """A stack per thread; entries must leave in the order opposite to that in which they came."""

    def __init__(self) -> None:
        self.stack: list[_Item] = []
        self.enforce_nesting = True

    def top(self) -> _Item | None:
        """The entry that is the default now, or None."""
        return self.stack[-1] if self.stack else None

    def push(self, item: _Item) -> None:
        """Make ``item`` the default."""
        self.stack.append(item)

    def remove(self, item: _Item, *, enforce_nesting: bool = True) -> None:
        """End ``item``'s time as a default. Raises: AssertionError where it is not the newest."""
        if not self.stack:
            return
        if enforce_nesting and self.enforce_nesting and self.stack[-1] is not item:
            raise AssertionError(f"Nesting violated for default stack of {type(item)} objects")
        if self.stack[-1] is item:
            self.stack.pop()
        elif item in self.stack:
            self.stack.remove(item)

    @contextmanager
    def entered(self, item: _Item, *, enforce_nesting: bool = True) -> Iterator[_Item]:
        """A context in which ``item`` is the default."""
        self.push(item)
        try:
            yield item
        finally:
            self.remove(item, enforce_nesting=enforce_nesting)


graphs: DefaultStack[Any] = DefaultStack()
sessions: DefaultStack[Any] = DefaultStack()


def get_default_session() -> Any:
    """The session that ``with sess`` or ``sess.as_default()`` made the default, or None."""
    return sessions.top()


def session_for(graph: Any, session: Any, *, noun: str, verb: str) -> Any:
    """The session that ``eval`` or ``run`` of an element of ``graph`` is to use.

    Raises: ValueError where there is no default session, or the session has another graph.
    """
    if session is not None:
        if session.graph is not graph:
            raise _wrong_graph("given session", noun, verb)
        return session
    found = get_default_session()
    if found is None:
        call = "eval" if verb == "evaluate" else "run"
        colon = "" if verb == "evaluate" else ":"
        raise ValueError(
            f"Cannot {verb} {noun} using `{call}()`: No default session is registered. Use `with "
            f"sess.as_default(){colon}` or pass an explicit session to `{call}(session=sess)`"
        )
    if found.graph is not graph:
        raise _wrong_graph("default session", noun, verb)
    return found


def _wrong_graph(which: str, noun: str, verb: str) -> ValueError:
    return ValueError(
        f"Cannot use the {which} to {verb} {noun}: the {noun}'s graph is different from the "
        "session's graph."
    )
