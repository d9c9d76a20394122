"""Variables while a step is extracted: their state becomes SSA values.

Reads come before writes. Whoever takes a reference variable gets the value at entry, unless it
depends, by data or control, on a write: then the value after the latest such write. Writes run in
the order of creation, and an update starts from what all of them before it left. ``v/read`` stands
for the variable itself, so that its consumers decide what they see; any other node reads at its own
place. One ``write`` for each changed variable closes the function.
"""

from __future__ import annotations

from collections.abc import Iterable, MutableMapping
from typing import Any

from stepforge.ir.builder import Builder
from stepforge.ir.core import Global, Operand, Symbol
from stepforge.ir.errors import FailedPreconditionError, NotFoundError, OpError


def uninitialized(variable: Any, reader: Any) -> OpError:
    """The error of the node ``reader``, which needs the value of a variable that has none.

    A reference variable that is fetched itself has no reader: ``op`` is None.
    """
    missing = f"Resource localhost/{variable.name}/N10tensorflow3VarE does not exist."
    if variable.type != "VarHandleOp":
        text = f"Attempting to use uninitialized value {variable.name}"
    elif reader.type == "ReadVariableOp":
        text = (
            f"Could not find variable {variable.name}. This could mean that the variable has been "
            "deleted. In TF1, it can also mean the variable is uninitialized. Debug info: "
            f"container=localhost, status error message={missing}"
        )
    else:  # an update, or a gather
        return NotFoundError(None, reader, missing, site=reader.site)
    if reader is variable:
        return FailedPreconditionError(None, None, text, site=reader.site)
    return FailedPreconditionError(None, reader, text, site=reader.site)


class StepState:
    """The values of variables at each node; nodes are visited in the order of the program."""

    def __init__(self, builder: Builder) -> None:
        self.symbols: dict[Any, Symbol] = {}  # variable node -> its symbol
        self.readers: dict[Any, Any] = {}  # variable node -> who first needs its value at entry
        self._builder = builder
        self._standing: dict[Any, Any] = {}  # tensor -> the variable that its consumers see
        self._entry: dict[Any, Operand] = {}  # variable -> its value at entry
        self._versions: dict[Any, list[Operand]] = {}  # variable -> its value after each write
        self._seen: dict[Any, dict[Any, int]] = {}  # node -> the writes that it depends on
        self._asked: set[Any] = set()  # variables that may be read under a condition

    def declare(self, variable: Any, symbol: Symbol) -> None:
        """Begin to follow a variable; its output stands for it."""
        self.symbols[variable] = symbol
        self._standing[variable.outputs[0]] = variable

    def visit(self, node: Any, sources: Iterable[Any]) -> None:
        """Come to ``node``, which depends on the nodes ``sources``."""
        seen: dict[Any, int] = {}
        for source in sources:
            for variable, version in self._seen.get(source, {}).items():
                seen[variable] = max(version, seen.get(variable, 0))
        self._seen[node] = seen

    def passes_on(self, node: Any) -> bool:
        """True for ``v/read``, whose output from now on stands for the variable."""
        if node.type != "Identity":
            return False
        variable = node.inputs[0].op
        if variable not in self.symbols or node.name != f"{variable.name}/read":
            return False
        self._standing[node.outputs[0]] = variable
        return True

    # ---- values ---------------------------------------------------------------------------------
    def stands_for(self, tensor: Any) -> bool:
        """True where ``tensor`` is no value of its own but that of a variable, whenever it is
        taken.
        """
        return tensor in self._standing

    def seen_by(self, node: Any, tensor: Any) -> Operand:
        """What ``node`` gets where it takes a tensor that stands for a variable."""
        variable = self._standing[tensor]
        reader = node if tensor.op is variable else tensor.op
        return self._version(variable, self._seen[node].get(variable, 0), reader)

    def latest(self, variable: Any, node: Any) -> Operand:
        """The value after all writes that were made before ``node``, which takes it."""
        return self._version(variable, len(self._versions.get(variable, ())), node)

    def fetched(self, tensor: Any) -> Operand:
        """A fetched variable is read at the end, ``v/read`` at its own place."""
        variable = self._standing[tensor]
        if tensor.op is variable:
            return self.latest(variable, variable)
        return self.seen_by(tensor.op, tensor)

    def _version(self, variable: Any, version: int, reader: Any) -> Operand:
        if version:
            return self._versions[variable][version - 1]
        if variable not in self._entry:
            symbol = self.symbols[variable]
            if symbol.type.shape is None:  # a value would have told the rank
                raise uninitialized(variable, reader)
            site, self._builder.site = self._builder.site, reader.site
            self._entry[variable] = self._builder.emit("read", symbol)
            self._builder.site = site
            self.readers[variable] = reader
        return self._entry[variable]

    # ---- changes --------------------------------------------------------------------------------
    def write(self, variable: Any, node: Any, value: Operand) -> None:
        """Let ``value`` be what ``node`` leaves in the variable."""
        versions = self._versions.setdefault(variable, [])
        versions.append(value)
        self._seen[node][variable] = len(versions)

    def ask(self, variable: Any, node: Any) -> bool:
        """True where ``node`` comes after a write; else the value at entry may be looked at."""
        written = bool(self._seen[node].get(variable))
        if not written:
            self._asked.add(variable)
        return written

    def finish(self, globals_: MutableMapping[str, Global]) -> None:
        """Write what changed. A variable that is only written may have any shape before."""
        for variable, versions in self._versions.items():
            symbol = self.symbols[variable]
            known = all(isinstance(size, int) for size in symbol.type.shape or ())
            if not known and variable not in self._entry and variable not in self._asked:
                symbol = Symbol(symbol.name, symbol.type.with_shape(None))
                globals_[symbol.name] = Global("variable", symbol.type)
            self._builder.site = variable.site
            self._builder.emit("write", symbol, versions[-1])
