"""Convolutions and pooling against what TensorFlow was recorded to do, evaluated and natively."""

from __future__ import annotations

import json
import pathlib
from typing import Any

import numpy as np
import pytest
from math_reference import Built, array, close, describe, failures, weights

import stepforge as tf

DATA = pathlib.Path(__file__).parent / "data" / "conv_reference.json"
CASES: list[dict[str, Any]] = json.loads(DATA.read_text())


@pytest.mark.parametrize("entry", CASES, ids=describe)
def test_agrees_with_tensorflow(entry: dict[str, Any]) -> None:
    assert vars(failures(Built(entry))) == dict.fromkeys(
        ("nodes", "static", "value", "gradients", "second"), ""
    )


@pytest.mark.parametrize("entry", CASES, ids=describe)
def test_native_step_agrees(entry: dict[str, Any]) -> None:
    """Value and gradients, in one step."""
    built, want = Built(entry), array(entry["output"])
    recorded = {n: g for n, g in entry.get("gradients", {}).items() if g is not None}
    with built.graph.as_default():
        seed = tf.constant(weights(want.shape, want.dtype, 0))
        sources = [built.inputs[name] for name in recorded]
        slopes = tf.gradients(built.output, sources, grad_ys=seed) if recorded else []
        feeds = {built.inputs[name]: value for name, value in built.feeds.items()}
        with tf.Session() as session:
            value, *gradients = session.run([built.output, *slopes], feeds)
    factor = entry.get("tolerance", 1)
    assert close(value, want, factor) == ""
    for name, gradient in zip(recorded, gradients, strict=True):
        assert close(gradient, array(recorded[name]), 4 * factor) == "", name


# ---- sizes that only a run knows ----------------------------------------------------------------
def test_one_step_for_images_of_any_size() -> None:
    random = np.random.RandomState(3)
    filters = [random.randn(*shape) for shape in ((3, 3, 2, 5), (2, 4, 5, 3))]
    with tf.Graph().as_default():
        images = tf.placeholder(tf.float64, [None, None, None, 2])
        first = tf.nn.conv2d(images, tf.constant(filters[0]), [1, 2, 2, 1], "SAME")
        second = tf.nn.conv2d(tf.nn.max_pool(first, 2, 1, "SAME"), filters[1], 1, "VALID")
        pooled = tf.nn.avg_pool(second, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        (slope,) = tf.gradients(pooled, images)
        assert pooled.shape.as_list() == [None, None, None, 3]
        with tf.Session() as session:
            step = session.make_callable([pooled, slope], [images])
            for shape in ((1, 8, 9), (3, 15, 12), (2, 4, 30), (0, 9, 9)):
                value = random.randn(*shape, 2)
                got, gradient = step(value)
                want, expected = with_static_sizes(value, filters)
                np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-11)
                np.testing.assert_allclose(gradient, expected, rtol=1e-11, atol=1e-11)


