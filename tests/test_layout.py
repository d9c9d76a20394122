"""The proof of CPython's and NumPy's layout, and the addresses that native code is linked to."""

from __future__ import annotations

import ctypes
import sys

import numpy as np
import pytest

from stepforge.codegen import entry_support, layout
from stepforge.ir.types import NUMERIC, numpy_dtype


def test_this_interpreter_is_as_expected() -> None:
    assert layout.problems() == []
    assert layout.prove() == []


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("ARRAY_DATA", 24, "ndarray data"),
        ("ARRAY_RANK", 28, "ndarray rank"),
        ("ARRAY_DESCR", 48, "ndarray descr"),
        ("ARRAY_FLAGS", 68, "ndarray flags"),
        ("DESCR_WORD", 16, "dtype f32"),
        ("SCALAR_VALUE", 8, "scalar f64"),
        ("FLOAT_VALUE", 8, "float value"),
        ("LONG_HAS_TAG", not layout.LONG_HAS_TAG, "int"),
        ("LONG_DIGITS", 28, "int"),
        ("VARIABLE_SIZE", 8, "list size"),
    ],
)
def test_every_offset_is_proven(
    name: str, value: int, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layout, name, value)
    assert any(problem.startswith(word) for problem in layout.prove())


def test_what_cannot_be_read_is_not_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "abiflags", "t")
    assert layout.prove() == ["a free-threaded build"]
    monkeypatch.setattr(sys, "byteorder", "big")
    assert len(layout.prove()) == 2


def test_the_environment_forces_the_python_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert layout.native_entry()
    monkeypatch.setenv("STEPFORGE_ENTRY", "python")
    assert not layout.native_entry()
    monkeypatch.setenv("STEPFORGE_ENTRY", "native")
    assert layout.native_entry()


@pytest.mark.parametrize("dtype", NUMERIC)
def test_scalars_of_every_dtype(dtype: str) -> None:
    assert list(layout.check_scalar(dtype)) == []
    known = layout.addresses([f"descr_{dtype}", f"scalar_{dtype}", f"alloc_{dtype}"])
    assert known[f"descr_{dtype}"] == id(numpy_dtype(dtype))
    assert known[f"scalar_{dtype}"] == id(numpy_dtype(dtype).type)
    assert known[f"alloc_{dtype}"]


def test_type_words_tell_dtypes_apart() -> None:
    words = {dtype: layout.type_word(dtype) for dtype in layout.BUILTIN_DTYPES}
    assert len(set(words.values())) == len(words)
    swapped = np.zeros(1, ">f8").dtype
    assert layout.word(id(swapped), layout.DESCR_WORD) & 0xFF00FFFFFF != words["f64"] & 0xFF00FFFFFF


def test_addresses() -> None:
    known = layout.addresses(
        [
            "Py_IncRef",
            "Py_None",
            "PyFloat_Type",
            "string_miss",
            "PyArray_Scalar",
            "cblas_sgemm",
            "x_y",
        ]
    )
    assert sorted(known) == [
        "PyArray_Scalar",
        "PyFloat_Type",
        "Py_IncRef",
        "Py_None",
        "string_miss",
    ]
    assert known["Py_None"] == id(None)
    assert known["PyFloat_Type"] == id(float)
    assert known["string_miss"] == id(sys.intern("miss"))
    function = ctypes.cast(ctypes.pythonapi.Py_IncRef, ctypes.c_void_p).value
    assert known["Py_IncRef"] == function


def test_shared_code_is_found_by_name() -> None:
    names = [*entry_support.FUNCTIONS, "stepforge_conversions", "Py_None", "unknown"]
    found = entry_support.symbols(names)
    assert sorted(found) == sorted(set(names) - {"unknown"})
    assert all(found.values())
