"""Records what TensorFlow makes of every function of math and nn: nodes, values, gradients of two orders.

Run it where TensorFlow is installed; it writes ``math_reference.json`` beside itself. A case is an
expression in ``tf`` and named inputs, so that the tests evaluate the very same text with stepforge.
"""

from __future__ import annotations

import json
import pathlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

DTYPES = {
    "f16": "float16", "bf16": "bfloat16", "f32": "float32", "f64": "float64", "c64": "complex64",
    "c128": "complex128", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8",
    "bool": "bool",
}
EDGES = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.5, float("inf"), -float("inf"), float("nan")]


@dataclass(frozen=True)
class Case:
    """An expression and its inputs: ``f32[?2,3]`` is a 2 x 3 array whose first size is not static.

    A suffix says what numbers: ``+`` positive, ``u`` in (-1, 1), ``g`` above 1, ``spd`` and ``tri`` matrices
    that can be solved with, ``low..high`` integers, ``edge`` the special values.
    """

    code: str
    inputs: dict[str, str] = field(default_factory=dict)
    nodes: bool = True
    tolerance: float = 1.0  # times what the dtype allows


def case(code: str, nodes: bool = True, tolerance: float = 1.0, **inputs: str) -> Case:
    return Case(code, inputs, nodes, tolerance)


# function -> numbers that it is defined for
UNARY = {
    "abs": "", "negative": "", "sign": "", "square": "", "sqrt": "+", "rsqrt": "+", "reciprocal": "+",
    "exp": "", "expm1": "", "log": "+", "log1p": "+", "sin": "", "cos": "", "tan": "", "asin": "u",
    "acos": "u", "atan": "", "sinh": "", "cosh": "", "tanh": "", "asinh": "", "acosh": "g", "atanh": "u",
    "sigmoid": "", "erf": "", "erfc": "", "lgamma": "+", "digamma": "+", "floor": "", "ceil": "",
    "round": "", "rint": "", "log_sigmoid": "", "nn.relu": "", "nn.relu6": "", "nn.elu": "",
    "nn.selu": "", "nn.softplus": "", "nn.softsign": "", "nn.leaky_relu": "", "nn.softmax": "",
    "nn.log_softmax": "", "nn.l2_loss": "", "nn.crelu": "", "nn.swish": "", "reduce_sum": "",
    "reduce_mean": "", "reduce_max": "", "reduce_min": "", "reduce_prod": "", "reduce_logsumexp": "",
    "cumsum": "", "cumprod": "", "nn.l2_normalize": "", "norm": "", "math.reduce_std": "",
    "math.reduce_variance": "", "math.reduce_euclidean_norm": "", "math.reciprocal_no_nan": "",
}
EDGE_UNARY = [
    "abs", "sign", "square", "exp", "expm1", "sin", "atan", "tanh", "sigmoid", "erf", "floor", "ceil",
    "round", "rint", "is_nan", "is_inf", "is_finite", "nn.relu", "nn.relu6", "nn.elu", "nn.softplus",
    "nn.softsign", "sqrt", "rsqrt", "log", "log1p", "reciprocal",
]
HALF = ["exp", "tanh", "square", "sqrt", "sigmoid", "log", "nn.relu", "nn.softmax", "reduce_sum", "reduce_mean"]
COMPLEX_UNARY = [
    "abs", "negative", "sign", "square", "sqrt", "rsqrt", "reciprocal", "exp", "log", "sin", "cos",
    "tanh", "sigmoid", "real", "imag", "conj", "angle", "reduce_sum", "reduce_mean", "reduce_prod",
    "cumsum", "nn.l2_normalize",
]
INTEGER_UNARY = [
    "abs", "negative", "sign", "square", "reduce_sum", "reduce_mean", "reduce_max", "reduce_min",
    "reduce_prod", "cumsum", "cumprod", "bitwise.invert", "round", "argmax", "argmin", "real", "imag",
    "count_nonzero", "nn.zero_fraction", "nn.relu", "add_n",
]
BINARY = {  # function -> numbers of its two arguments
    "add": ("", ""), "subtract": ("", ""), "multiply": ("", ""), "divide": ("", "+"), "div": ("", "+"),
    "truediv": ("", "+"), "realdiv": ("", "+"), "floordiv": ("", "+"), "floor_div": ("", "+"),
    "mod": ("", "+"), "floormod": ("", "+"), "pow": ("+", ""), "maximum": ("", ""), "minimum": ("", ""),
    "squared_difference": ("", ""), "atan2": ("", ""), "div_no_nan": ("", "+"),
    "math.multiply_no_nan": ("", ""), "math.xlogy": ("+", "+"), "math.xdivy": ("+", "+"),
    "math.xlog1py": ("+", "+"), "zeta": ("g", "+"), "equal": ("", ""), "not_equal": ("", ""),
    "less": ("", ""), "less_equal": ("", ""), "greater": ("", ""), "greater_equal": ("", ""),
}
INTEGER_BINARY = [
    "add", "subtract", "multiply", "divide", "div", "truediv", "floordiv", "floor_div", "mod", "floormod",
    "truncatediv", "truncatemod", "maximum", "minimum", "squared_difference", "equal", "less", "pow",
    "bitwise.bitwise_and", "bitwise.bitwise_or", "bitwise.bitwise_xor", "bitwise.left_shift",
    "bitwise.right_shift",
]
OPERATORS = ["x + y", "x - y", "x * y", "x / y", "x // y", "x % y", "x ** y"]
SCALAR_OPERATORS = [
    "x + 1", "1 + x", "x - 2.5", "2.5 - x", "x * 3", "3 * x", "x / 2", "2 / x", "x // 2", "7 // x",
    "x % 2", "7 % x", "x ** 2", "2 ** x", "-x", "abs(x)", "x < 1", "x <= 1", "x > 1", "x >= 1", "1 < x",
]


