"""Python source under construction: lines, names that nothing else has, imports, expressions.

An expression is written where a statement needs it. A part of it that occurs twice becomes a
variable first; parentheses stand only where Python needs them.
"""

from __future__ import annotations

import builtins
import keyword
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from stepforge.codegen.kernel import NotSupported
from stepforge.codegen.numba_scalars import ATOM, NUMBA_NAMES, Term

_LONGEST_NAME = 32
_RESERVED = frozenset((*keyword.kwlist, *dir(builtins), *NUMBA_NAMES.values()))


class Source:
    """Lines of one module; ``reserved`` are names that no variable gets."""

    def __init__(self, reserved: Sequence[str] = ()) -> None:
        self.lines: list[str] = []
        self._constants: list[str] = []
        self._depth = 0
        self._taken = {*_RESERVED, *reserved}
        self._numbers: Counter[str] = Counter()
        self._imports: dict[str, set[str]] = {}

    # ---- lines ----------------------------------------------------------------------------------
    def line(self, text: str = "") -> None:
        """Append a line at the current depth."""
        self.lines.append("    " * self._depth + text if text else "")

    @contextmanager
    def block(self, header: str) -> Iterator[None]:
        """A compound statement: what is written inside belongs to ``header``."""
        self.line(header)
        self._depth += 1
        first = len(self.lines)
        yield
        if len(self.lines) == first:
            self.line("pass")
        self._depth -= 1

    def text(self, opening: Sequence[str] = ()) -> str:
        """The module: ``opening``, its imports, the lines."""
        imports = [
            f"from {module} import {', '.join(sorted(names))}"
            for module, names in sorted(self._imports.items())
        ]
        constants = ["", *self._constants] if self._constants else []
        return "\n".join([*opening, *imports, *constants, "", "", *self.lines, ""])

    def constant(self, hint: str, data: np.ndarray[Any, Any], dtype: str) -> str:
        """The name of a constant array of at least one axis, defined before all lines.

        Raises: NotSupported for complex infinities, which have no Python text.
        """
        if data.dtype.kind == "c" and not np.isfinite(data).all():
            raise NotSupported("constants that are complex and infinite")
        name = self.name(hint)
        elements = np.atleast_1d(data).tolist()
        self.use("numpy", "array")
        for word in ("inf", "nan"):
            if word in repr(elements):
                self.use("math", word)
        self._constants.append(f'{name} = array({elements}, dtype="{dtype}")')
        return name

    # ---- names ----------------------------------------------------------------------------------
    def use(self, module: str, name: str) -> str:
        """``name``, imported from ``module``."""
        self._imports.setdefault(module, set()).add(name)
        return name

    def name(self, hint: str) -> str:
        """A name like ``hint`` that nothing else has."""
        plain = re.sub(r"\W", "_", hint).strip("_")[-_LONGEST_NAME:].lstrip("_") or "v"
        if plain[0].isdigit():
            plain = f"v{plain}"
        found = plain
        while found in self._taken:
            self._numbers[plain] += 1
            found = f"{plain}_{self._numbers[plain]}"
        self._taken.add(found)
        return found

    # ---- expressions ----------------------------------------------------------------------------
    def expression(self, term: Term, need: int = 0) -> str:
        """The text of a term; what it needs twice is assigned to variables before."""
        counts: Counter[Term] = Counter()
        _count(term, counts)
        return self._written(term, need, counts, {})

    def _written(
        self, term: Term, need: int, counts: Counter[Term], names: dict[Term, str]
    ) -> str:
        if term in names:
            return names[term]
        operands = [
            self._written(operand, wanted, counts, names)
            for operand, wanted in zip(term.operands, term.needs, strict=True)
        ]
        text = term.form.format(*operands)
        if counts[term] > 1 and term.operands:
            names[term] = self.name("t")
            self.line(f"{names[term]} = {text}")
            return names[term]
        return text if term.level >= need else f"({text})"

    def assign(self, hint: str, term: Term) -> Term:
        """A variable with the value of ``term``; the term itself where it is a name or number."""
        if not term.operands and term.level == ATOM:
            return term
        text = self.expression(term)
        name = self.name(hint)
        self.line(f"{name} = {text}")
        return Term(term.dtype, name)


def _count(term: Term, counts: Counter[Term]) -> None:
    counts[term] += 1
    if counts[term] == 1:
        for operand in term.operands:
            _count(operand, counts)
