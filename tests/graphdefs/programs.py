"""Small programs in the API that TensorFlow 1 and stepforge share, one for each part of it.

A program takes the API as ``tf`` and gives its feeds and the tensors to fetch. ``test_graphdef.py``
runs them on files that TensorFlow wrote, ``parity.py`` beside TensorFlow itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Program = Callable[[Any], tuple[dict[Any, Any], list[Any]]]
PROGRAMS: dict[str, Program] = {}


def program(function: Program) -> Program:
    PROGRAMS[function.__name__] = function
    return function


def numbers(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def dense(tf: Any, x: Any, size: int, name: str, resource: bool = False) -> Any:
    with tf.variable_scope(name, use_resource=resource):
        start = numbers(int(x.shape[-1]), size, seed=size)
        weights = tf.get_variable("w", initializer=start)
        bias = tf.get_variable("b", initializer=numbers(size, seed=1))
        return tf.matmul(x, weights) + bias


@program
def perceptron(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 5], "x")
    hidden = tf.nn.relu(dense(tf, x, 7, "hidden"))
    return {x: numbers(4, 5)}, [tf.nn.softmax(dense(tf, hidden, 3, "top"), name="y")]


@program
def resource_variables(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 5], "x")
    hidden = tf.tanh(dense(tf, x, 6, "hidden", resource=True))
    return {x: numbers(3, 5)}, [tf.nn.log_softmax(dense(tf, hidden, 2, "top", resource=True))]


@program
def convolution(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 12, 12, 2], "x")
    kernel = tf.get_variable("kernel", initializer=numbers(3, 3, 2, 4, seed=1))
    y = tf.nn.conv2d(x, kernel, strides=[1, 1, 1, 1], padding="SAME")
    y = tf.nn.relu(tf.nn.bias_add(y, tf.constant(numbers(4))))
    y = tf.nn.max_pool(y, [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    y = tf.nn.conv2d(y, numbers(3, 3, 4, 4, seed=2), strides=[1, 2, 2, 1], padding="VALID")
    y = tf.nn.avg_pool(y, [1, 2, 2, 1], [1, 1, 1, 1], "SAME")
    return {x: numbers(2, 12, 12, 2)}, [tf.reshape(y, [tf.shape(y)[0], -1], name="flat")]


@program
def depthwise(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [2, 9, 9, 3], "x")
    y = tf.nn.depthwise_conv2d(x, numbers(3, 3, 3, 2), [1, 1, 1, 1], "SAME")
    y = tf.nn.relu6(y * 3.0)
    z = tf.nn.conv2d(y, numbers(1, 1, 6, 2), strides=[1, 1, 1, 1], padding="VALID")
    return {x: numbers(2, 9, 9, 3)}, [z, tf.nn.leaky_relu(z, 0.3), tf.nn.elu(z)]


@program
def upsampling(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [1, 4, 4, 2], "x")
    y = tf.nn.conv2d_transpose(x, numbers(3, 3, 3, 2), [1, 8, 8, 3], [1, 2, 2, 1], "SAME")
    blocks = tf.space_to_depth(y, 2)
    return {x: numbers(1, 4, 4, 2)}, [y, blocks, tf.depth_to_space(blocks, 2)]


@program
def layer_norm(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 8], "x")
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    scale = tf.get_variable("scale", initializer=numbers(8))
    return {x: numbers(5, 8)}, [(x - mean) * tf.rsqrt(variance + 1e-6) * scale]


@program
def batch_norm(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 4], "x")
    mean, variance = tf.nn.moments(x, [0])
    y = tf.nn.batch_normalization(x, mean, variance, numbers(4), numbers(4, seed=1), 1e-3)
    return {x: numbers(6, 4)}, [y]


@program
def fused_batch_norm(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [2, 3, 3, 4], "x")
    scale, offset, mean = numbers(4, seed=1), numbers(4, seed=2), numbers(4, seed=3)
    fixed = tf.nn.fused_batch_norm(x, scale, offset, mean, np.abs(scale), is_training=False)
    y, middle, width = tf.nn.fused_batch_norm(x, scale, offset)
    return {x: numbers(2, 3, 3, 4)}, [fixed[0], y, middle, width]


@program
def attention(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 6, 8], "x")
    heads = tf.transpose(tf.reshape(x, [-1, 6, 2, 4]), [0, 2, 1, 3])
    scores = tf.matmul(heads, heads, transpose_b=True) / np.float32(2)
    mask = tf.constant(np.tril(np.ones((6, 6), np.float32)))
    weights = tf.nn.softmax(scores * mask - 1e9 * (1.0 - mask))
    mixed = tf.transpose(tf.matmul(weights, heads), [0, 2, 1, 3])
    return {x: numbers(2, 6, 8)}, [tf.reshape(mixed, [-1, 6, 8])]


@program
def embedding(tf: Any) -> Any:
    words = tf.placeholder(tf.int32, [None, 3], "words")
    table = tf.get_variable("table", initializer=numbers(10, 4))
    rows = tf.nn.embedding_lookup(table, words)
    return {words: np.array([[1, 2, 3], [9, 0, 4]], np.int32)}, [tf.reduce_mean(rows, axis=1)]


@program
def recurrent(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [2, 4, 3], "x")
    kernel = tf.get_variable("kernel", initializer=numbers(8, 20) * np.float32(0.3))
    state = output = tf.zeros([2, 5])
    for step in tf.unstack(x, axis=1):
        gates = tf.matmul(tf.concat([step, output], 1), kernel)
        i, j, f, o = tf.split(gates, 4, axis=1)
        state = state * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
        output = tf.tanh(state) * tf.sigmoid(o)
    return {x: numbers(2, 4, 3)}, [output, state]


@program
def losses(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 4], "x")
    labels = tf.placeholder(tf.int32, [None], "labels")
    sparse = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
    binary = tf.nn.sigmoid_cross_entropy_with_logits(labels=tf.one_hot(labels, 4), logits=x)
    hit = tf.cast(tf.equal(tf.argmax(x, 1), tf.cast(labels, tf.int64)), tf.float32)
    feeds = {x: numbers(3, 4), labels: np.array([0, 3, 1], np.int32)}
    return feeds, [sparse, tf.reduce_mean(binary), tf.reduce_mean(hit), tf.nn.l2_loss(x)]


@program
def slicing(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 6, 5], "x")
    parts = [x[:, 1:4, ::2], x[..., -1], x[:, tf.newaxis, 0, :], x[0]]
    parts.append(tf.slice(x, [0, 2, 1], [-1, 2, 3]))
    parts += tf.split(x, [2, 4], axis=1)
    return {x: numbers(2, 6, 5)}, parts


@program
def joining(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [2, 3], "x")
    both = tf.stack([x, x * 2.0], axis=1)
    wide = tf.concat([x, tf.tile(x, [1, 2])], axis=1)
    padded = tf.pad(wide, [[1, 0], [0, 2]], constant_values=7.0)
    mirrored = tf.pad(x, [[0, 0], [1, 2]], mode="REFLECT")
    return {x: numbers(2, 3)}, [both, padded, mirrored, tf.reverse(wide, [1])]


@program
def reductions(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 3, 4], "x")
    found = [tf.reduce_sum(x), tf.reduce_max(x, [0, 2]), tf.reduce_min(x, 1, keepdims=True)]
    found += [tf.reduce_prod(x, -1), tf.reduce_logsumexp(x, 2), tf.cumsum(x, 1, reverse=True)]
    found += [tf.argmin(x, 0), tf.reduce_any(x > 1.0, 1), tf.reduce_all(x < 9.0)]
    return {x: numbers(2, 3, 4)}, found


@program
def elementwise(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 7], "x")
    y = tf.abs(x) + 0.5
    found = [tf.exp(x), tf.log(y), tf.sqrt(y), tf.sin(x) * tf.cos(x), tf.erf(x), tf.lgamma(y)]
    found += [tf.floor(x), tf.sign(x), tf.pow(y, x), tf.maximum(x, 0.1)]
    found.append(tf.squared_difference(x, y))
    found += [tf.nn.softplus(x), tf.nn.softsign(x), tf.nn.selu(x), tf.atan2(x, y), tf.expm1(x)]
    return {x: numbers(3, 7)}, found


@program
def choices(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 4], "x")
    y = tf.where(x > 0.0, x, -x) + tf.cast(tf.logical_or(x < -1.0, x > 1.0), tf.float32)
    values, places = tf.nn.top_k(x, 2)
    clipped = tf.clip_by_value(x, -0.5, 0.5)
    return {x: numbers(3, 4)}, [y, clipped, values, places, tf.where(x > 0.0)]


@program
def integers(tf: Any) -> Any:
    x = tf.placeholder(tf.int32, [None], "x")
    found = [x // 3, x % 5, tf.bitwise.bitwise_xor(x, 12), tf.cast(x, tf.uint8), x * x - 7]
    found += [tf.cast(x, tf.int64) + tf.constant(2**40, tf.int64), tf.truncatediv(x, -4)]
    return {x: np.array([-17, 3, 250, 0, 99], np.int32)}, found


@program
def dtypes(tf: Any) -> Any:
    x = tf.placeholder(tf.float64, [3], "x")
    found = [tf.cast(x, kind) for kind in (tf.float16, tf.float32, tf.int8, tf.int16, tf.bool)]
    found += [tf.constant(np.array([1.5, -2.0]), tf.float16), tf.constant(1e300, tf.float64)]
    found += [tf.constant(True), tf.constant(np.array([[1, 2]], np.uint16)), tf.cast(x, tf.uint16)]
    return {x: np.array([0.0, 1.25, 3.0])}, found


@program
def shapes(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, None, 3], "x")
    size = tf.shape(x)
    found = [size, tf.size(x), tf.rank(x), tf.reshape(x, [size[0] * size[1], 3])]
    found += [tf.expand_dims(x, 1), tf.squeeze(x[:1], [0]), tf.fill([size[0], 2], 3.0)]
    found += [tf.range(size[1]), tf.zeros_like(x), tf.ones([1, 3]) * x[0]]
    return {x: numbers(2, 4, 3)}, found


@program
def algebra(tf: Any) -> Any:
    x = tf.placeholder(tf.float64, [3, 3], "x")
    y = tf.matmul(x, x, transpose_b=True) + tf.eye(3, dtype=tf.float64)
    root = tf.cholesky(y)
    solved = tf.matrix_triangular_solve(root, x)
    found = [root, solved, tf.matrix_inverse(y), tf.matrix_determinant(y), tf.matrix_solve(y, x)]
    return {x: numbers(3, 3).astype(np.float64)}, [*found, tf.matrix_diag_part(y), tf.trace(y)]


@program
def scattering(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [6, 2], "x")
    groups = tf.constant([0, 2, 1, 2, 0, 2])
    summed = tf.unsorted_segment_sum(x, groups, 3)
    picked = tf.gather_nd(x, [[0, 1], [5, 0]])
    spread = tf.scatter_nd([[1], [3]], x[:2], [5, 2])
    parts = tf.dynamic_partition(x, groups, 3)
    unique, places = tf.unique(groups)
    largest = tf.segment_max(x, [0, 0, 1, 1, 1, 2])
    return {x: numbers(6, 2)}, [summed, picked, spread, *parts, unique, places, largest]


@program
def contractions(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [2, 3, 4], "x")
    y = tf.constant(numbers(4, 5))
    found = [tf.einsum("abc,cd->abd", x, y), tf.tensordot(x, y, [[2], [0]]), tf.norm(x, axis=1)]
    return {x: numbers(2, 3, 4)}, found


@program
def complex_numbers(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [4], "x")
    z = tf.complex(x, x * 2.0) * tf.constant(1 + 2j, tf.complex64)
    return {x: numbers(4)}, [z, tf.conj(z), tf.real(z), tf.imag(z), tf.abs(z), tf.angle(z)]


@program
def strings(tf: Any) -> Any:
    x = tf.placeholder(tf.string, [None], "x")
    word = tf.constant(["one", "two"])
    return {x: np.array([b"a", b"\xff"], object)}, [tf.identity(x), tf.concat([word, word], 0)]


@program
def random_numbers(tf: Any) -> Any:
    found = [tf.random_uniform([3, 2], seed=3), tf.random_normal([5], seed=4)]
    found += [tf.truncated_normal([4], seed=5), tf.random_uniform([4], 0, 9, tf.int32, seed=6)]
    return {}, found


@program
def counters(tf: Any) -> Any:
    count = tf.get_variable("count", initializer=3)
    total = tf.get_variable("total", initializer=numbers(2), use_resource=True)
    with tf.control_dependencies([tf.assign_add(count, 2)]):
        after = tf.identity(count, name="after")
    with tf.control_dependencies([total.assign_add([1.0, 2.0], read_value=False)]):
        return {}, [after, total.read_value()]


@program
def training(tf: Any) -> Any:
    x = tf.placeholder(tf.float32, [None, 3], "x")
    y = tf.placeholder(tf.float32, [None, 1], "y")
    loss = tf.reduce_mean(tf.square(tf.tanh(dense(tf, x, 1, "layer")) - y))
    step = tf.train.AdamOptimizer(0.05).minimize(loss)
    with tf.control_dependencies([step]):
        done = tf.constant(1.0)
    return {x: numbers(8, 3), y: numbers(8, 1)}, [loss, done]