def unary_cases() -> Iterator[Case]:
    for function, numbers in UNARY.items():
        for kind in ("f32[2,3]", "f64[?3,2]"):
            yield case(f"tf.{function}(x)", x=kind + numbers)
    for function in HALF:
        for kind in ("f16[2,3]", "bf16[4]"):
            yield case(f"tf.{function}(x)", x=kind + UNARY[function])
    for function in EDGE_UNARY:
        yield case(f"tf.{function}(x)", x="f32[10]edge")
        yield case(f"tf.{function}(x)", x="f64[10]edge")
    for function in COMPLEX_UNARY:
        yield case(f"tf.{function}(x)", x="c64[2,3]")
        yield case(f"tf.{function}(x)", x="c128[?3]")
    for function in INTEGER_UNARY:
        argument = "[x, x]" if function == "add_n" else "x"
        for kind in ("i32[2,3]", "i64[?4]"):
            yield case(f"tf.{function}({argument})", nodes="fraction" not in function, x=kind)
    yield case("tf.exp(0.5)")
    yield case("tf.square(3.0, name='nine')")
    yield case("tf.logical_not(x)", x="bool[3]")
    yield case("tf.nn.leaky_relu(x, alpha=0.3)", x="f32[2,3]")
    yield case("tf.nn.leaky_relu(x)", x="i32[4]")
    yield case("tf.nn.crelu(x, axis=0)", x="f32[2,3]")


