"""Transcendental functions, and the activations that are made of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.ir.opdef import define_op
from stepforge.ir.ops.arrays import Array
from stepforge.ir.ops.elementwise import Binary, Unary, binary_cases, unary_cases
from stepforge.ir.ops.inference import FLOAT, FLOAT_OR_COMPLEX, REAL

SELU_SCALE = 1.0507009873554804934193349852946
SELU_SCALE_ALPHA = 1.7580993408473768599402175208123


def _sigmoid(x: Array) -> Array:
    if x.dtype.kind == "c":
        return np.asarray(1 / (1 + np.exp(-x)))
    small = np.exp(-np.abs(x))
    return np.where(x < 0, small / (1 + small), 1 / (1 + small))


def _selu(x: Array) -> Array:
    negative = np.expm1(x) * x.dtype.type(SELU_SCALE_ALPHA)
    return np.asarray(np.where(x < 0, negative, x * x.dtype.type(SELU_SCALE)))


@define_op
class Exp(Unary):
    """e to the power x. ``%r = exp(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("exp", FLOAT_OR_COMPLEX)
    function = staticmethod(np.exp)


@define_op
class Expm1(Unary):
    """``exp(x) - 1``, exact for small x. ``%r = expm1(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("expm1", FLOAT_OR_COMPLEX)
    function = staticmethod(np.expm1)


@define_op
class Log(Unary):
    """The natural logarithm: -inf of 0, NaN below. ``%r = log(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("log", FLOAT_OR_COMPLEX)
    function = staticmethod(np.log)


@define_op
class Log1p(Unary):
    """``log(1 + x)``, exact for small x. ``%r = log1p(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("log1p", FLOAT_OR_COMPLEX)
    function = staticmethod(np.log1p)


@define_op
class Sqrt(Unary):
    """The square root: NaN below 0. ``%r = sqrt(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("sqrt", FLOAT_OR_COMPLEX)
    function = staticmethod(np.sqrt)


@define_op
class Rsqrt(Unary):
    """``1 / sqrt(x)``. ``%r = rsqrt(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("rsqrt", FLOAT_OR_COMPLEX)
    function = staticmethod(lambda x: np.reciprocal(np.sqrt(x)))

    def scalar(self, k: Any, x: Any) -> Any:
        return k.div(k.constant(1, x), k.sqrt(x))


@define_op
class Sin(Unary):
    """The sine of radians. ``%r = sin(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("sin", FLOAT_OR_COMPLEX)
    function = staticmethod(np.sin)


@define_op
class Cos(Unary):
    """The cosine of radians. ``%r = cos(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("cos", FLOAT_OR_COMPLEX)
    function = staticmethod(np.cos)


@define_op
class Tan(Unary):
    """The tangent of radians. ``%r = tan(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("tan", FLOAT_OR_COMPLEX)
    function = staticmethod(np.tan)


@define_op
class Asin(Unary):
    """The arc sine, in radians: NaN beyond 1. ``%r = asin(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("asin", FLOAT_OR_COMPLEX)
    function = staticmethod(np.arcsin)


@define_op
class Acos(Unary):
    """The arc cosine, in radians: NaN beyond 1. ``%r = acos(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("acos", FLOAT_OR_COMPLEX)
    function = staticmethod(np.arccos)


@define_op
class Atan(Unary):
    """The arc tangent, in radians. ``%r = atan(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("atan", FLOAT_OR_COMPLEX)
    function = staticmethod(np.arctan)


@define_op
class Atan2(Binary):
    """The angle of the point (y, x) as given: ``atan2(%y, %x)``. ``%r = atan2(%y, %x) : f32[n]``"""

    accepts = FLOAT
    cases = binary_cases("atan2", FLOAT)
    function = staticmethod(np.arctan2)


@define_op
class Sinh(Unary):
    """The hyperbolic sine. ``%r = sinh(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("sinh", FLOAT_OR_COMPLEX)
    function = staticmethod(np.sinh)


@define_op
class Cosh(Unary):
    """The hyperbolic cosine. ``%r = cosh(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("cosh", FLOAT_OR_COMPLEX)
    function = staticmethod(np.cosh)


@define_op
class Tanh(Unary):
    """The hyperbolic tangent. ``%r = tanh(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("tanh", FLOAT_OR_COMPLEX)
    function = staticmethod(np.tanh)


@define_op
class Asinh(Unary):
    """The inverse hyperbolic sine. ``%r = asinh(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("asinh", FLOAT_OR_COMPLEX)
    function = staticmethod(np.arcsinh)


@define_op
class Acosh(Unary):
    """The inverse hyperbolic cosine: NaN below 1. ``%r = acosh(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("acosh", FLOAT_OR_COMPLEX)
    function = staticmethod(np.arccosh)


@define_op
class Atanh(Unary):
    """The inverse hyperbolic tangent: infinite at 1, NaN beyond. ``%r = atanh(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("atanh", FLOAT_OR_COMPLEX)
    function = staticmethod(np.arctanh)


@define_op
class Sigmoid(Unary):
    """``1 / (1 + exp(-x))``, without overflow. ``%r = sigmoid(%x) : f32[n]``"""

    accepts = FLOAT_OR_COMPLEX
    cases = unary_cases("sigmoid", FLOAT_OR_COMPLEX)
    function = staticmethod(_sigmoid)


@define_op
class Softplus(Unary):
    """``log(1 + exp(x))``, without overflow. ``%r = softplus(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("softplus", FLOAT)
    function = staticmethod(lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))))

    def scalar(self, k: Any, x: Any) -> Any:
        rest = k.log1p(k.exp(k.neg(k.abs(x))))
        return k.add(k.max(x, k.constant(0, x)), rest)


@define_op
class Softsign(Unary):
    """``x / (1 + |x|)``. ``%r = softsign(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("softsign", FLOAT)
    function = staticmethod(lambda x: x / (1 + np.abs(x)))

    def scalar(self, k: Any, x: Any) -> Any:
        return k.div(x, k.add(k.abs(x), k.constant(1, x)))


@define_op
class Relu(Unary):
    """``max(x, 0)``, NaN of NaN. ``%r = relu(%x) : f32[n]``"""

    accepts = REAL
    cases = unary_cases("relu", REAL)
    function = staticmethod(lambda x: np.maximum(x, x.dtype.type(0)))

    def scalar(self, k: Any, x: Any) -> Any:
        return k.max(x, k.constant(0, x))


@define_op
class Relu6(Unary):
    """``min(max(x, 0), 6)``, NaN of NaN. ``%r = relu6(%x) : f32[n]``"""

    accepts = REAL
    cases = unary_cases("relu6", REAL)
    function = staticmethod(lambda x: np.minimum(np.maximum(x, x.dtype.type(0)), x.dtype.type(6)))

    def scalar(self, k: Any, x: Any) -> Any:
        return k.min(k.max(x, k.constant(0, x)), k.constant(6, x))


@define_op
class Elu(Unary):
    """``exp(x) - 1`` below 0, x above. ``%r = elu(%x) : f32[n]``"""

    accepts = FLOAT
    cases = unary_cases("elu", FLOAT)
    function = staticmethod(lambda x: np.where(x < 0, np.expm1(x), x))

    def scalar(self, k: Any, x: Any) -> Any:
        return k.select(k.lt(x, k.constant(0, x)), k.expm1(x), x)


@define_op
class Selu(Unary):
    """``elu`` scaled so that layers keep mean and variance. ``%r = selu(%x) : f32[n]``

    Source: Klambauer and others, "Self-Normalizing Neural Networks" (2017).
    """

    accepts = FLOAT
    cases = unary_cases("selu", FLOAT)
    function = staticmethod(_selu)

    def scalar(self, k: Any, x: Any) -> Any:
        negative = k.mul(k.expm1(x), k.constant(SELU_SCALE_ALPHA, x))
        positive = k.mul(x, k.constant(SELU_SCALE, x))
        return k.select(k.lt(x, k.constant(0, x)), negative, positive)
