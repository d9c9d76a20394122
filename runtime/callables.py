"""Callables of ``make_callable`` that are more than a compiled step.

Those that take options, whose arguments feed several tensors each, or that compute nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepforge.runtime import errors
from stepforge.runtime.feeds import bind_feeds, feed_tensors
from stepforge.runtime.program import Program

Run = Callable[[Sequence[Any], Any, Any], Any]


class SteppingCallable:
    """A function of the values of ``keys`` that runs a step.

    ``run(feeds, options, run_metadata)`` runs it. Without ``keys``, arguments are the step's feeds.
    """

    def __init__(
        self, program: Program, run: Run, keys: Sequence[Any] | None, *, accept_options: bool
    ) -> None:
        self.program = program
        self._run = run
        self._keys = keys
        self._accept_options = accept_options

    def __call__(self, *values: Any, **keywords: Any) -> Any:
        """Run the step.

        Raises: TypeError for surplus arguments and options that are not accepted, and what the
        session's ``run`` raises.
        """
        unknown = keywords.keys() - ({"options", "run_metadata"} if self._accept_options else ())
        if unknown:
            raise self.program.unexpected(min(unknown))
        feeds = values if self._keys is None else self._spread(self._keys, values)
        return self._run(feeds, keywords.get("options"), keywords.get("run_metadata"))

    def _spread(self, keys: Sequence[Any], values: Sequence[Any]) -> list[Any]:
        """The feeds of the step from one value for each key."""
        if len(values) != len(keys):
            raise TypeError(
                f"{self.program.name}() takes {len(keys)} values but {len(values)} were given"
            )
        graph = self.program.session.graph
        feeds: list[Any] = []
        for key, value in zip(keys, values, strict=True):
            tensors, parts = bind_feeds(graph, {key: value})
            if len(tensors) < len(feed_tensors(graph, key)):
                raise ValueError(f"{key} is fed by more arrays than the {len(parts)} given")
            feeds += parts
        return feeds

    def text(self, stage: str = "fused") -> str:
        """The text of a stage of compilation; see the program's ``text``."""
        return self.program.text(stage)

    def dump(self, *args: Any, **keywords: Any) -> str:
        """The stages of compilation as text, page or drawing; see the program's ``dump``."""
        return self.program.dump(*args, **keywords)

    def _repr_html_(self) -> str:
        return self.program.html()


class EmptyCallable:
    """What ``make_callable`` gives for no fetches: a call is an error, as in TensorFlow."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __call__(self, *values: Any, **keywords: Any) -> Any:
        """Raises: InvalidArgumentError, RuntimeError for a closed session."""
        self._session.check_open()
        raise errors.nothing_to_run()


class NamedCallable:
    """What ``_make_callable_from_options`` gives: a function of ready arrays that gives a list.

    ``run`` takes the feeds and run metadata, ``feeds`` and ``fetches`` are how many there are.
    """

    def __init__(self, run: Callable[..., list[Any]], feeds: int, fetches: int) -> None:
        self._run, self._feeds, self._fetches = run, feeds, fetches

    def __call__(self, *values: Any, run_metadata: Any = None) -> list[Any]:
        """Raises: InvalidArgumentError for another number of feeds, and what runs raise."""
        if len(values) != self._feeds:
            raise errors.wrong_feed_count(self._feeds, len(values))
        return self._run(values, run_metadata)[: self._fetches]
