"""What generated Python imports: memory by address, IEEE arithmetic, and ``numba_functions``.

A name is made when it is first asked for, because making it loads numba. What numba has no Python
for is an *intrinsic*: a few instructions of LLVM. Addresses are int64 numbers; a *word* is eight
bytes, an address or a size.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cache
from typing import Any

from stepforge.codegen import numba_functions
from stepforge.codegen import signature as abi
from stepforge.codegen.numba_scalars import NUMBA_NAMES
from stepforge.ir.types import INTEGERS, NUMERIC

# name here -> LLVM's intrinsic of floats, and its number of operands
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
_SATURATING = {f"to_{NUMBA_NAMES[dtype]}": dtype for dtype in INTEGERS}
_FUNCTIONS = {
    name: function
    for name, function in vars(numba_functions).items()
    if getattr(function, "__module__", "") == numba_functions.__name__
}
OPTIONS = {"error_model": "numpy", "boundscheck": False}


def __getattr__(name: str) -> Any:
    """Make a name. Raises: AttributeError, ImportError where numba is not installed."""
    if name not in names():
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = _made(name)
    globals()[name] = made
    return made


@cache
def names() -> frozenset[str]:
    """Everything that generated Python may import from here."""
    return frozenset((*_FLOAT, *_SATURATING, *_FUNCTIONS, *_MAKERS))


@cache
def numba() -> Any:
    """The numba module. Raises: ImportError that says what to install."""
    try:
        importlib.import_module("numba.extending")
        return importlib.import_module("numba")
    except ImportError as error:
        raise ImportError(
            "the numba back end and tf.numba_op need numba: pip install 'stepforge[full]'"
        ) from error


def _made(name: str) -> Any:
    if name in _FLOAT:
        return _float_intrinsic(*_FLOAT[name])
    if name in _SATURATING:
        return _saturating(_SATURATING[name])
    if name in _FUNCTIONS:
        return numba().njit(**OPTIONS)(_FUNCTIONS[name])
    return _MAKERS[name]()


def _intrinsic(
    operands: int,
    typing: Callable[..., Any],
    write: Callable[..., Any],
    *,
    literal: bool = False,
) -> Any:
    """A function of ``operands`` values (-1: any number) that numba writes by ``write``.

    ``typing(*types)`` is its signature, ``write(builder, signature, *values)`` its result. With
    ``literal``, a literal number keeps its value in its type.
    """

    def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return write(builder, signature, *values)

    def one(context: Any, a: Any) -> Any:
        return typing(a), code

    def two(context: Any, a: Any, b: Any) -> Any:
        return typing(a, b), code

    def three(context: Any, a: Any, b: Any, c: Any) -> Any:
        return typing(a, b, c), code

    def many(context: Any, *all_types: Any) -> Any:
        return typing(*all_types), code

    function = {1: one, 2: two, 3: three, -1: many}[operands]
    return numba().extending.intrinsic(prefer_literal=literal)(function)


def _ir() -> Any:
    from llvmlite import ir

    return ir


# ---- arithmetic ----------------------------------------------------------------------------------
def _float_intrinsic(name: str, operands: int) -> Any:
    """LLVM's intrinsic ``name`` of floats of one type."""

    def write(builder: Any, signature: Any, *values: Any) -> Any:
        type_ = values[0].type
        shape = _ir().FunctionType(type_, [type_] * operands)
        return builder.call(
            builder.module.declare_intrinsic(f"llvm.{name}", [type_], shape), values
        )

    return _intrinsic(operands, lambda x, *_: x(*[x] * operands), write)


def _saturating(dtype: str) -> Any:
    """A float as an integer of ``dtype``: truncated, NaN as 0, out of range as the nearest."""
    _, kind, bits = NUMERIC[dtype]
    opcode = "fptosi" if kind == "i" else "fptoui"

    def write(builder: Any, signature: Any, x: Any) -> Any:
        into = _ir().IntType(bits)
        shape = _ir().FunctionType(into, [x.type])
        types = [into, x.type]
        return builder.call(
            builder.module.declare_intrinsic(f"llvm.{opcode}.sat", types, shape), [x]
        )

    return _intrinsic(1, lambda x: getattr(numba(), NUMBA_NAMES[dtype])(x), write)


def _fmod() -> Any:
    """The exact remainder of floats, with the sign of the first."""
    return _intrinsic(2, lambda x, _: x(x, x), lambda b, _, x, y: b.frem(x, y))


# ---- memory --------------------------------------------------------------------------------------
def _pointer_type(bits: int) -> Any:
    return _ir().IntType(bits).as_pointer()


