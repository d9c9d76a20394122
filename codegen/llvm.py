"""LLVM IR as text: the writer that entries, kernels and helper functions are emitted with.

Text is the fastest way into LLVM from Python (llvmlite's builder objects cost ten times as much),
and it reads as what it becomes. A ``FunctionWriter`` appends instructions to the current block;
structured helpers (``if_``, ``loop``) keep the block names and phi nodes in order.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

LIKELY = "!prof !0"
UNLIKELY = "!prof !1"
NO_UNROLL = ", !llvm.loop !2"  # metadata of the back edge of a loop that LLVM shall leave as it is
AS_WRITTEN = "noinline optnone"  # of a function whose speed matters less than its compilation
NONTEMPORAL = "!nontemporal !4"  # of a store that goes past the caches
_FOOTER = """\
!0 = !{!"branch_weights", i32 2000, i32 1}
!1 = !{!"branch_weights", i32 1, i32 2000}
!2 = distinct !{!2, !3}
!3 = !{!"llvm.loop.unroll.disable"}
!4 = !{i32 1}
"""


def float_literal(value: float, type_: str) -> str:
    """A constant of ``float`` (rounded, infinite beyond its range) or ``double``.

    LLVM writes both as the bits of a double.
    """
    if type_ == "float":
        value = ctypes.c_float(value).value
    return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"


# Calls of one function that are expanded in place; with more, LLVM takes seconds for the copies.
EXPANDED_CALLS = 64
EXPANDED_LINES = 64  # of a function that is worth a copy where it is called


class ModuleWriter:
    """One LLVM module under construction: declarations and helpers are added once, by name."""

    def __init__(self, triple: str, attributes: str = "") -> None:
        self.triple = triple
        self.attributes = attributes  # of every defined function: target-cpu, target-features, ...
        self._globals: dict[str, str] = {}
        self._declarations: dict[str, str] = {}
        self._functions: dict[str, str] = {}
        self._labels: dict[str, str] = {}

    def declare(self, name: str, returns: str, params: str) -> str:
        """Declare an external function (or intrinsic) and return ``@name``;

        ``params`` may end in ``...``.
        """
        self._declarations.setdefault(name, f"declare {returns} @{name}({params})")
        return f"@{name}"

    def extern(self, name: str, type_: str = "i8") -> str:
        """Declare an external object and return ``@name``."""
        self._globals.setdefault(name, f"@{name} = external global {type_}")
        return f"@{name}"

    def constant(self, name: str, definition: str) -> str:
        """Define a private constant, e.g. ``constant("dims", "[2 x i64] [i64 3, i64 4]")``."""
        self._globals.setdefault(name, f"@{name} = private unnamed_addr constant {definition}")
        return f"@{name}"

    def variable(self, name: str, definition: str) -> str:
        """Define memory of the module's own, e.g. ``variable("count", "i64 0")``."""
        self._globals.setdefault(name, f"@{name} = internal global {definition}")
        return f"@{name}"

    def defines(self, name: str) -> bool:
        """Whether the function ``name`` is in the module."""
        return name in self._functions

    def declares(self, name: str) -> bool:
        """Whether the module uses a function ``name`` from outside, or one that stands for it."""
        return name in self._declarations

    def first_label(self, key: str, label: str) -> str:
        """What was given first for ``key``: functions that many share are named after the first."""
        return self._labels.setdefault(key, label)

    def helper(self, name: str, text: Callable[[], str]) -> str:
        """Define the function ``name`` by ``text()`` unless it is there already;

        return ``@name``.
        """
        if name not in self._functions:
            self._functions[name] = ""  # a helper that needs itself finds it defined
            self._functions[name] = text()
        return f"@{name}"

    def externals(self) -> tuple[str, ...]:
        """Names that the module needs from outside, LLVM's intrinsics left out."""
        declared = [n for n in self._declarations if not n.startswith("llvm.")]
        objects = [n for n, text in self._globals.items() if "external" in text]
        return tuple(n for n in [*declared, *objects] if n not in self._functions)

    def text(self) -> str:
        """The module as LLVM text."""
        declarations = [t for n, t in self._declarations.items() if n not in self._functions]
        parts = [f'target triple = "{self.triple}"', *self._globals.values(), *declarations]
        parts += self._called_out_of_line([text for text in self._functions.values() if text])
        footer = f"attributes #0 = {{ nounwind {self.attributes} }}\n{_FOOTER}"
        return "\n".join(parts) + f"\n{footer}"

    @staticmethod
    def _called_out_of_line(functions: list[str]) -> list[str]:
        """``functions``, those that are expanded in place only so where that is in a few places."""
        body = "\n".join(functions)
        for index, text in enumerate(functions):
            head = text.partition("\n")[0]
            if " alwaysinline " in head:
                name = head[head.index("@") : head.index("(") + 1]
                if body.count(name) - 1 > EXPANDED_CALLS:
                    functions[index] = text.replace(" alwaysinline ", " noinline ", 1)
        return functions


