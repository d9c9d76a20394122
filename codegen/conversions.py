"""Conversion of feeds between dtypes: kernels that are compiled when they are first needed.

Real programs feed float64 arrays to float32 placeholders in every step. An entry finds the kernel
of a pair in one table of the process; where it is not there (yet), the call goes to Python, which
converts with NumPy and has the kernel made. The meaning is NumPy's ``astype``: floats are
truncated, integers wrap. What NumPy leaves to the processor (NaN or 1e10 to int32) the kernels
leave to NumPy.
"""

from __future__ import annotations

import ctypes
from collections import Counter
from functools import cache
from typing import Any

import numpy as np

from stepforge.codegen import jit, layout, strided_copy, target
from stepforge.codegen.lanes import Lane, LaneBuilder, storage_element
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.ir.types import COMPLEX, NUMERIC, from_numpy_dtype, item_bytes, numpy_dtype

DTYPES = tuple(NUMERIC)
ROW = 16  # pointers in a row of the table: targets of one source, and one to spare
SCALAR_TYPES = ROW * len(DTYPES)  # index of the types of NumPy's scalars, in the order of DTYPES
BFLOAT16_DESCR = SCALAR_TYPES + len(DTYPES)  # index of ml_dtypes' dtype object, once it is known
STRIDED_COPY = BFLOAT16_DESCR + 1  # index of the copy of large strided arrays
_CELLS = STRIDED_COPY + 1
# What is converted from; complex numbers would lose a part, with a warning from NumPy.
_CONVERTED = tuple(name for name in NUMERIC if name not in COMPLEX)
_WIDTH = 8  # elements converted at once


def emit_conversion(module: ModuleWriter, source: str, target: str) -> str:
    """Define ``i32 @convert_f64_f32(ptr source, ptr target, i64 count)``; it gives 1 for success.

    0 says that some value has no defined result in the target dtype; nothing may be used then.
    """
    params = [("ptr", "source"), ("ptr", "target"), ("i64", "count")]
    fn = FunctionWriter(module, f"convert_{source}_{target}", "i32", params)
    width = 1 if target in COMPLEX else _WIDTH
    whole = fn.emit(f"and i64 %count, {-width}")
    good = _convert_range(LaneBuilder(fn, width), source, target, "0", whole)
    if width > 1:
        rest = _convert_range(LaneBuilder(fn, 1), source, target, whole, "%count")
        good = fn.emit(f"and i1 {good}, {rest}")
    fn.do(f"ret i32 {fn.emit(f'zext i1 {good} to i32')}")
    return fn.define()


def _convert_range(k: LaneBuilder, source: str, target: str, low: str, high: str) -> str:
    fn, flags = k.fn, k.vector("i1")
    part = {"c64": "f32", "c128": "f64"}.get(target, target)

    def body(i: str, good: str) -> list[str]:
        value = k.load(fn.offset("%source", i, storage_element(source)), source)
        result, fits = _convert(k, value, part)
        if part == target:
            k.store(result, fn.offset("%target", i, storage_element(part)))
        else:
            pair = fn.offset("%target", i, f"[2 x {storage_element(part)}]")
            k.store(result, pair)
            k.store(k.constant(0.0, part), fn.offset(pair, item_bytes(part)))
        return [good if fits is None else fn.emit(f"and {flags} {good}, {fits.text}")]

    carried = [(flags, k.constant(True, "bool").text)]
    (good,) = fn.loop(low, high, body, step=k.width, carried=carried)
    if k.width == 1:
        return good
    reduce = fn.module.declare(f"llvm.vector.reduce.and.v{k.width}i1", "i1", flags)
    return fn.call("i1", reduce, (flags, good))


