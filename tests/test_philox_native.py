"""Native random numbers are those of ``stepforge.ir.philox``, and so TensorFlow's.

All but normal f64 numbers agree to the last bit, whatever the vectors that the processor has.
"""

from __future__ import annotations

import ctypes
import functools
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf
from stepforge.codegen import jit
from stepforge.codegen.lane_core import Lane, register_element
from stepforge.codegen.llvm import FunctionWriter, ModuleWriter
from stepforge.codegen.philox import emit_fill
from stepforge.codegen.target import Target, host
from stepforge.ir import philox
from stepforge.ir.errors import InvalidArgumentError
from stepforge.ir.parser import parse_function
from stepforge.ir.philox import Stream
from stepforge.ir.text import print_function
from stepforge.ir.types import numpy_dtype
from stepforge.ir.verify import verify

FLOATS = ("f16", "bf16", "f32", "f64")
INTEGERS = ("i32", "i64", "u32", "u64")
REFERENCE = {
    "uniform": philox.uniform,
    "normal": philox.normal,
    "truncated_normal": philox.truncated_normal,
}
KINDS = [(kind, dtype) for kind in REFERENCE for dtype in FLOATS]
COUNTS = (0, 1, 3, 4, 5, 63, 64, 65, 1000)


class Fills:
    """One module with every fill; calls of them."""

    def __init__(self, target: Target, level: jit.Level) -> None:
        module = ModuleWriter(target.triple, target.attributes)
        names = []
        for kind, dtype in [*KINDS, *(("uniform_int", dtype) for dtype in INTEGERS)]:
            params = [("ptr", "state"), ("ptr", "out"), ("i64", "count")]
            bounds = {}
            if kind == "uniform_int":
                params += [(register_element(dtype), name) for name in ("low", "high")]
                bounds = {"low": Lane(dtype, "%low"), "high": Lane(dtype, "%high")}
            fn = FunctionWriter(module, f"{kind}_{dtype}", "void", params)
            emit_fill(fn, target, kind, dtype, "%state", "%out", "%count", **bounds)
            fn.do("ret void")
            fn.define()
            names.append(fn.name)
        self._library = jit.load(jit.compile_text(module.text(), level, target), {}, names)

    def __call__(self, kind: str, dtype: str, stream: Stream, count: int, *bounds: int) -> Any:
        """``count`` numbers; nothing behind them is touched."""
        type_ = numpy_dtype(dtype)
        memory = np.full((count + 64) * type_.itemsize, 0xA5, np.uint8)
        types = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
        types += [ctypes.c_uint64 if type_.itemsize == 8 else ctypes.c_uint32] * len(bounds)
        call = ctypes.CFUNCTYPE(None, *types)(self._library[f"{kind}_{dtype}"])
        limit = 1 << 8 * type_.itemsize
        call(stream.state.ctypes.data, memory.ctypes.data, count, *(b % limit for b in bounds))
        assert (memory[count * type_.itemsize :] == 0xA5).all()
        return memory[: count * type_.itemsize].view(type_)


def narrow() -> Target:
    """A processor of 128-bit vectors without fused multiply-add."""
    if host().triple.startswith("x86_64"):
        return Target(host().triple, "x86-64", "+sse,+sse2")
    return host()


@functools.cache
def compiled(name: str) -> Fills:
    """All fills for this processor ("wide"), or for a "narrow" one, with few passes."""
    return Fills(narrow(), "O0") if name == "narrow" else Fills(host(), "O2")


@pytest.fixture(params=["wide", "narrow"])
def fills(request: pytest.FixtureRequest) -> Fills:
    return compiled(request.param)


def distance(a: Any, b: Any) -> Any:
    """Units in the last place between floats of one dtype."""
    integer = f"i{a.dtype.itemsize}"
    return np.abs(a.view(integer).astype(np.int64) - b.view(integer).astype(np.int64))


def same_floats(got: Any, want: Any, dtype: str, kind: str) -> None:
    apart = distance(got, want)
    if dtype == "f64" and kind != "uniform":
        # sine and radius are each the other neighbour now and then, very rarely both
        assert apart.max(initial=0) <= 3
        assert (apart > 2).sum() <= 1 + got.size // 10_000
    else:
        assert not apart.any()