class FunctionWriter:
    """Writes one function.

    Values are strings as LLVM writes them: ``%v3``, ``7``, ``0x3FF0000000000000``.
    """

    def __init__(
        self,
        module: ModuleWriter,
        name: str,
        returns: str,
        params: Sequence[tuple[str, str]],
        *,
        linkage: str = "",
        attributes: str = "",
    ) -> None:
        self.module = module
        self.name = name
        self.attributes = attributes
        self._head = f"define {linkage} {returns} @{name}(".replace("  ", " ") + ", ".join(
            f"{type_} %{param}" for type_, param in params
        )
        self._allocas: list[str] = []
        self._lines: list[str] = []
        self._count = 0
        self.block = "entry"  # the label of the block that is being written

    def fresh(self, hint: str = "v") -> str:
        """A name that this function has not used."""
        self._count += 1
        return f"{hint}{self._count}"

    def emit(self, instruction: str, hint: str = "v") -> str:
        """Append ``%new = instruction`` and return ``%new``."""
        name = f"%{self.fresh(hint)}"
        self._lines.append(f"  {name} = {instruction}")
        return name

    def do(self, instruction: str) -> None:
        """Append an instruction without result."""
        self._lines.append(f"  {instruction}")

    def comment(self, text: str) -> None:
        """Append a comment."""
        self._lines.append(f"  ; {text}")

    def alloca(self, type_: str, count: int = 1, align: int = 8) -> str:
        """Stack memory, placed in the entry block so that loops do not grow the stack."""
        name = f"%{self.fresh('stack')}"
        self._allocas.append(f"  {name} = alloca {type_}, i64 {count}, align {align}")
        return name

    @contextmanager
    def preamble(self) -> Iterator[None]:
        """What is emitted inside goes to the start of the function, for every block to use."""
        lines, self._lines = self._lines, self._allocas
        try:
            yield
        finally:
            self._lines = lines

    # ---- memory ---------------------------------------------------------------------------------
    def offset(self, pointer: str, count: int | str, type_: str = "i8") -> str:
        """``pointer + count`` elements of ``type_``."""
        if count == 0 or count == "0":
            return pointer
        return self.emit(f"getelementptr inbounds {type_}, ptr {pointer}, i64 {count}", "p")

    def load(self, type_: str, pointer: str, offset: int = 0, *, extra: str = "") -> str:
        """Load from ``offset`` bytes behind ``pointer``."""
        return self.emit(f"load {type_}, ptr {self.offset(pointer, offset)}{extra}")

    def store(
        self, type_: str, value: str, pointer: str, offset: int = 0, *, extra: str = ""
    ) -> None:
        """Store to ``offset`` bytes behind ``pointer``."""
        self.do(f"store {type_} {value}, ptr {self.offset(pointer, offset)}{extra}")

    def prefetch(self, pointer: str, near: int = 3) -> None:
        """Ask for a cache line that is read soon; ``near`` is 3 for all caches, 2 for the second
        level.
        """
        callee = self.module.declare("llvm.prefetch.p0", "void", "ptr, i32, i32, i32")
        self.call("void", callee, ("ptr", pointer), ("i32", "0"), ("i32", str(near)), ("i32", "1"))

    # ---- control --------------------------------------------------------------------------------
    def label(self, hint: str) -> str:
        """A fresh block label; write the block with ``start``."""
        return self.fresh(hint)

    def start(self, label: str) -> None:
        """Begin the block ``label``."""
        self._lines.append(f"{label}:")
        self.block = label

    def branch(self, label: str) -> None:
        """Go to ``label``."""
        self.do(f"br label %{label}")

    def branch_if(self, condition: str, yes: str, no: str, weight: str = "") -> None:
        """Branch on an ``i1``; ``weight`` is LIKELY or UNLIKELY (that ``yes`` is taken)."""
        self.do(f"br i1 {condition}, label %{yes}, label %{no}" + (f", {weight}" if weight else ""))

    def phi(self, type_: str, *incoming: tuple[str, str]) -> str:
        """A phi node of (value, block) pairs; only at the start of a block."""
        return self.emit(f"phi {type_} " + ", ".join(f"[{v}, %{b}]" for v, b in incoming))

    def if_(self, condition: str, body: Callable[[], None], weight: str = "") -> None:
        """Run ``body`` where ``condition`` holds, then go on."""
        yes, after = self.label("then"), self.label("after")
        self.branch_if(condition, yes, after, weight)
        self.start(yes)
        body()
        self.branch(after)
        self.start(after)

    def either(
        self,
        condition: str,
        yes: Callable[[], Sequence[str] | None],
        no: Callable[[], Sequence[str] | None],
        types: Sequence[str] = (),
        weight: str = "",
    ) -> list[str]:
        """Run ``yes`` where ``condition`` holds, else ``no``; written as one where it is known.

        Both return values of ``types``; those of the one that ran are returned.
        """
        if condition in ("true", "false"):
            return list((yes if condition == "true" else no)() or ())
        then, other, after = self.label("then"), self.label("else"), self.label("after")
        self.branch_if(condition, then, other, weight)
        ends: list[tuple[str, Sequence[str]]] = []
        for label, body in ((then, yes), (other, no)):
            self.start(label)
            values = body() or ()
            ends.append((self.block, values))
            self.branch(after)
        self.start(after)
        return [
            self.phi(type_, *((values[number], block) for block, values in ends))
            for number, type_ in enumerate(types)
        ]

    def loop(
        self,
        low: str | int,
        high: str | int,
        body: Callable[..., Sequence[str] | None],
        *,
        step: int | str = 1,
        carried: Sequence[tuple[str, str]] = (),
        metadata: str = "",
        followed: bool = False,
    ) -> tuple[str, ...]:
        """Count from ``low`` while below ``high``; ``body(i, *values)`` returns the next values.

        ``carried`` are (type, initial value) pairs; the last values are returned. The test stands
        at the end, and another before the loop unless there is a first turn for certain. One that
        is ``followed`` is worth the time that LLVM may take; see ``unfollowed``.
        """
        turns = _known_turns(low, high, step)
        if turns == 1:
            return tuple(body(str(low), *(initial for _, initial in carried)) or ())
        before = self.block
        inside, after = self._enter("" if turns else f"icmp slt i64 {low}, {high}")
        phis = [f"%{self.fresh(hint)}" for hint in ("i", *("c" for _ in carried))]
        slot = len(self._lines)
        self._lines += [""] * len(phis)
        following = list(body(*phis) or ())
        advanced = self.emit(f"add nsw i64 {phis[0]}, {step}")
        again = self.emit(f"icmp slt i64 {advanced}, {high}")
        advanced = advanced if followed else self.unfollowed(advanced)
        last = self.block
        self.do(f"br i1 {again}, label %{inside}, label %{after}{metadata}")
        entering = [("i64", str(low)), *carried]
        values = [
            f"phi {type_} [{initial}, %{before}], [{value}, %{last}]"
            for (type_, initial), value in zip(entering, [advanced, *following], strict=True)
        ]
        for k, (phi, value) in enumerate(zip(phis, values, strict=True)):
            self._lines[slot + k] = f"  {phi} = {value}"
        self.start(after)
        return tuple(following if turns else map(self.emit, values[1:]))

    def unfollowed(self, index: str) -> str:
        """The same index, as one that LLVM's code generator cannot tell to be a loop's.

        It would search for other ways to count and to address, a third of all its time, where
        loops are written as they should run; nothing else looks at this expectation.
        """
        return self.intrinsic("expect", "i64", "i64", index, "0")

    def _enter(self, condition: str) -> tuple[str, str]:
        """Go to a new block, where there is a condition only if it holds; that and the one behind.
        """
        inside, after = self.label("body"), self.label("done")
        if condition:
            self.branch_if(self.emit(condition), inside, after)
        else:
            self.branch(inside)
        self.start(inside)
        return inside, after

    # ---- calls ----------------------------------------------------------------------------------
    def intrinsic(self, name: str, type_: str, suffix: str, *args: str) -> str:
        """``llvm.name.suffix`` on arguments that all have ``type_``, which is also the result's."""
        callee = self.module.declare(f"llvm.{name}.{suffix}", type_, ", ".join([type_] * len(args)))
        return self.emit(f"call {type_} {callee}({', '.join(f'{type_} {a}' for a in args)})")

    def call(
        self,
        returns: str,
        callee: str,
        *args: tuple[str, str],
        variadic: str = "",
        tail: bool = False,
    ) -> str:
        """Call ``callee``; ``args`` are (type, value) pairs; returns "" for a void function.

        ``tail``: the callee touches no stack memory of this function, which returns its result.
        """
        text = (
            f"{'tail ' if tail else ''}call {returns} {variadic}{' ' if variadic else ''}{callee}("
            + ", ".join(f"{t} {v}" for t, v in args)
            + ")"
        )
        if returns == "void":
            self.do(text)
            return ""
        return self.emit(text)

    def quotient_up(self, x: str, y: str) -> str:
        """``x / y``, rounded up, of i64 that are not negative."""
        more = self.emit(f"add i64 {x}, {self.emit(f'sub i64 {y}, 1')}")
        return self.emit(f"udiv i64 {more}, {y}")

    def in_memory(self, values: Sequence[tuple[str, str]]) -> str:
        """A pointer to the stack with ``values`` (of types and texts), in 8 bytes each."""
        memory = self.alloca("i64", len(values))
        for index, (type_, text) in enumerate(values):
            self.store(type_, text, memory, 8 * index)
        return memory

    def finish(self) -> str:
        """The text of the function."""
        head = f"{self._head}) {self.attributes} #0 {{".replace("  ", " ")
        return "\n".join([head, "entry:", *self._allocas, *self._lines, "}"])

    def expand_if_short(self) -> None:
        """Have the calls of this function expanded where it is no longer than what that saves."""
        if len(self._allocas) + len(self._lines) <= EXPANDED_LINES:
            self.attributes = "alwaysinline"

    def define(self) -> str:
        """Add the function to its module and return ``@name``."""
        return self.module.helper(self.name, self.finish)


def _known_turns(low: str | int, high: str | int, step: int | str) -> int | None:
    """How often a loop turns, where its bounds are numbers and it does at all."""
    if not all(str(number).isdigit() for number in (low, high, step)):
        return None
    return max(0, -((int(low) - int(high)) // int(step))) or None


@cache
def mangle(dtype_text: str) -> str:
    """The intrinsic suffix of an LLVM type: ``float`` is ``f32``, ``<8 x double>`` is ``v8f64``."""
    if dtype_text.startswith("<"):
        count, element = dtype_text[1:-1].split(" x ")
        return f"v{count}{mangle(element)}"
    return {"float": "f32", "double": "f64", "half": "f16", "ptr": "p0"}.get(dtype_text, dtype_text)
