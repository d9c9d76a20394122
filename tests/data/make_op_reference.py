"""Records what TensorFlow's CPU kernels compute, for ``test_op_reference.py``.

Run it where TensorFlow 2.21 is installed: ``python make_op_reference.py > op_reference.json``.
Inputs are named and shared; a record is one application: op and attributes in the words of the
IR.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import ml_dtypes
import numpy as np
import tensorflow as tf

raw = tf.raw_ops
NAMES = {
    "bool": "bool", "int8": "i8", "int16": "i16", "int32": "i32", "int64": "i64", "uint8": "u8",
    "uint16": "u16", "uint32": "u32", "uint64": "u64", "float16": "f16", "bfloat16": "bf16",
    "float32": "f32", "float64": "f64", "complex64": "c64", "complex128": "c128",
}  # fmt: skip
DTYPES = {ours: np.dtype(getattr(ml_dtypes, name, name)) for name, ours in NAMES.items()}
INF, NAN = float("inf"), float("nan")

FLOATS = [0.0, -0.0, 1, -1, 0.5, -0.5, 2.5, -2.5, 3.5, 0.001, -7.25, 20, -20, NAN, INF, -INF]
PAIRS = [
    (0, 0), (1, 0), (-1, 0), (7, 2), (-7, 2), (7, -2), (-7, -2), (6, 3), (-6, 3), (0.5, 0.25),
    (1, INF), (INF, 1), (-INF, 2), (NAN, 1), (1, NAN), (2.5, 3.5), (-0.0, 0), (2, -3), (0, 2),
]  # fmt: skip
INTEGERS = [(7, 2), (-7, 2), (7, -2), (-7, -2), (6, 3), (0, 5), (1, 1), (100, 7), (-100, 3)]
GAMMA = [(1, 0), (0.5, 2), (3, 0.25), (2, 20), (0, 1), (-1, 1), (1, -1), (NAN, 1), (7.5, 7)]
ZETA = [(1, 1), (2, 0), (0.5, 1), (2, 1.5), (3, 2), (3, -1), (2, -1), (5, 0.5), (1.5, 4), (NAN, 1)]
POLY = [(0, 1), (1, 1), (2, 0.5), (0.5, 1), (-1, 1), (3, 2), (0, 0), (5, 1.5), (0, -1.5)]


class Recorder:
    """Collects inputs by name, and records."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self.records: list[dict[str, Any]] = []

    def input(self, name: str, values: Any, dtype: str) -> str:
        """Register an array under ``name:dtype``."""
        key = f"{name}:{dtype}"
        self.inputs[key] = np.array(values).astype(DTYPES[dtype])
        return key

    def record(self, op: str, keys: list[str], results: Any, **attrs: Any) -> None:
        """Keep the results of one application."""
        outputs = results if isinstance(results, (list, tuple)) else [results]
        arrays = [np.asarray(r) for r in outputs]
        self.records.append({"op": op, "inputs": keys, "attrs": attrs, "results": arrays})

    def operands(self, keys: list[str]) -> list[Any]:
        return [tf.constant(self.inputs[key]) for key in keys]


def encode(array: Any) -> dict[str, Any]:
    dtype = NAMES[array.dtype.name]
    flat = np.asarray(array).reshape(-1)
    if dtype.startswith("c"):
        flat = flat.view(flat.real.dtype)
    if flat.dtype.kind in "biu":
        data: list[Any] = [int(v) for v in flat]
    elif dtype == "bf16":
        data = [float(v) for v in flat]
    else:
        data = [float(str(v)) for v in flat]  # the shortest digits that read back exactly
    return {"dtype": dtype, "shape": list(array.shape), "data": data}


