"""Convolutions, and the network for handwritten digits made of them, against im2col and NumPy.

Against other frameworks the same programs run by ``--backend``; all on one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np

from harness import Row, check_equal, side

TOLERANCE = 2e-5  # of float32 sums over up to 3136 products, in another order
Array = Any
SHAPES = (("5x5, 1 -> 32, 28x28", (28, 28, 1, 32)), ("5x5, 32 -> 64, 14x14", (14, 14, 32, 64)))
BATCHES = (1, 32)


def weights(*shape: int) -> Array:
    """Random weights that keep the scale of what they are multiplied with."""
    scale = 1 / np.sqrt(np.prod(shape[:-1]) or 1)
    return (scale * np.random.RandomState(sum(shape)).standard_normal(shape)).astype(np.float32)


def images(*shape: int) -> Array:
    return np.random.RandomState(0).standard_normal(shape).astype(np.float32)


# ---- NumPy --------------------------------------------------------------------------------------
def columns(x: Array, size: int) -> Array:
    """What each window of ``size`` sees, zeros around the image: one row for each pixel."""
    around = size // 2
    padded = np.pad(x, [(0, 0), (around, around), (around, around), (0, 0)])
    seen = np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
    return seen.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * x.shape[-1])


def convolve(x: Array, kernel: Array, bias: Array) -> Array:
    """A convolution with padding, a bias and relu."""
    product = columns(x, kernel.shape[0]) @ kernel.reshape(-1, kernel.shape[-1])
    return np.maximum(product + bias, 0).reshape(*x.shape[:-1], -1)


def pool(x: Array) -> Array:
    """The maxima of squares of 2 by 2 pixels."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


# ---- the programs -------------------------------------------------------------------------------
class Layers:
    """Variables of a program, and their values for NumPy."""

    def __init__(self, tf: Any) -> None:
        self.tf = tf
        self.values: list[Array] = []

    def variable(self, *shape: int) -> Any:
        self.values.append(weights(*shape))
        return self.tf.Variable(self.values[-1])

    def convolution(self, x: Any, size: int, depth: int, channels: int) -> Any:
        kernel = self.variable(size, size, depth, channels)
        sums = self.tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME")
        return self.tf.nn.relu(self.tf.nn.bias_add(sums, self.variable(channels)))

    def dense(self, x: Any, depth: int, units: int) -> Any:
        return self.tf.matmul(x, self.variable(depth, units)) + self.variable(units)


Program = tuple[Layers, Any, Any]  # its variables, the placeholder of images, and the result


def digits(tf: Any) -> Program:
    """Two convolutions with pooling, two dense layers: the logits of ten classes."""
    layers = Layers(tf)
    x = tf.placeholder(tf.float32, [None, 28, 28, 1])
    value = x
    for depth, channels in ((1, 32), (32, 64)):
        value = layers.convolution(value, 5, depth, channels)
        value = tf.nn.max_pool(value, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    value = tf.nn.relu(layers.dense(tf.reshape(value, [-1, 7 * 7 * 64]), 7 * 7 * 64, 1024))
    return layers, x, layers.dense(value, 1024, 10)


def digits_in_numpy(values: list[Array]) -> Callable[[Array], Array]:
    first, first_bias, second, second_bias, hidden, hidden_bias, last, last_bias = values

    def run(x: Array) -> Array:
        value = pool(convolve(x, first, first_bias))
        value = pool(convolve(value, second, second_bias)).reshape(len(x), -1)
        return np.maximum(value @ hidden + hidden_bias, 0) @ last + last_bias

    return run


def one_layer(tf: Any, height: int, width: int, depth: int, channels: int) -> Program:
    layers = Layers(tf)
    x = tf.placeholder(tf.float32, [None, height, width, depth])
    return layers, x, layers.convolution(x, 5, depth, channels)


def one_layer_in_numpy(values: list[Array]) -> Callable[[Array], Array]:
    return lambda x: convolve(x, *values)


def rows(tf: Any) -> Iterator[Row]:
    for name, shape in SHAPES:
        build = partial(one_layer, tf, *shape)
        step = f"convolution {name}, bias, relu"
        yield from compared(tf, step, build, one_layer_in_numpy, shape[:3], 0.5)
    step = "conv net 28x28, forward"
    yield from compared(tf, step, partial(digits, tf), digits_in_numpy, (28, 28, 1), 0.7)


def compared(
    tf: Any,
    name: str,
    build: Callable[[], Program],
    in_numpy: Callable[[list[Array]], Callable[[Array], Array]],
    image: tuple[int, ...],
    bound: float,
) -> Iterator[Row]:
    """A row for each batch of one program, whose results are checked against NumPy's."""
    one_thread = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default() as graph:
        layers, x, y = build()
        start = tf.global_variables_initializer()
    peer = in_numpy(layers.values)
    with closing(tf.Session(graph=graph, config=one_thread)) as sess:
        sess.run(start)
        call = sess.make_callable(y, [x])
        for batch in BATCHES:
            value = images(batch, *image)
            step = f"{name}, batch {batch}"
            check_equal(step, call(value), peer(value), TOLERANCE)
            yield Row(
                step,
                side("stepforge", "call(value)", call=call, value=value),
                side("im2col and NumPy", "peer(value)", peer=peer, value=value),
                bound,
            )
