"""Computes at compile time what depends on constants only, by the numpy rules.

A scalar becomes a constant in place, an array a constant global. Nothing is folded that has an
effect or may fail, or whose result is both sizeable and larger than what it is made of: a filled
array costs less to make than to keep.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from stepforge.ir.analyses import literal_sizes
from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Function, Global, Operand, Operation, Symbol, Value
from stepforge.ir.errors import OpError
from stepforge.ir.evaluate import is_static
from stepforge.ir.rewrite import rebuild, with_globals
from stepforge.ir.types import NUMERIC, Type, numpy_dtype

SMALL = 1024  # elements that are always worth keeping
LARGEST = 1 << 24  # bytes of the largest result that is kept
# Ops that fusion computes in place for nothing; an array of their results would have to be loaded.
COMPUTED_IN_PLACE = ("fill", "broadcast_to", "iota")


def fold(function: Function, *, small: int = SMALL, largest: int = LARGEST) -> Function:
    """``function`` with constant operations computed; the same object where there are none.

    ``small`` is the number of elements up to which a result may be larger than its operands,
    ``largest`` the number of bytes that no result may exceed.
    """
    folder = _Fold(function.globals, small, largest)
    result = rebuild(function, folder.visit)
    return with_globals(result, folder.globals) if folder.added else result


class _Fold:
    def __init__(self, globals_: Mapping[str, Global], small: int, largest: int) -> None:
        self.small = small
        self.largest = largest
        self.globals = dict(globals_)
        self.added: dict[Any, Symbol] = {}  # content -> constant

    def visit(self, op: Operation, build: Builder) -> tuple[Operand, ...] | None:
        for operand in op.operands:
            if operand.__class__ is Value:
                return None
        if not self._foldable(op):
            return None
        operands = [self._array(o) for o in op.operands]
        assert op.defn.numpy is not None
        try:
            with np.errstate(all="ignore"):
                returned = op.defn.numpy(*operands, **op.all_attrs)
        except (OpError, ValueError, LookupError, ArithmeticError):
            return None  # it is for the step to raise that, where it gets there
        arrays = returned if isinstance(returned, tuple) else (returned,)
        return tuple(
            [
                self._constant(result, np.asarray(a))
                for result, a in zip(op.results, arrays, strict=True)
            ]
        )

    def _foldable(self, op: Operation) -> bool:
        defn = op.defn
        if defn.effect != "pure" or defn.numpy is None or op.regions or not op.results:
            return False
        if any(literal_sizes(value) for value in op.attrs.values()):
            return False
        if not all(self._is_constant(o) for o in op.operands):
            return False
        return self._worthwhile(op)

    def _is_constant(self, operand: Operand) -> bool:
        if isinstance(operand, Symbol):
            entry = self.globals.get(operand.name)
            return entry is not None and entry.kind == "constant"
        return isinstance(operand, Const) and operand.type.dtype in NUMERIC

    def _worthwhile(self, op: Operation) -> bool:
        given = sum(_elements(o.type) for o in op.operands)
        for result in op.results:
            if not is_static(result.type) or result.type.dtype not in NUMERIC:
                return False
            made = _elements(result.type)
            if made > max(self.small, given) or made * _bytes(result.type) > self.largest:
                return False
            if made > 1 and op.name in COMPUTED_IN_PLACE:
                return False
        return True

    def _array(self, operand: Operand) -> Any:
        if isinstance(operand, Symbol):
            return self.globals[operand.name].data
        assert isinstance(operand, Const)
        return np.asarray(operand.value, numpy_dtype(operand.type.dtype))

    def _constant(self, result: Value, array: np.ndarray[Any, Any]) -> Operand:
        type_ = result.type
        array = array.astype(numpy_dtype(type_.dtype), copy=False)
        if not type_.shape:
            return constant_of(array, type_.dtype)
        key = (type_, array.tobytes())
        if key not in self.added:
            name = self._free_name(result.name or "folded")
            self.globals[name] = Global("constant", type_, array)
            self.added[key] = Symbol(name, type_)
        return self.added[key]

    def _free_name(self, wanted: str) -> str:
        name, count = wanted, 0
        while name in self.globals:
            count += 1
            name = f"{wanted}_{count}"
        return name


def fold_scalar(op: Operation) -> Const | None:
    """The result of a pure op on constants in place, where it is one scalar; else None."""
    if not all(isinstance(o, Const) for o in op.operands) or not op.operands:
        return None
    folded = _Fold({}, 1, LARGEST).visit(op, Builder())
    return folded[0] if folded and isinstance(folded[0], Const) else None


def constant_of(scalar: Any, dtype: str) -> Const:
    """A NumPy scalar (or array of rank 0) as a constant in place."""
    convert = {"f": float, "c": complex, "b": bool}.get(NUMERIC[dtype][1], int)
    return Const(Type(dtype), convert(scalar))


def _elements(type_: Type) -> int:
    size = type_.size if is_static(type_) else 0
    return size if isinstance(size, int) else 0


def _bytes(type_: Type) -> int:
    return int(numpy_dtype(type_.dtype).itemsize)
