"""Records: dataclasses whose methods cost an import little.

``dataclasses.dataclass`` writes up to six methods for every class and compiles each on its own,
which was half of the time that ``import stepforge`` took.  Here only ``__init__`` is written for a
class, because its parameters are the class's own; what compares, hashes, prints and protects a
record is one function for all classes, which finds the values by the names of their fields.
"""

from __future__ import annotations

from dataclasses import MISSING, FrozenInstanceError, dataclass, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import dataclass as record
else:

    def record(
        cls: type | None = None,
        /,
        *,
        frozen: bool = False,
        eq: bool = True,
        slots: bool = False,
    ) -> Any:
        """Make a dataclass of a class; the options and the fields mean what they mean there.

        A field that is no parameter of ``__init__`` is for ``__post_init__`` to set.
        ``dataclasses.fields``, ``replace`` and ``asdict`` take records.
        """

        def made(cls: type) -> type:
            found = dataclass(cls, init=False, repr=False, eq=False, slots=slots)
            methods = {"__init__": _init(found, frozen), "__repr__": _repr}
            methods |= _comparison(found, frozen) if eq else {}
            methods |= _PROTECTION if frozen else {}
            methods |= _COPYING if frozen and slots else {}
            for name, method in methods.items():
                if found.__dict__.get(name) is None:  # a class keeps its own
                    setattr(found, name, method)
            return found

        return made if cls is None else made(cls)


__all__ = ["record"]


def _init(cls: type, frozen: bool) -> Callable[..., None]:
    """``__init__`` of ``cls``, compiled: it stores its parameters, or their defaults."""
    names: dict[str, Any] = {"__store": object.__setattr__, "__missing": MISSING}
    parameters, lines = ["self"], list[str]()
    own = [field for field in fields(cls) if field.init]
    for field in own:
        name, default = field.name, f"__{field.name}"
        parameter = value = name
        if field.default is not MISSING:
            names[default] = field.default
            parameter = f"{name}={default}"
        elif field.default_factory is not MISSING:
            names[default] = field.default_factory
            parameter = f"{name}=__missing"
            value = f"{default}() if {name} is __missing else {name}"
        parameters.append(parameter)
        lines.append(f"__store(self, {name!r}, {value})" if frozen else f"self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append("self.__post_init__()")
    exec(f"def __init__({', '.join(parameters)}):\n " + ("\n ".join(lines) or "pass"), names)
    init = names["__init__"]
    init.__qualname__ = f"{cls.__qualname__}.__init__"
    init.__annotations__ = {field.name: field.type for field in own}
    return init  # type: ignore[no-any-return]


# ---- what all records share ----------------------------------------------------------------------
def _comparison(cls: type, frozen: bool) -> dict[str, Any]:
    """The methods that compare, and what gives them the value, or values, of the fields."""
    names = [field.name for field in fields(cls) if field.compare] or ["__class__"]
    return {"_compared": attrgetter(*names), "__eq__": _eq, "__hash__": _hash if frozen else None}


def _eq(self: Any, other: Any) -> Any:
    if other.__class__ is not self.__class__:
        return NotImplemented
    return self._compared(self) == self._compared(other)


def _hash(self: Any) -> int:
    return hash(self._compared(self))


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _protect(self: Any, name: str, value: object = None) -> NoReturn:
    raise FrozenInstanceError(f"field {name!r} of {type(self).__name__} is not to be changed")


def _getstate(self: Any) -> list[Any]:
    """What copies and pickles hold of a record with slots."""
    return [getattr(self, field.name) for field in fields(self)]


def _setstate(self: Any, state: list[Any]) -> None:
    for field, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)


_PROTECTION = {"__setattr__": _protect, "__delattr__": _protect}
_COPYING = {"__getstate__": _getstate, "__setstate__": _setstate}
