"""Ops that reach outside of a step:

they print, or call Python. They keep their order and always run.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

from stepforge.ir.errors import (
    InvalidArgumentError,
    OpError,
    OutOfRangeError,
    ResourceExhaustedError,
    UnimplementedError,
    UnknownError,
)
from stepforge.ir.host_functions import PYTHON_FUNCTIONS
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.inference import BOOL, check_dtype, check_rank
from stepforge.ir.types import Type, from_numpy_dtype, numpy_dtype

# What an exception of a user's function becomes, as in TensorFlow; anything else is UnknownError.
MAPPED: tuple[tuple[tuple[type[Exception], ...], type[OpError]], ...] = (
    ((TypeError, ValueError), InvalidArgumentError),
    ((StopIteration,), OutOfRangeError),
    ((MemoryError,), ResourceExhaustedError),
    ((NotImplementedError,), UnimplementedError),
)


# As what a number is printed, and with how many digits: the fewer where they give it again.
_DIGITS: dict[str, tuple[type[np.floating[Any]], int, int]] = {
    **dict.fromkeys(("float16", "bfloat16", "float32"), (np.float32, 6, 9)),
    "float64": (np.float64, 15, 17),
}


def summary(x: Array, summarize: int) -> str:
    """The first ``summarize`` elements (all, where negative), as TensorFlow prints them."""
    limit = x.size if summarize < 0 else min(summarize, x.size)
    return f"[{_nested(x, limit)}{'...' if limit < x.size else ''}]"


def _nested(x: Array, limit: int) -> str:
    """The first ``limit`` elements; all axes but the first are in brackets."""
    if x.ndim < 2:
        return " ".join(map(_shown, x.reshape(-1)[:limit]))
    text = ""
    for row in x:
        shown = min(limit, row.size)
        if shown:
            more = "..." if row.ndim == 1 and shown < row.size else ""
            text += f"[{_nested(row, shown)}{more}]"
        limit -= shown
    return text


def _shown(value: Any) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, np.bool_):
        return str(int(value))
    if value.dtype.name not in _DIGITS:
        return str(value)
    kind, few, all_ = _DIGITS[value.dtype.name]
    text = f"{float(value):.{few}g}"
    return text if kind(text) == kind(value) else f"{float(value):.{all_}g}"


@define_op
class Print(OpDef):
    """Write ``text`` and the first elements of the operands to standard error.

    ``print(%x, text="x is ", summarize=3)``; after ``first_n`` times (if not negative) it is
    silent.
    """

    effect = "host"
    cases = ('print(f32[3], text="x is ")', 'print(i32, i32, text="", summarize=-1)')

    def infer(
        self, *xs: Type, text: str = "", summarize: int = 3, first_n: int = -1, counter: str = ""
    ) -> tuple[Type, ...]:
        return ()

    def numpy(self, *xs: Array, text: str, summarize: int, first_n: int, counter: str) -> None:
        if first_n >= 0 and PYTHON_FUNCTIONS[counter]() >= first_n:
            return
        print(text + "".join(summary(np.asarray(x), summarize) for x in xs), file=sys.stderr)


@define_op
class AssertTrue(OpDef):
    """Raise an error that quotes the operands behind the first, which is the condition.

    ``assert_true(%ok, %x, summarize=3)``
    """

    effect = "check"
    cases = ("assert_true(bool, f32[3])", "assert_true(bool)")

    def infer(self, condition: Type, *data: Type, summarize: int = 3) -> tuple[Type, ...]:
        check_dtype("assert_true", BOOL, condition=condition)
        check_rank("assert_true", 0, condition=condition)
        return ()

    def numpy(self, condition: Array, *data: Array, summarize: int) -> None:
        if not condition:
            texts = " ".join(summary(np.asarray(x), summarize) for x in data)
            raise InvalidArgumentError(None, None, f"assertion failed: {texts}")


@define_op
class PyFunc(OpDef):
    """Call the Python function of token ``fn``; the results have dtypes ``outputs`` and any rank.

    ``%y = py_func(%x, fn="pyfunc_0", outputs=["f32"]) : f32[*]``
    """

    effect = "host"

    def infer(self, *xs: Type, fn: str, outputs: tuple[str, ...] = ()) -> tuple[Type, ...]:
        return tuple(Type(dtype, None) for dtype in outputs)

    def numpy(self, *xs: Array, fn: str, outputs: tuple[str, ...]) -> Any:
        if fn not in PYTHON_FUNCTIONS:  # a graph of another process
            message = f"ValueError: Could not find callback with key={fn} in the registry."
            raise InvalidArgumentError(None, None, message)
        try:
            returned = PYTHON_FUNCTIONS[fn](*xs)
        except OpError:
            raise
        except Exception as error:
            raise mapped(error) from error
        values = returned if isinstance(returned, (list, tuple)) else (returned,)
        if len(outputs) == 0:
            return ()
        if len(values) != len(outputs):
            message = f"py_func returned {len(values)} values, but expects to see {len(outputs)}"
            raise InvalidArgumentError(None, None, message)
        return tuple(checked(v, d, i) for i, (v, d) in enumerate(zip(values, outputs, strict=True)))


def mapped(error: Exception) -> OpError:
    """The error of a step that stands for an exception of a user's function."""
    text = f"{type(error).__name__}: {error}"
    for types, cls in MAPPED:
        if isinstance(error, types):
            return cls(None, None, text)
    return UnknownError(None, None, text)


def checked(value: Any, dtype: str, index: int) -> Array:
    """What a user's function returned, which must have the dtype that was declared."""
    array = np.asarray(value)
    found = from_numpy_dtype(array.dtype)
    if found != dtype:
        want = numpy_dtype(dtype).name if dtype != "string" else "string"
        raise InvalidArgumentError(
            None, None, f"{index}-th value returned by py_func is {array.dtype.name}, "
            f"but expects {want}"
        )
    if dtype == "string":
        texts = [v.encode() if isinstance(v, str) else v for v in array.reshape(-1).tolist()]
        return np.array([*texts, None], dtype=object)[:-1].reshape(array.shape)
    return array