def binary_cases() -> Iterator[Case]:
    for function, (first, second) in BINARY.items():
        for left, right in (("f32[2,3]", "f32[2,3]"), ("f64[?2,3]", "f64[3]"), ("f32[2,1]", "f32[1,3]")):
            yield case(f"tf.{function}(x, y)", x=left + first, y=right + second)
        yield case(f"tf.{function}(x, 2.0)", x="f32[3]" + first)
    for function in ("add", "multiply", "maximum", "divide", "pow"):
        yield case(f"tf.{function}(x, y)", x="f16[2,3]+", y="f16[3]+")
        yield case(f"tf.{function}(x, y)", x="f32[0,3]+", y="f32[3]+")
    for function in ("maximum", "minimum", "equal", "less", "div_no_nan", "pow", "atan2"):
        yield case(f"tf.{function}(x, y)", x="f32[10]edge", y="f32[10]edge")
        yield case(f"tf.{function}(x, 1.0)", x="f32[10]edge")
    for function in ("maximum", "minimum", "squared_difference"):
        yield case(f"tf.{function}(x, x)", x="f64[3]")  # ties
    for function in ("add", "subtract", "multiply", "divide", "pow", "equal", "div_no_nan"):
        yield case(f"tf.{function}(x, y)", x="c64[2,3]", y="c64[3]")
    for function in INTEGER_BINARY:
        second = "1..4"
        for left, right in (("i32[2,3]", "i32[3]"), ("i64[?4]", "i64[?4]"), ("u8[3]0..200", "u8[3]")):
            if function in ("mod", "truncatemod", "floormod", "pow") and left.startswith("u8"):
                continue
            yield case(f"tf.{function}(x, y)", x=left, y=right + second)
    for function in ("logical_and", "logical_or", "logical_xor", "equal"):
        yield case(f"tf.{function}(x, y)", x="bool[?4]", y="bool[4]")
    for function in ("igamma", "igammac", "polygamma"):
        yield case(f"tf.{function}(2.0, x)", x="f32[4]+", tolerance=8)
        yield case(f"tf.{function}(tf.constant(3.0, tf.float64), x)", x="f64[4]+")
    yield case("tf.complex(x, y)", x="f32[2,3]", y="f32[3]")
    yield case("tf.complex(x, y)", x="f64[?2]", y="f64[2]")
    yield case("tf.scalar_mul(2.0, x)", x="f64[3]")
    yield case("tf.math.polyval([1.0, 2.0, x], x)", x="f32[3]")
    yield case("tf.add_n([x, y, x])", x="f32[2,3]", y="f32[?2,3]")
    yield case("tf.accumulate_n([x, y])", x="f32[2]", y="f32[2]")
    yield case("tf.cross(x, y)", x="f32[2,3]", y="f32[2,3]")
    yield case("tf.math.l2_normalize(x, axis=1)", x="f32[2,3]")


def operator_cases() -> Iterator[Case]:
    for code in OPERATORS:
        yield case(code, x="f32[2,3]+", y="f32[3]+")
        yield case(code, x="i32[2,3]1..4", y="i32[3]1..4")
    for code in SCALAR_OPERATORS:
        yield case(code, x="f32[?3]+")
        if "2.5" not in code:
            yield case(code, x="i32[3]1..4")
    yield case("x @ y", x="f32[2,3]", y="f32[3,2]")
    for code in ("x & y", "x | y", "x ^ y", "~x"):
        yield case(code, x="bool[4]", y="bool[4]")
        yield case(code, x="i32[4]", y="i32[4]")
    yield case("x + x + x * x", x="f32[2]")
    yield case("tf.add(x, [1.0, 2.0]) + [[3.0]]", x="f32[2]")
    yield case("np.ones(2, np.float32) * x", x="f32[2]")


def cast_cases() -> Iterator[Case]:
    for source in ("f32[4]", "f64[4]", "i32[4]", "bool[4]", "c64[4]", "f16[4]"):
        for target in ("float32", "float64", "int32", "int64", "bool", "complex64", "float16", "uint8"):
            if not (source.startswith(("c64", "f", "i32")) and target == "uint8"):
                yield case(f"tf.cast(x, tf.{target})", x=source)
    for function in ("to_float", "to_double", "to_int32", "to_int64", "to_bfloat16"):
        yield case(f"tf.{function}(x)", x="i32[3]")
    yield case("tf.saturate_cast(x, tf.uint8)", x="i32[3]-400..400")
    yield case("tf.saturate_cast(x, tf.int8)", x="f32[3]-400..400")


