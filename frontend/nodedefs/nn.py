"""Node types of neural networks: activations, softmax and its losses, biases, the best k.

Activations are a table; each goes with a node for its gradient, as TensorFlow has it
(``ReluGrad``), which has a gradient in turn.
"""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs.base import NodeDef, define_elementwise, define_node
from stepforge.frontend.nodedefs.formula import Term, define_formula, of_input, terms
from stepforge.frontend.nodedefs.sizes import bracketed, building, require_at_most, scalar
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError

SELU_SCALE = 1.0507009873554804934193349852946
SELU_SCALE_ALPHA = 1.7580993408473768599402175208123

# node type, IR op, gradient from (tf, features, activations, gradients)
ACTIVATIONS: tuple[tuple[str, str, Any], ...] = (
    ("Relu", "relu", lambda tf, x, y, dy: tf.relu_grad(dy, y)),
    ("Relu6", "relu6", lambda tf, x, y, dy: tf.relu6_grad(dy, y)),
    ("Elu", "elu", lambda tf, x, y, dy: tf.elu_grad(dy, y)),
    ("Selu", "selu", lambda tf, x, y, dy: tf.selu_grad(dy, y)),
    ("Softplus", "softplus", lambda tf, x, y, dy: dy * tf.sigmoid(x)),
    ("Softsign", "softsign", lambda tf, x, y, dy: tf.softsign_grad(dy, x)),
)


def _elu_slope(tf: Any, op: Any, g: Any, again: Any) -> list[Any]:
    """For y < 0 the slope is linear in y, above it is constant."""
    dy, y = op.inputs
    return [again(g, y), tf.where(y < 0, g * dy, tf.zeros_like(y))]


def _softplus_slope(tf: Any, op: Any, g: Any) -> list[Any]:
    dy, x = op.inputs
    return [tf.softplus_grad(g, x), g * dy / (tf.exp(-x) + 2.0 + tf.exp(x))]


def _softsign_slope(tf: Any, op: Any, g: Any) -> list[Any]:
    dy, x = op.inputs
    reach = 1 + tf.abs(x)
    slope = -2.0 * tf.sign(x) / (tf.square(reach) * reach)
    return [tf.softsign_grad(g, x), g * dy * slope]


def _softsign_grad(dy: Term, x: Term) -> Term:
    reach = 1 + x.fn("abs")
    return dy / (reach * reach)


# Gradient nodes: type, second input, formula of (dy, x or y), gradient, what it is
SLOPES: tuple[tuple[str, Any, Any, str], ...] = (
    (
        "ReluGrad", lambda dy, x: (x > 0).choose(dy, 0),
        lambda tf, op, g: [tf.relu_grad(g, op.inputs[1]), tf.zeros_like(op.inputs[1])],
        "dy where the features are positive, else 0.",
    ),
    (
        "Relu6Grad", lambda dy, x: ((x > 0) & (x < 6)).choose(dy, 0),
        lambda tf, op, g: [tf.relu6_grad(g, op.inputs[1]), tf.zeros_like(op.inputs[1])],
        "dy where the features lie between 0 and 6, else 0.",
    ),
    (
        "EluGrad", lambda dy, y: (y < 0).choose(dy * (y + 1), dy),
        lambda tf, op, g: _elu_slope(tf, op, g, tf.elu_grad),
        "The gradient of ``Elu`` from its output.",
    ),
    (
        "SeluGrad",
        lambda dy, y: (y < 0).choose(dy * (y + SELU_SCALE_ALPHA), dy * SELU_SCALE),
        lambda tf, op, g: _elu_slope(tf, op, g, tf.selu_grad),
        "The gradient of ``Selu`` from its output.",
    ),
    (
        "SoftplusGrad", lambda dy, x: dy / ((-x).fn("exp") + 1), _softplus_slope,
        "The gradient of ``Softplus``: ``dy / (1 + exp(-x))``.",
    ),
    (
        "SoftsignGrad", _softsign_grad, _softsign_slope,
        "The gradient of ``Softsign``: ``dy / (1 + |x|)²``.",
    ),
)

for _type, _op, _rule in ACTIVATIONS:
    define_elementwise(_type, _op, ("features",), of_input(_rule))
for _type, _formula, _rule, _doc in SLOPES:
    define_formula(_type, ("gradients", "features"), _formula, _rule, _doc)


