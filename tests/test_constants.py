"""Constants and conversion: dtypes of Python and NumPy values, lists of tensors, registered types.

Dtypes, names and errors were recorded from TensorFlow 2.21 (compat.v1, v2 behaviour off).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import stepforge as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[Any]:
    with tf.Graph().as_default() as made:
        yield made


def nodes() -> list[str]:
    """Every node as ``name=Type(inputs ^control)``."""
    found = []
    for op in tf.get_default_graph().get_operations():
        control = "".join(f" ^{c.name}" for c in op.control_inputs)
        found.append(f"{op.name}={op.type}({','.join(t.name for t in op.inputs)}{control})")
    return found


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (1, "int32"),
        (1.5, "float32"),
        (True, "bool"),
        (2**40, "int64"),
        (2**63, "uint64"),
        (1j, "complex128"),
        ("a", "string"),
        ([1, 2.5], "float32"),
        ([], "float32"),
        ([np.float64(1)], "float32"),
        ([np.int64(1)], "int32"),
        ([2**31], "int64"),
        (np.float64(2), "float64"),
        (np.array([1, 2]), "int64"),
        (np.array(["a"]), "string"),
        (bytearray(b"ab"), "uint8"),
    ],
)
def test_constant_dtypes(value: Any, dtype: str) -> None:
    assert tf.constant(value).dtype.name == dtype


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((1, tf.uint8), 1),
        ((300, tf.uint8), 44),
        ((-1, tf.uint8), 255),
        ((np.array([1.5]), tf.int32), [1]),
        ((1, tf.float32, [2, 2]), [[1, 1], [1, 1]]),
        (([1, 2], None, [4]), [1, 2, 2, 2]),
        (([1, 2], None, [2, 1]), [[1], [2]]),
        (([], None, [2]), [0, 0]),
        (("é",), "é".encode()),
        (("a\0b",), b"a\0b"),
    ],
)
def test_constant_values(arguments: tuple[Any, ...], expected: Any) -> None:
    value = tf.get_static_value(tf.constant(*arguments))
    np.testing.assert_array_equal(value, np.array(expected, value.dtype))


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((None,), ValueError, "None values not supported."),
        ((1.5, tf.int32), TypeError, "Expected int32, but got 1.5 of type 'float'."),
        (([1, 2.5], tf.int32), TypeError, "Expected int32, but got 2.5 of type 'float'."),
        (("a", tf.float32), TypeError, "Expected float32, but got a of type 'str'."),
        ((1, tf.bool), TypeError, "Expected bool, but got 1 of type 'int'."),
        ((1, tf.string), TypeError, "Expected string, but got 1 of type 'int'."),
        (([1, "a"],), TypeError, "Failed to convert elements of [1, 'a'] to Tensor."),
        (([[1, 2], [3]],), ValueError, "inhomogeneous"),
        (
            ([1, 2, 3], None, [2]),
            ValueError,
            "Too many elements provided. Takes at most 2, but got 3",
        ),
        (([1, 2], None, [3], "n", True), TypeError, "Expected Tensor's shape: (3,), but got (2,)."),
        ((1 << 64, tf.uint64), OverflowError, "too large"),
        ((object(),), TypeError, "Failed to convert elements"),
    ],
)
def test_constant_errors(arguments: tuple[Any, ...], kind: Any, text: str) -> None:
    with pytest.raises(kind, match=re.escape(text)):
        tf.constant(*arguments)


def test_conversion_of_lists_with_tensors() -> None:
    x = tf.placeholder(tf.float32, name="x")
    tf.convert_to_tensor([[x, 2.0], [3.0, 4.0]])
    assert nodes()[1:] == [
        "packed/0/1=Const()",
        "packed/0=Pack(x:0,packed/0/1:0)",
        "packed/1_1=Const()",
        "packed=Pack(packed/0:0,packed/1_1:0)",
    ]
    y = tf.placeholder(tf.int32)
    with pytest.raises(TypeError, match="Cannot convert a list containing a tensor of dtype"):
        tf.convert_to_tensor([x, y])
    with pytest.raises(TypeError, match=r"Expected int32, but got 1\.5"):
        tf.convert_to_tensor([y, 1.5])
    assert tf.convert_to_tensor([y, y], tf.float32).dtype is tf.float32


def test_conversion_of_tensors_and_shapes() -> None:
    x = tf.placeholder(tf.float32, [None, 3])
    assert tf.convert_to_tensor(x) is x
    with pytest.raises(ValueError, match="Tensor conversion requested dtype int32 for Tensor with"):
        tf.convert_to_tensor(x, tf.int32)
    with pytest.raises(ValueError, match="Cannot convert a partially known TensorShape"):
        tf.convert_to_tensor(x.shape)
    assert tf.convert_to_tensor(x.shape[1:]).name == "shape_as_tensor:0"
    assert tf.convert_to_tensor(1, preferred_dtype=tf.float32).dtype is tf.float32
    assert tf.convert_to_tensor(1.5, preferred_dtype=tf.int32).dtype is tf.float32
    with pytest.raises(TypeError, match="can't convert Operation"):
        tf.convert_to_tensor(x.op)


def test_registered_conversions() -> None:
    class Meters:
        def __init__(self, value: float) -> None:
            self.value = value

    def convert(value: Any, dtype: Any = None, name: Any = None, as_ref: bool = False) -> Any:
        if dtype not in (None, tf.float32):
            return NotImplemented
        return tf.constant(value.value, dtype, name=name)

    tf.register_tensor_conversion_function(Meters, convert)
    assert tf.convert_to_tensor(Meters(2.5), name="m").name == "m:0"
    with pytest.raises(TypeError, match="Expected int32, but got"):
        tf.convert_to_tensor(Meters(1.0), tf.int32)
    with pytest.raises(TypeError, match="must be callable"):
        tf.register_tensor_conversion_function(Meters, 3)