def reduction_cases() -> Iterator[Case]:
    for function in ("sum", "mean", "max", "min", "prod", "logsumexp"):
        for arguments in (
            "x", "x, 0", "x, axis=1", "x, [0, 1]", "x, -1", "x, axis=[1, -3], keepdims=True",
            "x, reduction_indices=[0], keep_dims=True", "x, []", "x, axis=tf.constant(1)", "x, keepdims=True",
        ):
            yield case(f"tf.reduce_{function}({arguments})", x="f64[2,?3,2]")
        yield case(f"tf.reduce_{function}(x)", x="f32[]")
        yield case(f"tf.reduce_{function}(x, 0)", x="f32[0,2]")
        yield case(f"tf.reduce_{function}(x, 1, name='r')", x="f32[?0,2]")
    for function in ("max", "min"):
        yield case(f"tf.reduce_{function}(x, 1)", x="f32[3,5]0..2")  # ties
    yield case("tf.reduce_prod(x, 1)", x="f64[4,3]0..3")  # zeros
    for function in ("any", "all"):
        for arguments in ("x", "x, 0", "x, [1], True", "x, axis=-1, keepdims=True"):
            yield case(f"tf.reduce_{function}({arguments})", x="bool[2,3]")
    for arguments in ("x", "x, 1", "x, axis=-1, output_type=tf.int32", "x, dimension=0"):
        for function in ("argmax", "argmin"):
            yield case(f"tf.{function}({arguments})", x="f32[3,5]0..3")
    for flags in ("", ", exclusive=True", ", reverse=True", ", exclusive=True, reverse=True"):
        for function in ("cumsum", "cumprod"):
            yield case(f"tf.{function}(x, 1{flags})", x="f64[2,?4]")
            yield case(f"tf.{function}(x, axis=-2{flags})", x="f32[3,2]")
    yield case("tf.cumprod(x)", x="f64[5]0..3")
    yield case("tf.count_nonzero(x, axis=0, dtype=tf.int32)", x="i32[3,2]0..2")
    yield case("tf.count_nonzero(x)", x="f32[3,2]0..2")
    yield case("tf.nn.zero_fraction(x)", nodes=False, x="f32[?3,2]0..2")