@define_node
class LeakyRelu(NodeDef):
    """``x`` where it is positive, else ``alpha * x``."""

    inputs = ("features",)
    attrs: ClassVar[dict[str, Any]] = {"alpha": 0.2}

    def extract(self, x: Any, node: Any, features: Any) -> Any:
        """By selection."""
        (value,) = terms(x, features)
        return (value > 0).choose(value, value * node.attrs["alpha"]).operand

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """``LeakyReluGrad``."""
        return [tf.leaky_relu_grad(dy, op.inputs[0], alpha=op.get_attr("alpha"))]


@define_node
class LeakyReluGrad(NodeDef):
    """The gradient of ``LeakyRelu``."""

    inputs = ("gradients", "features")
    attrs: ClassVar[dict[str, Any]] = {"alpha": 0.2}

    def extract(self, x: Any, node: Any, gradients: Any, features: Any) -> Any:
        """By selection."""
        dy, value = terms(x, gradients, features)
        return (value > 0).choose(dy, dy * node.attrs["alpha"]).operand

    def gradient(self, tf: Any, op: Any, g: Any) -> list[Any]:
        """Linear in dy, piecewise constant in the features."""
        features = op.inputs[1]
        slope = tf.leaky_relu_grad(g, features, alpha=op.get_attr("alpha"))
        return [slope, tf.zeros_like(features)]


# ---- softmax ------------------------------------------------------------------------------------
def _at_least_rank_1(x: Any, logits: Any) -> None:
    if not x.shape(logits):
        raise ShapeError("Shape must be at least rank 1 but is rank 0")


@define_node
class Softmax(NodeDef):
    """``exp(logits) / sum(exp(logits))`` over the last axis."""

    inputs = ("logits",)

    def extract(self, x: Any, node: Any, logits: Any) -> Any:
        """The IR's ``softmax``."""
        _at_least_rank_1(x, logits)
        return x.emit("softmax", logits)

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """``(dy - sum(dy y)) y``."""
        y = op.outputs[0]
        return [(dy - tf.reduce_sum(dy * y, -1, keepdims=True)) * y]


@define_node
class LogSoftmax(NodeDef):
    """``logits - log(sum(exp(logits)))`` over the last axis."""

    inputs = ("logits",)

    def extract(self, x: Any, node: Any, logits: Any) -> Any:
        """The IR's ``log_softmax``."""
        _at_least_rank_1(x, logits)
        return x.emit("log_softmax", logits)

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """``dy - sum(dy) softmax``."""
        return [dy - tf.reduce_sum(dy, -1, keepdims=True) * tf.exp(op.outputs[0])]


def _by_row(tf: Any, scale: Any, matrix: Any) -> Any:
    return tf.expand_dims(scale, -1) * matrix


def _is_zeros(tf: Any, tensor: Any) -> bool:
    """True for what ``tf.gradients`` puts where no gradient arrived."""
    if tensor is None or tensor.op.type == "ZerosLike":
        return True
    if tensor.op.type == "Fill":
        tensor = tensor.op.inputs[1]
    known = tf.constant_value(tensor)
    return known is not None and not known.any()


def _logits_gradient(tf: Any, op: Any, dloss: Any, dbackprop: Any) -> Any:
    """From the losses the kept gradient; from that gradient the softmax's second derivative."""
    slope = None if dloss is None else _by_row(tf, dloss, op.outputs[1])
    if _is_zeros(tf, dbackprop):
        return slope
    softmax = tf.softmax(op.inputs[0])
    inner = tf.matmul(tf.expand_dims(dbackprop, 1), tf.expand_dims(softmax, 2))
    second = (dbackprop - tf.squeeze(inner, axis=[1])) * softmax
    return second if slope is None else slope + second


