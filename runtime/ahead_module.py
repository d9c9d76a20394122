"""Calls steps that were compiled ahead of time, from Python: NumPy arrays in, NumPy arrays out.

This file is the top of every Python module that is made for such a library, so it needs NumPy and
cffi and nothing else. A step converts its arguments to arrays of the dtype that it takes, binds
sizes from their shapes, and returns new arrays. Calls run without the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ALIGNMENT = 64  # bytes


class Argument(NamedTuple):
    """An argument or result of a step: ``shape`` has numbers and expressions of sizes.

    Of a result that is ``sized_by`` another it is the largest shape.
    """

    name: str
    dtype: str
    shape: tuple[int | str, ...]
    by_value: bool = False
    writable: bool = False
    sized_by: str = ""


class StepError(RuntimeError):
    """A step failed; its variables are as they were before."""


class Library:
    """A loaded shared library: ``path`` is its file, ``declarations`` what cffi reads."""

    def __init__(
        self, name: str, path: str | Path, declarations: str,
        variables: Sequence[Argument] = (), image: str | Path | None = None,
    ) -> None:
        from cffi import FFI

        self.name = name
        self.ffi = FFI()
        self.ffi.cdef(declarations)
        self.code = self.ffi.dlopen(str(path))
        self.variables = {v.name: (i, v) for i, v in enumerate(variables)}
        self.image = image
        self._state: State | None = None

    @property
    def state(self) -> State:
        """The variables that steps use where no other state is given; made on first use."""
        if self._state is None:
            self._state = State(self)
        return self._state

    def function(self, name: str) -> Any:
        """The C function ``name``."""
        return getattr(self.code, name)

    def address(self, array: np.ndarray[Any, Any]) -> Any:
        """The address of an array's elements, as C takes it."""
        return self.ffi.cast("void *", array.ctypes.data)


class State:
    """The variables of a library: ``state["name"]`` copies one out, assignment copies one in."""

    def __init__(self, library: Library) -> None:
        self._library = library
        size = int(library.function(f"{library.name}_state_size")())
        self.memory = _aligned(size)
        if library.image is not None:
            self.memory[:] = np.fromfile(library.image, np.uint8)
        else:
            library.function(f"{library.name}_init")(library.address(self.memory))

    def __iter__(self) -> Iterator[str]:
        return iter(self._library.variables)

    def __getitem__(self, name: str) -> np.ndarray[Any, Any]:
        index, variable = self._library.variables[name]
        value: np.ndarray[Any, Any] = np.empty(variable.shape, variable.dtype)
        self._call("get", index, value)
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        index, variable = self._library.variables[name]
        array = np.require(value, variable.dtype, ["C"])
        if array.shape != variable.shape:
            raise ValueError(f"{name} has the shape {variable.shape}, not {array.shape}")
        self._call("set", index, array)

    def _call(self, verb: str, index: int, value: np.ndarray[Any, Any]) -> None:
        library = self._library
        call = library.function(f"{library.name}_{verb}")
        call(library.address(self.memory), index, library.address(value))

    def copy(self) -> State:
        """Another state with the same values."""
        other = State(self._library)
        other.memory[:] = self.memory
        return other