def linalg_cases() -> Iterator[Case]:
    for flags in ("", ", transpose_a=True", ", transpose_b=True", ", transpose_a=True, transpose_b=True"):
        left = "f64[?3,2]" if "_a" in flags else "f64[?2,3]"
        right = "f64[4,3]" if "_b" in flags else "f64[3,4]"
        yield case(f"tf.matmul(x, y{flags})", x=left, y=right)
        batch = left.replace("[?", "[?2,"), right.replace("[", "[2,")
        yield case(f"tf.matmul(x, y{flags})", x=batch[0], y=batch[1])
    yield case("tf.matmul(x, y, adjoint_a=True)", x="c64[3,2]", y="c64[3,2]")
    yield case("tf.matmul(x, y, adjoint_b=True)", x="c128[2,2,3]", y="c128[2,4,3]")
    yield case("tf.matmul(x, y)", x="c64[2,3]", y="c64[3,2]")
    yield case("tf.matmul(x, y)", x="f64[2,1,2,3]", y="f64[3,3,2]")
    yield case("tf.matmul(x, y)", x="i32[2,3]", y="i32[3,2]")
    yield case("tf.matmul(x, [[1.0], [2.0]])", x="f32[?3,2]")
    yield case("tf.linalg.matvec(x, y)", x="f32[2,3]", y="f32[3]")
    for axes, left, right in (
        ("1", "f32[2,3]", "f32[3,4]"), ("2", "f64[2,3,4]", "f64[3,4,2]"), ("0", "f32[2]", "f32[3]"),
        ("[[1], [0]]", "f64[?2,3,2]", "f64[3,2]"), ("[[0, 2], [1, 0]]", "f32[2,3,4]", "f32[4,2,5]"),
        ("[1, 0]", "f32[2,3]", "f32[3,4]"), ("1", "f64[?2,3,2]", "f64[2,?4]"),
    ):
        yield case(f"tf.tensordot(x, y, {axes})", nodes="?" not in left, x=left, y=right)
    for equation, left, right in (
        ("ij,jk->ik", "f64[2,3]", "f64[3,4]"), ("ij,kj->ik", "f64[?2,3]", "f64[4,3]"),
        ("bij,bjk->bik", "f64[2,2,3]", "f64[2,3,2]"), ("i,i->", "f64[3]", "f64[3]"),
        ("i,j->ij", "f64[3]", "f64[2]"), ("ij,ij->i", "f64[2,3]", "f64[2,3]"),
        ("abc,cd->abd", "f64[2,?3,2]", "f64[2,4]"), ("bhqd,bhkd->bhqk", "f64[1,2,3,2]", "f64[1,2,2,2]"),
        ("ij,jk", "f64[2,3]", "f64[3,2]"), ("...ij,...jk->...ik", "f64[2,1,2,3]", "f64[3,3,2]"),
        ("ij,k->ik", "f64[2,3]", "f64[2]"), ("...i,i->...", "f64[2,3,4]", "f64[4]"),
        ("ii,ij->j", "f64[3,3]", "f64[3,2]"), ("i...,i...->...", "f64[2,3]", "f64[2,1]"),
    ):
        yield case(f"tf.einsum('{equation}', x, y)", x=left, y=right)
    for equation, kind in (
        ("ij->ji", "f64[2,3]"), ("ij->i", "f64[2,3]"), ("ij->", "f64[?2,3]"), ("ii->i", "f64[3,3]"),
        ("ii->", "f64[3,3]"), ("ijk->ki", "f64[2,3,4]"), ("...ij->...ji", "f64[2,2,3]"),
        ("ij", "f64[2,3]"), ("ji", "f64[2,3]"),
    ):
        yield case(f"tf.einsum('{equation}', x)", x=kind)
    yield case("tf.einsum('ij,jk,kl->il', x, y, x)", nodes=False, x="f64[2,3]", y="f64[3,2]")
    for kind in ("f64[3,3]spd", "f64[2,2,2]spd", "f32[3,3]spd"):
        slack = 40 if kind.startswith("f32") else 10
        for function in ("cholesky", "matrix_inverse", "matrix_determinant", "trace", "linalg.logdet"):
            yield case(f"tf.{function}(x)", nodes="logdet" not in function, tolerance=slack, x=kind)
        yield case("tf.matrix_inverse(x, adjoint=True)", tolerance=slack, x=kind)
    yield case("tf.self_adjoint_eig(x)[0]", tolerance=10, x="f64[3,3]spd")
    yield case("tf.self_adjoint_eigvals(x)", tolerance=10, x="f64[3,3]spd")
    yield case("tf.abs(tf.self_adjoint_eig(x)[1])", tolerance=100, nodes=False, x="f64[3,3]spd")
    yield case("tf.svd(x, compute_uv=False)", tolerance=10, x="f64[3,2]")
    for kind in ("f64[3,2]", "f64[2,3]", "f64[2,2]"):
        yield case("tf.svd(x)[0]", tolerance=10, x=kind)
        yield case("tf.abs(tf.svd(x)[1]) + 0", tolerance=100, nodes=False, x=kind)
        yield case("tf.abs(tf.svd(x)[2]) + 0", tolerance=100, nodes=False, x=kind)
        yield case("tf.abs(tf.qr(x)[0]) + 0", tolerance=100, nodes=False, x=kind)
        yield case("tf.abs(tf.qr(x)[1]) + 0", tolerance=100, nodes=False, x=kind)
    for flags in ("", ", adjoint=True"):
        yield case(f"tf.matrix_solve(x, y{flags})", tolerance=10, x="f64[3,3]spd", y="f64[3,2]")
        for side in ("", ", lower=False"):
            yield case(f"tf.matrix_triangular_solve(x, y{side}{flags})", x="f64[3,3]tri", y="f64[3,2]")
    yield case("tf.matrix_triangular_solve(x, y)", x="f64[2,3,3]tri", y="f64[3,2]")
    yield case("tf.cholesky_solve(x, y)", x="f64[3,3]tri", y="f64[3,2]")
    for arguments in (
        "x", "x, ord=1", "x, ord=2", "x, ord=np.inf", "x, ord=3", "x, axis=0", "x, axis=1, keepdims=True",
        "x, ord='fro', axis=[0, 1]", "x, ord=1, axis=[0, 1]", "x, ord=np.inf, axis=[-2, -1]",
    ):
        yield case(f"tf.norm({arguments})", x="f64[2,3]")
    yield case("tf.norm(x, ord=2, axis=[0, 1])", nodes=False, tolerance=10, x="f64[2,3]")
    for function in ("matrix_diag", "diag"):
        yield case(f"tf.{function}(x)", x="f32[3]")
    yield case("tf.matrix_diag(x)", x="f64[?2,3]")
    yield case("tf.diag(x)", x="f32[2,2]")
    yield case("tf.diag_part(x)", x="f32[2,3,2,3]")
    yield case("tf.linalg.diag(x, k=1)", x="f64[2,3]")
    yield case("tf.linalg.diag(x, k=-1, num_rows=4, num_cols=5, padding_value=9.0)", x="f64[3]")
    for kind in ("f64[3,3]", "f64[2,2,4]", "f64[?3,2]"):
        yield case("tf.matrix_diag_part(x)", x=kind)
        yield case("tf.matrix_band_part(x, 0, -1)", x=kind)
        yield case("tf.matrix_band_part(x, 1, 0)", x=kind)
    yield case("tf.linalg.diag_part(x, k=1)", x="f64[3,4]")
    yield case("tf.matrix_set_diag(x, y)", x="f64[2,3,3]", y="f64[2,3]")
    yield case("tf.linalg.set_diag(x, y, k=-1)", x="f64[3,3]", y="f64[2]")
    yield case("tf.eye(3)")
    yield case("tf.eye(2, 3, dtype=tf.float64)")
    yield case("tf.eye(2, batch_shape=[2])")


