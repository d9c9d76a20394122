"""Ops whose results are as large as their values say (unique, where): in loops, against NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from contract import inputs, parse_case

import stepforge as tf
from stepforge.ir.builder import Builder
from stepforge.ir.core import Function, Value
from stepforge.ir.evaluate_loops import evaluate_loops
from stepforge.ir.opdef import lookup
from stepforge.ir.ops.data_dependent import SORTED
from stepforge.ir.types import numpy_dtype
from stepforge.passes.fuse import fuse
from stepforge.passes.lower import has_loops, lower

CASES = [
    text for name in ("where", "unique", "unique_with_counts") for text in lookup(name).cases
]
RANDOM = np.random.RandomState(0)


def function_of(text: str) -> Function:
    case, b = parse_case(text), Builder()
    params = [Value(t, f"x{i}") for i, t in enumerate(case.types)]
    made = b.emit(case.op, *params, **case.attrs)
    b.emit("return", *(made if isinstance(made, tuple) else (made,)))
    return b.function("f", params)


@pytest.mark.parametrize("text", CASES)
def test_loops_give_what_the_numpy_rule_gives(text: str) -> None:
    case, function = parse_case(text), function_of(text)
    if not has_loops(function.body.ops[0]):
        pytest.skip("left to the host")
    lowered = lower(fuse(function))
    assert not lowered.host_operations
    arrays = inputs(case)
    assert case.defn.numpy is not None
    want = case.defn.numpy(*arrays, **case.all_attrs)
    wanted = want if isinstance(want, tuple) else (want,)
    for lanes in (False, True):
        for have, expected in zip(
            evaluate_loops(lowered.step(), arrays, lanes=lanes), wanted, strict=True
        ):
            assert have.dtype == expected.dtype
            np.testing.assert_array_equal(have, expected)


def numpy_unique(x: Any) -> tuple[Any, Any, Any]:
    """The distinct elements in order of appearance, the place of each element, and counts."""
    seen: dict[Any, int] = {}
    places = [seen.setdefault(value, len(seen)) for value in x.tolist()]
    counts = np.bincount(np.array(places, int), minlength=len(seen))
    return np.array(list(seen), x.dtype), places, counts


def vectors(dtype: Any) -> list[Any]:
    """Empty, short, many equal, all different, the ends of the range."""
    if dtype == np.bool_:
        limits: Any = (0, 1)
    elif dtype.kind in "iu":
        limits = (np.iinfo(dtype).min, np.iinfo(dtype).max)
    else:
        limits = (-np.inf, np.inf)
    few = RANDOM.randint(0, 2 if dtype == np.bool_ else 5, 1000)
    with np.errstate(over="ignore"):
        wide = RANDOM.randint(0, 2**63 - 1, 3000, np.uint64).astype(dtype)
    ends = [limits[1], limits[0], limits[1], 0, limits[0], 1]
    return [np.zeros(0, dtype), np.ones(1, dtype), few.astype(dtype), wide,
            np.array(ends, dtype)]


@pytest.mark.parametrize("name", SORTED)
def test_unique_is_native_in_every_dtype(name: str) -> None:
    dtype = numpy_dtype(name)
    x = tf.placeholder(dtype, [None])
    values, places, counts = tf.unique_with_counts(x, out_idx=tf.int64)
    again, _ = tf.unique(x)
    with tf.Session() as session:
        step = session.make_callable([values, places, counts, again], [x])
        for vector in vectors(dtype):
            have = step(vector)
            want = numpy_unique(vector)
            for array, expected in zip(have, (*want, want[0]), strict=True):
                np.testing.assert_array_equal(array, expected)
        assert "host_call" not in step.text("loops")


@pytest.mark.parametrize("shape", [(0,), (7,), (3, 4), (2, 0), (3, 1, 5)])
def test_where_is_native(shape: tuple[int, ...]) -> None:
    c = tf.placeholder(tf.bool, [None] * len(shape))
    x = tf.placeholder(tf.float32, [None] * len(shape))
    with tf.Session() as session:
        step = session.make_callable([tf.where(c), tf.boolean_mask(x, c)], [c, x])
        for chosen in (RANDOM.rand(*shape) > 0.5, np.zeros(shape, bool), np.ones(shape, bool)):
            values = RANDOM.rand(*shape).astype(np.float32)
            places, masked = step(chosen, values)
            np.testing.assert_array_equal(places, np.argwhere(chosen))
            np.testing.assert_array_equal(masked, values[chosen])
        assert "host_call" not in step.text("loops")


def test_each_nan_is_another_and_zeros_are_one() -> None:
    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as session:
        values, places = session.run(tf.unique(x), {x: [1, np.nan, 1, np.nan, -0.0, 0]})
    np.testing.assert_array_equal(values, [1, np.nan, np.nan, 0])
    np.testing.assert_array_equal(places, [0, 1, 0, 2, 3, 3])


def test_found_results_stand_where_they_were_asked_for() -> None:
    x = tf.placeholder(tf.int32, [None])
    values, places = tf.unique(x)
    with tf.Session() as session:
        fetches = [tf.no_op(), x, values * 2, places]
        nothing, *found = session.run(fetches, {x: [3, 3, 1]})
    assert nothing is None
    assert [array.tolist() for array in found] == [[3, 3, 1], [6, 2], [0, 0, 1]]