# ---- kernels -------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_floats_are_the_references(fills: Fills, kind: str, dtype: str) -> None:
    ours, theirs = Stream(5, 1 << 40 | 9), Stream(5, 1 << 40 | 9)
    for count in COUNTS:
        got = fills(kind, dtype, ours, count)
        same_floats(got, REFERENCE[kind](theirs, (count,), dtype), dtype, kind)
        assert (ours.state == theirs.state).all()


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_many_floats_are_the_references(fills: Fills, kind: str, dtype: str) -> None:
    ours, theirs = Stream(0xDEADBEEFCAFE, 3), Stream(0xDEADBEEFCAFE, 3)
    ours.reserve((1 << 32) - 1000)  # the counter's lower word overflows on the way
    theirs.reserve((1 << 32) - 1000)
    got = fills(kind, dtype, ours, 50_001)
    same_floats(got, REFERENCE[kind](theirs, (50_001,), dtype), dtype, kind)


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integers_are_the_references(fills: Fills, dtype: str) -> None:
    bits = 8 * numpy_dtype(dtype).itemsize
    smallest = -(1 << bits - 1) if dtype[0] == "i" else 0
    largest = smallest + (1 << bits) - 1
    spans = [1, 2, 3, 7, 10, 100, 1 << 31, (1 << bits - 1) - 1, 1 << bits - 1, (1 << bits) - 1]
    for span in spans:
        for low in (smallest, largest - span):
            ours, theirs = Stream(span, 2), Stream(span, 2)
            for count in (0, 5, 130):
                got = fills("uniform_int", dtype, ours, count, low, low + span)
                assert got.tolist() == integers(theirs, low, span, count, bits)
            assert (ours.state == theirs.state).all()