def nn_cases() -> Iterator[Case]:
    for axis in (0, 1, -2):
        yield case(f"tf.nn.softmax(x, axis={axis})", nodes=False, x="f64[2,3,4]")
        yield case(f"tf.nn.log_softmax(x, dim={axis})", nodes=False, x="f64[2,3,4]")
    yield case("tf.nn.softmax(x)", x="f32[2,?3,4]")
    dense = "labels=y, logits=x"
    for function in ("softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2"):
        for kind in ("f64[2,3]", "f64[?2,3]", "f64[2,2,3]", "f64[3]"):
            yield case(f"tf.nn.{function}({dense})", x=kind, y=kind + "+")
        yield case(f"tf.nn.{function}({dense}, dim=0)", nodes=False, x="f64[2,3]", y="f64[2,3]+")
        yield case(f"tf.nn.{function}({dense})", x="f16[2,3]", y="f16[2,3]+")
    sparse = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)"
    for logits, labels in (
        ("f64[2,3]", "i32[2]0..3"), ("f32[?2,3]", "i64[?2]0..3"), ("f16[2,3]", "i32[2]0..3"),
    ):
        yield case(sparse, x=logits, y=labels)
    yield case(sparse, nodes=False, x="f64[2,2,3]", y="i32[2,2]0..3")
    yield case(sparse, nodes=False, x="f64[3]", y="i32[]0..3")
    for kind in ("f64[2,3]", "f32[?4]"):
        yield case(f"tf.nn.sigmoid_cross_entropy_with_logits({dense})", x=kind, y=kind + "+")
        yield case(f"tf.nn.weighted_cross_entropy_with_logits({dense}, pos_weight=2.0)", x=kind, y=kind + "+")
    yield case("tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=x)", x="f64[3]0..1", y="f64[3]+")
    for kind in ("f32[2,3]", "f64[?2,4,3]"):
        yield case("tf.nn.bias_add(x, y)", x=kind, y=kind[:3] + "[3]")
    yield case("tf.nn.bias_add(x, y, data_format='NCHW')", x="f64[2,3,2,2]", y="f64[3]")
    yield case("tf.nn.xw_plus_b(x, y, z)", x="f32[?2,3]", y="f32[3,4]", z="f32[4]")
    yield case("tf.nn.relu_layer(x, y, z)", x="f32[2,3]", y="f32[3,4]", z="f32[4]")
    for arguments in ("x, [0]", "x, [0, 1], keep_dims=True", "x, [1], keepdims=False"):
        yield case(f"tf.stack(tf.nn.moments({arguments}))", x="f64[?4,3]")
    yield case("tf.nn.weighted_moments(x, [0], y)[1]", x="f64[4,3]", y="f64[4,1]+")
    yield case("tf.nn.sufficient_statistics(x, [0])[2]", x="f64[4,3]")
    yield case("tf.nn.normalize_moments(4.0, x, y, None)[1]", x="f32[3]", y="f32[3]+")
    yield case("tf.nn.batch_normalization(x, y, z, 0.5, 2.0, 1e-3)", x="f64[?4,3]", y="f64[3]", z="f64[3]+")
    yield case("tf.nn.batch_normalization(x, y, z, None, None, 1e-3)", x="f64[4,3]", y="f64[3]", z="f64[3]+")
    yield case("tf.nn.batch_norm_with_global_normalization(x, y, z, y, z, 1e-3, True)",
               x="f64[4,3]", y="f64[3]", z="f64[3]+")
    for arguments in ("x", "x, axis=1", "x, dim=[0], epsilon=0.5"):
        yield case(f"tf.nn.l2_normalize({arguments})", x="f64[2,3]")
    for arguments in ("x, 2", "x, k=1", "x, 3, sorted=True"):
        yield case(f"tf.nn.top_k({arguments})[0]", x="f64[2,?5]")
        yield case(f"tf.nn.top_k({arguments}).indices", x="f32[5]")
    yield case("tf.nn.in_top_k(x, y, 2)", x="f32[3,4]", y="i32[3]0..4")
    yield case("tf.nn.dropout(x, keep_prob=1.0)", x="f32[3]")
    yield case("tf.nn.embedding_lookup(x, y)", nodes=False, x="f64[4,2]", y="i32[2,2]0..4")
    yield case("tf.nn.embedding_lookup([x, z], y)", nodes=False, x="f64[2,2]", y="i32[5]0..4", z="f64[2,2]")
    yield case("tf.nn.embedding_lookup([x, z], y, partition_strategy='div')", nodes=False,
               x="f64[3,2]", y="i32[5]0..5", z="f64[2,2]")
    yield case("tf.nn.embedding_lookup(x, y, max_norm=1.0)", nodes=False, x="f64[4,2]", y="i32[3]0..4")
    yield case("tf.nn.relu(x)", x="f32[5]-2..2")
    yield case("tf.abs(x)", x="f32[5]-2..2")


