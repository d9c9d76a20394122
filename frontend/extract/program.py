"""From fetches and feeds to one ``ir.Function``: the start of every compile.

The nodes that the fetches need, cut at the feeds, are visited in creation order; each node's
``extract`` rule emits its IR. Variables become SSA values here (``state``), so program order is the
only order that passes ever see. Sizes that must be equal but are not provably so select a variant
where the entry knows them (``entry``), else they are checked where they meet.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from stepforge.frontend.extract.entry import Entry, Restart
from stepforge.frontend.extract.extractor import (
    INCOMPATIBLE,
    Extractor,
    UnknownRank,
    identifier,
)
from stepforge.frontend.extract.messages import SizeText
from stepforge.frontend.extract.order import needed, sources
from stepforge.frontend.extract.state import StepState
from stepforge.frontend.extract.symbolic import MAX_ELEMENTS, of_array
from stepforge.frontend.nodedefs.base import function_of
from stepforge.frontend.nodedefs.state import variable_output
from stepforge.ir import dims
from stepforge.ir.core import Function, Global, Operand, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import (
    DTypeError,
    InvalidArgumentError,
    OpError,
    ShapeError,
    UnimplementedError,
)
from stepforge.ir.evaluate import evaluate
from stepforge.ir.records import record
from stepforge.ir.types import Type


@record(frozen=True)
class FeedKey:
    """A fed tensor, its static shape, and the sizes of the array at hand (None: not known yet)."""

    tensor: Any
    dtype: str
    shape: tuple[int | None, ...] | None
    actual: tuple[int, ...] | None = None


@record(frozen=True)
class Fetched:
    """Where a fetched leaf comes from:

    ``kind`` is "value" (a result), "feed" (a feed) or "none" (an op).
    """

    kind: str
    index: int = 0


@record(frozen=True)
class Extraction:
    """A function and what its parameters, symbols and results stand for."""

    function: Function
    feeds: tuple[FeedKey, ...]
    fetches: tuple[Fetched, ...]
    variables: Mapping[str, Any]  # symbol name -> variable node
    readers: Mapping[str, Any]  # symbol name -> the node that first needs the value at entry
    streams: Mapping[str, Any]  # symbol name -> random node
    assumptions: tuple[tuple[Dim, Dim], ...] = ()
    late: bool = False  # some nodes are left to the run, see ``LateNode``


@record(frozen=True)
class Request:
    """What to extract.

    ``variable_shape(node)`` tells the shape that a variable has in the session; ``nodes`` are those
    that are ``needed``, where they are known.
    """

    fetches: Sequence[Any]
    feeds: Sequence[FeedKey]
    variable_shape: Callable[[Any], tuple[int, ...] | None]
    name: str = "step"
    nodes: Sequence[Any] | None = None


def extract(request: Request) -> Extraction:
    """Lower the subgraph of ``request.fetches`` to IR.

    Raises: InvalidArgumentError naming the node and the user's line, for a placeholder without feed
    and for sizes that do not fit; FailedPreconditionError for a variable without a value where
    nothing else tells its rank.
    """
    entry = Entry()
    nodes = request.nodes
    if nodes is None:
        nodes = needed(request.fetches, {feed.tensor for feed in request.feeds})
    while True:
        try:
            return ProgramExtractor(request, entry).run(nodes)
        except Restart as restart:  # noqa: PERF203 - the loop is the point
            entry.restart(restart)


def failure(cls: type[OpError], node: Any, message: str) -> OpError:
    """An error of ``node``."""
    return cls(None, node, message, site=node.site)


class ProgramExtractor(Extractor):
    """One attempt at ``extract``."""

    def __init__(self, request: Request, entry: Entry) -> None:
        super().__init__()
        self.request = request
        self._entry = entry
        self._values: dict[Any, Operand] = {}  # tensor -> value
        self._fed = {feed.tensor for feed in request.feeds}
        self._state = StepState(self.builder)
        self._streams: dict[str, Any] = {}
        self._params: list[Value] = []
        self._done: list[Any] = []
        self._node: Any = None
        self._left_late = False

    # ---- the whole ------------------------------------------------------------------------------
    def run(self, nodes: Sequence[Any]) -> Extraction:
        """Extract the function that visits ``nodes`` in order."""
        self._params = [self._parameter(i, feed) for i, feed in enumerate(self.request.feeds)]
        for node in nodes:
            self._extract(node)
            self._done.append(node)
        results: list[Operand] = []
        # What is fed twice is what it was fed last.
        fed = {feed.tensor: index for index, feed in enumerate(self.request.feeds)}
        fetches = tuple(self._fetch(leaf, fed, results) for leaf in self.request.fetches)
        self._state.finish(self.globals)
        self.at(None)
        self.builder.emit("return", *results)
        function = self.builder.function(self.request.name, self._params, self.globals)
        symbols = self._state.symbols
        return Extraction(
            function,
            tuple(self.request.feeds),
            fetches,
            {symbol.name: variable for variable, symbol in symbols.items()},
            {symbols[variable].name: node for variable, node in self._state.readers.items()},
            self._streams,
            tuple(self._entry.assumptions),
            self._left_late,
        )

    def _parameter(self, index: int, feed: FeedKey) -> Value:
        wanted = identifier(feed.tensor.op.name)
        if feed.tensor.value_index:
            wanted = f"{wanted}.{feed.tensor.value_index}"
        name = self._entry.name(index, wanted)
        shape = feed.shape
        if shape is None and feed.actual is not None:
            shape = (None,) * len(feed.actual)  # the rank at hand is part of the variant's key
        param = Value(self._entry.type(name, feed.dtype, shape, feed.actual), name)
        self._values[feed.tensor] = param
        return param

    def _extract(self, node: Any) -> None:
        self._node = node
        self._names = (identifier(node.name),) if len(node.outputs) == 1 else ()
        self.at(node.site)
        self._state.visit(node, sources(node, self._fed))
        if node.inputs and node.inputs[0] not in self._fed and self._state.passes_on(node):
            return
        operands = self._operands(node)
        before = len(self.builder.ops)
        try:
            self._give(node, self._returned(node, operands))
        except (ShapeError, DTypeError) as error:
            text = error.args[0] if error.args else ""
            message = text.filled(self._entry.value) if isinstance(text, SizeText) else str(error)
            raise failure(InvalidArgumentError, node, message) from error
        except UnknownRank:
            del self.builder.ops[before:]  # what the rule had emitted when it found out
            self._late(node, self._operands(node))  # whose sizes the rule may have renamed

    def _returned(self, node: Any, operands: Sequence[Operand]) -> Any:
        """What the rule of ``node`` returns. Where it finds a size to be another's that only feeds
        have which it is the first to take, it alone is asked again.
        """
        before = len(self.builder.ops), len(self.globals)
        try:
            return node.definition.extract(self, node, *operands)
        except Restart as restart:
            did_something = before != (len(self.builder.ops), len(self.globals))
            having = [i for i, p in enumerate(self._params) if _mentions(p.type, restart.name)]
            if did_something or node.definition.stateful or self._taken(restart.name, having):
                raise
            self._entry.rename(restart)
            for index in having:
                self._params[index] = self._parameter(index, self.request.feeds[index])
            return self._returned(node, self._operands(node))

    def _taken(self, name: str, having: Sequence[int]) -> bool:
        """True where more has met the size ``name`` than the feeds ``having`` it."""
        tensors = {self.request.feeds[index].tensor for index in having}
        return (
            any(tensor in tensors for node in self._done for tensor in node.inputs)
            or any(_mentions(entry.type, name) for entry in self.globals.values())
            or any(name in dims.names(a) | dims.names(b) for a, b in self._entry.assumptions)
        )

    def _give(self, node: Any, returned: Any) -> None:
        """Let the outputs of ``node`` have the values that its rule returned."""
        results = returned if isinstance(returned, (tuple, list)) else (returned,)
        for tensor, value in zip(node.outputs, results if node.outputs else (), strict=True):
            self._values.setdefault(tensor, self._declared(tensor, value))

    def _late(self, node: Any, operands: Sequence[Operand]) -> None:
        """Leave a node to the run, which knows the ranks of its operands; see ``LateNode``."""
        if node.definition.ref_inputs:
            message = f"{node.type} needs the rank of an operand that is only known at run time"
            raise failure(UnimplementedError, node, message)
        self._left_late = True
        dtypes = tuple(tensor.dtype.base_dtype.ir for tensor in node.outputs)
        token = function_of(node, "late_nodes", LateNode)
        if node.definition.draws:
            operands = [*operands, self.symbol(node, "random", Type("resource"))]
        self._give(node, self.builder.emit("py_func", *operands, fn=token, outputs=dtypes))

    def _operands(self, node: Any) -> list[Operand]:
        operands: list[Operand] = []
        for index, tensor in enumerate(node.inputs):
            if node.definition.takes_reference(node, index):
                operands.append(self._state.symbols[variable_output(tensor).op])
            elif tensor in self._fed or not self._state.stands_for(tensor):
                operands.append(self._values[tensor])
            else:
                operands.append(self._state.seen_by(node, tensor))
        return operands

    def _declared(self, tensor: Any, value: Operand) -> Operand:
        """``value`` with the static shape that the user gave its tensor by ``set_shape``."""
        if tensor.declared is None:
            return value
        have, shape = value.type.shape, tensor.declared
        if have is None:
            sizes = [dims.named(self.fresh("d")) if n is None else n for n in shape]
            return self._refined(value, tuple(sizes))
        if len(have) != len(shape):
            text = f"set_shape of {tensor.name}: the rank is {len(have)}, not {len(shape)}"
            raise ShapeError(text)
        merged = tuple(
            size if want is None else self.unify(size, want, f"set_shape of {tensor.name}")
            for size, want in zip(have, shape, strict=True)
        )
        return value if merged == have else self._refined(value, merged)

    def _fetch(self, leaf: Any, fed: Mapping[Any, int], results: list[Operand]) -> Fetched:
        if leaf in fed:
            return Fetched("feed", fed[leaf])
        if not hasattr(leaf, "value_index"):  # an Operation
            return Fetched("none")
        stands = self._state.stands_for(leaf)
        results.append(self._state.fetched(leaf) if stands else self._values[leaf])
        return Fetched("value", len(results) - 1)

    # ---- state ----------------------------------------------------------------------------------
    def variable(self, node: Any, type_: Type) -> Operand:
        """See the base class."""
        name = self._entry.name(node, identifier(node.name))
        full = type_ if _is_static(type_) else self._sized(node, name, type_)
        self.globals[name] = Global("variable", full)
        symbol = Symbol(name, full)
        self._state.declare(node, symbol)
        return symbol

    def _sized(self, node: Any, name: str, type_: Type) -> Type:
        """The type of a variable, with names for the sizes that the session knows."""
        actual = self.request.variable_shape(node)
        static: tuple[int | None, ...] | None = None
        if type_.shape is not None:
            static = tuple(n if isinstance(n, int) else None for n in type_.shape)
        elif actual is not None:
            static = (None,) * len(actual)
        return self._entry.type(name, type_.dtype, static, actual)

    def write(self, target: Any, value: Operand) -> Operand:
        """See the base class."""
        self._state.write(target.op, self._node, value)
        return value

    def read(self, target: Any) -> Operand:
        """See the base class."""
        return self._state.latest(target.op, self._node)

    def initialized(self, target: Any) -> Operand:
        """See the base class."""
        if self._state.ask(target.op, self._node):
            return self.const(True)
        symbol = self._state.symbols[target.op]
        return self.builder.emit("is_initialized", symbol)  # type: ignore[no-any-return]

    def placeholder(self, node: Any, type_: Type) -> Operand:
        """See the base class."""
        raise missing_feed(node)

    def symbol(self, node: Any, kind: str, type_: Type) -> Symbol:
        """See the base class."""
        symbol = super().symbol(node, kind, type_)
        self._streams[symbol.name] = node
        return symbol

    # ---- names and sizes ------------------------------------------------------------------------
    def sizes(self, operand: Operand) -> tuple[Dim, ...]:
        """See the base class. The length of a vector at hand selects a variant."""
        shape = operand.type.shape
        if shape is not None and len(shape) == 1 and self.known(operand) is None:
            self.at_hand(shape[0])
        return super().sizes(operand)

    def at_hand(self, size: Dim) -> int | None:
        """See the base class."""
        value = self._entry.value(size)
        if isinstance(size, int) or value is None or value > MAX_ELEMENTS:
            return super().at_hand(size)
        self.unify(size, value, "a length that selects a variant")
        return value

    def unique(self, name: str, key: Hashable = None) -> str:
        """See the base class."""
        return self._entry.name(key or ("made", name), name)

    def _unproven(self, a: Dim, b: Dim, message: str) -> Dim:
        if self._entry.knows(a, b):
            return self._entry.assume(a, b, message)
        self.emit("require_equal", lhs=a, rhs=b, message=message)
        return b if isinstance(b, int) else a

    def matched(self, operands: Sequence[Operand]) -> Sequence[Operand]:
        """See the base class."""
        shapes = [self.shape(operand) for operand in operands]
        wide = [shape for shape in shapes if shape]
        if wide and wide.count(wide[0]) < len(wide):
            self.broadcast(*shapes)
        return operands

    def broadcast_sizes(self, a: Dim, b: Dim, message: str = INCOMPATIBLE) -> Dim:
        """See the base class."""
        if a == b or a == 1 or b == 1 or (isinstance(a, int) and isinstance(b, int)):
            return super().broadcast_sizes(a, b, message)
        if not self._entry.knows(a, b):
            return self._broadcast_at_run_time(a, b, message)
        have, want = self._entry.value(a), self._entry.value(b)
        if have != want and have == 1:
            self._entry.assume(a, 1, message)
            return b
        if have != want and want == 1:
            self._entry.assume(b, 1, message)
            return a
        return self.unify(a, b, message)

    def _broadcast_at_run_time(self, a: Dim, b: Dim, message: str) -> Dim:
        """Where one size is 1 the other one stands for it, then both must be equal."""
        left, right = a + _is_one(a) * (b - a), b + _is_one(b) * (a - b)
        self.emit("require_equal", lhs=left, rhs=right, message=message)
        return dims.broadcast(a, b)


class LateNode:
    """A node whose operands have no rank before the run, as results of Python functions have none.

    It stands in the IR as a call of this object, which extracts the node for the arrays at hand and
    evaluates it.
    """

    def __init__(self, node: Any) -> None:
        self._node = weakref.ref(node)  # the table of functions outlives the graph

    def __call__(self, *given: Any) -> Sequence[Any]:
        """The outputs of the node, from its inputs and, where it draws, its stream.

        Raises: what the node's operations raise.
        """
        node = self._node()
        assert node is not None  # whoever calls has the node in its graph
        count = len(node.inputs)
        return _NodeExtractor(node, given[:count]).evaluated(given[count:])


class _NodeExtractor(ProgramExtractor):
    """Extracts one node for given inputs; integers that may be sizes are constants to it."""

    def __init__(self, node: Any, arrays: Sequence[np.ndarray[Any, Any]]) -> None:
        given = dict(zip(node.inputs, arrays, strict=True))
        known = {t: a for t, a in given.items() if of_array(a) is not None}
        self._arrays = [a for t, a in given.items() if t not in known]
        feeds = [
            FeedKey(t, t.dtype.base_dtype.ir, a.shape, a.shape)
            for t, a in given.items()
            if t not in known
        ]
        super().__init__(Request(node.outputs, feeds, lambda variable: None), Entry())
        self._fed |= known.keys()
        self._values.update({t: self.const(a) for t, a in known.items()})

    def evaluated(self, streams: Sequence[Any]) -> Sequence[Any]:
        """The outputs of the node."""
        (node,) = {tensor.op for tensor in self.request.fetches}
        extraction = self.run([node])
        state = dict(zip(extraction.streams, streams, strict=True))
        return evaluate(extraction.function, self._arrays, state)

    def _late(self, node: Any, operands: Sequence[Operand]) -> None:
        message = f"{node.type} needs what only later nodes of the run could tell"
        raise failure(UnimplementedError, node, message)


def _is_static(type_: Type) -> bool:
    return type_.shape is not None and all([isinstance(size, int) for size in type_.shape])


def _mentions(type_: Type, name: str) -> bool:
    return any(name in dims.names(size) for size in type_.shape or ())


def _is_one(size: Dim) -> Dim:
    """1 where ``size`` is 1, else 0, as an expression."""
    return dims.maximum(0, 1 - (size - 1) * (size - 1))


def missing_feed(node: Any) -> OpError:
    """The error of a placeholder that is needed and was not fed."""
    shape = node.outputs[0].shape
    text = ""
    if shape.ndims:
        text = f" and shape [{','.join('?' if n is None else str(n) for n in shape.as_list())}]"
    label = node.outputs[0].dtype.base_dtype.label
    message = (
        f"You must feed a value for placeholder tensor '{node.name}' with dtype {label}{text}"
    )
    return failure(InvalidArgumentError, node, message)
