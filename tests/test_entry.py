"""Entries from outside: kinds of feeds, structures of results, errors, threads, references."""

from __future__ import annotations

import ctypes
import sys
from typing import Any

import entry_testing as testing
import numpy as np
import pytest
from entry_testing import KernelError, M, N, build, dense, signature_of

from stepforge.codegen import signature as abi
from stepforge.codegen.signature import Feed, Fetch, Signature
from stepforge.ir import dims
from stepforge.ir.errors import ResourceExhaustedError
from stepforge.ir.types import NUMERIC, Type, numpy_dtype
from stepforge.runtime import python_entry
from stepforge.runtime.step import PythonStep, make_step

F64, VECTOR = Type("f64"), Type("f64", (N,))
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::FutureWarning")


def same(have: Any, want: Any) -> bool:
    """Equality of type, dtype, shape and values, NaN equal to NaN."""
    have_array, want_array = np.asarray(have), np.asarray(want)
    return (
        type(have) is type(want)
        and have_array.dtype == want_array.dtype
        and have_array.shape == want_array.shape
        and bool(np.all((have_array == want_array) | (have_array != have_array)))
    )


def values_of(dtype: str, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Numbers that every real dtype but bool has."""
    return np.arange(int(np.prod(shape))).reshape(shape).astype(numpy_dtype(dtype))


@pytest.fixture(scope="module")
def copies() -> Any:
    """Steps that give back their feeds (a number, a vector, a matrix), by dtype."""
    made: dict[str, Any] = {}

    def step_of(dtype: str) -> Any:
        if dtype not in made:
            types = [Type(dtype), Type(dtype, (N,)), Type(dtype, (M, N))]
            order = [types[2], types[0], types[1]]  # the matrix binds both names
            made[dtype] = build(signature_of(order, dense(*order)), testing.copy_feeds(order))
        return made[dtype]

    return step_of


# ---- feeds --------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", NUMERIC)
def test_exact_feeds_of_every_dtype(copies: Any, dtype: str) -> None:
    step, program = copies(dtype)
    matrix, vector = values_of(dtype, (3, 4)), values_of(dtype, (4,))
    for scalar in (vector[3], np.array(vector[3])):
        misses = program.misses
        result = step(matrix, scalar, vector)
        assert program.misses == misses
        assert type(result) is tuple
        for have, want in zip(result, (matrix, vector[3], vector), strict=True):
            assert same(have, want)
        assert result[0].flags.c_contiguous
        assert result[0].flags.owndata
        assert result[0].flags.writeable
        assert result[0] is not matrix


@pytest.mark.parametrize("dtype", NUMERIC)
def test_converted_feeds(copies: Any, dtype: str) -> None:
    step, program = copies(dtype)
    others = [d for d in ("f64", "f32", "i64", "i32", "u8", "bool", "f16", "bf16") if d != dtype]
    for other in others:
        matrix, vector = values_of(other, (3, 40)), values_of(other, (40,))
        for again in range(3):  # the third time, the conversion is native
            misses = program.misses
            result = step(matrix, vector[39], vector)
            assert again < 2 or program.misses == misses
            for have, want in zip(result, (matrix, vector[39], vector), strict=True):
                assert same(have, want.astype(numpy_dtype(dtype)))


@pytest.mark.parametrize("dtype", NUMERIC)
def test_python_numbers(copies: Any, dtype: str) -> None:
    step, program = copies(dtype)
    matrix, vector = values_of(dtype, (1, 1)), values_of(dtype, (1,))
    kind = NUMERIC[dtype][1]
    numbers = [True, False, 0, 1, 1.0, 0.75, 100.7]
    numbers += [] if kind == "b" else [2, 100, 127]
    numbers += [-1, -128, -1.9] if kind in "ifc" else []
    numbers += [2**29, 2**30, 2**31 - 1, -(2**31)] if dtype in ("i32", "i64", "f32", "f64") else []
    numbers += [2**45, -(2**59) - 3, 2**60 - 1] if dtype in ("i64", "f64", "c128") else []
    for number in numbers * 3:
        want = np.asarray(number).astype(numpy_dtype(dtype))[()]
        assert same(step(matrix, number, vector)[1], want), number
    misses = program.misses
    for number in numbers:
        step(matrix, number, vector)
    assert program.misses == misses


@pytest.mark.parametrize(
    ("dtype", "number"),
    [
        ("i32", 2**40),
        ("u8", 300),
        ("u8", -1),
        ("bool", 2),
        ("i8", 128),
        ("i64", 2**63),
        ("u64", -1),
    ],
)
def test_bare_ints_must_survive(copies: Any, dtype: str, number: int) -> None:
    step, _ = copies(dtype)
    matrix, vector = values_of(dtype, (1, 1)), values_of(dtype, (1,))
    for _ in range(3):
        with pytest.raises(TypeError, match=r"is not compatible with Tensor type .* b:0"):
            step(matrix, number, vector)


def test_values_without_a_defined_conversion_are_left_to_numpy(copies: Any) -> None:
    step, program = copies("i32")
    matrix, good = values_of("i32", (1, 3)), np.array([1.5, -2.5, 2147483647.5])
    for _ in range(3):
        assert same(step(matrix, 0, good)[2], good.astype(np.int32))
    misses = program.misses
    for bad in (np.nan, 2147483648.0, -2147483649.0, np.inf):
        vector = np.array([1.5, bad, 2.5])
        assert same(step(matrix, 0, vector)[2], vector.astype(np.int32))
    assert program.misses == misses + 4


@pytest.mark.parametrize("dtype", ["f64", "f32", "i16", "u8", "c128", "bf16", "bool"])
def test_any_memory_layout(copies: Any, dtype: str) -> None:
    step, program = copies(dtype)
    base = values_of(dtype, (12, 12))
    misaligned = np.empty(base.nbytes + 1, np.uint8)[1:].view(base.dtype).reshape(12, 12)
    misaligned[...] = base
    layouts = [
        base.T, base[::2, ::3], base[::-1], base[:, ::-1], base[3:3], base[1:2, 1:2], misaligned,
        np.asfortranarray(base), np.broadcast_to(base[0], (5, 12)), base[::-1, ::-2],
    ]  # fmt: skip
    base.setflags(write=False)
    misses = program.misses
    for matrix in layouts:
        vector = base[0, : matrix.shape[1]]
        assert same(step(matrix, vector[:1].reshape(()), vector[::1])[0], np.array(matrix))
    assert program.misses == misses


def test_large_copies_are_freed(copies: Any) -> None:
    step, program = copies("f32")
    matrix = np.arange(2.0**18).reshape(512, 512)
    vector = matrix[0]
    for _ in range(2):  # Python has the code made for conversions and for large strided arrays
        step(matrix, 0, vector)
        step(matrix.astype(np.float32).T, 0, vector)
    misses, before = program.misses, testing.resident_bytes()
    for _ in range(50):  # a converted array, a strided one, and a refusal after a conversion
        step(matrix, 0, vector)
        step(matrix.astype(np.float32).T, 0, vector)
    assert program.misses == misses
    for _ in range(20):
        with pytest.raises(python_entry.VariantMismatch):
            step(matrix, 0, vector[:-1])
    assert testing.resident_bytes() - before < 16 * matrix.nbytes


def test_feeds_that_python_converts(copies: Any) -> None:
    step, _ = copies("f32")
    vector = [1.5, 2.5]
    odd: list[Any] = [
        [[1.5, 2.5]], ((1.5, 2.5),), memoryview(np.array([[1.5, 2.5]])),
        np.array([[1.5, 2.5]]).view(np.recarray),
        np.ma.masked_array([[1.5, 2.5]], mask=[[True, False]]), np.array([[1.5, 2.5]], ">f8"),
        np.array([["1.5", "2.5"]]), np.array([[1.5, 2.5]], object), np.longdouble([[1.5, 2.5]]),
    ]  # fmt: skip
    for value in odd:
        assert same(step(value, 7, vector)[0], np.array([[1.5, 2.5]], np.float32))
    assert np.isnan(step([[1.5, 2.5]], None, vector)[1])
    assert same(copies("i64")[0](np.array([[3]], np.longlong), 7, [1])[0], np.array([[3]]))


@pytest.mark.parametrize(
    ("position", "value", "error", "text"),
    [
        (
            0,
            np.zeros(3),
            ValueError,
            r"Cannot feed value of shape \(3,\) for Tensor a:0, which has",
        ),
        (
            0,
            1.0,
            ValueError,
            r"Cannot feed value of shape \(\) for Tensor a:0, .* shape \(\?, \?\)",
        ),
        (1, [1.0], ValueError, r"shape \(1,\) for Tensor b:0, which has shape \(\)"),
        (2, [[1], [2, 3]], ValueError, r"Cannot feed Tensor c:0"),
        (2, object(), TypeError, r"Cannot feed Tensor c:0.*\n  'c' created at mlp.py:3"),
        (2, (i for i in range(3)), TypeError, r"Cannot feed Tensor c:0"),
        (2, {}, TypeError, r"Cannot feed Tensor c:0"),
        (2, 2**2000, TypeError, r"Cannot feed Tensor c:0"),
    ],
)
def test_feeds_that_nobody_converts(
    copies: Any, position: int, value: Any, error: type[Exception], text: str
) -> None:
    step, _ = copies("f32")
    feeds: list[Any] = [np.zeros((1, 1)), 0.0, np.zeros(1)]
    feeds[position] = value
    with pytest.raises(error, match=text):
        step(*feeds)


def test_static_sizes_are_named_as_tensorflow_does() -> None:
    type_ = Type("f32", (N, 2))
    step, _ = build(signature_of([type_], dense(type_), "single"), testing.succeed)
    with pytest.raises(ValueError, match=r"\(3, 4\) for Tensor a:0, which has shape \(\?, 2\)"):
        step(np.ones((3, 4), np.float32))


def test_wrong_arguments_go_to_the_program(copies: Any) -> None:
    step, _ = copies("f64")
    for arguments, keywords in (((), {}), ((1,), {}), ((1, 2, 3, 4), {}), ((1, 2), {"c": 3})):
        with pytest.raises(TypeError, match="tested takes 3 feeds"):
            step(*arguments, **keywords)


def test_strings_become_bytes() -> None:
    feed = Feed("s", Type("string", None))
    nested = [["a", b"b\0"], ["\u00e9", b""]]
    want = [[b"a", b"b\0"], ["\u00e9".encode(), b""]]
    assert python_entry.convert_feed(nested, feed).tolist() == want
    assert python_entry.convert_feed(np.array(["x", "yy"]), feed).tolist() == [b"x", b"yy"]
    assert python_entry.convert_feed("abc", feed).shape == ()
    for value in (1, [1], 3.5, None):
        with pytest.raises(TypeError, match="s:0"):
            python_entry.convert_feed(value, feed)


def test_object_feeds_always_go_to_the_program() -> None:
    seen: list[Any] = []

    def look(context: int, feeds: int, outs: int) -> int:
        address = ctypes.c_void_p.from_address(feeds).value
        seen.append(ctypes.cast(address or 0, ctypes.py_object).value.tolist())
        return 0

    signature = signature_of([Type("string", (N,))], [Fetch("none")], "single", python=True)
    step, program = build(signature, testing.host_call)
    testing.set_host_call(program, look)
    assert step(["a", "b"]) is None
    assert seen == [[b"a", b"b"]]
    assert program.misses == 1


# ---- sizes --------------------------------------------------------------------------------------


def test_sizes_are_bound_and_checked() -> None:
    types = [Type("f64", (2 * N + 1, 3)), VECTOR, Type("f64", (N, M)), Type("f64", (M,))]
    signature = signature_of(types, [Fetch("none")], "single", assumptions=((N, M + 1),))
    step, program = build(signature, testing.succeed)
    good = [(7, 3), (3,), (3, 2), (2,)]
    for position, shape in [
        (None, ()),
        (0, (6, 3)),
        (0, (7, 4)),
        (1, (4,)),
        (2, (2, 2)),
        (3, (3,)),
    ]:
        shapes = list(good)
        if position is not None:
            shapes[position] = shape
        misses = program.misses
        try:
            step(*(np.zeros(shape) for shape in shapes))
            fits = True
        except (python_entry.VariantMismatch, ValueError):
            fits = False
        assert fits is (position is None)
        assert program.misses == misses + (not fits)
    with pytest.raises(python_entry.VariantMismatch, match="n is not m \\+ 1"):
        step(np.zeros((7, 3)), np.zeros(3), np.zeros((3, 3)), np.zeros(3))


def test_outputs_have_computed_sizes() -> None:
    shape = (2 * N, dims.maximum(N, 5), dims.floor_div(N + 1, 2), dims.broadcast(N, M))
    types = [VECTOR, Type("i32", (M,))]
    signature = signature_of(types, dense(Type("i32", shape)), "single")
    step, program = build(signature, testing.succeed)
    assert step(np.zeros(4), np.zeros(1, np.int32)).shape == (8, 5, 2, 4)
    assert step(np.zeros(0), np.zeros(1, np.int32)).shape == (0, 5, 0, 0)
    assert step(np.zeros(1), np.zeros(3, np.int32)).shape == (2, 5, 1, 3)
    assert program.misses == 0


def test_an_output_too_large_is_an_error() -> None:
    signature = signature_of([VECTOR], dense(VECTOR, Type("f64", (N * 2**45, N))), locks=True)
    step, program = build(signature, testing.succeed)
    vector = np.zeros(64)
    for _ in range(3):
        with pytest.raises(ResourceExhaustedError, match=r"OOM when allocating tensor with shape"):
            step(vector)
    assert program.misses == 3  # Python raises what TensorFlow does
    assert list(program.lock) == [0, 0]
    assert sys.getrefcount(vector) == 2


def test_signatures_are_checked() -> None:
    with pytest.raises(ValueError, match="binds the sizes"):
        Signature("bad", (Feed("a", Type("f64", (N * 2,))),), fetches=(Fetch("none"),))
    with pytest.raises(ValueError, match="not a single result"):
        Signature("bad")


# ---- results ------------------------------------------------------------------------------------


@pytest.mark.parametrize("structure", ["tuple", "list", "packed"])
def test_structures(structure: str) -> None:
    types = [F64, VECTOR]
    fetches = [*dense(*types), Fetch("none"), Fetch("feed", VECTOR, 1)]
    step, _ = build(signature_of(types, fetches, structure), testing.copy_feeds(types))
    vector = np.arange(3.0)
    result = step(2.5, vector)
    if structure == "packed":
        assert set(result) == {"packed"}
        result = result["packed"]
    assert type(result) is (tuple if structure == "tuple" else list)
    assert same(result[0], np.float64(2.5))
    assert same(result[1], vector)
    assert result[2] is None
    assert result[3] is vector


@pytest.mark.parametrize("structure", ["tuple", "list", "packed"])
def test_no_fetches(structure: str) -> None:
    step, _ = build(signature_of([], [], structure), testing.succeed)
    want = {"tuple": (), "list": [], "packed": {"packed": []}}[structure]
    assert step() == want


def test_feeds_as_results() -> None:
    types = [Type("f32", (N,)), Type("f32"), Type("bool")]
    fetches = [Fetch("feed", type_, k) for k, type_ in enumerate(types)]
    step, program = build(signature_of(types, fetches), testing.succeed)
    strided, number = np.arange(2000, dtype=np.float32)[::2], np.array(1.5, np.float32)
    exact = step(strided, number, np.bool_(True))
    assert exact[0] is strided
    assert exact[1] is number
    assert program.misses == 0
    wide = np.arange(1000.0)  # more than the scratch memory of a call
    for _ in range(3):
        converted = step(wide, 3, True)
        assert same(converted[0], wide.astype(np.float32))
        assert same(converted[1], np.array(3, np.float32))
        assert same(converted[2], np.array(True))
    assert program.misses <= 2


def test_an_object_left_by_the_kernel() -> None:
    signature = signature_of([], [Fetch("object"), Fetch("none")], "list", python=True)
    step, program = build(signature, testing.host_call)
    kept = object()
    frames: list[Any] = []

    def leave(context: int, feeds: int, outs: int) -> int:
        frame = ctypes.c_void_p.from_address(context + abi.CONTEXT_FRAME).value
        frames.append(type(ctypes.cast(frame or 0, ctypes.py_object).value))
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(kept))
        ctypes.c_void_p.from_address(outs).value = id(kept)
        return leave_status

    testing.set_host_call(program, leave)
    before, leave_status = sys.getrefcount(kept), 0
    for run in (step, program.miss):
        for _ in range(10):
            assert run()[0] is kept
    assert frames == [list] * 20
    assert sys.getrefcount(kept) == before
    leave_status = 3  # a kernel that fails after it left an object
    for run in (step, program.miss):
        with pytest.raises(KernelError):
            run()
    assert sys.getrefcount(kept) == before
    testing.set_host_call(program, lambda context, feeds, outs: 0)
    with pytest.raises(SystemError):
        step()


# ---- without native code -----------------------------------------------------------------------


def test_the_python_entry_gives_the_same(monkeypatch: pytest.MonkeyPatch, copies: Any) -> None:
    monkeypatch.setenv("STEPFORGE_ENTRY", "python")
    for dtype in ("f32", "i64", "bool", "c64"):
        program = copies(dtype)[1]
        step = make_step(program)
        assert isinstance(step, PythonStep)
        matrix = values_of(dtype, (3, 4))
        for have, want in zip(step(matrix, 1, matrix[0]), (matrix, 1, matrix[0]), strict=True):
            want_array = np.asarray(want).astype(numpy_dtype(dtype))
            assert same(have, want_array if want_array.ndim else want_array[()])