# ---- recording ----------------------------------------------------------------------------------
_INPUT = re.compile(r"(\w+)\[(.*)\](.*)")


def make_input(name: str, text: str) -> dict[str, Any]:
    """The dtype, static shape and numbers that an input's text stands for."""
    match = _INPUT.fullmatch(text)
    assert match is not None, text
    kind, sizes, numbers = match.groups()
    parts = [part for part in sizes.split(",") if part]
    shape = [int(part.lstrip("?")) for part in parts]
    seed = sum(map(ord, name + text))
    values = _numbers(np.random.RandomState(seed), kind, shape, numbers)
    static = [None if part.startswith("?") else int(part) for part in parts]
    return {"dtype": DTYPES[kind], "static": static, "array": values}


def _numbers(random: Any, kind: str, shape: list[int], numbers: str) -> np.ndarray[Any, Any]:
    import ml_dtypes

    dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bf16" else DTYPES[kind])
    if numbers == "edge":
        return np.array(EDGES, dtype)
    if ".." in numbers:
        low, high = map(int, numbers.split(".."))
        return np.asarray(random.randint(low, high, shape)).astype(dtype)
    if kind == "bool":
        return np.asarray(random.rand(*shape) < 0.5)
    if dtype.kind in "iu":
        return np.asarray(random.randint(-5 if dtype.kind == "i" else 0, 6, shape)).astype(dtype)
    normal = np.asarray(random.randn(*shape))
    if dtype.kind == "c":
        return (normal + 1j * random.randn(*shape)).astype(dtype)
    if numbers == "spd":
        return (normal @ np.swapaxes(normal, -1, -2) + 2 * np.eye(shape[-1])).astype(dtype)
    made = {
        "": lambda: normal, "+": lambda: np.abs(normal) + 0.25, "g": lambda: np.abs(normal) + 1.25,
        "u": lambda: np.tanh(normal) * 0.9, "tri": lambda: normal + 3 * np.eye(shape[-1]),
    }
    return np.asarray(made[numbers]()).astype(dtype)


