"""The callable that ``make_callable`` returns: a ``Step`` whose call *is* the compiled entry.

A step owns its *program*, the Python object that does everything but the fast path: ``miss`` for
arguments that the entry refuses, ``fail`` for errors, ``pack`` for nested results, and what the
methods of a step ask for. Where native entries are not to be used, ``PythonStep`` takes its place.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, Protocol

from stepforge.codegen import entry_support, layout
from stepforge.codegen import signature as abi
from stepforge.codegen.entry_support import STEP_PROGRAM, STEP_TABLE
from stepforge.runtime import heap_type


class Program(Protocol):
    """What a step needs of its program.

    It may also have ``text(stage)``, ``dump(...)``, ``html()``, ``memory()`` and ``reduce()``,
    which the methods of a step call, and ``name``, ``doc`` and ``signature``, which a step shows as
    its own.
    """

    def miss(self, *arguments: Any, **keywords: Any) -> Any:
        """Run with arguments that the native checks refuse, or say what is wrong with them."""

    def fail(self, context: int) -> Any:
        """Raise what the context at that address reports; its status is at ``CONTEXT_CODE``."""

    def pack(self, values: list[Any]) -> Any:
        """The result, from the flat list of fetched values."""


def make_step(program: Program, table_address: int = 0) -> Any:
    """A callable for a program, that runs the entry of a table; without one, ``program.miss``.

    The program keeps the code and the table alive; the step keeps the program alive.
    """
    if not layout.native_entry():
        return PythonStep(program)
    step = heap_type.allocate(step_type(), _call_address(), {STEP_PROGRAM: program})
    retarget(step, table_address)
    return step


def retarget(step: Any, table_address: int = 0) -> None:
    """Let a step run the entry of another table from now on.

    Calls that run at the time finish in the old code: the program keeps that as long as itself.
    """
    if not isinstance(step, PythonStep):
        heap_type.set_pointer(step, STEP_TABLE, table_address or missing_table())


@cache
def missing_table() -> int:
    """The address of the table whose entry refuses everything."""
    table = (ctypes.c_void_p * abi.FIRST_SLOT)()
    table[abi.TABLE_ENTRY] = entry_support.symbols(["stepforge_miss"])["stepforge_miss"]
    layout.keep(table)
    return ctypes.addressof(table)


@cache
def _call_address() -> int:
    return entry_support.symbols(["stepforge_step"])["stepforge_step"]


# ---- what a step has beside its call ------------------------------------------------------------


class _Shown:
    """An attribute of steps that their program has under another name; the type itself has none."""

    def __init__(self, attribute: str, of_type: str | None = None) -> None:
        self.attribute = attribute
        self.of_type = of_type

    def __get__(self, step: Any, owner: type[Any] | None = None) -> Any:
        value = self.of_type if step is None else getattr(step.program, self.attribute, None)
        if value is None and self.attribute != "doc":
            raise AttributeError(f"{owner.__name__ if owner else 'Step'} has no {self.attribute}")
        return value


def _text(self: Any, *args: Any, **keywords: Any) -> Any:
    """The text of a stage of compilation; see the program's ``text``."""
    return self.program.text(*args, **keywords)


def _dump(self: Any, *args: Any, **keywords: Any) -> Any:
    """The stages of compilation as text, page or drawing; see the program's ``dump``."""
    return self.program.dump(*args, **keywords)


def _html(self: Any) -> str:
    """The step as a notebook shows it; see the program's ``html``."""
    return str(self.program.html())


def _memory(self: Any, *args: Any, **keywords: Any) -> Any:
    """What the step keeps and takes of memory; see the program's ``memory``."""
    return self.program.memory(*args, **keywords)


def _reduce(self: Any) -> Any:
    """How to make the step again elsewhere; the program decides whether that can be done."""
    reduce = getattr(self.program, "reduce", None)
    if reduce is None:
        raise TypeError(f"cannot pickle {self!r}")
    return reduce()


def _repr(self: Any) -> str:
    return f"<step {getattr(self.program, 'name', '') or hex(id(self))}>"


_DOC = "A compiled step: call it with one value for each feed."
_METHODS = {
    "text": _text,
    "dump": _dump,
    "memory": _memory,
    "_repr_html_": _html,
    "__reduce__": _reduce,
    "__repr__": _repr,
    "__doc__": _Shown("doc", _DOC),
    "__signature__": _Shown("signature"),
}


class PythonStep:
    """A step without native entry: every call goes to the program."""

    __slots__ = ("__weakref__", "program")

    def __init__(self, program: Program) -> None:
        self.program = program

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        """Run the step."""
        return self.program.miss(*arguments, **keywords)


for _name, _method in _METHODS.items():
    setattr(PythonStep, _name, _method)


@cache
def step_type() -> type[Any]:
    """The native type ``Step``, made on first use."""
    return heap_type.make_type(
        "stepforge.runtime.step.Step", _DOC, {"program": STEP_PROGRAM}, _METHODS
    )