def _place(builder: Any, block: Any, index: Any) -> Any:
    """The word ``index`` of the block at an address, as a pointer."""
    return builder.gep(builder.inttoptr(block, _pointer_type(64)), [index])


def _at() -> Any:
    """``at(address)``: a pointer, as ``numba.carray`` takes it."""
    types = numba().types
    return _intrinsic(
        1,
        lambda _: types.voidptr(types.int64),
        lambda b, _, address: b.inttoptr(address, _pointer_type(8)),
    )


def _word() -> Any:
    """``word(block, index)``: a word of the block of words at an address."""
    word = numba().types.int64
    return _intrinsic(
        2, lambda *_: word(word, word), lambda b, _, block, i: b.load(_place(b, block, i))
    )


def _pointer() -> Any:
    """``pointer(block, index)``: a word as a pointer."""
    types = numba().types
    return _intrinsic(
        2,
        lambda *_: types.voidptr(types.int64, types.int64),
        lambda b, _, block, i: b.inttoptr(b.load(_place(b, block, i)), _pointer_type(8)),
    )


def _put() -> Any:
    """``put(block, index, value)``: set a word."""
    types = numba().types

    def write(builder: Any, signature: Any, block: Any, index: Any, value: Any) -> Any:
        builder.store(value, _place(builder, block, index))
        return _ir().Constant(_ir().IntType(64), 0)

    return _intrinsic(3, lambda *_: types.int64(types.int64, types.int64, types.int64), write)


def _on_stack(builder: Any, type_: Any, alignment: int) -> Any:
    """Memory of the function that is being written, for as long as its call."""
    with builder.goto_entry_block():
        made = builder.alloca(type_)
    made.align = alignment
    return made


def _as_word(builder: Any, value: Any) -> Any:
    return builder.ptrtoint(value, _ir().IntType(64))


def _stack() -> Any:
    """``stack(count)``: the address of so many bytes on the stack, a literal number."""
    word = numba().types.int64

    def write(builder: Any, signature: Any, count: Any) -> Any:
        size = signature.args[0].literal_value
        room = _ir().ArrayType(_ir().IntType(8), max(size, 1))
        return _as_word(builder, _on_stack(builder, room, 64))

    return _intrinsic(1, word, write, literal=True)


def _cell() -> Any:
    """``cell(value)``: the address of a copy of a scalar on the stack; a bool is a byte."""
    types = numba().types

    def write(builder: Any, signature: Any, value: Any) -> Any:
        if signature.args[0] == types.boolean:
            value = builder.zext(value, _ir().IntType(8))
        place = _on_stack(builder, value.type, 8)
        builder.store(value, place)
        return _as_word(builder, place)

    return _intrinsic(1, types.int64, write)


def _word_typing(*given: Any) -> Any:
    types = numba().types
    return types.int64(types.StarArgTuple([types.int64] * len(given)))


def _unpacked(builder: Any, values: Any) -> list[Any]:
    return [builder.extract_value(values, i) for i in range(len(values.type))]


def _words() -> Any:
    """``words(a, b, ...)``: the address of a block of these words on the stack."""

    def write(builder: Any, signature: Any, packed: Any) -> Any:
        values = _unpacked(builder, packed)
        block = _on_stack(builder, _ir().ArrayType(_ir().IntType(64), len(values)), 8)
        address = _as_word(builder, block)
        for index, value in enumerate(values):
            place = _place(builder, address, _ir().Constant(_ir().IntType(64), index))
            builder.store(value, place)
        return address

    return _intrinsic(-1, _word_typing, write)


def _invoke() -> Any:
    """``invoke(function, a, b, ...)``: call the C function at an address with words; a word."""

    def write(builder: Any, signature: Any, packed: Any) -> Any:
        address, *values = _unpacked(builder, packed)
        word = _ir().IntType(64)
        shape = _ir().FunctionType(word, [word] * len(values))
        return builder.call(builder.inttoptr(address, shape.as_pointer()), values)

    return _intrinsic(-1, _word_typing, write)


def _failed() -> Any:
    """``failed(context, status, values)``: leave what an error quotes; the status."""
    put = __getattr__("put")
    rank, first = abi.CONTEXT_RANK // 8, abi.CONTEXT_ARGS // 8

    def failed(context: int, status: int, values: tuple[int, ...]) -> int:
        put(context, rank, len(values))
        for index in range(len(values)):
            put(context, first + index, values[index])
        return status

    return numba().njit(**OPTIONS)(failed)


_MAKERS: dict[str, Callable[[], Any]] = {
    "at": _at,
    "cell": _cell,
    "failed": _failed,
    "fmod": _fmod,
    "invoke": _invoke,
    "pointer": _pointer,
    "put": _put,
    "stack": _stack,
    "word": _word,
    "words": _words,
}
