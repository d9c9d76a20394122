"""The tokens of the IR's text, and errors that show the place in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TypeVar

from stepforge.ir.errors import IRError

MOST_NESTED = 64  # brackets in each other: more than programs have, less than Python's stack takes
MOST_QUOTED = 400  # characters of a line that are shown before and behind a mistake
_DEEPER = {"(": 1, "[": 1, "{": 1, "<": 1, ")": -1, "]": -1, "}": -1, ">": -1}
_NUMBER = r"(?:\d+(?:\.\d*)?(?:[eE][+-]?\d+)?|inf|nan)"
_TOKEN = re.compile(
    rf"""\s+ | //[^\n]*
    | (?P<value>%[\w./-]+)
    | (?P<symbol>@(?:[\w./-]+|"(?:[^"\\\n]|\\.)*"))
    | (?P<complex>\(-?{_NUMBER}[+-]{_NUMBER}j\))
    | (?P<float>\d+\.\d*(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
    | (?P<word>\d*[^\W\d](?:[\w.]*\w)?)
    | (?P<int>\d+)
    | (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<mark>->|[()\[\]{{}}<>|,:=&*+-])
    | (?P<wrong>.)""",
    re.VERBOSE,
)
_T = TypeVar("_T")


class Tokens:
    """The text as tokens, the position in them, and errors that show it."""

    def __init__(self, text: str) -> None:
        self.source = text
        self.kinds: list[str] = []
        self.texts: list[str] = []
        self.places: list[int] = []
        self.at = 0
        for match in _TOKEN.finditer(text):
            if match.lastgroup is not None:
                self.kinds.append(match.lastgroup)
                self.texts.append(match.group())
                self.places.append(match.start())
        self.kinds.append("end")
        self.texts.append("the end of the text")
        self.places.append(len(text.rstrip()))
        self._check_nesting()

    def _check_nesting(self) -> None:
        """Raises: IRError for brackets that are nested too deeply for a reader that is recursive.
        """
        depth = 0
        for at, (kind, text) in enumerate(zip(self.kinds, self.texts, strict=True)):
            if kind == "mark":
                depth = max(0, depth + _DEEPER.get(text, 0))
                if depth > MOST_NESTED:
                    raise self.error(f"more than {MOST_NESTED} brackets in each other", at)

    @property
    def kind(self) -> str:
        """What sort of token stands here."""
        return self.kinds[self.at]

    @property
    def text(self) -> str:
        """The token that stands here."""
        return self.texts[self.at]

    def error(self, message: str, at: int | None = None) -> IRError:
        """An error at token ``at``, by default the present one."""
        place = self.places[self.at if at is None else at]
        line = self.source.count("\n", 0, place) + 1
        start = self.source.rfind("\n", 0, place) + 1
        end = self.source.find("\n", place)
        first = max(start, place - MOST_QUOTED)
        last = min(end if end >= 0 else len(self.source), place + MOST_QUOTED)
        quoted = self.source[first:last]
        pointer = re.sub(r"[^\t]", " ", quoted[: place - first]) + "^"
        return IRError(
            f"line {line}, column {place - start + 1}: {message}\n    {quoted}\n    {pointer}"
        )

    def expected(self, what: str) -> IRError:
        """An error that says what should stand here."""
        if self.kind == "wrong":
            return self.error(f"unexpected character {self.text!r}")
        found = self.text if self.kind == "end" else f"'{self.text}'"
        return self.error(f"expected {what}, found {found}")

    def take(self, kind: str, what: str) -> str:
        """The text of the present token, which must be of ``kind``; moves on."""
        if self.kinds[self.at] != kind:
            raise self.expected(what)
        self.at += 1
        return self.texts[self.at - 1]

    def mark(self, text: str) -> None:
        """Move past the mark ``text``, which must stand here."""
        if self.texts[self.at] != text or self.kinds[self.at] != "mark":
            raise self.expected(f"'{text}'")
        self.at += 1

    def see(self, text: str) -> bool:
        """Move past the mark or word ``text`` if it stands here."""
        if self.texts[self.at] == text and self.kinds[self.at] in ("mark", "word"):
            self.at += 1
            return True
        return False

    def listed(self, item: Callable[[], _T], close: str) -> list[_T]:
        """``item`` between commas up to the mark ``close``."""
        items: list[_T] = []
        while not self.see(close):
            if items:
                if self.texts[self.at] != ",":
                    raise self.expected(f"',' or '{close}'")
                self.at += 1
            items.append(item())
        return items

    def series(self, item: Callable[[], _T]) -> list[_T]:
        """One or more of ``item`` between commas."""
        items = [item()]
        while self.see(","):
            items.append(item())
        return items

    def whole(self, item: Callable[[], _T]) -> _T:
        """``item``, behind which the text must end."""
        result = item()
        if self.kind != "end":
            raise self.expected("the end of the text")
        return result


def is_word(text: str) -> bool:
    """True for what reads as one name: letters, digits, ``_``, dots inside; not a number."""
    match = _TOKEN.fullmatch(text)
    return match is not None and match.lastgroup == "word"


def near(name: str, known: Iterable[str]) -> str:
    """A question that offers the known names nearest to ``name``; empty where none is near."""
    import difflib

    found = difflib.get_close_matches(name, list(known), n=2, cutoff=0.65)
    return f"; did you mean {' or '.join(found)}?" if found else ""
