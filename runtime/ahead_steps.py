"""What users ask to have compiled ahead of time: steps of a graph, by tensors or their names, and
functions written as IR.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field, replace
from typing import Any

import numpy as np

from stepforge.codegen.jit import Level
from stepforge.codegen.target import Target
from stepforge.frontend.extract.order import needed
from stepforge.frontend.extract.program import Extraction, FeedKey, Fetched, Request, extract
from stepforge.frontend.graph import Graph, get_default_graph
from stepforge.frontend.operation import Operation, Tensor
from stepforge.ir import dims
from stepforge.ir.analyses import type_sizes
from stepforge.ir.core import Function, Module, Site, Value
from stepforge.ir.records import record
from stepforge.ir.types import NUMERIC
from stepforge.runtime.ahead import (
    Array,
    Compiled,
    Entry,
    Options,
    Values,
    Variables,
    compile_entries,
)
from stepforge.runtime.ahead_bounds import Declared, parse_bound
from stepforge.runtime.feeds import feed_tensor

_FEED = re.compile(r"(?P<name>[^:\[\]]+(?::\d+)?)(?::(?P<dtype>[a-z]+\d*)(?:\[(?P<dims>.*)\])?)?")


@record(frozen=True)
class Feed:
    """A fed tensor, or its name, and what is known of its value beyond what the graph says.

    Sizes are numbers, None where only the run tells them, or names: those become parameters.
    """

    tensor: Any
    dtype: str | None = None
    shape: tuple[int | str | None, ...] | None = None


@record(frozen=True)
class Step:
    """A step to compile: a name for it, its fetches, and its feeds in the order of arguments.

    Fetches are tensors, operations or names of them; feeds are tensors, ``Feed`` objects or texts
    such as ``x``, ``x:f32[?,784]``, ``x:f32[n,784]``.
    """

    name: str
    fetches: Sequence[Any] | Any
    feeds: Sequence[Any] = ()


def parse_feed(text: str) -> Feed:
    """The feed that ``text`` means. Raises: ValueError."""
    found = _FEED.fullmatch(text.strip())
    if found is None or (found["dtype"] and found["dtype"] not in NUMERIC):
        raise ValueError(
            f"a feed is written name or name:dtype[sizes], as in x:f32[?,784], not {text!r}"
            f" (dtypes: {', '.join(NUMERIC)})"
        )
    if found["dtype"] is None:
        return Feed(found["name"])
    sizes = [part.strip() for part in (found["dims"] or "").split(",") if part.strip()]
    return Feed(found["name"], found["dtype"], tuple(_size(part, text) for part in sizes))


def _size(text: str, feed: str) -> int | str | None:
    if text == "?":
        return None
    if text.isdigit():
        return int(text)
    if re.fullmatch(r"[A-Za-z]\w*", text):
        return text
    raise ValueError(f"a size is a number, a name or ?, not {text!r} (in {feed!r})")


def compile_ahead(
    steps: Step | Sequence[Step],
    *,
    session: Any = None,
    graph: Graph | None = None,
    values: Mapping[str, Any] | None = None,
    name: str | None = None,
    variables: Variables = "baked",
    bounds: Mapping[Any, int | str] | None = None,
    target: Target | None = None,
    level: Level = "O2",
) -> Compiled:
    """Compile steps of a graph into one library.

    Variables have the values that ``values`` gives by name, else those of ``session``; where they
    are in the end is what ``variables`` says, see ``Options``. ``bounds`` says of tensors (or their
    names) whose size depends on data what it can be at most: a number, or an expression of the
    names of sizes of feeds (``"2*n + 1"``; without one the axis 0 of a feed x is ``x_0``).
    Raises: CannotCompileAhead with every reason why not; what ``Session.run`` raises for fetches
    and feeds that are none.
    """
    wanted = [steps] if isinstance(steps, Step) else list(steps)
    chosen = graph or (session.graph if session is not None else get_default_graph())
    known = _Known(chosen, session, values)
    limits = {_tensor(chosen, key): limit for key, limit in (bounds or {}).items()}
    entries = [_entry(step, chosen, known, limits) for step in wanted]
    used = {bound.tensor for entry in entries for bound in entry.bounds}
    useless = [tensor.name for tensor in limits if tensor.name not in used]
    if useless:
        raise ValueError(f"no step computes {useless[0]}, so that it needs no bound")
    return compile_entries(
        entries, known.value, Options(name or wanted[0].name, variables, target, level)
    )


class _Known:
    """The values of variables, by node."""

    def __init__(self, graph: Graph, session: Any, values: Mapping[str, Any] | None) -> None:
        self._session = session
        self._given = {n.removesuffix(":0"): np.asarray(v) for n, v in (values or {}).items()}
        names = {op.name for op in graph.get_operations()}
        unknown = sorted(self._given.keys() - names)
        if unknown:
            raise ValueError(f"the graph has no variables called {', '.join(unknown)}")

    def value(self, node: Any) -> Array | None:
        """A variable's value; None where there is none."""
        if node.name in self._given:
            return self._given[node.name]
        if self._session is None or self._session.store.shape(node) is None:
            return None
        value: Array = self._session.store.cell(node, "").value
        return value

    def shape(self, node: Any) -> tuple[int, ...] | None:
        """The shape of a variable's value."""
        value = self.value(node)
        return tuple(value.shape) if value is not None else None


