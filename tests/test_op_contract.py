"""The contract that every op declaration keeps, checked over the whole registry.

One test per op and promise: adding an op adds its tests. Values are compared with TensorFlow's in
``test_op_reference.py``.
"""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from contract import (
    SPECIAL,
    Case,
    Element,
    ElementBuilder,
    edge_values,
    inputs,
    mismatch,
    parse_case,
    run,
    run_expansion,
    ulps,
)

import stepforge.ir.ops
from stepforge.ir import dims
from stepforge.ir.core import Value
from stepforge.ir.errors import (
    DTypeError,
    FailedPreconditionError,
    InvalidArgumentError,
    ShapeError,
    UnprovenSizes,
)
from stepforge.ir.opdef import REGISTRY, lookup
from stepforge.ir.ops.arg_extremes import ArgExtreme
from stepforge.ir.ops.reductions import Reduction, Scan
from stepforge.ir.types import COMPLEX, NUMERIC, Type, numpy_dtype

assert stepforge.ir.ops  # importing it fills the registry

TENSOR_OPS = sorted(
    name
    for name, op in REGISTRY.items()
    if op.level != "loop" and not op.terminator and not (op.region_names and op.numpy is None)
    if name not in ("py_func", "numba_call")  # they give what a user's function gives
)
ELEMENTWISE = [name for name in TENSOR_OPS if lookup(name).elementwise]
MAPS = [name for name in ELEMENTWISE if name not in ("cast", "select", "complex")]
EXPANDABLE = [name for name in TENSOR_OPS if lookup(name).expand is not None]
ANY_SIZE = [
    *ELEMENTWISE,
    *[n for n in TENSOR_OPS if isinstance(lookup(n), (Reduction, ArgExtreme, Scan))],
    "softmax",
    "log_softmax",
    "softmax_cross_entropy",
    "matrix_diag",
    "transpose",
    "reverse",
    "sort",
    "argsort",
]
# Operands that must keep a size, because results depend on its value: (op, operand) -> axis
STATIC_SIZES = {
    ("gather_nd", 1): -1,
    ("check_vectors", 0): -1,
    ("scatter_nd", 0): -1,
    ("scatter_nd_update", 1): -1,
    ("dim", 0): 0,
}
DIM_ATTRIBUTES = frozenset(
    ["shape", "size", "begin", "low", "high", "multiples", "values", "depth", "num", "k", "limit"]
)
DIM_ATTRIBUTES |= {"samples", "lower", "upper", "lhs", "rhs"}
SIXTEEN_BIT_ULPS, ULPS = 4, 4


def cases_of(op: str) -> list[Case]:
    return [parse_case(text) for text in lookup(op).cases]