def integers(stream: Stream, low: int, span: int, count: int, bits: int) -> list[int]:
    """What TensorFlow draws, in Python's numbers."""
    words = stream.words(stream.reserve(256 * count), count * bits // 32).tolist()
    if bits == 64:
        words = [a | b << 32 for a, b in zip(words[::2], words[1::2], strict=True)]
    return [low + word % span for word in words]


def test_an_empty_range_draws_nothing(fills: Fills) -> None:
    assert fills("uniform_int", "i32", Stream(1, 1), 0, 4, 4).size == 0


@pytest.mark.parametrize("kind", REFERENCE)
def test_vectors_do_not_change_the_numbers(kind: str) -> None:
    many, few = (compiled(name)(kind, "f32", Stream(1, 2), 999) for name in ("wide", "narrow"))
    assert (many == few).all()


def test_every_number_is_drawn_once(fills: Fills) -> None:
    """Calls at the same time share a stream and no blocks."""
    stream, calls, count = Stream(8, 8), 200, 5
    drawn: list[tuple[float, ...]] = []

    def draw() -> None:
        drawn.extend(tuple(fills("uniform", "f64", stream, count).tolist()) for _ in range(calls))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    alone = Stream(8, 8)
    wanted = {tuple(philox.uniform(alone, (count,), "f64").tolist()) for _ in range(4 * calls)}
    assert set(drawn) == wanted
    assert len(drawn) == len(wanted)
    assert stream.state[1] == alone.state[1]


# ---- sessions ------------------------------------------------------------------------------------
RECORDED = json.loads(
    (Path(__file__).parent / "data" / "random_reference.json").read_text(encoding="utf-8")
)
BUILDERS = {
    "random_uniform_f32": lambda n, seed: tf.random_uniform([n], seed=seed),
    "random_uniform_f64": lambda n, seed: tf.random_uniform([n], dtype=tf.float64, seed=seed),
    "random_uniform_f16": lambda n, seed: tf.random_uniform([n], dtype=tf.float16, seed=seed),
    "random_uniform_range_f32": lambda n, seed: tf.random_uniform([n], -3.0, 5.0, seed=seed),
    "random_uniform_i32_0_100": lambda n, seed: tf.random_uniform([n], 0, 100, tf.int32, seed=seed),
    "random_uniform_i64_m5_1e12": lambda n, seed: tf.random_uniform(
        [n], -5, 10**12, tf.int64, seed=seed
    ),
    "random_normal_f32": lambda n, seed: tf.random_normal([n], seed=seed),
    "random_normal_f64": lambda n, seed: tf.random_normal([n], dtype=tf.float64, seed=seed),
    "random_normal_mean2_std3_f32": lambda n, seed: tf.random_normal([n], 2.0, 3.0, seed=seed),
    "truncated_normal_f32": lambda n, seed: tf.truncated_normal([n], seed=seed),
    "truncated_normal_f64": lambda n, seed: tf.truncated_normal([n], dtype=tf.float64, seed=seed),
    "dropout_half_of_ones": lambda n, seed: tf.nn.dropout(tf.ones([n]), 0.5, seed=seed),
}


def loops_of(session: tf.Session) -> str:
    """The loop level of the only step of a session."""
    (program,) = session._programs.values()
    return program.text("loops")


def test_sessions_draw_what_tensorflow_drew() -> None:
    seeds = [(None, 7, 5), (87654321, 12345, 1000)]
    wanted = [e for e in RECORDED if e["case"] in BUILDERS]
    entries = [e for e in wanted if (e["graph_seed"], e["op_seed"], e["n"]) in seeds]
    assert len(entries) == 2 * len(BUILDERS)
    with tf.Graph().as_default():
        tensors = []
        for entry in entries:
            tf.set_random_seed(entry["graph_seed"])
            tensors.append(BUILDERS[entry["case"]](entry["n"], entry["op_seed"]))
        with tf.Session() as session:
            runs = [session.run(tensors), session.run(tensors)]
            assert all(compiled["native"] for compiled in session.cache_info()["history"])
            assert "host_call" not in loops_of(session)
    for number, entry in enumerate(entries):
        exact = "normal" not in entry["case"]
        for values, recorded in zip(runs, entry["runs"], strict=True):
            value = values[number].astype(np.float64)
            first, last = recorded["first"], recorded["last"]
            ends = np.concatenate([value[: len(first)], value[-len(last) :]])
            limit = 0.0 if exact else 4 * np.finfo(values[number].dtype).eps
            np.testing.assert_allclose(ends, first + last, rtol=limit, atol=limit)
            np.testing.assert_allclose(value.sum(), recorded["sum_f64"], rtol=limit, atol=limit)


def test_shapes_are_known_late_and_streams_go_on() -> None:
    with tf.Graph().as_default():
        tf.set_random_seed(3)
        x = tf.placeholder(tf.float32, [None, 3])
        units = tf.random_uniform(tf.shape(x), seed=1)
        with tf.Session() as session:
            step, stream = session.make_callable(units, [x]), Stream(3, 1)
            for rows in (2, 0, 5, 40):
                given = np.zeros((rows, 3), np.float32)
                assert (step(given) == philox.uniform(stream, (rows, 3), "f32")).all()
                again = session.run([units, units + 1], {x: given})
                assert (again[0] == philox.uniform(stream, (rows, 3), "f32")).all()
                assert (again[1] == again[0] + 1).all()


def test_initialisers_are_native() -> None:
    with tf.Graph().as_default():
        initial = tf.truncated_normal_initializer(stddev=0.5, seed=4)
        tf.set_random_seed(2)
        weights = tf.get_variable("weights", [5, 4], initializer=initial)
        with tf.Session() as session:
            session.run(weights.initializer)
            assert "host_call" not in loops_of(session)
            want = philox.truncated_normal(Stream(2, 4), (5, 4), "f32") * np.float32(0.5)
            assert (session.run(weights) == want).all()


def test_a_step_with_an_empty_range_fails() -> None:
    with tf.Graph().as_default():
        low, high = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [])
        drawn = tf.random_uniform([3], low, high, tf.int32, seed=1)
        with tf.Session() as session:
            step = session.make_callable(drawn, [low, high])
            assert step(5, 6).tolist() == [5, 5, 5]
            with pytest.raises(InvalidArgumentError, match="Need minval < maxval"):
                step(6, 6)
            assert "Need minval < maxval, got {} >= {}" in loops_of(session)


def test_the_loop_level_reads_back() -> None:
    with tf.Graph().as_default():
        drawn = tf.random_uniform([3], 0, 10, tf.int32, seed=1)
        with tf.Session() as session:
            session.run(drawn)
            text = loops_of(session)
    assert 'kind="uniform_int"' in text
    function = parse_function(text)
    verify(function)
    assert print_function(function) == text
