"""Every op that loops compute gives the same natively as by its ``numpy`` rule, for every case it
declares.

Each case runs twice: with its sizes known, and with every size a name that the entry binds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import Case, inputs, parse_case
from native import NativeModule

from stepforge.ir import dims
from stepforge.ir.builder import Builder
from stepforge.ir.core import Function, Value
from stepforge.ir.errors import ShapeError
from stepforge.ir.opdef import REGISTRY, lookup
from stepforge.ir.types import Type
from stepforge.ir.verify import verify
from stepforge.passes.expand import expand
from stepforge.passes.fuse import fuse, is_map, is_reduction
from stepforge.passes.lower import lower, lowerable

lookup("add")  # fills the registry
EXACT_KINDS = "biu"
TOLERANCE = {"f16": 2e-3, "bf16": 2e-2, "f32": 3e-6, "f64": 3e-15}


def has_loops(name: str) -> bool:
    """True for ops that do not fall back to their ``numpy`` rule."""
    defn = REGISTRY[name]
    rules = (defn.scalar, defn.element, defn.lower, defn.expand)
    if defn.capacity:
        return False  # results that only the run can make: test_found_sizes
    return bool(defn.cases) and (any(rules) or name.startswith("reduce_"))


OPS = sorted(name for name in REGISTRY if has_loops(name))


def function_of(case: Case) -> Function:
    """A function that applies a case's op to parameters."""
    b = Builder()
    params = [Value(t, f"x{i}") for i, t in enumerate(case.types)]
    made = b.emit(case.op, *params, **case.attrs)
    results = made if isinstance(made, tuple) else (made,)
    b.emit("return", *results)
    return b.function("f", params)


def symbolic(case: Case) -> Case:
    """The case with a name for each size of its operands; equal sizes share a name, 1 stays."""
    sizes: dict[Any, Any] = {}
    for type_ in case.types:
        for size in type_.dims:
            if size != 1:
                sizes.setdefault(size, dims.named(f"n{size}"))
    return case.with_sizes(sizes)


def compilable(case: Case) -> Function | None:
    """The function of a case after expansion, where no host call is left."""
    try:
        function = function_of(case)
    except ShapeError:
        return None
    function = expand(function)
    verify(function)
    if not lowerable(function):
        return None
    fused = fuse(function)
    verify(fused)
    return None if lower(fused).host_operations else function


def check(case: Case, want: Any, got: Any) -> None:
    """Compare results in value and dtype, floats to a few units in the last place."""
    assert not isinstance(got, str), got
    for result, expected in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        expected = np.asarray(expected)
        assert result.dtype == expected.dtype, case.text
        assert result.shape == expected.shape, case.text
        if expected.dtype.kind in EXACT_KINDS:
            np.testing.assert_array_equal(result, expected, err_msg=case.text)
            continue
        name = Type(str(expected.dtype)).dtype
        limit = {"float16": "f16", "bfloat16": "bf16", "float32": "f32", "float64": "f64"}[name]
        wide = np.float64
        np.testing.assert_allclose(
            result.astype(wide),
            expected.astype(wide),
            err_msg=case.text,
            rtol=TOLERANCE[limit],
            atol=TOLERANCE[limit],
        )


@pytest.mark.parametrize("name", OPS)
def test_native_is_numpy(name: str) -> None:
    cases, functions = [], []
    for text in lookup(name).cases:
        case = parse_case(text)
        if any(case.symbols):
            continue
        for variant in (case, symbolic(case)):
            function = compilable(variant)
            if function is not None:
                cases.append((case, f"{variant.types}"))
                functions.append(function)
    if not functions:
        pytest.skip("no case has loops")
    module = NativeModule(functions)
    for number, (case, _) in enumerate(cases):
        arrays = inputs(case)
        want = case.defn.numpy(*arrays, **case.all_attrs) if case.defn.numpy else None
        check(case, () if want is None else want, module.run(number, arrays))


def test_most_ops_have_loops() -> None:
    native = {
        n
        for n in OPS
        if any(compilable(parse_case(t)) is not None for t in lookup(n).cases if "@" not in t)
    }
    for name in (
        "add",
        "tanh",
        "matmul",
        "softmax",
        "gather",
        "concat",
        "reduce_sum",
        "argmax",
        "sparse_softmax_cross_entropy",
        "transpose",
        "one_hot",
        "cumsum",
        "slice",
        "pad",
    ):
        assert name in native, name
    assert is_map(function_of(parse_case("add(f32[2], f32[2])")).body.ops[0])
    assert is_reduction(function_of(parse_case("reduce_sum(f32[2], axes=[0])")).body.ops[0])