@define_node
class SoftmaxCrossEntropyWithLogits(NodeDef):
    """The cross entropy of each row's softmax with the row of labels, and its gradient in the
    logits.
    """

    inputs = ("features", "labels")
    outputs = 2

    def extract(self, x: Any, node: Any, logits: Any, labels: Any) -> Any:
        """The IR's ``softmax_cross_entropy``; an axis of size 1 broadcasts."""
        left, right = x.shape(logits), x.shape(labels)
        for shape in (left, right):
            if len(shape) != 2:
                raise ShapeError(f"Shape must be rank 2 but is rank {len(shape)}")
        shape = tuple(_matched(x, left, right, axis) for axis in (0, 1))
        return x.emit(
            "softmax_cross_entropy", _shaped(x, logits, shape), _shaped(x, labels, shape)
        )

    def gradient(self, tf: Any, op: Any, dloss: Any, dbackprop: Any) -> list[Any]:
        """Of second order too: the second output is differentiable."""
        logits, labels = op.inputs
        slope = _logits_gradient(tf, op, dloss, dbackprop)
        of_labels = None if dloss is None else _by_row(tf, dloss, -tf.log_softmax(logits))
        return [
            None if d is None else tf.sum_to(d, source)
            for d, source in ((slope, logits), (of_labels, labels))
        ]


def _shaped(x: Any, value: Any, shape: tuple[Dim, ...]) -> Any:
    """A matrix in a shape that is its own, known by other names, or that it broadcasts to."""
    own = x.shape(value)
    if own == shape:
        return value
    return x.emit("broadcast_to" if 1 in own else "reshape", value, shape=shape)


def _matched(x: Any, left: tuple[Dim, ...], right: tuple[Dim, ...], axis: int) -> Dim:
    a, b = left[axis], right[axis]
    text = "logits and labels must be broadcastable: logits_size={} labels_size={}"
    message = told(text, left, right)
    if isinstance(a, int) and isinstance(b, int) and a != b and 1 not in (a, b):
        raise ShapeError(f"Dimensions must be equal, but are {a} and {b}. {message}")
    if a == 1 or b == 1:
        return b if a == 1 else a
    size: Dim = x.unify(a, b, message)
    return size


@define_node
class SparseSoftmaxCrossEntropyWithLogits(NodeDef):
    """The cross entropy of each row's softmax with a class number, and its gradient in the logits.
    """

    inputs = ("features", "labels")
    outputs = 2

    def extract(self, x: Any, node: Any, logits: Any, labels: Any) -> Any:
        """A check of the labels, and the IR's ``sparse_softmax_cross_entropy``."""
        left, right = x.shape(logits), x.shape(labels)
        for shape, rank in ((left, 2), (right, 1)):
            if len(shape) != rank:
                raise ShapeError(f"Shape must be rank {rank} but is rank {len(shape)}")
        x.unify(left[0], right[0],
                "logits and labels must have the same first dimension, got logits shape "
                f"{bracketed(left)} and labels shape {bracketed(right)}")
        x.emit("check_bounds", labels, limit=left[1], message=LABEL_OUT_OF_RANGE)
        return x.emit("sparse_softmax_cross_entropy", logits, labels)

    def gradient(self, tf: Any, op: Any, dloss: Any, dbackprop: Any) -> list[Any]:
        """As for dense labels; class numbers have none."""
        return [_logits_gradient(tf, op, dloss, dbackprop), None]


LABEL_OUT_OF_RANGE = (
    "Received a label value of {value} which is outside the valid range of [0, {limit})"
)


# ---- the rest -----------------------------------------------------------------------------------
@define_node
class L2Loss(NodeDef):
    """Half the sum of squares."""

    inputs = ("t",)

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """A reduction over all axes."""
        axes = tuple(range(len(x.shape(value))))
        (t,) = terms(x, value)
        return (t.fn("square") * 0.5).fn("reduce_sum", axes=axes).operand

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """``t dy``."""
        return [op.inputs[0] * dy]


def _channel_axis(node: Any, rank: int) -> int:
    return 1 if node.attrs["data_format"] in ("NCHW", b"NCHW") else rank - 1


