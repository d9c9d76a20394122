"""``Dimension``, ``TensorShape`` and ``DType``: what TensorFlow 1 says, recorded from it."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import stepforge as tf

D, S = tf.Dimension, tf.TensorShape

# expression -> what repr gives on TensorFlow
VALUES = {
    "D(3)": "Dimension(3)",
    "D(None)": "Dimension(None)",
    "str(D(None))": "'?'",
    "2 + D(3)": "Dimension(5)",
    "5 - D(3)": "Dimension(2)",
    "D(3) * 2": "Dimension(6)",
    "7 // D(2)": "Dimension(3)",
    "D(7) // 2": "Dimension(3)",
    "9 % D(4)": "Dimension(1)",
    "D(None) + 1": "Dimension(None)",
    "D(3) + None": "Dimension(None)",
    "D(None) == D(None)": "None",
    "D(3) == 3": "True",
    "D(3) != None": "None",
    "D(3) == 'a'": "False",
    "D(None) < 3": "None",
    "D(3) >= 2": "True",
    "int(D(3))": "3",
    "[1, 2, 3][D(1)]": "2",
    "bool(D(0))": "False",
    "'%d' % D(3)": "'3'",
    "D(3).merge_with(None)": "Dimension(3)",
    "D(3).is_compatible_with(4)": "False",
    "D(np.int64(3))": "Dimension(3)",
    "list(range(D(3)))": "[0, 1, 2]",
    "S(None)": "TensorShape(None)",
    "S([None, 2])": "TensorShape([Dimension(None), Dimension(2)])",
    "str(S([None, 2]))": "'(?, 2)'",
    "str(S(None))": "'<unknown>'",
    "str(S([3]))": "'(3,)'",
    "S(3)": "TensorShape([Dimension(3)])",
    "S(np.array([1, 2]))": "TensorShape([Dimension(1), Dimension(2)])",
    "S([2, 3]).ndims": "2",
    "S(None).ndims": "None",
    "S(None).dims": "None",
    "len(S([1, 2]))": "2",
    "bool(S([]))": "True",
    "bool(S(None))": "False",
    "S([1, 2])[-1]": "Dimension(2)",
    "S([1, 2, 3])[1:]": "TensorShape([Dimension(2), Dimension(3)])",
    "S(None)[0]": "Dimension(None)",
    "S(None)[1:]": "TensorShape(None)",
    "S(None)[1:3]": "TensorShape([Dimension(None), Dimension(None)])",
    "S([None, 1]).as_list()": "[None, 1]",
    "S([2, 3]).num_elements()": "6",
    "S([0, None]).num_elements()": "None",
    "S([]).num_elements()": "1",
    "S([1, None]).merge_with([None, 2])": "TensorShape([Dimension(1), Dimension(2)])",
    "S([1, None]).concatenate([2])": "TensorShape([Dimension(1), Dimension(None), Dimension(2)])",
    "[1] + S([2])": "TensorShape([Dimension(1), Dimension(2)])",
    "S([1]) + S(None)": "TensorShape(None)",
    "S([1, 2]).is_compatible_with([None, 2])": "True",
    "S(None).with_rank(2)": "TensorShape([Dimension(None), Dimension(None)])",
    "str(S([1, 3]).most_specific_compatible_shape([1, 2]))": "'(1, ?)'",
    "S([1, None]) == [1, None]": "True",
    "S(None) == None": "True",
    "S([1]) == 'a'": "False",
    "S([1, 2]) != (1, 2)": "False",
    "hash(S([1, 2])) == hash(S((1, 2)))": "True",
    "np.zeros(S([1, 2])).shape": "(1, 2)",
    "tf.float32": "tf.float32",
    "str(tf.float32)": "\"<dtype: 'float32'>\"",
    "tf.as_dtype('double')": "tf.float64",
    "tf.as_dtype(np.float16)": "tf.float16",
    "tf.as_dtype(np.dtype('int64'))": "tf.int64",
    "tf.as_dtype(float)": "tf.float32",
    "tf.as_dtype(bool)": "tf.bool",
    "tf.as_dtype(object)": "tf.string",
    "tf.as_dtype(101)": "tf.float32_ref",
    "tf.as_dtype(np.str_)": "tf.string",
    "tf.as_dtype('float32_ref').base_dtype": "tf.float32",
    "tf.float32 == np.float32": "True",
    "tf.float32 == 'float32'": "True",
    "tf.float32 == None": "False",
    "tf.int32.max": "2147483647",
    "tf.int8.limits": "(0, 127)",
    "tf.float64.size": "8",
    "tf.string.size": "0",
    "tf.complex64.real_dtype": "tf.float32",
    "tf.string.as_numpy_dtype": "<class 'object'>",
    "tf.float32.is_compatible_with(tf.as_dtype('float32_ref'))": "True",
    "tf.as_dtype('float32_ref').is_compatible_with(tf.float32)": "False",
    "(tf.int32.is_integer, tf.bool.is_bool, tf.uint8.is_unsigned)": "(True, True, True)",
}

ERRORS = {
    "D(-1)": (ValueError, "Dimension -1 must be >= 0"),
    "D('3')": (TypeError, "Dimension value must be integer or None"),
    "D(7) / 2": (TypeError, "please use // instead"),
    "8 / D(2)": (TypeError, "please use // instead"),
    "hash(D(3))": (TypeError, "unhashable type: 'Dimension'"),
    "D(3).merge_with(4)": (ValueError, "Dimensions 3 and 4 are not compatible"),
    "D(3) + 1.5": (TypeError, "unsupported operand"),
    "int(D(None))": (TypeError, "__int__ returned non-int"),
    "S('ab')": (TypeError, "Failed to convert ''ab'' to a shape"),
    "S([1.5])": (TypeError, "Dimension value must be integer"),
    "len(S(None))": (ValueError, "Cannot take the length of shape with unknown rank."),
    "list(S(None))": (ValueError, "Cannot iterate over a shape with unknown rank."),
    "S([1])[3]": (IndexError, "list index out of range"),
    "S(None).as_list()": (ValueError, "as_list() is not defined on an unknown TensorShape."),
    "S([1, 2]).merge_with([1, 3])": (ValueError, "Shapes (1, 2) and (1, 3) are not compatible"),
    "S([1, 2]).with_rank(3)": (ValueError, "Shape (1, 2) must have rank 3"),
    "S([1, 2]).with_rank_at_least(3)": (ValueError, "must have rank at least 3"),
    "S([1, 2]).with_rank_at_most(1)": (ValueError, "must have rank at most 1"),
    "S([1, 2]).assert_same_rank([1])": (ValueError, "must have the same rank"),
    "S([1, None]).assert_is_fully_defined()": (ValueError, "Shape (1, ?) is not fully defined"),
    "S([1]) < S([2])": (TypeError, "not supported between"),
    "tf.as_dtype(int)": (TypeError, "Cannot convert the argument `type_value`: <class 'int'>"),
    "tf.as_dtype('foo')": (TypeError, "Cannot convert the argument `type_value`: 'foo'"),
    "tf.as_dtype(None)": (TypeError, "Cannot convert the argument `type_value`: None"),
    "tf.as_dtype(np.longdouble)": (TypeError, "to a TensorFlow DType"),
    "tf.bool.max": (TypeError, "Cannot find maximum value of <dtype: 'bool'>"),
}


@pytest.mark.parametrize("expression", VALUES)
def test_value(expression: str) -> None:
    assert repr(eval(expression)) == VALUES[expression]


@pytest.mark.parametrize("expression", ERRORS)
def test_error(expression: str) -> None:
    kind, message = ERRORS[expression]
    with pytest.raises(kind) as caught:
        eval(expression)
    assert message in str(caught.value)


def test_dtypes_and_shapes_survive_pickling() -> None:
    for dtype in (tf.float32, tf.string, tf.as_dtype("int64_ref")):
        assert pickle.loads(pickle.dumps(dtype)) is dtype
        assert copy.deepcopy(dtype) is dtype
    assert pickle.loads(pickle.dumps(S([1, None]))) == S([1, None])


def test_every_numeric_dtype_has_numpys() -> None:
    for name in ("float16", "float32", "float64", "int8", "uint64", "complex64", "bool"):
        dtype = tf.as_dtype(name)
        assert np.dtype(dtype.as_numpy_dtype).name == name
        assert tf.as_dtype(dtype.as_numpy_dtype) is dtype