def with_static_sizes(value: Any, filters: list[Any]) -> Any:
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.constant(value)
        first = tf.nn.conv2d(images, filters[0], [1, 2, 2, 1], "SAME")
        second = tf.nn.conv2d(tf.nn.max_pool(first, 2, 1, "SAME"), filters[1], 1, "VALID")
        pooled = tf.nn.avg_pool(second, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
        return session.run([pooled, tf.gradients(pooled, images)[0]])


def test_images_and_filters_of_unknown_rank() -> None:
    random = np.random.RandomState(4)
    value, weight = random.randn(2, 5, 6, 3), random.randn(3, 3, 3, 2)
    with tf.Graph().as_default(), tf.Session() as session:
        images, kernel = (tf.placeholder(tf.float64, None) for _ in range(2))
        made = tf.nn.max_pool(tf.nn.conv2d(images, kernel, 1, "SAME"), 2, 2, "SAME")
        known = tf.nn.max_pool(tf.nn.conv2d(value, weight, 1, "SAME"), 2, 2, "SAME")
        assert made.shape.as_list() == [None] * 4
        assert tf.nn.conv2d(images, weight, 1, "SAME").shape.as_list() == [None, None, None, 2]
        got, want = session.run([made, known], {images: value, kernel: weight})
    np.testing.assert_allclose(got, want, 1e-12)


def test_transposed_convolution_with_the_shape_of_a_batch() -> None:
    """The usual way to say that only the batch is unknown."""
    random = np.random.RandomState(5)
    weight = random.randn(4, 4, 2, 3)
    with tf.Graph().as_default(), tf.Session() as session:
        codes = tf.placeholder(tf.float64, [None, 4, 5, 3])
        shape = tf.stack([tf.shape(codes)[0], 8, 10, 2])
        made = tf.nn.conv2d_transpose(codes, weight, shape, [1, 2, 2, 1])
        assert made.shape.as_list() == [None, 8, 10, 2]
        for count in (1, 3):
            value = random.randn(count, 4, 5, 3)
            got = session.run(made, {codes: value})
            probe = random.randn(count, 8, 10, 2)
            back = session.run(tf.nn.conv2d(probe, weight, [1, 2, 2, 1], "SAME"))
            np.testing.assert_allclose((got * probe).sum(), (back * value).sum(), 1e-10)


def test_more_batch_axes() -> None:
    value = np.random.RandomState(6).randn(2, 3, 5, 6, 2)
    weight = np.ones((3, 3, 2, 4))
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.placeholder(tf.float64, [2, None, 5, 6, 2])
        made = tf.nn.conv2d(images, weight, 1, "SAME")
        flat = tf.nn.conv2d(value.reshape(6, 5, 6, 2), weight, 1, "SAME")
        got, want = session.run([made, flat], {images: value})
    assert made.shape.as_list() == [2, None, 5, 6, 4]
    np.testing.assert_allclose(got, want.reshape(2, 3, 5, 6, 4), 1e-12)


def test_a_maximum_that_is_there_twice_counts_once() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        images = tf.zeros([1, 3, 3, 1])
        pooled = tf.nn.max_pool(images, 2, 1, "VALID")
        (slope,) = tf.gradients(pooled, images)
        got = session.run(slope)[0, :, :, 0]
    np.testing.assert_array_equal(got, [[1, 1, 0], [1, 1, 0], [0, 0, 0]])


# ---- mistakes -----------------------------------------------------------------------------------
@pytest.fixture
def inputs() -> Any:
    """Placeholders of several shapes and dtypes, in a graph of their own."""
    with tf.Graph().as_default():
        yield {
            "tf": tf,
            "np": np,
            "x": tf.placeholder(tf.float32, [2, 8, 9, 3], "x"),
            "f": tf.placeholder(tf.float32, [3, 3, 3, 4], "f"),
            "g": tf.placeholder(tf.float32, [3, 3, 2, 4], "g"),
            "s": tf.placeholder(tf.float32, [8, 9, 3], "s"),
            "d": tf.placeholder(tf.float64, [3, 3, 3, 4], "d"),
            "i": tf.placeholder(tf.int64, [2, 8, 9, 3], "i"),
            "open": tf.placeholder(tf.float32, [None, None, None, 3], "open"),
            "any": tf.placeholder(tf.float32, [None, None, None, None], "any"),
        }


ONES = "[1, 1, 1, 1]"
MISTAKES = [
    (f"tf.nn.conv2d(s, f, {ONES}, 'SAME')", ValueError, "Shape must be rank 4 but is rank 3"),
    (f"tf.nn.conv2d(x, s, {ONES}, 'SAME')", ValueError, "Shape must be rank 4 but is rank 3"),
    (f"tf.nn.conv2d(x, g, {ONES}, 'SAME')", ValueError,
     r"Depth of input \(3\) is not a multiple of input depth of filter \(2\)"),
    ("tf.nn.conv2d(np.ones((1, 4, 4, 4), 'f'), np.ones((1, 1, 2, 3), 'f'), 1, 'SAME')",
     ValueError, r"Depth of output \(3\) is not a multiple of the number of groups \(2\)"),
    ("tf.nn.conv2d(x, np.ones((10, 3, 3, 4), 'f'), 1, 'VALID')", ValueError,
     "Negative dimension size caused by subtracting 10 from 8"),
    ("tf.nn.conv2d(x, f, 1, 'FOO')", ValueError,
     "Attr 'padding' of 'Conv2D' Op passed string 'FOO' not in: \"SAME\", \"VALID\", \"EXPLICIT\""),
    ("tf.nn.conv2d(x, f, 1, None)", TypeError, "Expected string for argument 'padding' not None"),
    ("tf.nn.conv2d(x, f, 1, 'EXPLICIT')", ValueError, "`padding` must be a list"),
    ("tf.nn.conv2d(x, f, [1, 0, 1, 1], 'SAME')", ValueError, "Stride must be > 0, but got 0"),
    ("tf.nn.conv2d(x, f, [1, 1, 1], 'SAME')", ValueError, "strides should be of length 1, 2 or 4"),
    ("tf.nn.conv2d(x, f, 1, 'SAME', dilations=[1, 0, 2, 1])", ValueError,
     "Dilation rate must be >= 1, but got 0"),
    ("tf.nn.conv2d(x, f, 1, [[0, 0], [1, 1], [1, 1]])", ValueError, "it must be of size 4"),
    ("tf.nn.conv2d(x, f, 1, [[0, 0], [1, 1], [1, 1], 1])", ValueError, "a list/tuple of size 2"),
    ("tf.nn.conv2d(x, f, 1, [[0, 0], [1, 1], [1, 1], [1, 0]])", ValueError,
     "Nonzero explicit padding in the batch or depth dimensions is not supported"),
    ("tf.nn.conv2d(x, f, 1, [[0, 0], [1, -1], [1, 1], [0, 0]])", ValueError, "nonnegative"),
    ("tf.nn.conv2d(x, f, 1, 'SAME', data_format='NHCW')", ValueError,
     "Attr 'data_format' of 'Conv2D' Op passed string 'NHCW' not in: \"NHWC\", \"NCHW\""),
    ("tf.nn.conv2d(x, f, filters=f, strides=1, padding='SAME')", ValueError, "Cannot specify both"),
    ("tf.nn.conv2d(x, strides=1, padding='SAME')", ValueError, "None values not supported"),
    ("tf.nn.conv2d(x, d, 1, 'SAME')", TypeError,
     "Input 'filter' of 'Conv2D' Op has type float64 that does not match type float32"),
    ("tf.nn.conv2d(i, i, 1, 'SAME')", TypeError,
     "Value passed to parameter 'input' has DataType int64 not in list of allowed values: float16, "
     "bfloat16, float32, float64, int32"),
    ("tf.nn.conv2d_transpose(x, np.ones((3, 3, 5, 4), 'f'), [2, 16, 18, 5], 2)", ValueError,
     "Dimensions must be equal, but are 3 and 4"),
    ("tf.nn.conv2d_transpose(x, np.ones((3, 3, 5, 3), 'f'), [3, 16, 18, 5], 2)", ValueError,
     "Dimensions must be equal, but are 3 and 2"),
    ("tf.nn.conv2d_transpose(x, np.ones((3, 3, 5, 3), 'f'), [2, 16, 18], 2)", ValueError,
     "requires input_sizes to contain 4 values or 2 values, but got: 3"),
    ("tf.nn.depthwise_conv2d(x, g, [1, 1, 1, 1], 'SAME')", ValueError, "but are 3 and 2"),
    ("tf.nn.separable_conv2d(x, f, np.ones((2, 1, 12, 5), 'f'), [1, 1, 1, 1], 'SAME')", ValueError,
     "Dimensions 2 and 1 are not compatible"),
    ("tf.nn.conv1d(s, np.ones((3, 3, 2), 'f'), 1, 'SAME', data_format='NCX')", ValueError,
     "must be 'NWC' or 'NCW'"),
    ("tf.nn.convolution(x, f, 'SAME', strides=[2, 2], dilation_rate=[2, 2])", ValueError,
     "not supported in conjunction"),
    ("tf.nn.max_pool(s, 2, 2, 'SAME')", ValueError, "Shape must be rank 4 but is rank 3"),
    ("tf.nn.max_pool(x, [1, 9, 2, 1], 2, 'VALID')", ValueError, "subtracting 9 from 8"),
    ("tf.nn.max_pool(x, [1, 0, 2, 1], 2, 'VALID')", ValueError, "`ksize` cannot be zero"),
    ("tf.nn.max_pool(x, 2, [1, 0, 2, 1], 'VALID')", ValueError, "Stride must be > 0"),
    ("tf.nn.max_pool(x, [1, 2, 2], 1, 'VALID')", ValueError, "ksize should be of length 1, 2 or 4"),
    ("tf.nn.max_pool(x, 2, 1, [[0, 0], [2, 1], [0, 0], [0, 0]])", ValueError,
     "Padding 2 needs to be smaller than the window size 2"),
    ("tf.nn.max_pool(x, [1, 2, 2, 3], [1, 1, 1, 3], 'VALID')", ValueError,
     "exactly one of pooling across depth or pooling across width/height"),
    ("tf.nn.max_pool(x, [1, 1, 1, 3], [1, 1, 1, 2], 'VALID')", ValueError,
     "the depth window to equal the depth stride"),
    ("tf.nn.avg_pool(x, 2, 1, [[0, 0], [1, 1], [1, 1], [0, 0]])", TypeError,
     "Expected string for argument 'padding'"),
    ("tf.nn.avg_pool(i, 2, 1, 'SAME')", TypeError, "has DataType int64 not in list"),
    ("tf.nn.pool(x, [2, 2], 'FOO', 'SAME')", ValueError, "2-D FOO pooling is not supported"),
    ("tf.nn.pool(x, [2, 2], 'MAX', 'SAME', strides=[3, 3])", ValueError, "inconsistency"),
    ("tf.nn.lrn(s)", ValueError, "Shape must be rank 4 but is rank 3"),
    ("tf.nn.lrn(tf.ones([1, 2, 2, 1], tf.float64))", TypeError, "float16, bfloat16, float32"),
]


@pytest.mark.parametrize(("code", "error", "text"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistake_is_found_while_building(
    inputs: Any, code: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        eval(code, {}, inputs)


X, F = np.ones((2, 8, 9, 3)), np.ones((3, 3, 3, 4))
FAILING_STEPS = [
    ("tf.nn.conv2d(open, any, 1, 'VALID')", {"open": X, "any": np.ones((10, 3, 3, 4))},
     "Computed output size would be negative"),
    ("tf.nn.conv2d(open, any, 1, 'SAME')", {"open": X, "any": np.ones((3, 3, 2, 4))},
     "input depth must be evenly divisible by filter depth: 3 vs 2"),
    ("tf.nn.max_pool(any, [1, 12, 2, 1], 1, 'VALID')", {"any": X}, "output size would be negative"),
    ("tf.nn.conv2d(x, f, [2, 1, 1, 1], 'SAME')", {"x": X, "f": F},
     "does not yet support strides in the batch and depth dimensions"),
    ("tf.nn.conv2d(x, f, 1, 'SAME', dilations=[1, 2, 2, 2])", {"x": X, "f": F},
     "does not yet support dilations in the batch and depth dimensions"),
    ("tf.nn.max_pool(x, [2, 2, 2, 1], 1, 'VALID')", {"x": X}, "Non-spatial pooling"),
    ("tf.nn.conv2d_backprop_input([2, 9, 9, 3], f, any, 1, 'SAME')",
     {"f": F, "any": np.ones((2, 8, 9, 4))},
     "Size of out_backprop doesn't match computed: actual = 8, computed = 9"),
    ("tf.nn.conv2d_backprop_filter(x, [3, 3, 3, 5], any, 1, 'SAME')",
     {"x": X, "any": np.ones((2, 8, 9, 4))},
     "filter and out_backprop must have the same out_depth"),
]


@pytest.mark.parametrize(("code", "feeds", "text"), FAILING_STEPS)
def test_mistake_is_found_by_the_step(
    inputs: Any, code: str, feeds: dict[str, Any], text: str
) -> None:
    output = eval(code, {}, inputs)
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match=text):
        session.run(output, {inputs[name]: value for name, value in feeds.items()})


def test_attributes_are_tensorflows(inputs: Any) -> None:
    op = tf.nn.conv2d(inputs["x"], inputs["f"], 2, "SAME").op
    assert op.get_attr("strides") == [1, 2, 2, 1]
    assert op.get_attr("dilations") == [1, 1, 1, 1]
    assert op.get_attr("explicit_paddings") == []
    assert op.get_attr("use_cudnn_on_gpu") is True
    pool = tf.nn.max_pool(inputs["x"], [1, 3, 3, 1], [1, 2, 2, 1], [[0, 0], [1, 0], [0, 1], [0, 0]])
    assert pool.op.get_attr("padding") == b"EXPLICIT"
    assert pool.op.get_attr("explicit_paddings") == [0, 0, 1, 0, 0, 1, 0, 0]
    assert pool.op.get_attr("ksize") == [1, 3, 3, 1]