UNARY = {
    "neg": raw.Neg, "abs": raw.Abs, "sign": raw.Sign, "exp": raw.Exp, "expm1": raw.Expm1,
    "log": raw.Log, "log1p": raw.Log1p, "sqrt": raw.Sqrt, "rsqrt": raw.Rsqrt, "sin": raw.Sin,
    "reciprocal": raw.Reciprocal, "square": raw.Square, "cos": raw.Cos, "tan": raw.Tan,
    "asin": raw.Asin, "acos": raw.Acos, "atan": raw.Atan, "sinh": raw.Sinh, "cosh": raw.Cosh,
    "tanh": raw.Tanh, "asinh": raw.Asinh, "acosh": raw.Acosh, "atanh": raw.Atanh,
    "sigmoid": raw.Sigmoid, "erf": raw.Erf, "erfc": raw.Erfc, "lgamma": raw.Lgamma,
    "digamma": raw.Digamma, "floor": raw.Floor, "ceil": raw.Ceil, "round": raw.Round,
    "is_nan": raw.IsNan, "is_inf": raw.IsInf, "is_finite": raw.IsFinite,
}  # fmt: skip
ACTIVATIONS = {
    "softplus": raw.Softplus, "softsign": raw.Softsign, "relu": raw.Relu, "relu6": raw.Relu6,
    "elu": raw.Elu, "selu": raw.Selu,
}  # fmt: skip
COMPLEX_UNARY = ("neg", "exp", "log", "sqrt", "sin", "tanh", "square", "reciprocal", "sigmoid")
HALF_UNARY = ("exp", "log", "tanh", "sqrt", "sin", "sigmoid", "round", "rsqrt", "erf")
BINARY = {
    "add": raw.AddV2, "sub": raw.Sub, "mul": raw.Mul, "floor_div": raw.FloorDiv,
    "floor_mod": raw.FloorMod, "maximum": raw.Maximum, "minimum": raw.Minimum, "pow": raw.Pow,
    "squared_difference": raw.SquaredDifference, "less": raw.Less, "less_equal": raw.LessEqual,
    "greater_equal": raw.GreaterEqual, "greater": raw.Greater, "equal": raw.Equal,
    "not_equal": raw.NotEqual, "trunc_div": raw.TruncateDiv, "trunc_mod": raw.TruncateMod,
}  # fmt: skip


def elementwise(r: Recorder) -> None:
    for dtype in ("f32", "f64"):
        x = [r.input("floats", FLOATS, dtype)]
        for op, kernel in UNARY.items():
            r.record(op, x, kernel(x=r.operands(x)[0]))
        for op, kernel in ACTIVATIONS.items():
            r.record(op, x, kernel(features=r.operands(x)[0]))
    for dtype in ("f16", "bf16"):
        x = [r.input("floats", FLOATS, dtype)]
        for op in HALF_UNARY:
            r.record(op, x, UNARY[op](x=r.operands(x)[0]))
    x = [r.input("complex", [0.5 + 1j, -3 + 4j, 2, -1j, 0.25 - 0.75j], "c64")]
    for op in COMPLEX_UNARY:
        r.record(op, x, UNARY[op](x=r.operands(x)[0]))
    for op, kernel in (("real", raw.Real), ("imag", raw.Imag), ("angle", raw.Angle)):
        r.record(op, x, kernel(input=r.operands(x)[0]))
    r.record("abs", x, raw.ComplexAbs(x=r.operands(x)[0]))
    r.record("sign", x, raw.Sign(x=r.operands(x)[0]))


def binary(r: Recorder) -> None:
    for name, pairs, dtype in (("pairs", PAIRS, "f32"), ("integers", INTEGERS, "i32")):
        keys = [r.input(f"{name}_{i}", [p[i] for p in pairs], dtype) for i in range(2)]
        x, y = r.operands(keys)
        for op, kernel in BINARY.items():
            if op != "pow" or dtype == "f32":
                r.record(op, keys, kernel(x=x, y=y))
        if dtype == "f32":
            r.record("div", keys, raw.RealDiv(x=x, y=y))
            r.record("atan2", keys, raw.Atan2(y=x, x=y))
    half = [r.input(f"pairs_{i}", [p[i] for p in PAIRS], "bf16") for i in range(2)]
    for op in ("add", "mul", "floor_div", "maximum"):
        r.record(op, half, BINARY[op](x=r.operands(half)[0], y=r.operands(half)[1]))
    whole = [
        r.input("base", [2, 3, -3, 0, 1, -1, 5], "i32"),
        r.input("power", [31, 40, 3, 0, 9, 7, 2], "i32"),
    ]
    r.record("pow", whole, raw.Pow(x=r.operands(whole)[0], y=r.operands(whole)[1]))
    small = [r.input("i8_x", [-128, 127, -128, 100], "i8"), r.input("i8_y", [-1, 127, 3, -7], "i8")]
    for op in ("add", "mul", "sub", "floor_div", "floor_mod", "trunc_div"):
        r.record(op, small, BINARY[op](x=r.operands(small)[0], y=r.operands(small)[1]))


