"""Convolutions, and the network for handwritten digits made of them.

NumPy computes them by im2col: what each window sees is copied into a matrix.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

import contest
from cases import Array, Arrays, Case, Program
from harness import Row

TOLERANCE = 2e-5  # of float32 sums over up to 3136 products, in another order
SHAPES = (("5x5, 1 -> 32, 28x28", (28, 28, 1, 32)), ("5x5, 32 -> 64, 14x14", (14, 14, 32, 64)))
BATCHES = (1, 32)
NETWORK = ((5, 5, 1, 32), (5, 5, 32, 64), (7 * 7 * 64, 1024), (1024, 10))
BOUNDS: dict[str, contest.Bounds] = {
    "convolution.one_layer": ((0.5, ("NumPy",)),),
    "convolution.conv_net": ((0.7, ("NumPy",)), (1.1, ("onnxruntime", "torch", "TensorFlow"))),
}


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
def images_of(tf: Any, arrays: Arrays) -> Any:
    return tf.placeholder(tf.float32, [None, *arrays["x"].shape[1:]], name="x")


def convolution(tf: Any, x: Any, arrays: Arrays, place: int) -> Any:
    kernel, bias = (tf.Variable(arrays[f"{name}{place}"]) for name in "wb")
    return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, kernel, [1, 1, 1, 1], "SAME"), bias))


def dense(tf: Any, x: Any, arrays: Arrays, place: int) -> Any:
    weights, bias = (tf.Variable(arrays[f"{name}{place}"]) for name in "wb")
    return tf.matmul(x, weights) + bias


def conv_net(tf: Any, arrays: Arrays) -> Program:
    """Two convolutions with pooling, two dense layers: the logits of ten classes."""
    x = value = images_of(tf, arrays)
    for place in range(2):
        value = convolution(tf, value, arrays, place)
        value = tf.nn.max_pool(value, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    value = tf.nn.relu(dense(tf, tf.reshape(value, [-1, 7 * 7 * 64]), arrays, 2))
    return Program({"x": x}, [dense(tf, value, arrays, 3)])


def one_layer(tf: Any, arrays: Arrays) -> Program:
    x = images_of(tf, arrays)
    return Program({"x": x}, [convolution(tf, x, arrays, 0)])


def conv_net_in_numpy(a: Arrays) -> Array:
    value = a["x"]
    for place in range(2):
        value = pool(convolve(value, a[f"w{place}"], a[f"b{place}"]))
    value = np.maximum(value.reshape(len(value), -1) @ a["w2"] + a["b2"], 0)
    return value @ a["w3"] + a["b3"]


def one_layer_in_numpy(a: Arrays) -> Array:
    return convolve(a["x"], a["w0"], a["b0"])


# ---- cases --------------------------------------------------------------------------------------
def arrays_of(x: Array, *kernels: tuple[int, ...]) -> dict[str, Array]:
    """The image and the weights; kernels end in their number of channels, as do biases."""
    arrays = {"x": x}
    for place, shape in enumerate(kernels):
        arrays[f"w{place}"], arrays[f"b{place}"] = weights(*shape), weights(shape[-1])
    return arrays


def cases() -> Iterator[Case]:
    for name, (height, width, depth, channels) in SHAPES:
        for batch in BATCHES:
            arrays = arrays_of(images(batch, height, width, depth), (5, 5, depth, channels))
            step = f"convolution {name}, bias, relu, batch {batch}"
            expected = one_layer_in_numpy(arrays)
            yield Case(step, "convolution.one_layer", arrays, (expected,), TOLERANCE)
    for batch in BATCHES:
        arrays = arrays_of(images(batch, 28, 28, 1), *NETWORK)
        step = f"conv net 28x28, forward, batch {batch}"
        expected = conv_net_in_numpy(arrays)
        yield Case(step, "convolution.conv_net", arrays, (expected,), TOLERANCE)


def rows(tf: Any, peers: contest.Peers) -> Iterator[Row]:
    for case in cases():
        yield from contest.rows(tf, peers, case, BOUNDS[case.kind])
