"""What generated Python imports: memory by address, IEEE arithmetic, and ``numba_functions``.

A name is made when it is first asked for, because making it loads numba. The functions that numba
has no Python for are *intrinsics*, a few instructions of LLVM each.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from stepforge.codegen import numba_functions
from stepforge.codegen import signature as abi
from stepforge.codegen.lane_core import bits_of
from stepforge.codegen.numba_scalars import NUMBA_NAMES
from stepforge.ir.types import INTEGERS

# name here -> LLVM's intrinsic, and its number of operands
_FLOAT = {
    "sqrt": ("sqrt", 1),
    "floor": ("floor", 1),
    "ceil": ("ceil", 1),
    "trunc": ("trunc", 1),
    "nearest": ("nearbyint", 1),
    "copysign": ("copysign", 2),
    "minimum": ("minimum", 2),
    "maximum": ("maximum", 2),
    "fma": ("fma", 3),
}
OPTIONS = {"error_model": "numpy", "boundscheck": False, "fastmath": False}
NAMES = frozenset(
    (
        *("at", "cell", "fmod", "invoke", "left_with", "pointer", "put", "stack", "word", "words"),
        *("float_trunc_div", "float_floor_div", "float_floor_mod"),
        *_FLOAT,
        *(f"to_{NUMBA_NAMES[dtype]}" for dtype in INTEGERS),
        *(n for n, f in vars(numba_functions).items() if callable(f) and n != "Any"),
    )
)


def __getattr__(name: str) -> Any:
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = _make(name)
    globals()[name] = made
    return made


@cache
def numba() -> Any:
    """The numba module. Raises: ImportError that says what to install."""
    try:
        import numba as module
        import numba.extending
    except ImportError as error:
        raise ImportError(
            "the numba back end and tf.numba_op need numba: pip install 'stepforge[full]'"
        ) from error
    return module


def _make(name: str) -> Any:
    if name in _FLOAT:
        return _float_intrinsic(*_FLOAT[name])
    if name.startswith("to_"):
        return _saturating(name[3:])
    if hasattr(numba_functions, name):
        return numba().njit(**OPTIONS)(getattr(numba_functions, name))
    return _MADE[name]()


# ---- intrinsics ----------------------------------------------------------------------------------
def _intrinsic(typing: Callable[..., Any], write: Callable[..., Any]) -> Any:
    """An intrinsic of any operands: ``typing(*types)`` gives its signature or None."""

    def variadic(context: Any, *operands: Any) -> Any:
        signature = typing(*operands)
        return None if signature is None else (signature, write)

    return numba().extending.intrinsic(variadic)


def _fixed(operands: int, typing: Callable[..., Any], write: Callable[..., Any]) -> Any:
    """An intrinsic of a fixed number of operands: numba counts the parameters of a function."""

    def one(context: Any, a: Any) -> Any:
        return typing(a), write

    def two(context: Any, a: Any, b: Any) -> Any:
        return typing(a, b), write

    def three(context: Any, a: Any, b: Any, c: Any) -> Any:
        return typing(a, b, c), write

    return numba().extending.intrinsic((one, two, three)[operands - 1])


def _float_intrinsic(name: str, operands: int) -> Any:
    """LLVM's intrinsic on floats of one type."""

    def typing(*types: Any) -> Any:
        return types[0](*types[:1] * operands)

    def write(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        types = [values[0].type]
        return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", types, _function(
            values[0].type, operands)), values)

    return _fixed(operands, typing, write)


def _function(type_: Any, operands: int) -> Any:
    from llvmlite import ir

    return ir.FunctionType(type_, [type_] * operands)
