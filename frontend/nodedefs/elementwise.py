"""Elementwise node types of one and two tensors: what they are in the IR, and their derivatives.

Nearly all are one line of a table. Derivatives are TensorFlow's formulas, also where another one is
equal in exact arithmetic, so that values agree in the last bits and at the edges (ties, zeros,
infinities).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_elementwise, define_node
from stepforge.frontend.nodedefs.formula import Term, define_formula, of_input, of_pair, terms
from stepforge.frontend.nodedefs.sizes import building, same_shape
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError
from stepforge.ir.types import NUMERIC

TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)

# node type, IR op, dx from (tf, x, y, dy); None: the node cuts gradients
UNARY: tuple[tuple[str, str, Any], ...] = (
    ("Neg", "neg", lambda tf, x, y, dy: -dy),
    ("Abs", "abs", lambda tf, x, y, dy: dy * tf.sign(x)),
    ("Sign", "sign", lambda tf, x, y, dy: tf.zeros_like(x)),
    ("Square", "square", lambda tf, x, y, dy: dy * (x * 2.0)),
    ("Exp", "exp", lambda tf, x, y, dy: dy * y),
    ("Expm1", "expm1", lambda tf, x, y, dy: dy * tf.exp(x)),
    ("Log", "log", lambda tf, x, y, dy: dy * tf.reciprocal(x)),
    ("Log1p", "log1p", lambda tf, x, y, dy: dy * tf.reciprocal(1 + x)),
    ("Sin", "sin", lambda tf, x, y, dy: dy * tf.cos(x)),
    ("Cos", "cos", lambda tf, x, y, dy: -dy * tf.sin(x)),
    ("Tan", "tan", lambda tf, x, y, dy: tf.square(tf.reciprocal(tf.cos(x))) * dy),
    ("Asin", "asin", lambda tf, x, y, dy: dy * tf.reciprocal(tf.sqrt(1 - tf.square(x)))),
    ("Acos", "acos", lambda tf, x, y, dy: -dy * tf.reciprocal(tf.sqrt(1 - tf.square(x)))),
    ("Atan", "atan", lambda tf, x, y, dy: dy * tf.reciprocal(1 + tf.square(x))),
    ("Sinh", "sinh", lambda tf, x, y, dy: dy * tf.cosh(x)),
    ("Cosh", "cosh", lambda tf, x, y, dy: dy * tf.sinh(x)),
    ("Tanh", "tanh", lambda tf, x, y, dy: tf.tanh_grad(y, dy)),
    ("Asinh", "asinh", lambda tf, x, y, dy: dy / tf.cosh(y)),
    ("Acosh", "acosh", lambda tf, x, y, dy: dy / tf.sinh(y)),
    ("Atanh", "atanh", lambda tf, x, y, dy: dy * tf.reciprocal(1 - tf.square(x))),
    ("Sigmoid", "sigmoid", lambda tf, x, y, dy: tf.sigmoid_grad(y, dy)),
    ("Erf", "erf", lambda tf, x, y, dy: dy * TWO_OVER_ROOT_PI * tf.exp(-tf.square(x))),
    ("Erfc", "erfc", lambda tf, x, y, dy: dy * -TWO_OVER_ROOT_PI * tf.exp(-tf.square(x))),
    ("Lgamma", "lgamma", lambda tf, x, y, dy: dy * tf.digamma(x)),
    ("Digamma", "digamma", lambda tf, x, y, dy: dy * tf.polygamma(tf.constant(1, x.dtype), x)),
    ("Floor", "floor", None),
    ("Ceil", "ceil", None),
    ("Round", "round", None),
    ("Rint", "round", None),
    ("Conj", "conj", lambda tf, x, y, dy: tf.conj(dy)),
    ("Invert", "bitwise_not", None),
)

# As UNARY, but with rules of (tf, op, dy): what is conjugated differs, or the dtype changes.
UNARY_BY_OP: tuple[tuple[str, str, Any], ...] = (
    ("Sqrt", "sqrt", lambda tf, op, dy: [tf.sqrt_grad(op.outputs[0], dy)]),
    ("Rsqrt", "rsqrt", lambda tf, op, dy: [tf.rsqrt_grad(op.outputs[0], dy)]),
    ("Reciprocal", "reciprocal", lambda tf, op, dy: [tf.reciprocal_grad(op.outputs[0], dy)]),
    ("Inv", "reciprocal", lambda tf, op, dy: [tf.reciprocal_grad(op.outputs[0], dy)]),
    ("Real", "real", lambda tf, op, dy: [tf.complex(dy, tf.zeros_like(dy))]),
    ("Imag", "imag", lambda tf, op, dy: [tf.complex(tf.zeros_like(dy), dy)]),
)


def _negate_second(dz: Any) -> tuple[Any, Any]:
    return dz, -dz


def _maximum(tf: Any, x: Any, y: Any, z: Any, dz: Any) -> tuple[Any, Any]:
    return _chosen(tf, tf.greater_equal(x, y), dz)


def _minimum(tf: Any, x: Any, y: Any, z: Any, dz: Any) -> tuple[Any, Any]:
    return _chosen(tf, tf.less_equal(x, y), dz)


def _chosen(tf: Any, first: Any, dz: Any) -> tuple[Any, Any]:
    """All of the gradient goes to one side; at a tie to the first."""
    zeros = tf.zeros_like(dz)
    return tf.where_v2(first, dz, zeros), tf.where_v2(first, zeros, dz)


def _pow(tf: Any, x: Any, y: Any, z: Any, dz: Any) -> tuple[Any, Any]:
    """Where x <= 0 the logarithm has no sensible real value: dy is 0 there."""
    has_log = tf.not_equal(x, tf.zeros_like(x)) if x.dtype.is_complex else x > 0
    safe = tf.where(has_log, x, tf.ones_like(x))
    log_x = tf.where(has_log, tf.log(safe), tf.zeros_like(x))
    return dz * y * tf.pow(x, y - 1), dz * z * log_x


def _quotient(divide: str) -> Any:
    """The gradients of ``x / y`` by one of the several divisions."""

    def rule(tf: Any, x: Any, y: Any, z: Any, dz: Any) -> tuple[Any, Any]:
        over = getattr(tf, divide)
        return over(dz, y), dz * over(over(-x, y), y)

    return rule


def _squared_difference(tf: Any, x: Any, y: Any, z: Any, dz: Any) -> tuple[Any, Any]:
    return _negate_second(dz * 2.0 * (x - y))


def _atan2(tf: Any, y: Any, x: Any, z: Any, dz: Any) -> tuple[Any, Any]:
    share = dz / (tf.square(y) + tf.square(x))
    return x * share, -y * share


def _igamma(tf: Any, a: Any, x: Any, z: Any, dz: Any) -> tuple[Any, Any]:
    """In log space, because gamma(a) grows large. The IR has no derivative in ``a``."""
    if a.op.type != "Const":
        raise NotImplementedError(f"{z.op.name}: the derivative of igamma in its first argument")
    return None, dz * tf.exp(-x + (a - 1) * tf.log(x) - tf.lgamma(a))


def _igammac(tf: Any, a: Any, x: Any, z: Any, dz: Any) -> tuple[Any, Any]:
    _, dx = _igamma(tf, a, x, z, dz)
    return None, -dx


# What the inputs are called where that is not x and y; constants are named after them.
INPUTS = {
    "Atan2": ("y", "x"), "Igamma": ("a", "x"), "Igammac": ("a", "x"), "Polygamma": ("a", "x"),
    "Zeta": ("x", "q"),
}

# node type, IR op, (dx, dy) from (tf, x, y, z, dz)
BINARY: tuple[tuple[str, str, Any], ...] = (
    ("Add", "add", lambda tf, x, y, z, dz: (dz, dz)),
    ("AddV2", "add", lambda tf, x, y, z, dz: (dz, dz)),
    ("Sub", "sub", lambda tf, x, y, z, dz: _negate_second(dz)),
    ("Mul", "mul", lambda tf, x, y, z, dz: (dz * y, x * dz)),
    ("RealDiv", "div", _quotient("realdiv")),
    ("Maximum", "maximum", _maximum),
    ("Minimum", "minimum", _minimum),
    ("SquaredDifference", "squared_difference", _squared_difference),
    ("Atan2", "atan2", _atan2),
    ("Igamma", "igamma", _igamma),
    ("Igammac", "igammac", _igammac),
    ("Zeta", "zeta", lambda tf, x, q, z, dz: (None, dz * (-x * tf.zeta(x + 1, q)))),
    ("Polygamma", "polygamma", lambda tf, n, x, z, dz: (None, dz * tf.polygamma(n + 1, x))),
    ("BitwiseAnd", "bitwise_and", None),
    ("BitwiseOr", "bitwise_or", None),
    ("BitwiseXor", "bitwise_xor", None),
)
# Nodes of gradients, and others that are formulas of IR ops: node type, inputs, formula, gradient,
# what it is.
FORMULAS: tuple[tuple[str, tuple[str, ...], Any, Any, str], ...] = (
    (
        "SqrtGrad", ("y", "dy"), lambda y, dy: dy * 0.5 / y.conj(),
        lambda tf, op, g: _sqrt_grad_grad(tf, g / op.inputs[0], op.outputs[0]),
        "The gradient of ``Sqrt`` from its output: ``dy / (2 y)``.",
    ),
    (
        "RsqrtGrad", ("y", "dy"), lambda y, dy: -0.5 * (dy * y.conj()) * (y.conj() * y.conj()),
        lambda tf, op, g: _rsqrt_grad_grad(tf, op.inputs, g),
        "The gradient of ``Rsqrt`` from its output: ``-dy y³ / 2``.",
    ),
    (
        "ReciprocalGrad", ("y", "dy"), lambda y, dy: -(y.conj()) * dy * y.conj(),
        lambda tf, op, g: [
            tf.conj(g) * -2.0 * op.inputs[1] * tf.conj(op.inputs[0]),
            tf.reciprocal_grad(tf.conj(op.inputs[0]), g),
        ],
        "The gradient of ``Reciprocal`` from its output: ``-dy y²``.",
    ),
    (
        "TanhGrad", ("y", "dy"), lambda y, dy: dy * (1 - y * y),
        lambda tf, op, g: _tanh_grad_grad(tf, map(tf.conj, op.inputs), g),
        "The gradient of ``Tanh`` from its output: ``dy (1 - y²)``.",
    ),
    (
        "SigmoidGrad", ("y", "dy"), lambda y, dy: dy * y * (1 - y),
        lambda tf, op, g: _sigmoid_grad_grad(tf, map(tf.conj, op.inputs), g),
        "The gradient of ``Sigmoid`` from its output: ``dy y (1 - y)``.",
    ),
    (
        "DivNoNan", ("x", "y"), lambda x, y: y.equals(0).choose(0, x / y),
        of_pair(_quotient("div_no_nan")),
        "``x / y``, and 0 where y is 0.",
    ),
    (
        "MulNoNan", ("x", "y"), lambda x, y: y.equals(0).choose(0, x * y),
        lambda tf, op, g: [
            tf.sum_to(tf.multiply_no_nan(g, op.inputs[1]), op.inputs[0]),
            tf.sum_to(tf.multiply_no_nan(op.inputs[0], g), op.inputs[1]),
        ],
        "``x * y``, and 0 where y is 0, whatever x is.",
    ),
    (
        "Xlogy", ("x", "y"), lambda x, y: x.equals(0).choose(0, x * y.fn("log")),
        lambda tf, op, g: _x_times(tf, op, g, tf.xlogy, tf.xdivy(*op.inputs)),
        "``x log(y)``, and 0 where x is 0.",
    ),
    (
        "Xlog1py", ("x", "y"), lambda x, y: x.equals(0).choose(0, x * y.fn("log1p")),
        lambda tf, op, g: _x_times(
            tf, op, g, tf.xlog1py, tf.xdivy(op.inputs[0], op.inputs[1] + 1)
        ),
        "``x log(1 + y)``, and 0 where x is 0.",
    ),
    (
        "Xdivy", ("x", "y"), lambda x, y: x.equals(0).choose(0, x / y),
        lambda tf, op, g: _x_times(
            tf, op, g, tf.xdivy, tf.xdivy(-op.inputs[0], tf.square(op.inputs[1]))
        ),
        "``x / y``, and 0 where x is 0.",
    ),
    (
        "LeftShift", ("x", "y"), lambda x, y: x.fn("shift_left", _within_width(y)), None,
        "``x << y``; counts are limited to the width as TensorFlow does it.",
    ),
    (
        "RightShift", ("x", "y"), lambda x, y: x.fn("shift_right", _within_width(y)), None,
        "``x >> y``; counts are limited to the width as TensorFlow does it.",
    ),
    (
        "ComplexAbs", ("x",), lambda x: x.fn("abs"),
        lambda tf, op, g: [_towards(tf, g, op.inputs[0], op.outputs[0])],
        "The absolute value of a complex tensor, a real one.",
    ),
    (
        "Angle", ("x",), lambda x: x.fn("angle"),
        lambda tf, op, g: [_angle_grad(tf, op.inputs[0], g)],
        "The argument of a complex tensor, a real one.",
    ),
    (
        "Complex", ("real", "imag"), lambda real, imag: real.fn("complex", imag),
        of_pair(lambda tf, x, y, z, dz: (tf.real(dz), tf.imag(dz))),
        "A complex tensor from its two parts.",
    ),
    (
        "ClipByValue", ("x", "low", "high"),
        lambda x, low, high: x.fn("maximum", low).fn("minimum", high),
        lambda tf, op, g: _clip_grad(tf, op.inputs, g),
        "``x`` limited to [low, high].",
    ),
)


def _sqrt_grad_grad(tf: Any, share: Any, slope: Any) -> list[Any]:
    return [-tf.conj(share) * slope, 0.5 * share]


def _rsqrt_grad_grad(tf: Any, inputs: Any, g: Any) -> list[Any]:
    y, dy = inputs
    slope = -1.5 * tf.conj(g) * dy * tf.square(tf.conj(y))
    return [slope, tf.rsqrt_grad(tf.conj(y), g)]


def _tanh_grad_grad(tf: Any, inputs: Any, g: Any) -> list[Any]:
    y, dy = inputs
    return [g * -2.0 * dy * y, tf.tanh_grad(y, g)]


def _sigmoid_grad_grad(tf: Any, inputs: Any, g: Any) -> list[Any]:
    y, dy = inputs
    product = g * dy
    return [product - 2.0 * product * y, tf.sigmoid_grad(y, g)]


def _x_times(tf: Any, op: Any, g: Any, function: Any, slope_y: Any) -> list[Any]:
    """Gradients of ``x * f(y)`` with 0 where x is 0: ``function(x, y)`` is the node's own function.
    """
    x, y = op.inputs
    slope_x = function(tf.cast(tf.not_equal(x, tf.zeros_like(x)), x.dtype), y)
    return [tf.sum_to(slope_x * g, x), tf.sum_to(slope_y * g, y)]


def _towards(tf: Any, g: Any, x: Any, size: Any) -> Any:
    """The unit vector of x, 0 at 0, scaled by g."""
    zeros = tf.zeros_like(g)
    return tf.div_no_nan(tf.complex(g, zeros) * x, tf.complex(size, zeros))


def _angle_grad(tf: Any, x: Any, g: Any) -> Any:
    z = tf.reciprocal(tf.complex(tf.imag(x), tf.real(x)))
    return -tf.complex(g, tf.zeros_like(g)) * z


def _clip_grad(tf: Any, inputs: Any, g: Any) -> list[Any]:
    x, low, high = inputs
    zeros = tf.zeros_like(g)
    below, above = tf.less(x, low), tf.greater(x, high)
    inside = tf.where(tf.logical_or(below, above), zeros, g)
    return [
        inside,
        tf.sum_to(tf.where(below, g, zeros), low),
        tf.sum_to(tf.where(above, g, zeros), high),
    ]


def _within_width(count: Term) -> Term:
    bits = NUMERIC[count.operand.type.dtype][2]
    return count.fn("maximum", 0).fn("minimum", bits - 1)


# node type, IR op of integers (after a check for zeros), IR op of other numbers, gradient
DIVISIONS: tuple[tuple[str, str, str, Any], ...] = (
    ("Div", "trunc_div", "div", of_pair(_quotient("divide"))),
    ("TruncateDiv", "trunc_div", "trunc_div", None),
    ("FloorDiv", "floor_div", "floor_div", None),
    (
        "FloorMod", "floor_mod", "floor_mod",
        of_pair(lambda tf, x, y, z, dz: (dz, dz * -tf.floor_div(x, y))),
    ),
    ("Mod", "trunc_mod", "trunc_mod", None),
    ("TruncateMod", "trunc_mod", "trunc_mod", None),
)


def _define_division(type_: str, of_integers: str, of_others: str, gradient: Any) -> None:
    def formula(x: Term, y: Term) -> Term:
        if x.operand.type.kind not in "iu":
            return x.fn(of_others, y)
        known = y.x.static(y.operand)
        if known is None or not known.all():
            y.x.emit("check_nonzero", y.operand)
        return x.fn(of_integers, y)

    define_formula(type_, ("x", "y"), formula, gradient, f"Division ``{of_integers}`` of x by y.")


for _type, _op, _rule in UNARY:
    define_elementwise(_type, _op, ("x",), None if _rule is None else of_input(_rule))
for _type, _op, _rule in UNARY_BY_OP:
    define_elementwise(_type, _op, ("x",), _rule)
for _type, _op, _rule in BINARY:
    _names = INPUTS.get(_type, ("x", "y"))
    define_elementwise(_type, _op, _names, None if _rule is None else of_pair(_rule))
for _type, _inputs, _formula, _rule, _doc in FORMULAS:
    define_formula(_type, _inputs, _formula, _rule, _doc)
for _type, _integers, _others, _rule in DIVISIONS:
    _define_division(_type, _integers, _others, _rule)


@define_node
class Pow(NodeDef):
    """``x`` to the power of ``y``; an integer to a negative power is the user's error."""

    inputs = ("x", "y")

    def extract(self, x: Any, node: Any, base: Any, exponent: Any) -> Any:
        """A check for integers, and the power."""
        if base.type.kind == "i":
            known = x.static(exponent)
            if known is None or (known < 0).any():
                axes = tuple(range(len(x.shape(exponent))))
                (power,) = terms(x, exponent)
                fine = power.fn("greater_equal", 0).fn("reduce_all", axes=axes)
                x.emit("require", fine.operand,
                       message="Integers to negative integer powers are not allowed")
        return x.emit("pow", base, exponent)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """As TensorFlow has it: where x <= 0, y gets 0."""
        found: list[Any] = of_pair(_pow)(tf, op, dz)
        return found