def _tensor(graph: Graph, named: Any) -> Tensor:
    found = fetched(graph, named)
    if not isinstance(found, Tensor):
        names = ", ".join(tensor.name for tensor in found.outputs) or "it has none"
        raise ValueError(f"a bound is of a tensor, and {found.name} is an operation ({names})")
    return found


def _entry(
    step: Step, graph: Graph, known: _Known, limits: Mapping[Tensor, int | str]
) -> Entry:
    given = step.fetches if isinstance(step.fetches, (list, tuple)) else [step.fetches]
    fetches = list(dict.fromkeys(fetched(graph, fetch) for fetch in given))
    feeds = [_feed(feed) for feed in step.feeds]
    keys = [_key(graph, feed) for feed in feeds]
    nodes = set(needed(fetches, {key.tensor for key in keys}))
    bounded = [tensor for tensor in limits if tensor.op in nodes]
    request = Request([*fetches, *bounded], keys, known.shape, step.name)
    extraction = extract(request)
    results = [f.name for f in fetches if isinstance(f, Tensor)]
    labels = _labels(feeds, extraction.function)
    params = extraction.function.params
    sizes = {n: n for param in params for n in sorted(type_sizes(param.type))} | labels
    declared = [
        Declared(tensor.name, fetch.index, parse_bound(limits[tensor], sizes))
        for tensor, fetch in zip(bounded, extraction.fetches[len(fetches) :], strict=True)
    ]
    extraction = replace(extraction, fetches=extraction.fetches[: len(fetches)])
    return Entry(step.name, extraction, results, labels, declared)


def fetched(graph: Graph, fetch: Any) -> Any:
    """The tensor or operation that is meant: the name of an operation with one output means that.

    Raises: KeyError, TypeError, ValueError for what is not in the graph.
    """
    found = graph.as_graph_element(fetch)
    plain = isinstance(fetch, str) and isinstance(found, Operation) and len(found.outputs) == 1
    return found.outputs[0] if plain else found


def _feed(feed: Any) -> Feed:
    if isinstance(feed, str):
        return parse_feed(feed)
    return feed if isinstance(feed, Feed) else Feed(feed)


def _key(graph: Graph, feed: Feed) -> FeedKey:
    named = feed.tensor
    if isinstance(named, str) and ":" not in named:
        named = f"{named}:0"
    tensor = feed_tensor(graph, named)
    dtype = tensor.dtype.base_dtype.ir
    if feed.dtype not in (None, dtype):
        raise ValueError(f"{tensor.name} is {dtype}, not {feed.dtype}")
    shape = tensor.shape.as_list() if tensor.shape.ndims is not None else None
    if feed.shape is None:
        return FeedKey(tensor, dtype, tuple(shape) if shape is not None else None)
    wanted = [size if isinstance(size, int) else None for size in feed.shape]
    if shape is not None and len(shape) != len(wanted):
        raise ValueError(f"{tensor.name} has rank {len(shape)}, not {len(wanted)}")
    merged = [have if want is None else want for want, have in
              zip(wanted, shape or wanted, strict=True)]
    if any(have not in (None, got) for have, got in zip(shape or merged, merged, strict=True)):
        raise ValueError(f"{tensor.name} has the shape {tensor.shape}, not {feed.shape}")
    return FeedKey(tensor, dtype, tuple(merged))


def _labels(feeds: Sequence[Feed], function: Function) -> dict[str, str]:
    """The names that the user gave to sizes."""
    found: dict[str, str] = {}
    for feed, param in zip(feeds, function.params, strict=True):
        for label, size in zip(feed.shape or (), param.type.shape or (), strict=False):
            name = dims.as_name(size)
            if isinstance(label, str) and name is not None:
                found[name] = label
    return found


# ---- functions written as IR --------------------------------------------------------------------


@record(frozen=True)
class _Node:
    """Stands for the graph node of a parameter or symbol of the IR."""

    name: str
    site: Site | None = None
    attrs: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def op(self) -> _Node:
        """Itself: a parameter has no node behind it."""
        return self


def compile_ir(
    module: Module,
    *,
    values: Mapping[str, Any] | None = None,
    name: str | None = None,
    variables: Variables = "baked",
    target: Target | None = None,
    level: Level = "O2",
) -> Compiled:
    """Compile the functions of a module of tensor-level IR, each under its own name; see
    ``compile_ahead``.
    """
    given = {n: np.asarray(v) for n, v in (values or {}).items()}
    found: Values = lambda node: given.get(node.name)  # noqa: E731
    entries = [_ir_entry(function) for function in module.functions]
    options = Options(name or module.functions[0].name, variables, target, level)
    return compile_entries(entries, found, options)


def _ir_entry(function: Function) -> Entry:
    names = [
        v.name if isinstance(v, Value) and v.name and not v.name.isdigit() else f"result_{i}"
        for i, v in enumerate(function.results)
    ]
    return Entry(function.name, function_extraction(function), names)


def function_extraction(function: Function) -> Extraction:
    """What extraction gives for a graph, for a function without one."""
    feeds = tuple(
        FeedKey(_Node(p.name), p.type.dtype, None) for p in function.params
    )
    kinds = {n: g.kind for n, g in function.globals.items()}
    by_kind = {
        kind: {n: _Node(n) for n, own in kinds.items() if own == kind}
        for kind in ("variable", "random")
    }
    count = len(function.results)
    assumed = tuple(
        (op.attr("lhs"), op.attr("rhs")) for op in function.walk() if op.name == "assume"
    )
    return Extraction(
        function, feeds, tuple(Fetched("value", i) for i in range(count)),
        by_kind["variable"], {}, by_kind["random"], assumed,
    )
