"""A random program under construction: draws, and what every node of it has to satisfy."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

from fuzz.programs import Node, Program

MANTISSA = {"float32": 23, "float64": 52}
FULL = 99  # bits of a value that was rounded
SIZES = (1, 2, 3, 4, 5, 8, 17)  # what names stand for; rarely 0
NAMES = ("n", "m")
SINGLE = re.compile(r"\{\} [-+*] \{\}|-\{\}|tf\.[a-z_.]+\(\{\}(, \{\})*\)")  # one operation
Shape = tuple[int | str, ...]


def anything(node: Node) -> bool:
    return True


class Graph:
    """Nodes so far; a new one waits for those in ``control``."""

    def __init__(self, draw: Any, *, smooth: bool = False) -> None:
        self.draw = draw
        self.smooth = smooth  # only what has derivatives everywhere
        self.program = Program()
        self.control: tuple[Node, ...] = ()

    # ---- draws ----------------------------------------------------------------------------------
    def choose(self, options: Sequence[Any]) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def flag(self) -> bool:
        return bool(self.draw(st.booleans()))

    def number(self, low: int, high: int) -> int:
        return int(self.draw(st.integers(low, high)))

    def rarely(self, turns: int) -> bool:
        """True in one of so many turns; never for the simplest example."""
        return self.number(1, turns) == turns

    def pick(
        self, test: Callable[[Node], bool], fits: Callable[[Node], bool] = anything
    ) -> Node | None:
        """A node that passes ``test`` and whose shape ``fits``; rarely one that does not fit, so
        that programs go wrong too.
        """
        found = [n for n in self.program.nodes if n.dtype != "none" and test(n)]
        if self.smooth or not self.rarely(30):
            found = [node for node in found if fits(node)]
        return self.choose(found) if found else None

    def add(
        self,
        line: str,
        inputs: Sequence[Node],
        compute: Callable[..., Any],
        shape: Sequence[int | str],
        dtype: str,
        *,
        exact: bool | None = None,
        bits: int = FULL,
        **more: Any,
    ) -> Node | None:
        """A node; as exact as its inputs unless that is said.

        None where it would take a variable in several operations, of which some depend on a write
        and some do not.
        """
        depend = any(self._writes(node) for node in inputs if not node.is_variable)
        if depend and not SINGLE.fullmatch(line) and any(n.kind == "variable" for n in inputs):
            return None
        is_exact = all(node.exact for node in inputs) if exact is None else exact
        name = f"t{len(self.program.nodes)}"
        node = Node(
            name, line.format(*[n.name for n in inputs]), tuple(inputs), compute, tuple(shape),
            dtype, exact=is_exact or dtype not in MANTISSA, bits=bits,
            control=tuple([n for n in self.control if n not in inputs]), **more,
        )  # fmt: skip
        self.program.nodes.append(node)
        return node

    def move(
        self, line: str, x: Node, compute: Callable[..., Any], shape: Sequence[int | str]
    ) -> Node | None:
        """A node that has elements of ``x`` in other places."""
        return self.add(line, [x], compute, shape, x.dtype, exact=x.exact, bits=x.bits)

    def _writes(self, node: Node) -> bool:
        """True where the value of ``node`` depends on a write."""
        return any(n.kind == "write" for n in self.program.needed([node], {}))


def is_float(node: Node) -> bool:
    return node.dtype in MANTISSA


def is_int(node: Node) -> bool:
    return node.dtype in ("int32", "int64")


def has_axes(node: Node) -> bool:
    return len(node.shape) > 0


def count_bits(sizes: Sequence[int | str]) -> int:
    """Bits that a sum over axes of ``sizes`` has more than its terms."""
    limits = [n if isinstance(n, int) else 17 if n in NAMES else 4096 for n in sizes]
    return sum([n.bit_length() for n in limits])


def broadcast(a: Sequence[int | str], b: Sequence[int | str]) -> Shape | None:
    """The shape that two broadcast to; None where that is not certain."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + tuple(a), (1,) * (rank - len(b)) + tuple(b), strict=True)
    out: list[int | str] = []
    for x, y in pairs:
        if x != y and 1 not in (x, y):
            return None
        out.append(y if x == 1 else x)
    return tuple(out)