@define_node
class Cast(NodeDef):
    """``x`` as another dtype."""

    inputs = ("x",)
    attrs: ClassVar[dict[str, Any]] = {"DstT": REQUIRED, "Truncate": False}

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """``cast``."""
        return x.emit("cast", value, dtype=node.attrs["DstT"])

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """Flows between floating point and complex dtypes only."""
        source = op.inputs[0].dtype.base_dtype
        smooth = all(d.is_floating or d.is_complex for d in (source, dy.dtype))
        return [tf.cast(dy, source) if smooth else None]


@define_node
class AddN(NodeDef):
    """The sum of tensors of one shape; nothing broadcasts."""

    inputs = ("*inputs",)

    def extract(self, x: Any, node: Any, *values: Any) -> Any:
        """Sums from left to right, after the shapes are found equal."""
        total = values[0]
        for index, value in enumerate(values[1:], 1):
            if value.type.ranked and values[0].type.ranked:
                _check_summand(x, node, index, x.shape(values[0]), x.shape(value))
            total = x.emit("add", total, value)
        return total

    def gradient(self, tf: Any, op: Any, dy: Any) -> list[Any]:
        """Every summand gets all of it."""
        return [dy] * len(op.inputs)



def _check_summand(
    x: Any, node: Any, index: int, first: Sequence[Dim], other: Sequence[Dim]
) -> None:
    """Raises: ShapeError where a summand has not the shape of the first one."""
    if building(x):
        context = f"\n\tFrom merging shape {index - 1} with other shapes."
        same_shape(x, first, other, context)
        return
    message = told(
        f"Inputs to operation {node.name} of type {node.type} must have the same size and shape.  "
        f"Input 0: {{}} != input {index}: {{}}",
        first,
        other,
    )
    if len(first) != len(other):
        raise ShapeError(message)
    for a, b in zip(first, other, strict=True):
        x.unify(a, b, message)