def weights(array: np.ndarray[Any, Any], shift: int) -> np.ndarray[Any, Any]:
    """Fixed numbers of an output's shape, to weight its gradient with."""
    phase = np.arange(array.size).reshape(array.shape) + 1.0 + shift
    return (np.cos(phase) + (1j * np.sin(phase) if array.dtype.kind == "c" else 0)).astype(array.dtype)


def plain(array: Any) -> dict[str, Any]:
    """An array as JSON: shortest decimal numbers that give the same bits."""
    array = np.asarray(array)
    flat = array.reshape(-1)
    if array.dtype.kind == "c":
        flat = np.stack([flat.real, flat.imag], -1).reshape(-1)
    if flat.dtype.name in ("float16", "bfloat16"):
        flat = flat.astype(np.float32)
    if flat.dtype.kind == "f":
        numbers: list[Any] = [float(str(value)) for value in flat]
    else:
        numbers = flat.tolist()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "data": numbers}


def record(tf: Any, item: Case) -> dict[str, Any]:
    """What TensorFlow makes of one case."""
    given = {name: make_input(name, text) for name, text in item.inputs.items()}
    with tf.Graph().as_default() as graph, tf.Session() as session:
        xs = {n: tf.placeholder(v["dtype"], v["static"], n) for n, v in given.items()}
        feeds = {xs[name]: value["array"] for name, value in given.items()}
        output = eval(item.code, {"tf": tf, "np": np, "abs": abs}, dict(xs))
        nodes = [
            [op.name, op.type, [t.name for t in op.inputs]]
            for op in graph.get_operations() if op.name not in given
        ]
        value = session.run(output, feeds)
        entry = {
            "code": item.code,
            "inputs": {n: {"static": v["static"], **plain(v["array"])} for n, v in given.items()},
            "static": output.shape.as_list() if output.shape.dims is not None else None,
            "output": plain(value),
        }
        if item.nodes:
            entry["nodes"] = nodes
        if item.tolerance != 1:
            entry["tolerance"] = item.tolerance
        smooth = [n for n in xs if xs[n].dtype.is_floating or xs[n].dtype.is_complex]
        if smooth and (output.dtype.is_floating or output.dtype.is_complex):
            sources = [xs[name] for name in smooth]
            first = _gradients(tf, [output], sources, feeds, session)
            if first is not None:
                entry["gradients"] = _named(smooth, first, feeds, session)
                made = [g for g in first if g is not None]
                second = made and _gradients(tf, made, sources, feeds, session)
                if second:
                    entry["second"] = _named(smooth, second, feeds, session)
        return entry


def _gradients(tf: Any, ys: list[Any], xs: list[Any], feeds: Any, session: Any) -> Any:
    """The gradients of weighted ``ys``; None where TensorFlow has none for a node."""
    scale = [
        tf.constant(weights(np.asarray(value), i)) for i, value in enumerate(session.run(ys, feeds))
    ]
    try:
        found = tf.gradients(ys, xs, grad_ys=scale)
        session.run([tf.convert_to_tensor(g) for g in found if g is not None], feeds)
        return [None if g is None else tf.convert_to_tensor(g) for g in found]
    except (LookupError, NotImplementedError, tf.errors.OpError, TypeError, ValueError):
        return None


def _named(names: list[str], tensors: list[Any], feeds: Any, session: Any) -> dict[str, Any]:
    return {
        name: None if tensor is None else plain(session.run(tensor, feeds))
        for name, tensor in zip(names, tensors, strict=True)
    }


def main() -> None:
    warnings.filterwarnings("ignore")
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    tf.get_logger().setLevel("ERROR")
    groups = (
        unary_cases, binary_cases, operator_cases, cast_cases, reduction_cases, linalg_cases, nn_cases,
    )
    entries = []
    for group in groups:
        for item in group():
            try:
                entries.append({"group": group.__name__, **record(tf, item)})
            except Exception as error:
                print("left out:", item.code, item.inputs, type(error).__name__, str(error)[:100])
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    target = pathlib.Path(__file__).with_name("math_reference.json")
    target.write_text(f"[\n{lines}\n]\n")
    print(len(entries), "cases,", target.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
