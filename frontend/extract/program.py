"""From fetches and feeds to one ``ir.Function``: the start of every compile.

The nodes that the fetches need, cut at the feeds, are visited in creation order; each node's
``extract`` rule emits its IR. Variables become SSA values here: a consumer gets the value at entry
unless it depends on a write, writes chain in creation order, and one ``write`` for each changed
variable closes the function. So program order is the only order that passes ever see.

Sizes that must be equal but are not provably so select a *variant*: the assumption is substituted
into the parameter types (where the entry checks it) and extraction starts over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepforge.frontend.extract.extractor import Extractor, UnknownRank, identifier
from stepforge.ir import dims
from stepforge.ir.core import Function, Global, Operand, Symbol, Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import (
    DTypeError,
    InvalidArgumentError,
    ShapeError,
    UnimplementedError,
)
from stepforge.ir.types import Type


@dataclass(frozen=True)
class FeedKey:
    """A fed tensor, its static shape, and the sizes of the array at hand (None: not known yet)."""

    tensor: Any
    dtype: str
    shape: tuple[int | None, ...] | None
    actual: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Fetched:
    """Where a fetched leaf comes from:

    ``kind`` is "value" (a result), "feed" (a feed) or "none" (an op).
    """

    kind: str
    index: int = 0


@dataclass(frozen=True)
class Extraction:
    """A function and what its parameters, symbols and results stand for."""

    function: Function
    feeds: tuple[FeedKey, ...]
    fetches: tuple[Fetched, ...]
    variables: Mapping[str, Any]  # symbol name -> variable node
    streams: Mapping[str, Any]  # symbol name -> random node
    assumptions: tuple[tuple[Dim, Dim], ...] = ()


class _Restart(Exception):
    """Extraction must start over with ``name`` replaced by ``value``."""

    def __init__(self, name: str, value: Dim) -> None:
        super().__init__(name)
        self.name, self.value = name, value


@dataclass(frozen=True)
class Request:
    """What to extract.

    ``variable_shape(node)`` tells the shape that a variable has in the session.
    """

    fetches: Sequence[Any]
    feeds: Sequence[FeedKey]
    variable_shape: Callable[[Any], tuple[int, ...] | None]
    name: str = "step"
    substitution: dict[str, Dim] = field(default_factory=dict)


def extract(request: Request) -> Extraction:
    """Lower the subgraph of ``request.fetches`` to IR.

    Raises: InvalidArgumentError naming the node and the user's line, for a placeholder without feed
    and for sizes that do not fit.
    """
    while True:
        try:
            return ProgramExtractor(request).run()
        except _Restart as restart:  # noqa: PERF203 - the loop is the point
            solved = {restart.name: restart.value}
            for name, value in request.substitution.items():
                request.substitution[name] = dims.substitute(value, solved)
            request.substitution.update(solved)


class ProgramExtractor(Extractor):
    """One attempt at ``extract``."""

    def __init__(self, request: Request) -> None:
        super().__init__()
        self.request = request
        self._values: dict[Any, Operand] = {}  # tensor -> value
        self._aliases: dict[Any, Any] = {}  # tensor that stands for a variable's state -> variable
        self._targets: dict[Any, Any] = {}  # tensor through which a variable is written -> variable
        self._versions: dict[Any, list[Operand]] = {}  # variable -> its values after each write
        self._entry: dict[Any, Operand] = {}  # variable -> its value at entry
        self._seen: dict[Any, dict[Any, int]] = {}  # node -> writes that it depends on
        self._symbols: dict[Any, Symbol] = {}
        self._streams: dict[str, Any] = {}
        self._sizes: dict[str, int | None] = {}  # entry names and their values at hand
        self._assumptions: list[tuple[Dim, Dim]] = []
        self._node: Any = None

    # ---- the whole ------------------------------------------------------------------------------
    def run(self) -> Extraction:
        """Extract the whole function."""
        params = [self._parameter(feed) for feed in self.request.feeds]
        for node in needed(self.request.fetches, set(self._values)):
            self._extract(node)
        self._node = None
        results: list[Operand] = []
        fetches = tuple(self._fetch(leaf, results) for leaf in self.request.fetches)
        for variable, versions in self._versions.items():
            self.at(variable.site)
            self.builder.emit("write", self._symbols[variable], versions[-1])
        self.at(None)
        self.builder.emit("return", *results)
        function = self.builder.function(self.request.name, params, self.globals)
        names = {symbol.name: variable for variable, symbol in self._symbols.items()}
        return Extraction(
            function,
            tuple(self.request.feeds),
            fetches,
            names,
            self._streams,
            tuple(self._assumptions),
        )

    def _parameter(self, feed: FeedKey) -> Value:
        name = identifier(feed.tensor.op.name)
        if feed.tensor.value_index:
            name = f"{name}.{feed.tensor.value_index}"
        shape = feed.shape
        if shape is None and feed.actual is not None:
            shape = (None,) * len(feed.actual)  # the rank at hand is part of the variant's key
        param = Value(self._entry_type(name, feed.dtype, shape, feed.actual), name)
        self._values[feed.tensor] = param
        return param

    def _entry_type(
        self,
        name: str,
        dtype: str,
        shape: Sequence[int | None] | None,
        actual: tuple[int, ...] | None,
    ) -> Type:
        if shape is None:
            return Type(dtype, None)
        sizes: list[Dim] = []
        for axis, size in enumerate(shape):
            entry = f"{name}_{axis}"
            if size is None and entry not in self.request.substitution:
                self._sizes[entry] = actual[axis] if actual is not None else None
            sizes.append(
                size
                if size is not None
                else self.request.substitution.get(entry, dims.named(entry))
            )
        return Type(dtype, tuple(sizes))

    def _extract(self, node: Any) -> None:
        self._node = node
        self.at(node.site)
        self._seen[node] = self._writes_before(node)
        if node.type == "Identity" and node.inputs[0] in self._aliases:
            self._aliases[node.outputs[0]] = self._aliases[node.inputs[0]]
            return
        try:
            results = node.definition.extract(self, node, *self._operands(node))
        except (ShapeError, DTypeError) as error:
            raise InvalidArgumentError(None, node, str(error), site=node.site) from error
        except UnknownRank as error:
            message = f"{node.type} needs the rank of an operand that is only known at run time"
            raise UnimplementedError(None, node, message, site=node.site) from error
        if results is None:
            results = ()
        elif not isinstance(results, (tuple, list)):
            results = (results,)
        for tensor, value in zip(node.outputs, results, strict=True):
            self._values.setdefault(tensor, self._declared(tensor, value))

    def _declared(self, tensor: Any, value: Operand) -> Operand:
        """``value`` with the static shape that the user gave its tensor by ``set_shape``."""
        if tensor.declared is None or value.type.shape is None:
            return value
        shape = tuple(
            have if want is None else self.unify(have, want, f"set_shape of {tensor.name}")
            for have, want in zip(value.type.dims, tensor.declared, strict=True)
        )
        if shape == value.type.shape:
            return value
        return self.builder.emit("refine", value, shape=shape)  # type: ignore[no-any-return]

    def _fetch(self, leaf: Any, results: list[Operand]) -> Fetched:
        for index, feed in enumerate(self.request.feeds):
            if feed.tensor is leaf:
                return Fetched("feed", index)
        if not hasattr(leaf, "value_index"):  # an Operation
            return Fetched("none")
        value = self._fetched_value(leaf)
        for index, known in enumerate(results):
            if known is value:
                return Fetched("value", index)
        results.append(value)
        return Fetched("value", len(results) - 1)

    def _fetched_value(self, leaf: Any) -> Operand:
        variable = self._aliases.get(leaf)
        if variable is None:
            return self._values[leaf]
        if leaf.op is variable:  # a fetched variable is read at the end
            return self._value_of(variable, len(self._versions.get(variable, ())))
        return self._value_of(variable, self._seen[leaf.op].get(variable, 0))

    # ---- variables ------------------------------------------------------------------------------
    def _writes_before(self, node: Any) -> dict[Any, int]:
        """The latest write of each variable that ``node`` depends on, by data or control."""
        seen: dict[Any, int] = {}
        sources = [t.op for t in node.inputs if t not in self._values or t.op in self._seen]
        for source in [*sources, *node.control_inputs]:
            for variable, version in self._seen.get(source, {}).items():
                seen[variable] = max(version, seen.get(variable, 0))
        return seen

    def _operands(self, node: Any) -> list[Operand]:
        operands: list[Operand] = []
        for index, tensor in enumerate(node.inputs):
            variable = self._aliases.get(tensor)
            if tensor in self._targets and node.definition.takes_reference(node, index):
                operands.append(self._symbols[self._targets[tensor]])
            elif variable is None or tensor in self._values:
                operands.append(self._values[tensor])
            else:
                operands.append(self._value_of(variable, self._seen[node].get(variable, 0)))
        return operands

    def _value_of(self, variable: Any, version: int) -> Operand:
        if version:
            return self._versions[variable][version - 1]
        if variable not in self._entry:
            self.builder.site, site = variable.site, self.builder.site
            self._entry[variable] = self.builder.emit("read", self._symbols[variable])
            self.builder.site = site
        return self._entry[variable]

    def variable(self, node: Any, type_: Type) -> Operand:
        """See the base class."""
        name = identifier(node.name)
        actual = self.request.variable_shape(node)
        static: list[int | None] | None = None
        if type_.shape is not None:
            static = [n if isinstance(n, int) else None for n in type_.shape]
        elif actual is not None:
            static = [None] * len(actual)
        full = self._entry_type(name, type_.dtype, static, actual)
        self.globals[name] = Global("variable", full)
        self._symbols[node] = Symbol(name, full)
        self._aliases[node.outputs[0]] = self._targets[node.outputs[0]] = node
        return self._symbols[node]

    def write(self, target: Any, value: Operand) -> Operand:
        """See the base class."""
        variable = self._targets[target]
        versions = self._versions.setdefault(variable, [])
        versions.append(value)
        self._seen[self._node][variable] = len(versions)
        for output in self._node.outputs:  # a reference to the variable, with the value it has now
            self._targets[output] = variable
        return value

    def read(self, target: Any) -> Operand:
        """See the base class."""
        variable = self._targets[target]
        return self._value_of(variable, len(self._versions.get(variable, ())))

    def initialized(self, target: Any) -> Operand:
        """See the base class."""
        variable = self._targets[target]
        if self._seen[self._node].get(variable):
            return self.const(True)
        return self.builder.emit("is_initialized", self._symbols[variable])  # type: ignore

    def placeholder(self, node: Any, type_: Type) -> Operand:
        """See the base class."""
        shape = type_.shape
        text = ""
        if shape:
            text = f" and shape [{','.join(str(n) if isinstance(n, int) else '?' for n in shape)}]"
        name = node.outputs[0].dtype.name
        label = {"float32": "float", "float64": "double"}.get(name, name)
        raise InvalidArgumentError(
            None,
            node,
            f"You must feed a value for placeholder tensor '{node.name}' with dtype {label}{text}",
            site=node.site,
        )

    def symbol(self, node: Any, kind: str, type_: Type) -> Symbol:
        """See the base class."""
        symbol = super().symbol(node, kind, type_)
        self._streams[symbol.name] = node
        return symbol

    # ---- sizes ----------------------------------------------------------------------------------
    def _names(self) -> Sequence[str]:
        return (identifier(self._node.name),) if len(self._node.outputs) == 1 else ()

    def _at_entry(self, *sizes: Dim) -> bool:
        """True where all names are sizes of feeds and variables, which the entry can check."""
        return all(dims.names(size) <= self._sizes.keys() for size in sizes)

    def _hint(self, size: Dim) -> int | None:
        names = dims.names(size)
        known = {n: v for n, v in self._sizes.items() if n in names and v is not None}
        return dims.evaluate(size, known) if len(known) == len(names) else None

    def _unproven(self, a: Dim, b: Dim, message: str) -> Dim:
        if not self._at_entry(a, b):
            self.builder.emit("require_equal", lhs=a, rhs=b, message=message)
            return b if isinstance(b, int) else a
        have, want = self._hint(a), self._hint(b)
        if have is not None and want is not None and have != want:
            raise ShapeError(f"{message}: {have} is not {want}")
        solution = solve(a - b, tuple(self._sizes))
        if solution is not None:
            raise _Restart(*solution)
        self._assumptions.append((a, b))
        return b if isinstance(b, int) else a

    def matched(self, operands: Sequence[Operand]) -> Sequence[Operand]:
        """See the base class."""
        shapes = [o.type.shape for o in operands]
        if any(s is None for s in shapes):
            raise UnknownRank
        if len({s for s in shapes if s}) > 1:
            self.broadcast(*[s for s in shapes if s is not None])
        return operands

    def broadcast_sizes(self, a: Dim, b: Dim) -> Dim:
        """See the base class."""
        if a == b or a == 1 or b == 1:
            return super().broadcast_sizes(a, b)
        have, want = self._hint(a), self._hint(b)
        if not self._at_entry(a, b):
            return self._broadcast_at_run_time(a, b)
        if have is not None and want is not None and have != want:
            if have == 1:
                self._unproven(a, 1, "broadcast")
            if want == 1:
                self._unproven(b, 1, "broadcast")
            raise ShapeError(f"Incompatible shapes: sizes {have} and {want} do not broadcast")
        return self.unify(a, b, "Incompatible shapes")

    def _broadcast_at_run_time(self, a: Dim, b: Dim) -> Dim:
        size = dims.broadcast(a, b)
        for part in (a, b):
            if part != size:
                self.builder.emit(
                    "require_equal",
                    lhs=(part - size) * (part - 1),
                    rhs=0,
                    message="Incompatible shapes",
                )
        return size


def solve(difference: Dim, order: Sequence[str]) -> tuple[str, Dim] | None:
    """A name, the latest in ``order``, and its value that make ``difference`` 0;

    None where none is linear.
    """
    if not isinstance(difference, dims.Expr):
        return None
    for name in reversed(order):
        for monomial, coefficient in difference.terms:
            if monomial != (name,):
                continue
            rest = difference - coefficient * dims.named(name)
            if name in dims.names(rest):
                continue
            if coefficient in (1, -1):
                return name, rest * -coefficient
            if isinstance(rest, int) and rest % coefficient == 0:
                return name, -rest // coefficient
    return None


def needed(fetches: Sequence[Any], fed: set[Any]) -> list[Any]:
    """The nodes that ``fetches`` (tensors and operations) depend on, cut at fed tensors, in order.

    The order is that of creation; a node with an input made later (a loop's back edge) comes after
    it.
    """
    found: set[Any] = set()
    pending = [
        leaf.op if hasattr(leaf, "value_index") else leaf for leaf in fetches if leaf not in fed
    ]
    late = False
    while pending:
        node = pending.pop()
        if node in found:
            continue
        found.add(node)
        sources = [t.op for t in node.inputs if t not in fed] + list(node.control_inputs)
        late = late or any(source.id > node.id for source in sources)
        pending += sources
    ordered = sorted(found, key=lambda node: node.id)
    return _topological(ordered, fed) if late else ordered


def _topological(nodes: list[Any], fed: set[Any]) -> list[Any]:
    ordered: list[Any] = []
    done: set[Any] = set()
    for root in nodes:
        stack = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                ordered.append(node)
                continue
            if node in done:
                continue
            done.add(node)
            stack.append((node, True))
            sources = [t.op for t in node.inputs if t not in fed] + list(node.control_inputs)
            stack += [(source, False) for source in reversed(sources) if source not in done]
    return ordered