def check_run(case: Case, operands: list[Any]) -> tuple[Any, ...]:
    """Results of the ``numpy`` rule, which must have the inferred types and be silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = run(case, operands)
    problem = mismatch(case.results(), results)
    assert problem is None, f"{case.text}: {problem}"
    return results


@pytest.mark.parametrize("op", TENSOR_OPS)
def test_declaration_is_complete(op: str) -> None:
    defn = lookup(op)
    assert defn.__doc__
    assert f"{op}(" in defn.__doc__, "the docstring shows the IR text"
    assert defn.cases
    assert all(case.op == op for case in cases_of(op))
    assert defn.numpy is not None


@pytest.mark.parametrize("op", TENSOR_OPS)
def test_numpy_rule_gives_the_inferred_types(op: str) -> None:
    for case in cases_of(op):
        check_run(case, inputs(case))


@pytest.mark.parametrize("op", TENSOR_OPS)
def test_symbolic_inference_agrees_with_static_inference(op: str) -> None:
    for case in cases_of(op):
        expected = case.results()
        for variant, values in symbolic_variants(case):
            try:
                results = variant.results()
            except UnprovenSizes as unproven:  # names on one side only
                equal = (dims.substitute(d, values) for d in (unproven.lhs, unproven.rhs))
                assert next(equal) == next(equal), case.text
                continue
            inferred = [substituted(t, values) for t in results]
            for have, want in zip(inferred, expected, strict=True):
                assert have == want, f"{case.text}: {have} of {variant.types}, {variant.attrs}"


def symbolic_variants(case: Case) -> list[tuple[Case, dict[str, dims.Dim]]]:
    """The case with names for sizes: in the types alone, and in the attributes too."""
    values: dict[str, dims.Dim] = {}

    def name(size: Any) -> Any:
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            return size
        values[f"d{size}"] = size
        return dims.named(f"d{size}")

    types = []
    for i, type_ in enumerate(case.types):
        shape = [name(n) for n in type_.dims]
        if (case.op, i) in STATIC_SIZES and shape:
            kept = STATIC_SIZES[case.op, i]
            shape[kept] = type_.dims[kept]
        types.append(type_.with_shape(tuple(shape)))
    attrs = dict(case.attrs)
    for key in DIM_ATTRIBUTES & attrs.keys():
        value = attrs[key]
        attrs[key] = tuple(map(name, value)) if isinstance(value, tuple) else name(value)
    named = replace(case, types=tuple(types))
    return [(named, values), (replace(named, attrs=attrs), values)]


def substituted(type_: Type, values: dict[str, dims.Dim]) -> Type:
    return type_.with_shape(tuple(dims.substitute(n, values) for n in type_.dims))


@pytest.mark.parametrize("op", ANY_SIZE)
@pytest.mark.parametrize("size", [0, 1])
def test_sizes_0_and_1(op: str, size: int) -> None:
    for case in cases_of(op):
        changed = case.with_sizes({n: size for t in case.types for n in t.dims if n != 1})
        check_run(changed, inputs(changed))


def edge_operands(op: str, dtype: str) -> list[Any]:
    """Every combination of edge values, one vector per operand."""
    count = len(parse_case(lookup(op).cases[0]).types)
    grid = np.meshgrid(*[edge_values(dtype)] * count, indexing="ij")
    return [x.reshape(-1) for x in grid]


def map_dtypes(op: str) -> list[str]:
    listed: tuple[str, ...] = lookup(op).accepts.listed  # type: ignore[attr-defined]
    return [dtype for dtype in listed if dtype in NUMERIC]


def edge_case(op: str, dtype: str, operands: list[Any]) -> Case:
    types = tuple(Type(dtype, x.shape) for x in operands)
    return Case(f"{op} of edge values of {dtype}", op, types, (False,) * len(types), {})


@pytest.mark.parametrize("op", MAPS)
def test_edge_values_are_silent(op: str) -> None:
    for dtype in map_dtypes(op):
        operands = edge_operands(op, dtype)
        check_run(edge_case(op, dtype, operands), operands)


@pytest.mark.parametrize("op", [op for op in MAPS if lookup(op).scalar is not None])
def test_scalar_rule_agrees_with_numpy_rule(op: str) -> None:
    for dtype in map_dtypes(op):
        if dtype in COMPLEX:
            continue
        operands = edge_operands(op, dtype)
        (expected,) = run(edge_case(op, dtype, operands), operands)
        check_scalar(op, [Element(dtype, x) for x in operands], {}, expected)


def check_scalar(op: str, operands: list[Element], attrs: dict[str, Any], expected: Any) -> None:
    rule = lookup(op).scalar
    assert rule is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        element = rule(ElementBuilder(), *operands, **attrs)
    values = np.broadcast_to(element.values, expected.shape)
    limit = SIXTEEN_BIT_ULPS if expected.dtype.itemsize == 2 else ULPS
    assert ulps(np.array(values), expected) <= limit, f"{op} of {operands[0].dtype}"


@pytest.mark.parametrize("source", [d for d in NUMERIC if d not in COMPLEX])
def test_scalar_cast_agrees_with_numpy_cast(source: str) -> None:
    x = edge_values(source)
    for target in NUMERIC:
        case = Case("cast", "cast", (Type(source, x.shape),), (False,), {"dtype": target})
        (expected,) = check_run(case, [x])
        if target not in COMPLEX:
            check_scalar("cast", [Element(source, x)], {"dtype": target}, expected)


def test_scalar_select_agrees_with_numpy_select() -> None:
    condition, x, y = np.array([True, False]), np.float32([1, 2]), np.float32([np.nan, 4])
    operands = [Element("bool", condition), Element("f32", x), Element("f32", y)]
    check_scalar("select", operands, {}, np.float32([1, 4]))


@pytest.mark.parametrize("op", EXPANDABLE)
def test_expansion_agrees_with_numpy_rule(op: str) -> None:
    for case in cases_of(op):
        operands = inputs(case)
        for actual, expected in zip(
            run_expansion(case, operands), run(case, operands), strict=True
        ):
            assert actual.shape == expected.shape, case.text
            assert ulps(np.asarray(actual), np.asarray(expected)) <= ULPS, case.text


@pytest.mark.parametrize("op", EXPANDABLE)
def test_expansion_infers_symbolic_types(op: str) -> None:
    from stepforge.ir.builder import Builder

    for case in cases_of(op):
        for variant, values in symbolic_variants(case):
            operands = [Value(t) for t in variant.types]
            with contextlib.suppress(UnprovenSizes):
                variant.results()
                made = lookup(op).expand(  # type: ignore[misc]
                    Builder(), *operands, **variant.all_attrs
                )
                assert substituted(made.type, values) == case.results()[0], case.text


def test_equal_types_take_the_fast_path() -> None:
    x = Type("f32", (dims.named("n"), 3))
    assert lookup("tanh").infer(x) is x
    assert lookup("add").infer(x, Type("f32", (dims.named("n"), 3))) is x
    assert lookup("add").infer(x, x) is x


def test_unknown_sizes_broadcast() -> None:
    n, m = dims.named("n"), dims.named("m")
    add = lookup("add")
    assert add.infer(Type("f32", (n,)), Type("f32", (m,))).dims == (dims.broadcast(n, m),)
    assert add.infer(Type("f32", (n, 1)), Type("f32", (m,))).dims == (n, m)
    assert add.infer(Type("f32", (n,)), Type("f32", (4,))).dims == (4,)
    assert add.infer(Type("f32", None), Type("f32", (4,))) == Type("f32", None)
    assert lookup("less").infer(Type("f32", None), Type("f32", None)) == Type("bool", None)


def test_sizes_are_polynomials() -> None:
    n, m = dims.named("n"), dims.named("m")
    x = Type("f32", (n, 3))
    assert lookup("concat").infer(x, Type("f32", (m, 3)), axis=0).dims == (n + m, 3)
    assert lookup("pad").infer(x, Type("f32"), low=(1, m), high=(0, 2)).dims == (n + 1, m + 5)
    assert lookup("tile").infer(x, multiples=(2, m)).dims == (2 * n, 3 * m)
    assert str(lookup("where").infer(Type("bool", (n, 3)), binds="k")) == "i64[k, 2]"
    assert lookup("reshape").infer(x, shape=(3 * n,)).dims == (3 * n,)


# (case, error, words of its message)
WRONG: list[tuple[str, type[Exception], str]] = [
    ("add(f32[2], f64[2])", DTypeError, "add: dtypes differ: x is f32[2], y is f64[2]"),
    ("add(bool[2], bool[2])", DTypeError, "add: x must be a number, but is bool[2]"),
    ("sqrt(i32[2])", DTypeError, "sqrt: x must be a float or complex number, but is i32[2]"),
    ("less(c64, c64)", DTypeError, "less: x must be a real number, but is c64"),
    (
        "add(f32[2, 3], f32[2, 4])",
        ShapeError,
        "add: dimension 1 differs (3 and 4) and neither is 1: x is f32[2, 3], y is f32[2, 4]",
    ),
    (
        "matmul(f32[8, 784], f32[783, 128])",
        ShapeError,
        "matmul: inner dimensions differ (784 and 783): a is f32[8, 784], b is f32[783, 128]",
    ),
    ("matmul(f32[3], f32[3, 2])", ShapeError, "matmul: a must have rank 2 or more, but is f32[3]"),
    ("matmul(f32[2, 1, 3], f32[4, 3, 2])", ShapeError, ""),
    ("select(i32, f32, f32)", DTypeError, "the condition must be bool, but is i32"),
    ('cast(f32, dtype="string")', DTypeError, "cast: f32 cannot become string"),
    ("reshape(f32[2, 3], shape=[4])", ShapeError, "f32[2, 3] with 6 elements, but shape [4] has 4"),
    ("transpose(f32[2, 3], perm=[0])", ShapeError, "perm has 1 values for x, which is f32[2, 3]"),
    ("transpose(f32[2, 3], perm=[0, 0])", ShapeError, "an axis appears twice in [0, 0]"),
    ("broadcast_to(f32[2], shape=[3])", ShapeError, "f32[2], which does not broadcast to [3]"),
    (
        "concat(f32[2, 3], f32[2, 4], axis=0)",
        ShapeError,
        "sizes off the axis differ in dimension 1 (3 and 4): x0 is f32[2, 3], x1 is f32[2, 4]",
    ),
    ("concat(axis=0)", ShapeError, "at least one operand"),
    ("slice(f32[4], begin=[2], size=[3])", ShapeError, "axis 0 of x has no 3 elements from 2 on"),
    ("gather(f32[4], f32[2])", DTypeError, "gather: indices must be i32 or i64, but is f32[2]"),
    ("gather(f32[4], i32[2], axis=1)", ShapeError, "there is no axis 1 in params, which is f32[4]"),
    ("reduce_sum(f32[2], axes=[1])", ShapeError, "there is no axis 1 in x, which is f32[2]"),
    ("argmax(c64[2], axis=0)", DTypeError, "argmax: x must be a real number, but is c64[2]"),
    ("cholesky(f32[2, 3])", ShapeError, "cholesky: x must be square (2 and 3): x is f32[2, 3]"),
    ("top_k(f32[2], k=3)", ShapeError, "at least k = 3 columns, but is f32[2]"),
    ('scatter_update(f32[2], i32[1], f32[1], kind="or")', ShapeError, "kind 'or' is none of"),
    ("write(@f32[2], f64[2])", DTypeError, "variable is f32[2], x is f64[2]"),
    ("refine(f32[2], shape=[3])", ShapeError, "x is f32[2], which cannot be f32[3]"),
    ('mirror_pad(f32[2], low=[2], high=[0], mode="reflect")', ShapeError, "axis 0 of f32[2]"),
]


@pytest.mark.parametrize(("text", "error", "words"), WRONG, ids=[text for text, _, _ in WRONG])
def test_wrong_operands_are_named(text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error) as caught:
        parse_case(text).results()
    assert words in str(caught.value)


def test_unknown_ranks_are_named() -> None:
    with pytest.raises(ShapeError, match=r"the rank of x must be known, but it is f32\[\*\]"):
        lookup("reduce_sum").infer(Type("f32", None), axes=(0,))


# (op, operands, attributes, message)
FAILING: list[tuple[str, list[Any], dict[str, Any], str]] = [
    ("check_nonzero", [np.int32([1, 0])], {}, "Integer division by zero"),
    (
        "check_bounds",
        [np.int32([[0, 1], [5, 9]])],
        {"limit": 2},
        "indices[1,0] = 5 is not in [0, 2)",
    ),
    ("check_bounds", [np.int64(-1)], {"limit": 2}, "indices = -1 is not in [0, 2)"),
    ("require", [np.array(False)], {"message": "no"}, "no"),
    ("require_equal", [], {"lhs": 2, "rhs": 3, "message": "sizes"}, "sizes: 2 is not 3"),
    ("refine", [np.zeros((2, 3))], {"shape": (2, 4)}, "of shape [2,3] cannot have shape [2,4]"),
    ("dim", [np.int32([1, -1])], {"index": 1, "binds": "n"}, "Dimension -1 must be >= 0"),
    ("matrix_inverse", [np.ones((2, 2))], {}, "Input is not invertible."),
    ("matrix_solve", [np.ones((2, 2)), np.ones((2, 1))], {}, "Input matrix is not invertible."),
]


@pytest.mark.parametrize(("op", "operands", "attrs", "message"), FAILING)
def test_checks_raise(op: str, operands: list[Any], attrs: dict[str, Any], message: str) -> None:
    assert lookup(op).effect == "check"
    case = Case(op, op, (), (), attrs)
    with pytest.raises(InvalidArgumentError) as caught:
        run(case, operands)
    assert message in str(caught.value)


def test_dim_gives_the_size_that_its_name_gets() -> None:
    bound = lookup("dim").bound  # type: ignore[attr-defined]
    assert bound(np.int32([3, 7]), index=1, binds="n") == 7
    assert bound(np.array(4), index=None, binds="n") == 4


def test_variables() -> None:
    case = parse_case("write(@f32[2], f32[2])")
    cell, value = inputs(case)
    cell.value = None
    assert not lookup("is_initialized").numpy(cell)  # type: ignore[misc]
    with pytest.raises(FailedPreconditionError, match="use uninitialized value v"):
        lookup("read").numpy(cell)  # type: ignore[misc]
    run(case, [cell, value])
    value[:] = 0  # a later change of the operand is none of the variable
    assert lookup("is_initialized").numpy(cell)  # type: ignore[misc]
    assert np.all(lookup("read").numpy(cell))  # type: ignore[misc]


def test_random_ops_draw_what_their_stream_gives() -> None:
    case = parse_case("random_uniform(@resource, shape=[4])")
    (first,), (again,) = run(case, inputs(case)), run(case, inputs(case))
    assert np.array_equal(first, again)
    assert first.dtype == numpy_dtype("f32")


def test_special_inputs_name_ops_that_exist() -> None:
    assert {op for op, _ in SPECIAL} <= REGISTRY.keys()
    assert {op for op, _ in STATIC_SIZES} <= REGISTRY.keys()


def test_cholesky_of_an_indefinite_matrix_is_nan_below_the_diagonal() -> None:
    case = parse_case("cholesky(f64[2, 2, 2])")
    good, bad = np.array([[4.0, 2], [2, 3]]), np.array([[1.0, 2], [2, 1]])
    (factors,) = check_run(case, [np.stack([good, bad])])
    np.testing.assert_allclose(factors[0], [[2, 0], [1, np.sqrt(2)]])
    np.testing.assert_array_equal(factors[1], [[np.nan, 0], [np.nan, np.nan]])


def test_labels_out_of_range_give_nan() -> None:
    case = parse_case("sparse_softmax_cross_entropy(f32[2, 3], i32[2])")
    loss, backprop = check_run(case, [np.zeros((2, 3), np.float32), np.int32([9, 1])])
    np.testing.assert_array_equal(np.isnan(loss), [True, False])
    np.testing.assert_array_equal(np.isnan(backprop), [[True] * 3, [False] * 3])


def test_casts_saturate() -> None:
    x = np.array([1e30, -1e30, np.nan, np.inf, -np.inf, 1.9, -1.9])
    for dtype, low, high in (
        ("i32", -(2**31), 2**31 - 1),
        ("u8", 0, 255),
        ("i64", -(2**63), 2**63 - 1),
    ):
        case = Case("cast", "cast", (Type("f64", (7,)),), (False,), {"dtype": dtype})
        (result,) = check_run(case, [x])
        assert result.tolist() == [high, low, 0, high, low, 1, max(-1, low)]
