"""What recipes are called: two functions that are not the same never share a name."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from stepforge.frontend.extract.program import Extraction, Fetched
from stepforge.ir.builder import Builder
from stepforge.ir.core import Const, Global, Operand, Site, Symbol
from stepforge.ir.opdef import OpDef
from stepforge.ir.types import Type, from_numpy_dtype, numpy_dtype
from stepforge.runtime.recipe_keys import Nameless, described


def extraction(k: Builder, result: Operand, **globals_: Global) -> Extraction:
    """A whole function that gives ``result``."""
    k.emit("return", result)
    return Extraction(k.function("step", [], globals_), (), (Fetched("value", 0),), {}, {}, {})


def of_scalar(value: Any, dtype: str) -> bytes:
    """The description of a function of one scalar constant."""
    k = Builder()
    return described(extraction(k, k.emit("neg", Const(Type(dtype), value))))


def of_array(array: np.ndarray[Any, Any], dtype: str = "") -> bytes:
    """The description of a function of one constant array."""
    k, type_ = Builder(), Type(dtype or from_numpy_dtype(array.dtype), array.shape)
    given = Global("constant", type_, array)
    made = k.emit("reshape", Symbol("c", type_), shape=(array.size,))
    return described(extraction(k, made, c=given))


def float_of(bits: int) -> float:
    """The float of 64 bits."""
    (value,) = struct.unpack("<d", struct.pack("<Q", bits))
    return float(value)


NAN, NEGATIVE, PAYLOAD = map(float_of, (0x7FF8 << 48, 0xFFF8 << 48, (0x7FF8 << 48) + (1 << 40)))


# ---- scalars ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("f64", [0.0, -0.0, NAN, NEGATIVE, PAYLOAD, 1.0, 1.0 + 2**-52]),
        ("f32", [0.0, -0.0, NAN, NEGATIVE, PAYLOAD, 1.0, 1.0 + 2**-23]),
        ("c128", [complex(a, b) for a in (0.0, -0.0, NAN, NEGATIVE) for b in (0.0, -0.0, NAN)]),
        ("i64", [0, 1, -1, 2**63 - 1, -(2**63)]),
    ],
)
def test_every_bit_of_a_scalar_counts(dtype: str, values: list[Any]) -> None:
    assert len({of_scalar(value, dtype) for value in values}) == len(values)
    assert len({of_scalar(value, dtype) for value in values * 2}) == len(values)


def test_dtypes_of_scalars_count() -> None:
    made = [of_scalar(1.0, "f32"), of_scalar(1.0, "f64"), of_scalar(1, "i32"), of_scalar(1, "i64")]
    assert len(set(made)) == len(made)


# ---- arrays -------------------------------------------------------------------------------------
def test_arrays_of_other_elements_are_others() -> None:
    base = np.arange(12, dtype=np.float32).reshape(3, 4)
    others = [
        base, base[::-1], base[:, ::-1], base + 1, base.reshape(4, 3), base.T, base[:0],
        base.reshape(4, 3)[:, :0], np.float32(3), np.array([3], np.float32),
        base.view(np.int32), base.astype(np.float64), np.empty((0,), np.float64),
        np.array(NAN), np.array(NEGATIVE), np.array(PAYLOAD),
    ]  # fmt: skip
    assert len({of_array(np.asarray(each)) for each in others}) == len(others)


def test_equal_arrays_are_the_same_wherever_they_lie() -> None:
    base = np.arange(24, dtype=np.int32).reshape(4, 6)
    assert of_array(base[:, ::2]) == of_array(base[:, ::2].copy())
    assert of_array(base.T) == of_array(base.T.copy())
    assert of_array(base[2, 3].reshape(())) == of_array(np.array(15, np.int32))


def test_arrays_that_numpy_gives_no_buffer_of() -> None:
    dtype = numpy_dtype("bf16")
    halves = [np.arange(n).astype(dtype) for n in range(3)]
    assert len({of_array(each) for each in halves}) == 3
    assert of_array(halves[2]) == of_array(np.arange(2).astype(dtype))


def test_strings_are_told_by_their_text() -> None:
    def strings(*parts: Any) -> np.ndarray[Any, Any]:
        return np.array(parts, dtype=object)

    others = [strings("a", "b"), strings("a", "c"), strings("ab", ""), strings(b"\xff", "b")]
    assert len({of_array(each) for each in others}) == len(others)
    again = strings("".join(["a"]), "b")  # equal text in other objects
    assert of_array(again) == of_array(others[0])


def test_foreign_byte_orders_are_told_apart() -> None:
    big = np.array([1.0, 2.0], ">f4")
    assert of_array(big, "f32") != of_array(big.view("<f4"), "f32")


# ---- operations ---------------------------------------------------------------------------------
def test_attributes_count_with_their_types() -> None:
    def with_shape(*shape: Any) -> bytes:
        k = Builder()
        return described(extraction(k, k.emit("fill", Const(Type("f32"), 1.0), shape=shape)))

    assert with_shape(2, 3) == with_shape(2, 3)
    assert with_shape(2, 3) != with_shape(3, 2)
    assert with_shape(1) != with_shape(True)


def test_operations_of_the_same_node_are_told_from_others() -> None:
    def with_sites(first: Site | None, second: Site | None) -> bytes:
        k = Builder(first)
        made = k.emit("neg", Const(Type("f32"), 1.0))
        k.site = second
        return described(extraction(k, k.emit("neg", made)))

    here, there = Site("here", "a.py", 1), Site("there", "b.py", 2)
    assert with_sites(here, there) == with_sites(there, here)
    assert len({with_sites(here, there), with_sites(here, here), with_sites(here, None)}) == 3


def test_values_are_told_by_where_they_are_made() -> None:
    def difference(*, swapped: bool) -> bytes:
        k = Builder()
        pair = [k.emit(op, Const(Type("f32"), 2.0)) for op in ("neg", "exp")]
        return described(extraction(k, k.emit("sub", *(pair[::-1] if swapped else pair))))

    assert difference(swapped=False) == difference(swapped=False)
    assert difference(swapped=False) != difference(swapped=True)


def test_what_only_this_process_knows_has_no_name() -> None:
    k = Builder()
    called = k.emit("py_func", Const(Type("f32"), 1.0), fn="pyfunc_0", outputs=("f32",))
    with pytest.raises(Nameless, match="py_func is of a function that only this process knows"):
        described(extraction(k, called[0] if isinstance(called, tuple) else called))


def test_operations_from_outside_have_no_name() -> None:
    class Foreign(OpDef):
        name = "foreign"
        infer = staticmethod(lambda x: x)

    k = Builder()
    with pytest.raises(Nameless, match="foreign is declared outside of stepforge"):
        described(extraction(k, k.emit(Foreign(), Const(Type("f32"), 1.0))))


def test_what_is_no_literal_has_no_name() -> None:
    k = Builder()
    value = k.emit("fill", Const(Type("f32"), 1.0), shape=(2,))
    with pytest.raises(Nameless, match="is no literal of the IR"):
        described(extraction(k, k.emit("reverse", value, axes=(np.int64(0),))))
