"""Random programs through the public API, and what NumPy says of them.

A program is a list of nodes, each a line of Python that makes a tensor and a NumPy function that
says what it is. The oracle evaluates what a run needs, in the order of creation, by the rules of
``frontend/extract/state.py``. It is evaluated again with noise behind every inexact node, which
tells how much rounding may show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fuzz.shared import Array, literal

NOISE = {"float32": 2.0**-21, "float64": 2.0**-49}
HEAD = "import numpy as np\nimport stepforge as tf\n"
FAILURES = (ValueError, IndexError, ZeroDivisionError, TypeError)


class Wrong(Exception):
    """What a program computes has no value: the step must raise too."""


@dataclass(eq=False)
class Node:
    """A tensor: the line that makes it, and what NumPy says of it.

    ``shape`` has numbers, and names for sizes that only feeds tell. What ``exact`` and ``bits``
    mean, the module ``pool`` says. An operation without a value has the dtype "none".
    """

    name: str
    line: str
    inputs: tuple[Node, ...]
    compute: Callable[..., Any]
    shape: tuple[int | str, ...]
    dtype: str
    kind: str = "op"  # or feed, variable, resource, write
    exact: bool = True
    bits: int = 5
    mixes: bool = False  # elements have terms of others, which may cancel
    control: tuple[Node, ...] = ()
    variable: Node | None = None  # that a write changes

    @property
    def is_variable(self) -> bool:
        return self.kind in ("variable", "resource")

    @property
    def source(self) -> str:
        """The line, inside of its control dependencies."""
        if not self.control:
            return f"{self.name} = {self.line}"
        names = ", ".join(node.name for node in self.control)
        return f"with tf.control_dependencies([{names}]):\n    {self.name} = {self.line}"


@dataclass
class Feed:
    """What is fed for a node, and in which form Python hands it over."""

    value: Array
    form: str = "array"

    FORMS = ("array", "array", "array", "list", "wide", "strided", "fortran")

    def given(self) -> Any:
        """The object that is fed."""
        return eval(self.text(), {"np": np})

    def text(self) -> str:
        """The object that is fed, as Python."""
        return self._forms()[self.form]

    def _forms(self) -> dict[str, str]:
        wide = {"float32": "float64", "int32": "int64"}.get(self.value.dtype.name)
        doubled = np.repeat(self.value, 2, axis=-1) if self.value.ndim else self.value
        return {
            "array": literal(self.value),
            "list": repr(self.value.tolist()) if self.value.size else literal(self.value),
            "wide": literal(self.value.astype(wide) if wide else self.value),
            "strided": literal(doubled) + ("[..., ::2]" if self.value.ndim else ""),
            "fortran": f"np.array({literal(self.value)}, order='F')",
        }


@dataclass
class Run:
    """One run: what is fetched, in which structure, and what is fed."""

    fetches: tuple[Node, ...]
    structure: str
    feeds: dict[Node, Feed]
    callable: bool = False

    STRUCTURES = ("single", "list", "tuple", "dict", "nested")

    def fetched(self) -> str:
        """The fetches as Python."""
        names = [node.name for node in self.fetches]
        several = ", ".join(names)
        return {
            "single": names[0],
            "list": f"[{several}]",
            "tuple": f"({several},)",
            "dict": "{" + ", ".join(f"'{i}': {name}" for i, name in enumerate(names)) + "}",
            "nested": f"[{{'all': ({several},)}}]",
        }[self.structure]

    def leaves(self, result: Any) -> list[Any]:
        """The values in what a run returned."""
        if self.structure == "single":
            return [result]
        if self.structure == "nested":
            return list(result[0]["all"])
        return list(result.values() if self.structure == "dict" else result)

    def text(self) -> str:
        """The run as Python."""
        if self.callable:
            names = ", ".join(node.name for node in self.feeds)
            values = ", ".join(feed.text() for feed in self.feeds.values())
            return f"session.make_callable({self.fetched()}, [{names}])({values})"
        feeds = ", ".join(f"{node.name}: {feed.text()}" for node, feed in self.feeds.items())
        return f"session.run({self.fetched()}, {{{feeds}}})"


@dataclass
class Program:
    """Nodes in order of creation, and runs."""

    nodes: list[Node] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    @property
    def variables(self) -> list[Node]:
        return [node for node in self.nodes if node.is_variable]

    def __repr__(self) -> str:
        return f"<program of {len(self.nodes)} nodes>"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # hypothesis shows what fails; a finding has the program

    def text(self) -> str:
        """The program as Python that runs on its own."""
        lines = [HEAD, *[node.source for node in self.nodes]]
        lines += ["session = tf.Session()", "session.run(tf.global_variables_initializer())"]
        lines += [f"print({run.text()})" for run in self.runs]
        return "\n".join(lines)

    def needed(self, fetches: Sequence[Node], fed: Mapping[Node, Any]) -> list[Node]:
        """The nodes that a run computes, in order of creation.

        A fed node takes the place of a value; what waits for the node itself still runs it.
        """
        found: set[Node] = set()
        pending = [node for node in fetches if node not in fed]
        while pending:
            node = pending.pop()
            if node not in found:
                found.add(node)
                pending += [other for other in node.inputs if other not in fed]
                pending += [c for c in node.control if not (c.kind == "feed" and c in fed)]
                pending += [node.variable] if node.variable is not None else []
        return [node for node in self.nodes if node in found]


class Oracle:
    """One evaluation of a run; ``values`` and ``state`` are what it gives.

    ``widen`` converts what is fed and held first, for more precision; ``noise`` makes errors.
    """

    def __init__(
        self,
        program: Program,
        run: Run,
        state: Mapping[Node, Array],
        *,
        noise: np.random.Generator | None = None,
        widen: Callable[[Array], Array] = np.asarray,
    ) -> None:
        self._noise = noise
        self._fed = {node: widen(feed.value) for node, feed in run.feeds.items()}
        self._entry = {node: widen(value) for node, value in state.items()}
        self.state = dict(self._entry)
        self._values: dict[Node, Any] = {}
        self._seen: dict[Node, set[Node]] = {}  # the writes that a node depends on
        for node in program.needed(run.fetches, self._fed):
            self._visit(node)
        self.values = [self._fetched(node) for node in run.fetches]

    def _fetched(self, node: Node) -> Any:
        """A fetched variable is read at the end, a resource at the start."""
        if node in self._fed:
            return self._fed[node]
        if node.is_variable:
            return (self.state if node.kind == "variable" else self._entry)[node]
        return self._values[node]

    def _visit(self, node: Node) -> None:
        before = [n for n in node.inputs if n not in self._fed] + list(node.control)
        self._seen[node] = set().union(*[self._seen.get(other, ()) for other in before])
        if node.kind == "feed":
            raise Wrong(f"{node.name} is not fed")
        if node.is_variable:
            return
        operands = [self._operand(node, other) for other in node.inputs]
        if node.variable is not None:
            operands.insert(0, self.state[node.variable])
        self._values[node] = value = self._computed(node, operands)
        if node.variable is not None:
            self._seen[node].add(node)
            self.state[node.variable] = value

    def _operand(self, node: Node, other: Node) -> Any:
        if other in self._fed:
            return self._fed[other]
        if other.kind == "resource":
            return self.state[other]
        if other.kind == "variable":
            writes = [w for w in self._seen[node] if w.variable is other]
            order = list(self._values)
            return self._values[max(writes, key=order.index)] if writes else self._entry[other]
        return self._values[other]

    def _computed(self, node: Node, operands: Sequence[Any]) -> Any:
        if node.dtype == "none":
            return None
        shaken = [value if node.exact else self._shaken(value) for value in operands]
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(node.compute(*shaken))
        except FAILURES as error:
            raise Wrong(f"{node.name}: {error}") from error
        if value.dtype.kind != "f" or value.dtype.name in NOISE:
            value = value.astype(node.dtype)
        return value if node.exact else self._shaken(value, mixes=node.mixes)

    def _shaken(self, value: Array, *, mixes: bool = False) -> Array:
        """``value`` with errors of the size of rounding, of each element its own."""
        scale = NOISE.get(value.dtype.name)
        if self._noise is None or scale is None:
            return value
        error = scale * self._noise.uniform(-1, 1, value.shape) * value
        if mixes:
            largest = np.max(np.abs(value), initial=0.0, where=np.isfinite(value))
            error = error + scale * self._noise.uniform(-1, 1, value.shape) * largest
        with np.errstate(all="ignore"):
            return np.where(np.isfinite(value), value + error, value).astype(value.dtype)