def bits_and_special_functions(r: Recorder) -> None:
    bits = [
        r.input("bits_x", [-8, 8, 1, 255, -1], "i32"),
        r.input("bits_y", [1, 2, 31, 0, 31], "i32"),
    ]
    kernels = {
        "shift_left": raw.LeftShift,
        "shift_right": raw.RightShift,
        "bitwise_and": raw.BitwiseAnd,
    }
    kernels |= {"bitwise_or": raw.BitwiseOr, "bitwise_xor": raw.BitwiseXor}
    for op, kernel in kernels.items():
        r.record(op, bits, kernel(x=r.operands(bits)[0], y=r.operands(bits)[1]))
    for name, pairs, table in (
        ("gamma", GAMMA, {"igamma": raw.Igamma, "igammac": raw.Igammac}),
        ("zeta", ZETA, {"zeta": raw.Zeta}),
        ("poly", POLY, {"polygamma": raw.Polygamma}),
    ):
        keys = [r.input(f"{name}_{i}", [p[i] for p in pairs], "f64") for i in range(2)]
        for op, kernel in table.items():
            words = {"zeta": ("x", "q")}.get(op, ("a", "x"))
            r.record(op, keys, kernel(**dict(zip(words, r.operands(keys), strict=True))))


def casts(r: Recorder) -> None:
    x = [r.input("casts", [0, 1.9, -1.9, 300.5, 65520, 1e-3, 7.5], "f32")]
    for target in ("i32", "i64", "f64", "f16", "bf16", "bool", "c64"):
        r.record("cast", x, raw.Cast(x=r.operands(x)[0], DstT=DTYPES[target]), dtype=target)
    x = [r.input("casts", [-1, 0, 300, 2**31 - 1, -(2**31)], "i32")]
    for target in ("i8", "u8", "u32", "i64", "f32", "f16", "bool"):
        r.record("cast", x, raw.Cast(x=r.operands(x)[0], DstT=DTYPES[target]), dtype=target)
    x = [r.input("casts", [1 + 2.0**-11 + 2.0**-40, 1 / 3], "f64")]
    for target in ("f16", "bf16", "f32"):
        r.record("cast", x, raw.Cast(x=r.operands(x)[0], DstT=DTYPES[target]), dtype=target)
    x = [r.input("casts", [1.5 + 2j, 1j, -7], "c64")]
    for target in ("bool", "f32", "i32", "c128"):
        r.record("cast", x, raw.Cast(x=r.operands(x)[0], DstT=DTYPES[target]), dtype=target)


def reductions(r: Recorder) -> None:
    rng = np.random.default_rng(7)
    kernels = {"reduce_sum": raw.Sum, "reduce_prod": raw.Prod, "reduce_max": raw.Max}
    kernels |= {"reduce_min": raw.Min, "reduce_mean": raw.Mean}
    arrays = {
        "f32": rng.normal(0, 2, (3, 5)), "bf16": rng.normal(0, 2, (3, 5)),
        "i32": rng.integers(-9, 9, (3, 5)), "u8": rng.integers(0, 255, (3, 5)),
        "i8": rng.integers(-128, 127, (3, 5)),
    }  # fmt: skip
    for dtype, values in arrays.items():
        keys = [r.input("matrix", values, dtype)]
        empty = [r.input("empty", np.zeros((2, 0)), dtype)]
        for op, kernel in kernels.items():
            for x in (keys, empty):
                r.record(op, x, kernel(input=r.operands(x)[0], axis=[1]), axes=[1])
    x = [r.input("nans", [[1, NAN, 3], [-INF, 2, 2]], "f32")]
    for op, kernel in kernels.items():
        r.record(op, x, kernel(input=r.operands(x)[0], axis=[1]), axes=[1])
    rows = [[1, 3, 3], [NAN, 1, 2], [1, NAN, 2], [1, 2, NAN], [NAN, NAN, NAN], [-INF, -INF, -INF]]
    x = [r.input("rows", rows, "f32")]
    r.record("argmax", x, raw.ArgMax(input=r.operands(x)[0], dimension=1), axis=1)
    r.record("argmin", x, raw.ArgMin(input=r.operands(x)[0], dimension=1), axis=1)
    x = ["matrix:f32"]
    for op, kernel in (("cumsum", raw.Cumsum), ("cumprod", raw.Cumprod)):
        for flags in (
            {},
            {"exclusive": True},
            {"reverse": True},
            {"exclusive": True, "reverse": True},
        ):
            r.record(op, x, kernel(x=r.operands(x)[0], axis=1, **flags), axis=1, **flags)


