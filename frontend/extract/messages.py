"""Messages that quote sizes: what a rule says of sizes that only a run knows.

A rule writes ``told("Matrix size-incompatible: In[0]: {}, In[1]: {}", a, b)`` with sizes or shapes.
While a graph is built, unknown sizes read ``?``; the error of a run has their values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from stepforge.ir.dims import Dim
from stepforge.ir.errors import MOST_QUOTED


class SizeText(str):
    """The text with ``?`` for unknown sizes, and what it was made from: ``template`` has one
    ``{}`` for each of ``sizes``.
    """

    template: str
    sizes: tuple[Dim, ...]

    def filled(self, value: Callable[[Dim], int | None]) -> str:
        """The text with the values of its sizes; ``value`` gives None where it knows none."""
        return self.template.format(*(_text(value(size)) for size in self.sizes))


def told(template: str, *values: Dim | Sequence[Dim]) -> SizeText:
    """A message; each ``{}`` of ``template`` stands for a size, or for a shape: ``[2,3]``.

    Any other brace is written twice, as in every format string.
    """
    sizes: list[Dim] = []
    places: list[str] = []
    for value in values:
        shape = value if isinstance(value, Sequence) else (value,)
        sizes += shape
        places.append(f"[{','.join('{}' for _ in shape)}]" if shape is value else "{}")
    pieces = template.split("{}")
    full = pieces[0] + "".join(p + rest for p, rest in zip(places, pieces[1:], strict=True))
    text = SizeText(full.format(*(_text(s if isinstance(s, int) else None) for s in sizes)))
    text.template, text.sizes = full, tuple(sizes)
    return text


def disagreement(
    message: str, lhs: Dim, rhs: Dim, value: Callable[[Dim], int | None]
) -> str:
    """The text of the error that two sizes, which should be equal, are not."""
    if isinstance(message, SizeText):
        return message.filled(value)
    return f"{message}: {lhs} is not {rhs}"


def literal(attrs: dict[str, Any]) -> dict[str, Any]:
    """Attributes of a check as IR has them: the template of its message, and the sizes in it."""
    message = attrs.get("message")
    if not isinstance(message, SizeText):
        return attrs
    if len(message.sizes) > MOST_QUOTED:
        return {**attrs, "message": message.replace("{", "{{").replace("}", "}}")}
    return {**attrs, "message": message.template, "values": message.sizes}


def _text(size: int | None) -> str:
    return "?" if size is None else str(size)