class Step:
    """A step of a library. Its arguments are feeds, then what the caller holds, by position or
    name; ``state`` is the library's own where none is given.
    """

    def __init__(
        self, library: Library, name: str, feeds: Sequence[Argument], sizes: Sequence[str],
        held: Sequence[Argument], results: Sequence[Argument], *, state: bool = False,
    ) -> None:
        self.__name__ = name
        self._library, self._feeds, self._sizes = library, feeds, sizes
        self._held, self._results, self._state = held, results, state
        arguments = [f"{a.name}: {a.dtype}{list(a.shape)}" for a in (*feeds, *held)]
        given = [f"{a.name}: {a.dtype}{list(a.shape)}" for a in results]
        self.__doc__ = f"{name}({', '.join(arguments)}) -> ({', '.join(given)})"

    def __repr__(self) -> str:
        return f"<step {self.__doc__}>"

    def __call__(self, *arguments: Any, state: State | None = None, **named: Any) -> Any:
        """The results: None, one, or a tuple. Raises: StepError, ValueError for shapes."""
        wanted = [*self._feeds, *self._held]
        given = self._given(wanted, arguments, named)
        sizes: dict[str, int] = {}
        arrays = [self._array(a, v, sizes) for a, v in zip(wanted, given, strict=True)]
        for argument, array in zip(wanted, arrays, strict=True):
            _check(argument, array, sizes)
        outs = [np.empty(_shape(r, sizes), r.dtype) for r in self._results]
        numbers = [sizes[name] for name in self._sizes]
        size = int(self._library.function(f"{self.__name__}_workspace")(*numbers))
        workspace = self._library.address(memory := np.empty(size, np.uint8))
        count = len(self._feeds)
        passed = [*map(self._passed, wanted[:count], arrays), *numbers]
        if self._state:
            passed.append(self._library.address((state or self._library.state).memory))
        passed += map(self._passed, wanted[count:], arrays[count:])
        passed += map(self._library.address, outs)
        status = self._library.function(self.__name__)(*passed, workspace)
        if status:
            text = self._library.function(f"{self.__name__}_message")(status, workspace)
            raise StepError(self._library.ffi.string(text).decode())
        del memory
        values = [out if out.ndim else out[()] for out in self._cut(outs)]
        return None if not values else values[0] if len(values) == 1 else tuple(values)

    def _cut(self, outs: Sequence[np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The results without what the step has not used of their memory, and without shapes."""
        by_name = {r.name: out for r, out in zip(self._results, outs, strict=True)}
        shapes = {r.sized_by for r in self._results if r.sized_by}
        found = []
        for result, out in zip(self._results, outs, strict=True):
            if result.sized_by:
                shape = tuple(by_name[result.sized_by].tolist())
                found.append(out.reshape(-1)[: int(np.prod(shape))].reshape(shape).copy())
            elif result.name not in shapes:
                found.append(out)
        return found

    def _given(
        self, wanted: Sequence[Argument], arguments: Sequence[Any], named: dict[str, Any]
    ) -> list[Any]:
        names = [a.name for a in wanted]
        known = dict(zip(names, arguments, strict=False))
        twice = sorted(known.keys() & named.keys())
        missing = [n for n in names if n not in known and n not in named]
        unknown = sorted(named.keys() - set(names))
        if len(arguments) > len(names) or twice or missing or unknown:
            raise TypeError(f"{self.__name__} takes exactly these: {', '.join(names)}")
        known.update(named)
        return [known[n] for n in names]

    def _array(
        self, argument: Argument, value: Any, sizes: dict[str, int]
    ) -> np.ndarray[Any, Any]:
        array = np.asarray(value, argument.dtype, order="C")
        if argument.writable and array is not value:
            raise TypeError(f"{argument.name} changes: it must be a dense {argument.dtype} array")
        if array.ndim != len(argument.shape):
            raise ValueError(
                f"{argument.name} has rank {len(argument.shape)}, not {array.ndim}"
            )
        for want, have in zip(argument.shape, array.shape, strict=True):
            if isinstance(want, str) and want.isidentifier():
                sizes.setdefault(want, have)
        return array

    def _passed(self, argument: Argument, array: np.ndarray[Any, Any]) -> Any:
        if not argument.by_value:
            return self._library.address(array)
        return (array.view(np.uint16) if array.dtype == np.float16 else array).item()  # C has bits


def _aligned(size: int) -> np.ndarray[Any, Any]:
    """Zeros at an address that is a multiple of ``ALIGNMENT``, where the widest vectors load whole
    lines of the cache.
    """
    memory = np.zeros(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


def _shape(argument: Argument, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(n if isinstance(n, int) else _size(n, sizes) for n in argument.shape)


def _size(text: str, sizes: dict[str, int]) -> int:
    """The value of an expression of sizes, which this module's own text has."""
    functions = {
        "floordiv": lambda a, b: a // b if b else 0, "min": min, "max": max,
        "broadcast": lambda a, b: b if a == 1 else a,
    }  # fmt: skip
    return int(eval(text, {"__builtins__": {}, **functions}, sizes))


def _check(
    argument: Argument, array: np.ndarray[Any, Any], sizes: dict[str, int]
) -> None:
    wanted = _shape(argument, sizes)
    if array.shape != wanted:
        raise ValueError(f"{argument.name} has the shape {wanted}, not {array.shape}")