def neural(r: Recorder) -> None:
    logits = r.input("logits", [[1, 2, 3], [1000, 0, -5], [-1, -INF, 0.5], [0, 0, 0]], "f32")
    x = r.operands([logits])[0]
    r.record("softmax", [logits], raw.Softmax(logits=x))
    r.record("log_softmax", [logits], raw.LogSoftmax(logits=x))
    values = [[0.2, 0.3, 0.5], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
    labels = r.input("labels", values, "f32")
    kernel = raw.SoftmaxCrossEntropyWithLogits
    results = kernel(features=x, labels=r.operands([labels])[0])
    r.record("softmax_cross_entropy", [logits, labels], results)
    classes = r.input("classes", [2, 1, 1, 0], "i32")
    kernel = raw.SparseSoftmaxCrossEntropyWithLogits
    results = kernel(features=x, labels=r.operands([classes])[0])
    r.record("sparse_softmax_cross_entropy", [logits, classes], results)
    x = r.input("ranks", [[3, 1, 3, 2, 5, -INF], [0, 0, 1, 1, 2, 2]], "f32")
    r.record("top_k", [x], raw.TopKV2(input=r.operands([x])[0], k=4), k=4)
    predictions = [
        [1, 2, 2, 0],
        [1, NAN, 0, 0],
        [INF, 1, 0, 0],
        [1, 2, 3, 4],
        [1, 1, 1, 1],
        [4, 2, 1, 3],
    ]
    p = r.input("predictions", predictions, "f32")
    t = r.input("targets", [2, 0, 0, 7, 3, 1], "i32")
    p_value, t_value = r.operands([p, t])
    r.record("in_top_k", [p, t], raw.InTopKV2(predictions=p_value, targets=t_value, k=2), k=2)


def indexing(r: Recorder) -> None:
    params = r.input("params", np.arange(24).reshape(2, 3, 4), "f32")
    where = r.input("where", [[2, 0], [1, 1]], "i32")
    p, i = r.operands([params, where])
    r.record("gather", [params, where], tf.gather(p, i, axis=1), axis=1)
    results = tf.gather(p, i, axis=2, batch_dims=1)
    r.record("gather", [params, where], results, axis=2, batch_dims=1)
    nd = r.input("nd", [[1, 2], [0, 0], [1, 2]], "i32")
    r.record("gather_nd", [params, nd], raw.GatherNd(params=p, indices=r.operands([nd])[0]))
    updates = r.input("updates", [1, 2, 3], "f32")
    u = r.operands([updates])[0]
    results = raw.ScatterNd(indices=r.operands([nd])[0], updates=u, shape=[2, 3])
    r.record("scatter_nd", [nd, updates], results, shape=[2, 3])
    hot = r.input("hot", [0, 5, -1, 1], "i32")
    on, off = r.input("on", 5, "f32"), r.input("off", -1, "f32")
    for axis in (-1, 0):
        results = tf.one_hot(r.operands([hot])[0], 2, 5.0, -1.0, axis=axis)
        r.record("one_hot", [hot, on, off], results, depth=2, axis=axis)
    ids = r.input("ids", [0, -1, 2], "i32")
    kernels = {"sum": raw.UnsortedSegmentSum, "max": raw.UnsortedSegmentMax}
    kernels |= {"min": raw.UnsortedSegmentMin, "prod": raw.UnsortedSegmentProd}
    for kind, kernel in kernels.items():
        results = kernel(data=u, segment_ids=r.operands([ids])[0], num_segments=4)
        r.record("segment_sum", [updates, ids], results, num=4, kind=kind)
    results = tf.math.unsorted_segment_mean(u, r.operands([ids])[0], 4)
    r.record("segment_sum", [updates, ids], results, num=4, kind="mean")
    x = r.input("repeated", [3, 1, 3, 2, 1], "i32")
    r.record("unique", [x], raw.Unique(x=r.operands([x])[0]), binds="m")
    r.record("unique_with_counts", [x], raw.UniqueWithCounts(x=r.operands([x])[0]), binds="m")
    y = r.input("some", [1, 9], "i32")
    results = raw.ListDiff(x=r.operands([x])[0], y=r.operands([y])[0])
    r.record("setdiff1d", [x, y], results, binds="m")
    c = r.input("condition", [[1, 0, 1], [0, 0, 1]], "bool")
    r.record("where", [c], raw.Where(condition=r.operands([c])[0]), binds="m")


def shapes(r: Recorder) -> None:
    x = r.input("params", np.arange(24).reshape(2, 3, 4), "f32")
    p = r.operands([x])[0]
    r.record("transpose", [x], tf.transpose(p, [2, 0, 1]), perm=[2, 0, 1])
    r.record("reverse", [x], tf.reverse(p, [0, 2]), axes=[0, 2])
    r.record("tile", [x], tf.tile(p, [1, 2, 2]), multiples=[1, 2, 2])
    for mode in ("REFLECT", "SYMMETRIC"):
        results = tf.pad(p, [[0, 1], [2, 0], [1, 3]], mode)
        r.record("mirror_pad", [x], results, low=[0, 2, 1], high=[1, 0, 3], mode=mode.lower())
    strided = p[:, 2:0:-1, 1::2]
    attrs = {"begin": [0, 2, 1], "size": [2, 2, 2], "strides": [1, -1, 2]}
    r.record("slice", [x], strided, **attrs)
    r.record("matrix_diag", [x], tf.linalg.diag(p))
    r.record("matrix_diag_part", [x], tf.linalg.diag_part(p))
    d = r.input("diagonal", [[1, 2, 3], [4, 5, 6]], "f32")
    results = tf.linalg.set_diag(p, r.operands([d])[0])
    r.record("matrix_set_diag", [x, d], results)
    for lower, upper in ((0, -1), (1, 0), (-1, 2)):
        results = raw.MatrixBandPart(input=p, num_lower=lower, num_upper=upper)
        r.record("matrix_band_part", [x], results, lower=lower, upper=upper)


def matrices(r: Recorder) -> None:
    rng = np.random.default_rng(3)
    a = r.input("a", rng.normal(0, 1, (2, 3, 3)) + 4 * np.eye(3), "f64")
    b = r.input("b", rng.normal(0, 1, (2, 3, 2)), "f64")
    left, right = r.operands([a, b])
    r.record("matmul", [a, b], raw.BatchMatMulV2(x=left, y=right))
    r.record("matmul", [a, b], raw.BatchMatMulV2(x=left, y=right, adj_x=True), transpose_a=True)
    half = [
        r.input("a", rng.normal(0, 1, (4, 9)), "bf16"),
        r.input("b", rng.normal(0, 1, (9, 2)), "bf16"),
    ]
    r.record("matmul", half, raw.MatMul(a=r.operands(half)[0], b=r.operands(half)[1]))
    r.record("matrix_inverse", [a], raw.MatrixInverse(input=left))
    r.record("matrix_determinant", [a], raw.MatrixDeterminant(input=left))
    for adjoint in (False, True):
        results = raw.MatrixSolve(matrix=left, rhs=right, adjoint=adjoint)
        r.record("matrix_solve", [a, b], results, adjoint=adjoint)
        for lower in (False, True):
            results = raw.MatrixTriangularSolve(
                matrix=left, rhs=right, lower=lower, adjoint=adjoint
            )
            r.record("matrix_triangular_solve", [a, b], results, lower=lower, adjoint=adjoint)
    s = r.input("spd", [[[4, 2], [2, 3]], [[1, 0.5], [0.5, 1]]], "f64")
    r.record("cholesky", [s], raw.Cholesky(input=r.operands([s])[0]))
    r.record(
        "self_adjoint_eig", [s], raw.SelfAdjointEigV2(input=r.operands([s])[0])[0], compute_v=False
    )
    r.record("svd", [a], raw.Svd(input=left)[0], compute_uv=False)


def main() -> None:
    r = Recorder()
    for part in (
        elementwise,
        binary,
        bits_and_special_functions,
        casts,
        reductions,
        neural,
        indexing,
        shapes,
        matrices,
    ):
        part(r)
    records = [{**one, "results": [encode(a) for a in one["results"]]} for one in r.records]
    lines = [json.dumps(one, separators=(",", ":")) for one in records]
    inputs = {key: encode(array) for key, array in r.inputs.items()}
    named = [f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in inputs.items()]
    sys.stdout.write(f'{{"tensorflow":"{tf.__version__}","inputs":{{\n')
    sys.stdout.write(",\n".join(named) + '},\n"records":[\n' + ",\n".join(lines) + "]}\n")


if __name__ == "__main__":
    main()
