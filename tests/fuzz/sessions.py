"""Strategies for random programs: feeds and variables, assignments and their order, runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from fuzz.graphs import FULL, NAMES, SIZES, Graph, Shape, anything, has_axes
from fuzz.programs import Feed, Node, Program, Run, Wrong
from fuzz.shared import Array, literal
from fuzz.vocabulary import MAKERS, SMOOTH_MAKERS

SHAPES: tuple[Shape, ...] = (
    ("n", 3), ("n",), (), (4,), ("n", "m"), (3,), (2, 3), ("m", 3), (3, "n"), (1, 3), ("n", 1),
    ("n", 2, 3),
)  # fmt: skip
FIXED = tuple([shape for shape in SHAPES if all(isinstance(n, int) for n in shape)])
DTYPES = ("float32", "float32", "float32", "float64", "int32", "int64", "bool")


def elements(rng: np.random.Generator, shape: Sequence[int], dtype: str, bits: int = 5) -> Array:
    """Random elements of so many bits: quarters, or small integers where those are too many."""
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.startswith("int") or bits < 5:
        return np.asarray(rng.integers(0, 4, shape)).astype(dtype)
    return np.asarray(rng.integers(-16, 17, shape) / 4.0).astype(dtype)


def source(name: str) -> Callable[..., Any]:
    """What stands in the place of a function that is never called."""

    def compute(*operands: Any) -> Any:
        raise AssertionError(f"{name} is computed from nothing")

    return compute


def placeholder(graph: Graph, shape: Shape, dtype: str) -> None:
    known = ", ".join("None" if isinstance(n, str) else str(n) for n in shape)
    line = f"tf.placeholder(tf.{dtype}, [{known}])"
    graph.add(line, [], source("a feed"), shape, dtype, kind="feed", bits=5)


def variable(graph: Graph, shape: Shape, dtype: str, *, resource: bool) -> None:
    """A variable; what it holds later may have any bits."""
    rng = np.random.default_rng(graph.number(0, 99))
    value = literal(elements(rng, [int(n) for n in shape], dtype))
    kind = "resource" if resource else "variable"
    line = f"tf.Variable({value}, use_resource={resource})"
    graph.add(line, [], source("a variable"), shape, dtype, kind=kind, bits=FULL)


# ---- assignments --------------------------------------------------------------------------------


def exactly(old: Array, new: Array) -> Array:
    if new.shape != old.shape:
        raise Wrong("the shapes differ")
    return new


UPDATES: tuple[tuple[str, Callable[[Array, Array], Array]], ...] = (
    ("tf.assign({}, {{}})", exactly),
    ("tf.assign_add({}, {{}})", lambda old, new: old + exactly(old, new)),
    ("tf.assign_sub({}, {{}})", lambda old, new: old - exactly(old, new)),
)


def write(graph: Graph, line: str, value: Node, compute: Any, target: Node) -> None:
    """Add an assignment; ``line`` has a place for the value."""
    made = graph.add(
        line, [value], compute, target.shape, target.dtype, kind="write", variable=target
    )
    if made is not None and not made.exact:
        target.exact = False  # for what comes after


def assignment(graph: Graph) -> None:
    target = graph.pick(lambda n: n.is_variable)
    if target is None:
        return
    value = graph.pick(lambda n: n.dtype == target.dtype, lambda n: n.shape == target.shape)
    if value is None:
        return
    line, compute = graph.choose(UPDATES[:1] if target.dtype == "bool" else UPDATES)
    line = line.format(target.name)
    if target.kind == "resource":  # an assignment to one is read again by whoever takes it
        line = f"tf.identity({line})"
    write(graph, line, value, compute, target)


def scatter(graph: Graph) -> None:
    target = graph.pick(lambda n: n.kind == "variable" and has_axes(n))
    if target is None:
        return
    value = graph.pick(lambda n: n.dtype == target.dtype, lambda n: n.shape == target.shape[1:])
    if value is None:
        return
    row = graph.number(0, int(target.shape[0]) - 1)

    def compute(old: Array, new: Array) -> Array:
        changed = old.copy()
        changed[row] = exactly(old[row], new)
        return changed

    write(graph, f"tf.scatter_update({target.name}, {row}, {{}})", value, compute, target)


def read(graph: Graph) -> None:
    """A node that has what a variable holds at its place in the order."""
    x = graph.pick(lambda n: n.is_variable)
    if x is not None:
        graph.move("tf.identity({})", x, lambda v: v, x.shape)


def gate(graph: Graph) -> None:
    """An operation without a value, which waits for nodes."""
    picked = {graph.pick(anything), graph.pick(anything)} - {None}
    waits = {*graph.control, *picked}
    graph.control = tuple([node for node in graph.program.nodes if node in waits])
    graph.add("tf.no_op()", [], source("nothing"), (), "none")


STATEFUL = (*[assignment] * 12, *[scatter] * 4, *[gate] * 4, *[read] * 8)


# ---- runs ---------------------------------------------------------------------------------------


def feeds(
    graph: Graph, nodes: Sequence[Node], sizes: dict[str, int], *, plain: bool
) -> dict[Node, Feed]:
    """What to feed for ``nodes``: elements of the bits that were promised of them."""
    rng = np.random.default_rng(graph.number(0, 99))
    made = {}
    for node in nodes:
        shape = [sizes.get(n, 0) if isinstance(n, str) else n for n in node.shape]
        form = "array" if plain else graph.choose(Feed.FORMS)
        made[node] = Feed(elements(rng, shape, node.dtype, node.bits), form)
    return made


def may_be_fed(node: Node) -> bool:
    """True where feeds say all of the shape, and where a value may be fed."""
    known = all(isinstance(n, int) or n in NAMES for n in node.shape)
    return known and node.kind in ("op", "variable") and node.dtype != "none"


def some_runs(graph: Graph) -> list[Run]:
    """Runs of one pair of fetches and feeds, with other sizes each time."""
    nodes = graph.program.nodes
    writes = [node for node in nodes if node.kind == "write"]
    more = [graph.choose([*nodes, *writes, *writes]) for _ in range(graph.number(0, 3))]
    fetches = (nodes[-1], *more)
    structure = graph.choose(Run.STRUCTURES)
    if structure == "single":
        fetches = fetches[:1]
    fed = {node for node in nodes if node.kind == "feed"}
    others = [node for node in nodes if may_be_fed(node)]
    if others and graph.rarely(3):
        fed.add(graph.choose(others))
    needed = graph.program.needed(fetches, dict.fromkeys(fed))
    used = [node for node in nodes if node in fed and _taken(node, needed, fetches)]
    called, made = graph.rarely(4), []
    for _ in range(graph.number(1, 3)):
        sizes = {name: 0 if graph.rarely(15) else graph.choose(SIZES) for name in NAMES}
        fed_now = feeds(graph, used, sizes, plain=called)
        made.append(Run(fetches, structure, fed_now, called))
    return made


def _taken(node: Node, needed: Sequence[Node], fetches: Sequence[Node]) -> bool:
    return node in fetches or any(node in (*n.inputs, *n.control) for n in needed)


# ---- programs -----------------------------------------------------------------------------------


@st.composite
def programs(draw: st.DrawFn, *, most: int = 16) -> Program:
    """A program with state and order, and runs of it."""
    graph = Graph(draw)
    for _ in range(graph.number(1, 3)):
        placeholder(graph, graph.choose(SHAPES), graph.choose(DTYPES))
    for _ in range(graph.number(0, 2)):
        variable(graph, graph.choose(FIXED), graph.choose(DTYPES), resource=graph.rarely(3))
    stateful = STATEFUL if graph.program.variables else ()
    for _ in range(graph.number(1, most)):
        maker = graph.choose((*MAKERS, *stateful))
        before = graph.choose(graph.program.nodes) if stateful and graph.rarely(5) else None
        graph.control = () if before is None else (before,)
        maker(graph)
    for _ in range(graph.number(1, 2)):
        graph.program.runs += some_runs(graph)
    return graph.program


@st.composite
def smooth_programs(draw: st.DrawFn, *, most: int = 7) -> Program:
    """A program of what has derivatives everywhere, in double precision; its last node counts."""
    graph = Graph(draw, smooth=True)
    for _ in range(graph.number(1, 2)):
        placeholder(graph, graph.choose(SHAPES), "float64")
    if graph.flag():
        variable(graph, graph.choose(FIXED), "float64", resource=graph.flag())
    for _ in range(graph.number(1, most)):
        graph.choose(SMOOTH_MAKERS)(graph)
    nodes = graph.program.nodes
    for _ in range(2):
        sizes = {name: graph.choose(SIZES[:5]) for name in NAMES}
        fed = feeds(graph, [n for n in nodes if n.kind == "feed"], sizes, plain=True)
        graph.program.runs.append(Run((nodes[-1],), "single", fed))
    return graph.program
