"""Convolutions and pooling that ``make_conv_reference.py`` records."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from math_cases import Case, case

ONES = "[1, 1, 1, 1]"


def convolution_cases() -> Iterator[Case]:
    images, filters = "f64[2,5,6,3]", "f64[3,2,3,4]"
    for padding in ("'SAME'", "'VALID'", "[[0, 0], [2, 1], [0, 3], [0, 0]]"):
        for strides in (ONES, "[1, 2, 2, 1]", "[1, 2, 3, 1]"):
            yield case(f"tf.nn.conv2d(x, w, {strides}, {padding})", x=images, w=filters)
    open_images = "f64[?2,?5,?6,3]"
    for padding in ("'SAME'", "'VALID'"):
        for strides in ("1", "[2, 2]"):
            yield case(f"tf.nn.conv2d(x, w, {strides}, {padding})", x=open_images, w=filters)
    yield case("tf.nn.conv2d(x, w, 1, 'SAME')", x="f64[?1,?4,?4,?2]", w="f64[?3,?3,?2,?2]")
    yield case("tf.nn.conv2d(x, filter=w, strides=[1, 1, 1, 1], padding='SAME', name='layer', "
               "use_cudnn_on_gpu=False)", x=images, w=filters)
    yield case("tf.nn.conv2d(x, filters=w, strides=None, padding='VALID', dilations=None)",
               x=images, w=filters)
    yield case("tf.nn.conv2d(x, w, 1, 'SAME') + 1", x="f32[2,7,7,1]", w="f32[5,5,1,3]")
    yield case("tf.nn.conv2d(x, w, 1, 'SAME')", x="f16[1,3,3,2]", w="f16[2,2,2,2]")
    yield case("tf.nn.conv2d(x, w, [1, 2, 2, 1], 'VALID')", x="f32[2,5,5,2]", w="f32[1,1,2,3]")
    yield case("tf.nn.conv2d(x, w, 1, 'VALID')", x="f32[2,3,4,2]", w="f32[1,1,2,3]")
    yield case("tf.nn.conv2d(x, w, 1, 'SAME')", x="f32[1,4,4,4]", w="f32[3,3,2,6]")
    yield case("tf.nn.conv2d(x, w, 1, 'SAME')", x="f32[0,4,4,1]", w="f32[3,3,1,2]")
    yield case("tf.nn.conv2d(x, np.ones([2, 2, 2, 1]), 1, 'SAME')", x="f32[1,2,3,2]")
    for rates in ("[1, 2, 2, 1]", "[1, 1, 3, 1]"):
        for padding in ("'SAME'", "'VALID'"):
            yield case(f"tf.nn.conv2d(x, w, {ONES}, {padding}, dilations={rates})",
                       x="f32[1,7,8,2]", w="f32[3,2,2,3]")
    for padding in ("'SAME'", "'VALID'", "[[0, 0], [0, 0], [1, 2], [0, 1]]"):
        for strides in ("1", "[1, 1, 2, 1]"):
            yield case(f"tf.nn.conv2d(x, w, {strides}, {padding}, data_format='NCHW')",
                       x="f32[2,3,5,6]", w="f32[3,2,3,4]")


def transpose_cases() -> Iterator[Case]:
    images, filters = "f64[2,3,4,3]", "f64[3,2,2,3]"
    for padding, strides, shape in (
        ("'SAME'", "[1, 1, 1, 1]", "[2, 3, 4, 2]"),
        ("'SAME'", "[1, 2, 2, 1]", "[2, 6, 7, 2]"),
        ("'VALID'", "[1, 2, 2, 1]", "[2, 8, 8, 2]"),
        ("'VALID'", "2", "[2, 7, 8, 2]"),
        ("[[0, 0], [1, 0], [1, 1], [0, 0]]", "[1, 3, 2, 1]", "[2, 8, 7, 2]"),
    ):
        yield case(f"tf.nn.conv2d_transpose(x, w, {shape}, {strides}, {padding})",
                   x=images, w=filters)
    yield case("tf.nn.conv2d_transpose(x, w, tf.stack([tf.shape(x)[0], 6, 8, 2]), "
               "[1, 2, 2, 1], name='up')", x="f64[?2,?3,?4,3]", w=filters)
    yield case("tf.nn.conv2d_transpose(x, w, tf.shape(z), [1, 2, 2, 1])", x="f32[?1,?2,?2,2]",
               w="f32[3,3,1,2]", z="f32[?1,?4,?3,1]")
    yield case("tf.nn.conv2d_transpose(x, w, s, 2)", x="f32[4,2,2,2]", w="f32[4,4,4,2]",
               s="i32[4]4..5")
    yield case("tf.nn.conv2d_transpose(x, w, [1, 2, 5, 6], [1, 1, 2, 2], data_format='NCHW')",
               x="f32[1,3,3,3]", w="f32[3,2,2,3]")
    yield case("tf.nn.conv2d_backprop_input([1, 4, 4, 2], w, y, [1, 1, 1, 1], 'SAME')",
               w="f64[3,3,2,3]", y="f64[1,4,4,3]")
    yield case("tf.nn.conv2d_backprop_filter(x, [3, 3, 2, 3], y, [1, 2, 1, 1], 'SAME')",
               x="f64[2,4,5,2]", y="f64[2,2,5,3]")
    yield case("tf.nn.conv2d_backprop_filter(x, [2, 3, 2, 3], y, [1, 1, 1, 1], 'VALID')",
               x="f64[?1,?4,?5,2]", y="f64[?1,?3,?3,3]")


def other_convolution_cases() -> Iterator[Case]:
    yield case("tf.nn.conv1d(x, w, 1, 'SAME')", x="f64[2,6,3]", w="f64[3,3,2]")
    yield case("tf.nn.conv1d(x, w, 2, 'VALID', name='c')", x="f64[?2,?7,3]", w="f64[3,3,2]")
    yield case("tf.nn.conv1d(value=x, filters=w, stride=[2], padding='SAME', data_format='NCW')",
               x="f32[2,3,7]", w="f32[3,3,2]")
    yield case("tf.nn.conv1d_transpose(x, w, [2, 12, 2], 2)", x="f32[2,6,3]", w="f32[3,2,3]")
    yield case("tf.nn.conv3d(x, w, [1, 1, 1, 1, 1], 'SAME')", x="f64[1,3,4,3,2]",
               w="f64[2,2,3,2,2]")
    yield case("tf.nn.conv3d(x, w, [1, 2, 1, 2, 1], 'VALID')", x="f64[?1,?4,?4,?5,2]",
               w="f64[2,2,3,2,2]")
    yield case("tf.nn.conv3d_transpose(x, w, [1, 4, 4, 6, 2], [1, 2, 2, 2, 1])",
               x="f32[1,2,2,3,3]", w="f32[2,2,3,2,3]")
    yield case("tf.nn.atrous_conv2d(x, w, 2, 'SAME')", nodes=False, x="f64[1,7,6,2]",
               w="f64[3,2,2,3]")
    yield case("tf.nn.atrous_conv2d(x, w, 2, 'VALID')", nodes=False, x="f64[?1,?7,?6,2]",
               w="f64[3,2,2,3]")
    yield case("tf.nn.convolution(x, w, 'SAME', strides=[2, 1])", x="f32[1,5,5,2]",
               w="f32[3,3,2,2]")
    yield case("tf.nn.convolution(x, w, 'VALID')", x="f32[1,5,2]", w="f32[3,2,2]")
    yield case("tf.nn.convolution(x, w, 'VALID', dilation_rate=[2, 2])", nodes=False,
               x="f32[1,7,7,2]", w="f32[3,3,2,2]")
    yield case("tf.nn.convolution(x, w, 'SAME')", x="f32[1,3,3,3,2]", w="f32[2,2,2,2,2]")
    for strides, padding in ((ONES, "'SAME'"), ("[1, 2, 2, 1]", "'SAME'"), (ONES, "'VALID'")):
        yield case(f"tf.nn.depthwise_conv2d(x, w, {strides}, {padding})", x="f64[2,5,6,3]",
                   w="f64[3,2,3,2]")
    yield case("tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], 'SAME')", x="f32[?2,?5,?6,3]",
               w="f32[3,3,3,1]")
    yield case("tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], 'SAME', rate=[2, 2])", nodes=False,
               x="f32[1,5,6,2]", w="f32[3,3,2,2]")
    yield case("tf.nn.depthwise_conv2d_native(x, w, [1, 1, 1, 1], "
               "[[0, 0], [1, 0], [2, 1], [0, 0]])", x="f32[1,5,6,2]", w="f32[3,3,2,2]")
    yield case("tf.nn.depthwise_conv2d_native_backprop_input([1, 4, 4, 2], w, y, "
               "[1, 1, 1, 1], 'VALID')", w="f32[3,3,2,2]", y="f32[1,2,2,4]")
    yield case("tf.nn.depthwise_conv2d_native_backprop_filter(x, [3, 3, 2, 2], y, "
               "[1, 1, 1, 1], 'VALID')", x="f32[1,4,4,2]", y="f32[1,2,2,4]")
    yield case("tf.nn.separable_conv2d(x, d, p, [1, 1, 1, 1], 'SAME')", x="f64[1,4,5,2]",
               d="f64[3,3,2,2]", p="f64[1,1,4,3]")
    yield case("tf.nn.separable_conv2d(x, d, p, [1, 2, 2, 1], 'VALID', name='s')",
               x="f64[?1,?4,?5,2]", d="f64[3,3,2,1]", p="f64[1,1,2,3]")


def pooling_cases() -> Iterator[Case]:
    for function in ("max_pool", "avg_pool"):
        for kind in ("f64[2,5,6,3]", "f64[?2,?5,?6,3]"):
            for padding in ("'SAME'", "'VALID'"):
                yield case(f"tf.nn.{function}(x, [1, 2, 2, 1], [1, 2, 2, 1], {padding})", x=kind)
                yield case(f"tf.nn.{function}(x, [1, 3, 2, 1], [1, 1, 2, 1], {padding})", x=kind)
                yield case(f"tf.nn.{function}(x, [1, 5, 5, 1], [1, 2, 3, 1], {padding})", x=kind)
        yield case(f"tf.nn.{function}(value=x, ksize=3, strides=[2], padding='SAME', name='p')",
                   x="f32[1,6,6,2]")
        yield case(f"tf.nn.{function}(x, [1, 1, 2, 2], [1, 1, 2, 2], 'SAME', 'NCHW')",
                   x="f32[2,3,5,4]")
        yield case(f"tf.nn.{function}(x, 2, 2, 'VALID')", x="f16[1,4,4,2]")
        yield case(f"tf.nn.{function}2d(x, 2, 1, 'VALID')", x="f32[1,4,4,2]")
        yield case(f"tf.nn.{function}1d(x, 3, 2, 'SAME')", x="f32[2,6,2]")
        yield case(f"tf.nn.{function}1d(x, 2, 2, 'VALID', 'NCW')", x="f32[2,3,6]")
        yield case(f"tf.nn.{function}3d(x, 2, 2, 'SAME')", x="f32[1,3,4,5,2]")
        yield case(f"tf.nn.{function}_v2(x, 2, 2, 'SAME')", x="f32[1,3,4,2]")
        yield case(f"tf.nn.{function}(x, 2, 2, 'SAME')", x="f32[0,4,4,1]")
    yield case("tf.nn.max_pool(x, 2, 1, [[0, 0], [1, 0], [1, 1], [0, 0]])", x="f32[1,4,4,2]")
    yield case("tf.nn.max_pool(tf.round(x), 3, 1, 'SAME')", x="f32[2,6,7,2]")
    yield case("tf.nn.max_pool(tf.round(x), [1, 2, 3, 1], [1, 2, 1, 1], 'VALID')",
               x="f32[2,6,7,2]")
    yield case("tf.nn.max_pool(x, 2, 2, 'SAME')", x="i32[1,4,5,2]")
    yield case("tf.nn.max_pool(x, [1, 1, 1, 2], [1, 1, 1, 2], 'VALID')", x="f32[1,2,3,4]")
    yield case("tf.nn.pool(x, [2, 2], 'MAX', 'SAME')", x="f32[1,4,4,2]")
    yield case("tf.nn.pool(x, [2, 2], 'AVG', 'VALID', strides=[2, 1])", x="f32[1,4,4,2]")
    yield case("tf.nn.pool(x, [3], 'MAX', 'SAME')", nodes=False, x="f32[1,5,2]")
    for options in ("", ", include_batch_in_index=True", ", Targmax=tf.int32"):
        for part in (0, 1):
            yield case("tf.nn.max_pool_with_argmax(x, [1, 2, 2, 1], [1, 2, 1, 1], "
                       f"'SAME'{options})[{part}]", x="f32[2,4,5,2]")


def response_cases() -> Iterator[Case]:
    yield case("tf.nn.lrn(x)", tolerance=4, x="f32[1,2,3,8]")
    yield case("tf.nn.lrn(x, 2, 1.5, 0.3, 0.75, name='n')", tolerance=4, x="f32[?2,?2,?2,7]")
    yield case("tf.nn.local_response_normalization(x, depth_radius=1)", tolerance=4,
               x="f32[1,2,2,3]")


def network_cases() -> Iterator[Case]:
    yield case("tf.nn.max_pool(tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, w, 1, 'SAME'), b)), "
               "2, 2, 'SAME')", x="f32[?2,?6,?6,2]", w="f32[3,3,2,3]", b="f32[3]")
    yield case("tf.nn.avg_pool(tf.nn.bias_add(tf.nn.conv2d(x, w, [1, 1, 2, 2], 'SAME', "
               "data_format='NCHW'), b, 'NCHW'), [1, 1, 3, 3], 1, 'VALID', 'NCHW')",
               x="f32[?1,2,?8,?8]", w="f32[3,3,2,3]", b="f32[3]")


GROUPS: tuple[Callable[[], Iterator[Case]], ...] = (
    convolution_cases,
    transpose_cases,
    other_convolution_cases,
    pooling_cases,
    response_cases,
    network_cases,
)