def _convert(k: LaneBuilder, value: Lane, target: str) -> tuple[Lane, Lane | None]:
    """The converted value, and where it is defined (None: everywhere)."""
    kind, bits = NUMERIC[target][1:]
    if kind not in "iu" or NUMERIC[value.dtype][1] != "f":
        # ml_dtypes takes everything to bfloat16 by way of float32
        value = k.convert(value, "f32") if target == "bf16" else value
        return k.convert(value, target), None
    exact = k.convert(value, "f64")
    low = -(2.0 ** (bits - 1)) if kind == "i" else 0.0
    high = 2.0 ** (bits - 1 if kind == "i" else bits)
    # low - 1 is no double for i64, and between the two there is none
    above = k.ge(exact, low) if target == "i64" else k.gt(exact, low - 1.0)
    fits = k.and_(above, k.lt(exact, high))
    safe = k.select(fits, exact, 0.0)  # out of range, the instruction gives poison
    if target == "u64":
        return k.cast("fptoui", safe, target), fits
    whole = k.cast("fptosi", safe, "i64" if bits == 64 or target == "u32" else "i32")
    return k.convert(whole, target), fits


class Conversions:
    """The process's table of kernels; ``address`` is what entries know it by."""

    def __init__(self) -> None:
        self._cells = (ctypes.c_void_p * _CELLS)()
        self._libraries: list[jit.Library] = []
        self._missed: Counter[tuple[str, str]] = Counter()
        for k, dtype in enumerate(DTYPES):
            if dtype != "bf16":
                self._cells[SCALAR_TYPES + k] = layout.keep(numpy_dtype(dtype).type)

    @property
    def address(self) -> int:
        """The address of the table: rows of targets by source, then the cells named above."""
        return ctypes.addressof(self._cells)

    def learn(self, value: Any, target: str) -> None:
        """Note that ``value`` was fed as dtype ``target``; the second time, make the kernel."""
        if _is_large_and_strided(value):
            self.build_strided_copy()
        source = _source(value)
        if "bf16" in (source, target):
            self._learn_bfloat16()
        if source not in _CONVERTED or source == target or target not in NUMERIC:
            return
        self._missed[source, target] += 1
        if self._missed[source, target] == 2:
            self.build(source, target)

    def build(self, source: str, target: str) -> None:
        """Compile the kernel of one pair now and put it into the table."""
        host = target_host()
        module = ModuleWriter(host.triple, host.attributes)
        name = emit_conversion(module, source, target)[1:]
        library = jit.build(module.text(), "O1", {}, [name])
        self._libraries.append(library)
        self._cells[ROW * DTYPES.index(source) + DTYPES.index(target)] = library[name]

    def build_strided_copy(self) -> None:
        """Compile the copy of large strided arrays, unless it is there."""
        if not self._cells[STRIDED_COPY]:
            host = target_host()
            module = ModuleWriter(host.triple, host.attributes)
            name = strided_copy.emit(module, host)[1:]
            library = jit.build(module.text(), "O2", {}, [name])
            self._libraries.append(library)
            self._cells[STRIDED_COPY] = library[name]

    def _learn_bfloat16(self) -> None:
        if not self._cells[BFLOAT16_DESCR]:
            known = layout.addresses(["descr_bf16", "scalar_bf16"])
            self._cells[SCALAR_TYPES + DTYPES.index("bf16")] = known["scalar_bf16"]
            self._cells[BFLOAT16_DESCR] = known["descr_bf16"]


def target_host() -> target.Target:
    """The processor that the kernels of this process are made for."""
    return target.host()


@cache
def conversions() -> Conversions:
    """The table of this process. It is never freed: loaded entries hold its address."""
    table = Conversions()
    layout.keep(table)
    return table


def _is_large_and_strided(value: Any) -> bool:
    return (
        type(value) is np.ndarray
        and value.nbytes >= strided_copy.LEAST_BYTES
        and not value.flags.c_contiguous
    )


def _source(value: Any) -> str | None:
    """The dtype of a feed that a native entry may convert, else None."""
    simple = {bool: "bool", int: "i64", float: "f64"}.get(type(value))
    if simple is not None:
        return simple
    if type(value) is np.ndarray or isinstance(value, np.generic):
        try:
            return from_numpy_dtype(value.dtype) if value.dtype.isnative else None
        except TypeError:
            return None
    return None
