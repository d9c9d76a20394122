"""Elementwise API functions: arithmetic, functions of one tensor, conversions between dtypes.

Those that do no more than make a node are a table. Names of scopes and nodes are TensorFlow's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.frontend.convert import (
    constant,
    convert_to_tensor,
    convert_to_tensor_or_indexed_slices,
)
from stepforge.frontend.core_ops import identity
from stepforge.frontend.dtypes import (
    DType,
    as_dtype,
    bfloat16,
    complex64,
    complex128,
    float32,
    float64,
    int32,
    int64,
)
from stepforge.frontend.graph import create_op
from stepforge.frontend.indexed_slices import IndexedSlices
from stepforge.frontend.node_calls import binary, call, unary
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shapes import as_shape
from stepforge.ir.types import numpy_dtype

negative = neg = unary("negative", "Neg", "``-x``.")
square = unary("square", "Square", "``x * x``.")
sqrt = unary("sqrt", "Sqrt", "The square root.")
rsqrt = unary("rsqrt", "Rsqrt", "The reciprocal of the square root.")
reciprocal = unary("reciprocal", "Reciprocal", "``1 / x``.")
exp = unary("exp", "Exp", "e to the power of x.")
expm1 = unary("expm1", "Expm1", "``exp(x) - 1``, exact near 0.")
log = unary("log", "Log", "The natural logarithm.")
log1p = unary("log1p", "Log1p", "``log(1 + x)``, exact near 0.")
sin = unary("sin", "Sin", "The sine of x in radians.")
cos = unary("cos", "Cos", "The cosine of x in radians.")
tan = unary("tan", "Tan", "The tangent of x in radians.")
asin = unary("asin", "Asin", "The inverse sine, in radians.")
acos = unary("acos", "Acos", "The inverse cosine, in radians.")
atan = unary("atan", "Atan", "The inverse tangent, in radians.")
sinh = unary("sinh", "Sinh", "The hyperbolic sine.")
cosh = unary("cosh", "Cosh", "The hyperbolic cosine.")
tanh = unary("tanh", "Tanh", "The hyperbolic tangent.")
asinh = unary("asinh", "Asinh", "The inverse hyperbolic sine.")
acosh = unary("acosh", "Acosh", "The inverse hyperbolic cosine.")
atanh = unary("atanh", "Atanh", "The inverse hyperbolic tangent.")
sigmoid = unary("sigmoid", "Sigmoid", "``1 / (1 + exp(-x))``.")
erf = unary("erf", "Erf", "The error function.")
erfc = unary("erfc", "Erfc", "1 less the error function.")
lgamma = unary("lgamma", "Lgamma", "The logarithm of the absolute value of the gamma function.")
digamma = unary("digamma", "Digamma", "The derivative of the logarithm of the gamma function.")
floor = unary("floor", "Floor", "The largest integer that is not larger.")
ceil = unary("ceil", "Ceil", "The smallest integer that is not smaller.")
rint = unary("rint", "Rint", "The nearest integer, halves to even.")

subtract = binary("subtract", "Sub", "``x - y``.")
multiply = binary("multiply", "Mul", "``x * y``.")
maximum = binary("maximum", "Maximum", "The larger one; NaN where either is.")
minimum = binary("minimum", "Minimum", "The smaller one; NaN where either is.")
squared_difference = binary("squared_difference", "SquaredDifference", "``(x - y)²``.")
pow = binary("pow", "Pow", "``x`` to the power of ``y``.")
realdiv = binary("realdiv", "RealDiv", "``x / y`` of real or complex numbers.")
truncatediv = binary("truncatediv", "TruncateDiv", "``x / y`` of integers, rounded towards 0.")
truncatemod = binary("truncatemod", "TruncateMod", "The remainder of ``truncatediv``.")
floor_div = binary("floor_div", "FloorDiv", "``x / y`` rounded down.")
floormod = mod = binary("floormod", "FloorMod", "The remainder of ``floor_div``, of the sign of y.")
xlogy = binary("xlogy", "Xlogy", "``x * log(y)``, 0 where x is 0.")

# Nodes that gradients are made of.
sqrt_grad = binary("sqrt_grad", "SqrtGrad", "The gradient of ``sqrt`` from its result and dy.")
rsqrt_grad = binary("rsqrt_grad", "RsqrtGrad", "The gradient of ``rsqrt`` from its result and dy.")
reciprocal_grad = binary(
    "reciprocal_grad", "ReciprocalGrad", "The gradient of ``reciprocal`` from its result and dy."
)
tanh_grad = binary("tanh_grad", "TanhGrad", "The gradient of ``tanh`` from its result and dy.")
sigmoid_grad = binary(
    "sigmoid_grad", "SigmoidGrad", "The gradient of ``sigmoid`` from its result and dy."
)

_TRUE_DIVISION = {
    "int8": float32, "uint8": float32, "int16": float32, "uint16": float32,
    "int32": float64, "uint32": float64, "int64": float64, "uint64": float64,
}


def atan2(y: Any, x: Any, name: str | None = None) -> Tensor:
    """The angle of the point (x, y), in (-pi, pi]."""
    return call("Atan2", (y, x), None, name)


def igamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The lower regularised incomplete gamma function."""
    return call("Igamma", (a, x), None, name)


