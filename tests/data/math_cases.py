"""Elementwise functions and reductions that ``make_math_reference.py`` records."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """An expression and its inputs: ``f32[?2,3]`` is a 2 x 3 array whose first size is not static.

    A suffix says what numbers: ``+`` positive, ``u`` in (-1, 1), ``g`` above 1, ``spd`` and ``tri``
    matrices that can be solved with, ``low..high`` integers, ``edge`` the special values.
    """

    code: str
    inputs: dict[str, str] = field(default_factory=dict)
    nodes: bool = True
    tolerance: float = 1.0  # times what the dtype allows


def case(code: str, nodes: bool = True, tolerance: float = 1.0, **inputs: str) -> Case:
    return Case(code, inputs, nodes, tolerance)


# function -> numbers that it is defined for
UNARY = {
    "abs": "",
    "negative": "",
    "sign": "",
    "square": "",
    "sqrt": "+",
    "rsqrt": "+",
    "reciprocal": "+",
    "exp": "",
    "expm1": "",
    "log": "+",
    "log1p": "+",
    "sin": "",
    "cos": "",
    "tan": "",
    "asin": "u",
    "acos": "u",
    "atan": "",
    "sinh": "",
    "cosh": "",
    "tanh": "",
    "asinh": "",
    "acosh": "g",
    "atanh": "u",
    "sigmoid": "",
    "erf": "",
    "erfc": "",
    "lgamma": "+",
    "digamma": "+",
    "floor": "",
    "ceil": "",
    "round": "",
    "rint": "",
    "log_sigmoid": "",
    "nn.relu": "",
    "nn.relu6": "",
    "nn.elu": "",
    "nn.selu": "",
    "nn.softplus": "",
    "nn.softsign": "",
    "nn.leaky_relu": "",
    "nn.softmax": "",
    "nn.log_softmax": "",
    "nn.l2_loss": "",
    "nn.crelu": "",
    "reduce_sum": "",
    "reduce_mean": "",
    "reduce_max": "",
    "reduce_min": "",
    "reduce_prod": "",
    "reduce_logsumexp": "",
    "cumsum": "",
    "cumprod": "",
    "nn.l2_normalize": "",
    "norm": "",
    "math.reduce_std": "",
    "math.reduce_variance": "",
    "math.reduce_euclidean_norm": "",
    "math.reciprocal_no_nan": "",
}
EDGE_UNARY = [
    "abs",
    "sign",
    "square",
    "exp",
    "expm1",
    "sin",
    "atan",
    "tanh",
    "sigmoid",
    "floor",
    "ceil",
    "round",
    "rint",
    "is_nan",
    "is_inf",
    "is_finite",
    "nn.relu",
    "nn.relu6",
    "nn.elu",
    "nn.softplus",
    "nn.softsign",
    "sqrt",
    "rsqrt",
    "log",
    "log1p",
    "reciprocal",
]
HALF = [
    "exp",
    "tanh",
    "square",
    "sqrt",
    "sigmoid",
    "log",
    "nn.relu",
    "nn.softmax",
    "reduce_sum",
    "reduce_mean",
]
COMPLEX_UNARY = [
    "abs",
    "negative",
    "sign",
    "square",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "exp",
    "log",
    "sin",
    "cos",
    "tanh",
    "sigmoid",
    "real",
    "imag",
    "conj",
    "angle",
    "reduce_sum",
    "reduce_mean",
    "reduce_prod",
    "cumsum",
    "nn.l2_normalize",
]
INTEGER_UNARY = [
    "abs",
    "negative",
    "sign",
    "square",
    "reduce_sum",
    "reduce_mean",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "cumsum",
    "cumprod",
    "bitwise.invert",
    "round",
    "argmax",
    "argmin",
    "real",
    "imag",
    "count_nonzero",
    "nn.zero_fraction",
    "nn.relu",
    "add_n",
]
BINARY = {  # function -> numbers of its two arguments
    "add": ("", ""),
    "subtract": ("", ""),
    "multiply": ("", ""),
    "divide": ("", "+"),
    "div": ("", "+"),
    "truediv": ("", "+"),
    "realdiv": ("", "+"),
    "floordiv": ("", "+"),
    "floor_div": ("", "+"),
    "mod": ("", "+"),
    "floormod": ("", "+"),
    "pow": ("+", ""),
    "maximum": ("", ""),
    "minimum": ("", ""),
    "squared_difference": ("", ""),
    "atan2": ("", ""),
    "div_no_nan": ("", "+"),
    "math.multiply_no_nan": ("", ""),
    "math.xlogy": ("+", "+"),
    "math.xdivy": ("+", "+"),
    "math.xlog1py": ("+", "+"),
    "zeta": ("g", "+"),
    "equal": ("", ""),
    "not_equal": ("", ""),
    "less": ("", ""),
    "less_equal": ("", ""),
    "greater": ("", ""),
    "greater_equal": ("", ""),
}
INTEGER_BINARY = [
    "add",
    "subtract",
    "multiply",
    "divide",
    "div",
    "truediv",
    "floordiv",
    "floor_div",
    "mod",
    "floormod",
    "truncatediv",
    "truncatemod",
    "maximum",
    "minimum",
    "squared_difference",
    "equal",
    "less",
    "pow",
    "bitwise.bitwise_and",
    "bitwise.bitwise_or",
    "bitwise.bitwise_xor",
    "bitwise.left_shift",
    "bitwise.right_shift",
]
NOT_UNSIGNED = ("mod", "truncatemod", "floormod", "pow", "squared_difference")
OPERATORS = ["x + y", "x - y", "x * y", "x / y", "x // y", "x % y", "x ** y"]
SCALAR_OPERATORS = [
    "x + 1",
    "1 + x",
    "x - 2.5",
    "2.5 - x",
    "x * 3",
    "3 * x",
    "x / 2",
    "2 / x",
    "x // 2",
    "7 // x",
    "x % 2",
    "7 % x",
    "x ** 2",
    "2 ** x",
    "-x",
    "abs(x)",
    "x < 1",
    "x <= 1",
    "x > 1",
    "x >= 1",
    "1 < x",
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
        for left, right in (
            ("f32[2,3]", "f32[2,3]"),
            ("f64[?2,3]", "f64[3]"),
            ("f32[2,1]", "f32[1,3]"),
        ):
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


def integer_cases() -> Iterator[Case]:
    for function in INTEGER_BINARY:
        second = "1..4"
        for left, right in (
            ("i32[2,3]", "i32[3]"),
            ("i64[?4]", "i64[?4]"),
            ("u8[3]0..200", "u8[3]"),
        ):
            if function in NOT_UNSIGNED and left.startswith("u8"):
                continue
            yield case(f"tf.{function}(x, y)", x=left, y=right + second)
    for function in ("logical_and", "logical_or", "logical_xor", "equal"):
        yield case(f"tf.{function}(x, y)", x="bool[?4]", y="bool[4]")
    for function in ("floordiv", "mod", "truncatediv", "truncatemod", "div"):
        yield case(f"tf.{function}(x, y)", x="i32[6]-9..9", y="i32[6]-4..0")
    for function in ("floordiv", "mod", "div", "truncatemod"):
        yield case(f"tf.{function}(x, y)", x="f32[6]", y="f32[6]")


def special_cases() -> Iterator[Case]:
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
        for target in (
            "float32",
            "float64",
            "int32",
            "int64",
            "bool",
            "complex64",
            "float16",
            "uint8",
        ):
            if not (source.startswith(("c64", "f", "i32")) and target == "uint8"):
                yield case(f"tf.cast(x, tf.{target})", x=source)
    for function in ("to_float", "to_double", "to_int32", "to_int64", "to_bfloat16"):
        yield case(f"tf.{function}(x)", x="i32[3]")
    yield case("tf.saturate_cast(x, tf.uint8)", x="i32[3]-400..400")
    yield case("tf.saturate_cast(x, tf.int8)", x="f32[3]-400..400")


def reduction_cases() -> Iterator[Case]:
    for function in ("sum", "mean", "max", "min", "prod", "logsumexp"):
        for arguments in (
            "x",
            "x, 0",
            "x, axis=1",
            "x, [0, 1]",
            "x, -1",
            "x, axis=[1, -3], keepdims=True",
            "x, reduction_indices=[0], keep_dims=True",
            "x, []",
            "x, axis=tf.constant(1)",
            "x, keepdims=True",
        ):
            nodes = "[]" not in arguments  # TensorFlow tries a float constant first
            yield case(f"tf.reduce_{function}({arguments})", nodes=nodes, x="f64[2,?3,2]")
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


GROUPS: tuple[Callable[[], Iterator[Case]], ...] = (
    unary_cases,
    binary_cases,
    integer_cases,
    special_cases,
    operator_cases,
    cast_cases,
    reduction_cases,
)
