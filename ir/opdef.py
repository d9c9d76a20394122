"""How an op is declared: one class with all its rules, checked into one registry.

Every rule has the op's own signature: operands by position, attributes by keyword. Attribute names
and defaults are read off ``infer``. An op that has none of ``scalar``, ``expand``, ``element`` and
``lower`` still runs: as a host call of its ``numpy`` rule.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from typing import Any, ClassVar, Protocol, TypeVar

from stepforge.ir.types import AnyType


class ScalarBuilder(Protocol):
    """What a ``scalar`` rule is written with: primitives over opaque element values.

    ``k.add(x, y)`` and so on for each primitive (``docs/architecture.md`` lists them); a value
    knows its dtype, Python numbers are taken as constants of the other operand's dtype. Each back
    end implements it.
    """

    def __getattr__(self, primitive: str) -> Callable[..., Any]: ...


class OpDef:
    """Base class of declarations; see the module's text."""

    name: ClassVar[str] = ""
    level: ClassVar[str] = "tensor"  # "tensor", "loop", or "both"
    # pure: no effect. check: pure but may fail. read/write: variables. random: draws numbers.
    # host: effects outside (print, py_func); such ops keep their order and are never removed.
    effect: ClassVar[str] = "pure"
    elementwise: ClassVar[bool] = False
    terminator: ClassVar[bool] = False
    region_names: ClassVar[tuple[str, ...]] = ()
    binds_inside: ClassVar[bool] = False  # sizes of ``binds`` are known in the regions, not behind
    cases: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[dict[str, Any]] = {}

    # Rules. A subclass defines them as methods with its own signature.
    infer: Callable[..., AnyType | tuple[AnyType, ...]]
    numpy: Callable[..., Any] | None = None
    scalar: Callable[..., Any] | None = None  # one element, by a ScalarBuilder
    expand: Callable[..., Any] | None = None  # into simpler ops, by a Builder
    element: Callable[..., Any] | None = None  # (k, index, *buffers): one element of the result
    lower: Callable[..., Any] | None = None  # (k, *results, *buffers): into loops, by a LoopBuilder
    # Of an op that binds a size: (*types) -> the most that it can be. Its ``lower`` gets first the
    # buffer that the size goes into, then results as large as that.
    capacity: Callable[..., Any] | None = None

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def infer_results(self, types: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[AnyType, ...]:
        """The result types of an operation, always as a tuple."""
        inferred = self.infer(*types, **attrs)
        return inferred if isinstance(inferred, tuple) else (inferred,)


REGISTRY: dict[str, OpDef] = {}
_Class = TypeVar("_Class", bound=type[OpDef])


def define_op(cls: _Class) -> _Class:
    """Register a declaration under its class name in snake case.

    Raises: TypeError for a second declaration of one name, or one without ``infer`` or docstring.
    """
    name = cls.__dict__.get("name") or re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
    if name in REGISTRY:
        raise TypeError(f"op {name} is declared twice")
    if not hasattr(cls, "infer") or not cls.__doc__:
        raise TypeError(f"op {name} needs an infer rule and a docstring")
    cls.name = name
    parameters = inspect.signature(cls.infer).parameters.values()
    cls.defaults = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    REGISTRY[name] = cls()
    return cls


def lookup(name: str) -> OpDef:
    """The declaration called ``name``; the first miss imports every module of ops.

    Raises: KeyError where there is none.
    """
    found = REGISTRY.get(name)
    if found is None:
        importlib.import_module("stepforge.ir.ops")
        found = REGISTRY[name]
    return found
