"""What a step takes: the names of its feeds and variables, and what is known of their sizes.

Sizes that are unknown until the step runs have names. Two that must be equal but are not provably
so select a *variant*: one is written as the other from the start (``Restart``), so that the entry
checks it where it binds names, or the equation is listed and the entry evaluates it.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from stepforge.frontend.extract.messages import disagreement
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.types import Type


class Restart(Exception):
    """Extraction must start over with the size ``name`` replaced by ``value``."""

    def __init__(self, name: str, value: Dim) -> None:
        super().__init__(name)
        self.name, self.value = name, value


class Entry:
    """Names and sizes of feeds and variables, kept through all attempts to extract one step."""

    def __init__(self) -> None:
        self.sizes: dict[str, int | None] = {}  # names and their values at hand
        self.assumptions: list[tuple[Dim, Dim]] = []
        self._substitution: dict[str, Dim] = {}
        self._names: dict[Hashable, str] = {}
        self._taken: set[str] = set()

    def restart(self, restart: Restart) -> None:
        """Forget the sizes of an attempt and write one of them as another in the next."""
        self.rename(restart)
        self.sizes.clear()
        self.assumptions.clear()

    def rename(self, restart: Restart) -> None:
        """Write a size as another from now on."""
        solved = {restart.name: restart.value}
        for name, value in self._substitution.items():
            self._substitution[name] = dims.substitute(value, solved)
        self._substitution.update(solved)
        del self.sizes[restart.name]

    def name(self, key: Hashable, wanted: str) -> str:
        """A name that nothing but ``key`` has: ``wanted``, with a number where that is taken."""
        found = self._names.get(key)
        if found is None:
            found, number = wanted, 0
            while found in self._taken:
                number += 1
                found = f"{wanted}.{number}"
            self._taken.add(found)
            self._names[key] = found
        return found

    def type(
        self,
        name: str,
        dtype: str,
        shape: Sequence[int | None] | None,
        actual: Sequence[int] | None,
    ) -> Type:
        """The type of the feed or variable ``name`` of static shape ``shape``; ``actual`` are its
        sizes at hand.
        """
        if shape is None:
            return Type(dtype, None)
        sizes: list[Dim] = []
        stem = name if name[0].isalpha() else f"_{name}"  # names of sizes are words
        for axis, size in enumerate(shape):
            if size is not None:
                sizes.append(size)
                continue
            own = self.name((name, axis), f"{stem}_{axis}")
            if own not in self._substitution:
                self.sizes[own] = actual[axis] if actual is not None else None
            sizes.append(self._substitution.get(own, dims.named(own)))
        return Type(dtype, tuple(sizes))

    # ---- what is known --------------------------------------------------------------------------
    def knows(self, *sizes: Dim) -> bool:
        """True where the entry can evaluate all of ``sizes``."""
        return all(dims.names(size) <= self.sizes.keys() for size in sizes)

    def value(self, size: Dim) -> int | None:
        """The value at hand of a size; None where there is none."""
        names = dims.names(size)
        known = {n: v for n, v in self.sizes.items() if n in names and v is not None}
        return dims.evaluate(size, known) if len(known) == len(names) else None

    def text(self, shape: Sequence[Dim]) -> str:
        """A shape as TensorFlow's runtime prints it: ``[2,?]``."""
        values = [self.value(size) for size in shape]
        return f"[{','.join('?' if v is None else str(v) for v in values)}]"

    def assume(self, a: Dim, b: Dim, message: str) -> Dim:
        """Let the variant be one in which two entry sizes are equal; returns what to call them.

        Raises: Restart, ShapeError where the sizes at hand differ.
        """
        have, want = self.value(a), self.value(b)
        if have is not None and want is not None and have != want:
            raise ShapeError(disagreement(message, have, want, self.value))
        solution = solve(a - b, tuple(self.sizes))
        if solution is not None:
            raise Restart(*solution)
        self.assumptions.append((a, b))
        return b if isinstance(b, int) else a


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
