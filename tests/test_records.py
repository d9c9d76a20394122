"""Records do what dataclasses do: every case is made with both decorators, and compared."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from stepforge.ir.records import record

Decorator = Callable[..., Any]


def same_hash(one: Any, other: Any) -> bool:
    """Of two that live at once, lest one has the address of the other."""
    return hash(one) == hash(other)


def point(decorator: Decorator, **options: bool) -> Any:
    @decorator(**options)
    class Point:
        x: int
        y: float = 2.0
        tags: list[str] = field(default_factory=list)
        note: str = field(default="", repr=False, compare=False)

        def length(self) -> float:
            return float(abs(self.x) + abs(self.y))

    return Point


OPTIONS: list[dict[str, bool]] = [
    {},
    {"frozen": True},
    {"slots": True},
    {"frozen": True, "slots": True},
    {"eq": False},
    {"frozen": True, "eq": False, "slots": True},
]
ACTIONS: dict[str, Callable[[Any], Any]] = {
    "positions": lambda cls: repr(cls(1, 3.0, ["a"], "n")),
    "names": lambda cls: repr(cls(y=3.0, x=1, note="n")),
    "defaults": lambda cls: dataclasses.astuple(cls(1)),
    "own lists": lambda cls: cls(1).tags is cls(1).tags,
    "too few": lambda cls: cls(),
    "too many": lambda cls: cls(1, 2, [], "", 5),
    "unknown": lambda cls: cls(1, z=5),
    "doubled": lambda cls: cls(1, x=5),
    "equal": lambda cls: cls(1, tags=["a"]) == cls(1, tags=["a"]),
    "not compared": lambda cls: cls(1, note="a") == cls(1, note="b"),
    "different": lambda cls: cls(1) == cls(2),
    "of another class": lambda cls: cls(1) == (1, 2.0, [], ""),
    "hash": lambda cls: same_hash(cls(1, 2.0, (), "a"), cls(1, 2.0, (), "b")),
    "hash of a list": lambda cls: isinstance(hash(cls(1)), int),
    "set": lambda cls: setattr(cls(1), "x", 5),
    "set another": lambda cls: setattr(cls(1), "z", 5),
    "delete": lambda cls: delattr(cls(1), "x"),
    "method": lambda cls: cls(-1).length(),
    "fields": lambda cls: [f.name for f in dataclasses.fields(cls)],
    "replaced": lambda cls: repr(dataclasses.replace(cls(1), y=7.0)),
    "as a dictionary": lambda cls: dataclasses.asdict(cls(1, tags=["a"])),
    "copied": lambda cls: dataclasses.astuple(copy.deepcopy(cls(1, tags=["a"], note="n"))),
    "matched": lambda cls: cls.__match_args__,
    "parameters": lambda cls: [
        (p.name, p.annotation, p.default is p.empty)
        for p in inspect.signature(cls).parameters.values()
    ],
    "place for more": lambda cls: hasattr(cls(1), "__dict__"),
}


def outcome(action: Callable[[Any], Any], cls: Any) -> tuple[type | None, Any]:
    """The value; or the class of the error, with its text where Python itself says it."""
    try:
        return None, action(cls)
    except TypeError as error:
        return TypeError, str(error)
    except AttributeError as error:
        return type(error), None


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("action", ACTIONS.values(), ids=ACTIONS)
def test_a_record_is_a_dataclass(action: Callable[[Any], Any], options: dict[str, bool]) -> None:
    wanted = outcome(action, point(dataclass, **options))
    if (action, wanted[0]) == (ACTIONS["set another"], TypeError):
        wanted = (dataclasses.FrozenInstanceError, None)  # CPython's own method fails in super()
    assert outcome(action, point(record, **options)) == wanted


def test_what_a_class_defines_it_keeps() -> None:
    found = []
    for decorator in (dataclass, record):

        @decorator(frozen=True)
        class Own:
            x: int
            twice: int = field(init=False)

            def __post_init__(self) -> None:
                object.__setattr__(self, "twice", 2 * self.x)

            def __repr__(self) -> str:
                return "own"

            def __eq__(self, other: object) -> bool:
                return isinstance(other, Own) and self.x % 10 == other.x % 10

            def __hash__(self) -> int:
                return self.x % 10

        one, other = Own(3), Own(13)
        found.append((repr(one), one == other, hash(other), other.twice))
    assert found == [("own", True, 3, 26)] * 2


def test_a_record_extends_another() -> None:
    found = []
    for decorator in (dataclass, record):

        @decorator(frozen=True)
        class Base:
            x: int
            y: int = 2

        @decorator(frozen=True)
        class More(Base):
            y: int = 5
            z: int = 7

        assert Base(1, 5) != More(1)
        found.append((repr(More(1)).rpartition(".")[2], dataclasses.astuple(More(1, z=0))))
    assert found == [("More(x=1, y=5, z=7)", (1, 5, 0))] * 2


def test_a_record_that_holds_itself_is_printed() -> None:
    for decorator in (dataclass, record):
        one = point(decorator)(1)
        one.tags.append(one)
        assert repr(one).endswith("Point(x=1, y=2.0, tags=[...])")


@record(frozen=True, slots=True)
class Nested:
    """At the top of the module, where pickles find it."""

    inner: object


def test_records_with_slots_are_pickled() -> None:
    value = Nested(Nested((1, "a")))
    assert pickle.loads(pickle.dumps(value)) == value


def test_the_hash_of_nested_records_asks_each_once() -> None:
    class Counted:
        asked = 0

        def __hash__(self) -> int:
            self.asked += 1
            return 5

    counted = Counted()
    nested: object = counted
    for _ in range(50):
        nested = Nested(nested)
    hash(nested)
    assert counted.asked == 1