@define_node
class BiasAdd(NodeDef):
    """A vector added along the axis of channels."""

    inputs = ("value", "bias")
    attrs: ClassVar[dict[str, Any]] = {"data_format": "NHWC"}

    def extract(self, x: Any, node: Any, value: Any, bias: Any) -> Any:
        """An addition, once the sizes fit."""
        shape, channels = x.shape(value), x.shape(bias)
        if len(shape) < 2:
            raise ShapeError(f"Shape must be at least rank 2 but is rank {len(shape)}")
        if len(channels) != 1:
            raise ShapeError(f"Shape must be rank 1 but is rank {len(channels)}")
        axis = _channel_axis(node, len(shape))
        a, b = shape[axis], channels[0]
        if isinstance(a, int) and isinstance(b, int) and a != b:
            raise ShapeError(f"Dimensions must be equal, but are {a} and {b}")
        text = "Must provide as many biases as the last dimension of the input tensor: {} vs. {}"
        x.unify(a, b, told(text, channels, shape))
        if axis != len(shape) - 1:
            bias = x.emit("reshape", bias, shape=(b, *(1,) * (len(shape) - axis - 1)))
        return x.emit("add", value, bias)

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """``dy``, and its sum for each channel."""
        return [dy, tf.bias_add_grad(dy, data_format=op.attrs["data_format"])]


@define_node
class BiasAddV1(BiasAdd):
    """The older form of ``BiasAdd``, for channels in the last axis."""


@define_node
class BiasAddGrad(NodeDef):
    """The sum of a tensor for each channel."""

    inputs = ("out_backprop",)
    attrs: ClassVar[dict[str, Any]] = {"data_format": "NHWC"}

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """A reduction over the other axes."""
        rank = len(x.shape(value))
        if rank < 2:
            raise ShapeError(f"Shape must be at least rank 2 but is rank {rank}")
        channel = _channel_axis(node, rank)
        return x.emit("reduce_sum", value, axes=tuple(a for a in range(rank) if a != channel))

    def gradient(self, tf: Any, op: Any, g: Any) -> list[Any]:
        """Spread over the other axes again."""
        zeros = tf.zeros_like(op.inputs[0])
        return [tf.bias_add(zeros, g, data_format=op.attrs["data_format"])]


@define_node
class TopKV2(NodeDef):
    """The ``k`` largest elements of the last axis, and their indices."""

    inputs = ("input", "k")
    attrs: ClassVar[dict[str, Any]] = {"sorted": True, "index_type": "i32"}
    outputs = 2

    def extract(self, x: Any, node: Any, value: Any, k: Any) -> Any:
        """A check of the size, and the IR's ``top_k``."""
        shape = x.shape(value)
        if not shape:
            raise ShapeError("input must have at least rank 1 but is rank 0")
        count = scalar(x, k, "k must be scalar, got shape {}")
        message = told("input must have at least k columns. Had {}, needed {}", shape[-1], count)
        if building(x):
            message = told("input must have last dimension >= k = {} but is {}", count, shape[-1])
        require_at_most(x, count, shape[-1], message)
        values, indices = x.emit("top_k", value, k=count, sorted=node.attrs["sorted"])
        if node.attrs["index_type"] != "i32":
            indices = x.emit("cast", indices, dtype=node.attrs["index_type"])
        return values, indices

    def gradient(self, tf: Any, op: Any, dvalues: Any, dindices: Any) -> list[Any]:
        """dvalues put back where the elements came from."""
        if dvalues is None:
            return [None, None]
        shape = tf.shape(op.inputs[0])
        width = shape[-1]
        indices = tf.cast(tf.reshape(op.outputs[1], tf.stack([-1, tf.shape(op.outputs[1])[-1]])),
                          shape.dtype)
        starts = tf.expand_dims(tf.range(tf.shape(indices)[0]) * width, -1)
        flat = tf.reshape(indices + starts, [-1, 1])
        scattered = tf.scatter_nd(flat, tf.reshape(dvalues, [-1]), [tf.size(op.inputs[0])])
        return [tf.reshape(scattered, shape), None]


@define_node
class InTopKV2(NodeDef):
    """Whether each target class is among the ``k`` best predictions of its row; ties count as in.
    """

    inputs = ("predictions", "targets", "k")
    no_gradient = True

    def extract(self, x: Any, node: Any, predictions: Any, targets: Any, k: Any) -> Any:
        """The IR's ``in_top_k``."""
        left, right = x.shape(predictions), x.shape(targets)
        for shape, rank in ((left, 2), (right, 1)):
            if len(shape) != rank:
                raise ShapeError(f"Shape must be rank {rank} but is rank {len(shape)}")
        x.unify(left[0], right[0],
                f"First dimension of predictions {left[0]} must match length of targets {right[0]}")
        count = scalar(x, k, "k must be 0-D, got shape {}")
        return x.emit("in_top_k", predictions, targets, k=count)