def igammac(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The upper regularised incomplete gamma function."""
    return call("Igammac", (a, x), None, name)


def zeta(x: Any, q: Any, name: str | None = None) -> Tensor:
    """The Hurwitz zeta function."""
    return call("Zeta", (x, q), None, name)


def polygamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The derivative of order a of the digamma function."""
    return call("Polygamma", (a, x), None, name)


def xdivy(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y``, 0 where x is 0."""
    with name_scope(name, "xdivy"):
        return call("Xdivy", (x, y))


def xlog1py(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x * log1p(y)``, 0 where x is 0."""
    with name_scope(name, "xlog1py"):
        return call("Xlog1py", (x, y))


def abs(x: Any, name: str | None = None) -> Tensor:
    """The absolute value; real, for complex numbers too."""
    if isinstance(x, Tensor) and not x.dtype.is_complex:
        return create_op("Abs", (x,), None, name or "Abs").outputs[0]
    with name_scope(name, "Abs") as scope:
        value = convert_to_tensor(x, name="x")
        type_ = "ComplexAbs" if value.dtype.is_complex else "Abs"
        return create_op(type_, (value,), None, scope).outputs[0]


def sign(x: Any, name: str | None = None) -> Tensor:
    """-1, 0 or 1; of a complex number ``x / |x|``."""
    value = convert_to_tensor(x)
    if value.dtype.is_complex:
        size = create_op("ComplexAbs", (value,)).outputs[0]
        return call("DivNoNan", (value, cast(size, value.dtype)), None, name)
    return create_op("Sign", (value,), None, name).outputs[0]


def round(x: Any, name: str | None = None) -> Tensor:
    """The nearest integer, halves to even; integers as they are."""
    value = convert_to_tensor(x, name="x")
    if value.dtype.is_integer:
        return value
    return create_op("Round", (value,), None, name).outputs[0]


def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """``log(sigmoid(x))``, without overflow."""
    with name_scope(name, "LogSigmoid") as scope:
        value = convert_to_tensor(x, name="x")
        return neg(call("Softplus", (neg(value),)), scope)


# ---- two tensors --------------------------------------------------------------------------------
def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors; a number takes the dtype of x where it can."""
    left = convert_to_tensor(x, name="x")
    return left, convert_to_tensor(y, dtype_hint=left.dtype.base_dtype, name="y")


def add(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x + y``."""
    if isinstance(x, Tensor) and isinstance(y, Tensor):
        return call("AddV2", (x, y), None, name or "Add")
    with name_scope(name, "Add") as scope:
        return call("AddV2", _pair(x, y), None, scope)


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Any:
    """``x``, which may be an ``IndexedSlices``, times a scalar.

    Raises: ValueError for no scalar.
    """
    factor = convert_to_tensor(scalar, as_dtype(x.dtype).base_dtype, "scalar")
    if factor.shape.ndims != 0:
        raise ValueError(f"The input scalar must be a 0-D value. Received shape {factor.shape}.")
    if isinstance(x, IndexedSlices):
        return IndexedSlices(multiply(factor, x.values, name), x.indices, x.dense_shape)
    return multiply(factor, x, name)


def _same_dtype(x: Tensor, y: Tensor) -> DType:
    left, right = x.dtype.base_dtype, y.dtype.base_dtype
    if left is not right:
        raise TypeError(f"`x` and `y` must have the same dtype, got {left!r} != {right!r}.")
    return left


def _as_real(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the dtype of their true quotient. Raises: TypeError where there is none."""
    dtype = _same_dtype(x, y)
    target = _TRUE_DIVISION.get(dtype.name)
    if target is not None:
        return cast(x, target), cast(y, target)
    if not (dtype.is_floating or dtype.is_complex):
        raise TypeError(f"Invalid dtype {dtype!r} in __truediv__.")
    return x, y


def truediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y``; of integers a float32 or float64. Raises: TypeError for two dtypes."""
    with name_scope(name, "truediv") as scope:
        return call("RealDiv", _as_real(*_pair(x, y)), None, scope)


def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y`` as Python 3 divides."""
    if not isinstance(x, Tensor):
        x = convert_to_tensor(x, y.dtype.base_dtype if isinstance(y, Tensor) else None)
    return truediv(x, y, name)


def div(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y`` as Python 2 divides: of integers rounded down. Raises: TypeError for two dtypes."""
    with name_scope(name, "div") as scope:
        left = convert_to_tensor(x, name="x")
        right = convert_to_tensor(y, left.dtype.base_dtype, "y")
        dtype = _same_dtype(left, right)
        real = dtype.is_floating or dtype.is_complex
        return call("RealDiv" if real else "FloorDiv", (left, right), None, scope)


def div_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y``, 0 where y is 0."""
    with name_scope(name, "div_no_nan") as scope:
        if isinstance(y, Tensor) and not isinstance(x, Tensor):
            x = convert_to_tensor(x, y.dtype.base_dtype, "x")
        return call("DivNoNan", _as_real(*_pair(x, y)), None, scope)


divide_no_nan = div_no_nan


def multiply_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x * y``, 0 where y is 0 even if x is infinite or NaN."""
    with name_scope(name, "multiply_no_nan") as scope:
        left = convert_to_tensor(x, name="x")
        right = convert_to_tensor(y, left.dtype.base_dtype, "y")
        return call("MulNoNan", (left, right), None, scope)


def reciprocal_no_nan(x: Any, name: str | None = None) -> Tensor:
    """``1 / x``, 0 where x is 0."""
    with name_scope(name, "reciprocal_no_nan") as scope:
        value = convert_to_tensor(x, name="x")
        one = constant(1, value.dtype.base_dtype, name="one")
        return call("DivNoNan", (one, value), None, scope)


def floordiv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """``x / y`` rounded down. A zero among integer divisors is an error of the running step."""
    return call("FloorDiv", (x, y), None, name or "floordiv")


def polyval(coeffs: Sequence[Any], x: Any, name: str | None = None) -> Tensor:
    """The polynomial with ``coeffs``, highest power first, at ``x``.

    Raises: ValueError for no list.
    """
    if not isinstance(coeffs, list):
        raise ValueError(f"Argument coeffs must be list type. Received type {type(coeffs)}.")
    with name_scope(name, "polyval") as scope:
        value = convert_to_tensor(x, name="x")
        if not coeffs:
            return create_op("ZerosLike", (value,), None, scope).outputs[0]
        tensors = [convert_to_tensor(c, name=f"coeff_{i}") for i, c in enumerate(coeffs)]
        total = tensors[0]
        for coefficient in tensors[1:]:
            total = add(coefficient, multiply(total, value, "mul"), "add")
        return total


def add_n(inputs: Sequence[Any], name: str | None = None) -> Tensor:
    """The sum of tensors of one shape. Raises: ValueError for an empty list."""
    message = (
        "Inputs must be an iterable of at least one Tensor/IndexedSlices with the same dtype and "
        "shape."
    )
    if isinstance(inputs, (Tensor, IndexedSlices)) or not inputs:
        raise ValueError(message)
    tensors = [convert_to_tensor(convert_to_tensor_or_indexed_slices(value)) for value in inputs]
    if len(tensors) == 1:
        return identity(tensors[0], name) if name else tensors[0]
    dtype = tensors[0].dtype.base_dtype
    for tensor in tensors:
        if tensor.dtype.base_dtype is not dtype:
            raise TypeError(f"add_n: inputs have dtypes {dtype.name} and {tensor.dtype.name}")
    return create_op("AddN", tensors, None, name).outputs[0]


def accumulate_n(
    inputs: Sequence[Any],
    shape: Any = None,
    tensor_dtype: Any = None,
    name: str | None = None,
) -> Tensor:
    """The sum of tensors of one shape, which may be given.

    Raises: ValueError for shapes or dtypes that differ, TypeError for another dtype than the one
    asked for.
    """
    problem = "inputs must be a list of at least one Tensor with the same dtype and shape"
    if not inputs or not isinstance(inputs, (list, tuple)):
        raise ValueError(problem)
    tensors = [convert_to_tensor(value) for value in inputs]
    dtype = tensors[0].dtype
    if any(tensor.dtype != dtype for tensor in tensors):
        raise ValueError(problem)
    merged = as_shape(shape)
    for tensor in tensors:
        merged = merged.merge_with(tensor.shape)
    if tensor_dtype is not None and as_dtype(tensor_dtype) != dtype:
        raise TypeError(
            f"The `tensor_dtype` argument is {tensor_dtype}, but `input` is of type {dtype}. These "
            "must be equal. Try casting the input to the desired type."
        )
    return add_n(tensors, name)


# ---- other dtypes -------------------------------------------------------------------------------
def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """``x`` as ``dtype``: floats to integers towards 0, numbers to bool by ``x != 0``."""
    target = as_dtype(dtype).base_dtype
    if isinstance(x, Tensor):
        if x.dtype.base_dtype is target:
            return x
        return create_op("Cast", (x,), {"DstT": target.ir}, name or "Cast").outputs[0]
    with name_scope(name, "Cast") as scope:
        if isinstance(x, IndexedSlices):
            return IndexedSlices(cast(x.values, target, scope), x.indices, x.dense_shape)
        value = convert_to_tensor(x, name="x")
        if value.dtype.base_dtype is target:
            return value
        return create_op("Cast", (value,), {"DstT": target.ir}, scope).outputs[0]


def to_float(x: Any, name: str = "ToFloat") -> Any:
    """``x`` as float32."""
    return cast(x, float32, name)


def to_double(x: Any, name: str = "ToDouble") -> Any:
    """``x`` as float64."""
    return cast(x, float64, name)


def to_int32(x: Any, name: str = "ToInt32") -> Any:
    """``x`` as int32."""
    return cast(x, int32, name)


def to_int64(x: Any, name: str = "ToInt64") -> Any:
    """``x`` as int64."""
    return cast(x, int64, name)


def to_bfloat16(x: Any, name: str = "ToBFloat16") -> Any:
    """``x`` as bfloat16."""
    return cast(x, bfloat16, name)


def to_complex64(x: Any, name: str = "ToComplex64") -> Any:
    """``x`` as complex64."""
    return cast(x, complex64, name)


def to_complex128(x: Any, name: str = "ToComplex128") -> Any:
    """``x`` as complex128."""
    return cast(x, complex128, name)


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Tensor:
    """``value`` as ``dtype``, limited to the values that it has."""
    with name_scope(name, "saturate_cast") as scope:
        tensor = convert_to_tensor(value, name="value")
        target = as_dtype(dtype).base_dtype
        if tensor.dtype.is_complex and not target.is_complex:
            tensor = real(tensor)
        if not tensor.dtype.is_complex:
            low, high = _common_limits(tensor.dtype.base_dtype, target)
            limits = [convert_to_tensor(bound, tensor.dtype.base_dtype) for bound in (low, high)]
            tensor = create_op("ClipByValue", (tensor, *limits), None, "clamp").outputs[0]
        result: Tensor = cast(tensor, target, scope)
        return result


def _common_limits(source: DType, target: DType) -> tuple[Any, Any]:
    """The least and largest values of ``source`` that ``target`` has too."""
    scalar_type = numpy_dtype(source.ir).type
    low = scalar_type(max(source.min, target.min))
    high = scalar_type(min(source.max, target.max))
    if int(low) < int(target.min):
        low = np.nextafter(low, scalar_type(0))
    if int(high) > int(target.max):
        high = np.nextafter(high, scalar_type(0))
    return low, high


# ---- complex numbers ----------------------------------------------------------------------------
def complex(real: Any, imag: Any, name: str | None = None) -> Tensor:
    """Complex numbers from their parts, both float32 or both float64.

    Raises: TypeError otherwise.
    """
    first = convert_to_tensor(real, name="real")
    second = convert_to_tensor(imag, name="imag")
    dtypes = (first.dtype.base_dtype, second.dtype.base_dtype)
    if dtypes not in ((float32, float32), (float64, float64)):
        raise TypeError(
            f"The `real` and `imag` components have incorrect types: {dtypes[0].name} "
            f"{dtypes[1].name}. They must be consistent, and one of [tf.float32, tf.float64]"
        )
    return create_op("Complex", (first, second), None, name).outputs[0]


def real(input: Any, name: str | None = None) -> Tensor:
    """The real part; real numbers as they are. Raises: TypeError for what is no number."""
    with name_scope(name, "Real") as scope:
        value = convert_to_tensor(input, name="input")
        if value.dtype.is_complex:
            return create_op("Real", (value,), None, scope).outputs[0]
        if value.dtype.is_floating or value.dtype.is_integer:
            return value
        raise TypeError(f"input must be a numeric tensor, but got tensor with dtype {value.dtype}")


def imag(input: Any, name: str | None = None) -> Tensor:
    """The imaginary part; 0 for real numbers."""
    with name_scope(name, "Imag") as scope:
        value = convert_to_tensor(input, name="input")
        if value.dtype.is_complex:
            return create_op("Imag", (value,), None, scope).outputs[0]
        from stepforge.frontend.array_ops import zeros_like  # which uses this module

        return zeros_like(value)


def angle(input: Any, name: str | None = None) -> Tensor:
    """The argument of complex numbers in radians; 0 or pi for real ones."""
    with name_scope(name, "Angle") as scope:
        value = convert_to_tensor(input, name="input")
        if value.dtype.is_complex:
            return create_op("Angle", (value,), None, scope).outputs[0]
        below = call("Less", (value, 0))
        ones = create_op("OnesLike", (value,)).outputs[0]
        pi = multiply(convert_to_tensor(np.pi, value.dtype.base_dtype, "mul/x"), ones, "mul")
        zeros = create_op("ZerosLike", (value,)).outputs[0]
        return create_op("Select", (below, pi, zeros)).outputs[0]


def conj(x: Any, name: str | None = None) -> Tensor:
    """The complex conjugate; real numbers as they are. Raises: TypeError for what is no number."""
    if isinstance(x, Tensor) and not x.dtype.is_complex:
        if x.dtype.is_floating or x.dtype.is_integer:
            return x
        raise TypeError(f"Expected numeric or variant tensor, got dtype {x.dtype!r}.")
    with name_scope(name, "Conj") as scope:
        value = convert_to_tensor(x, name="x")
        return create_op("Conj", (value,), None, scope).outputs[0] if value.dtype.is_complex \
            else value
