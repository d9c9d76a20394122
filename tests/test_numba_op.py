"""``tf.numba_op``: users' functions in steps, in both back ends, with shapes, gradients, errors."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import stepforge as tf

numba = pytest.importorskip("numba", reason="numba is not installed")
ROOT = Path(__file__).parents[1]
EXAMPLE, PAGE = ROOT / "examples" / "numba_op.py", ROOT / "docs" / "numba.md"


@pytest.fixture(autouse=True)
def fresh_graph() -> Iterator[None]:
    with tf.Graph().as_default():
        yield


@pytest.fixture(params=["llvm", "numba"])
def session(request: pytest.FixtureRequest) -> Iterator[Any]:
    with tf.Session(config=tf.ConfigProto(experimental={"executor_type": request.param})) as made:
        yield made
        backends = {entry["backend"] for entry in made.cache_info()["history"] if entry["native"]}
        assert backends <= {request.param}


def _squares_gradient(op: Any, dy: Any) -> Any:
    return dy * 2.0 * op.inputs[0]


@tf.numba_op(shape=lambda x: x.shape, gradient=_squares_gradient)
def squares(x, y):
    """The square of each element of a matrix; it refuses large ones."""
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            if x[i, j] > 1000:
                raise ValueError("too large")
            y[i, j] = x[i, j] * x[i, j]


@tf.numba_op(
    shape=lambda x, k: [(x.shape[0],), (2 * x.shape[0], k.shape[0])],
    dtype=lambda x, k: [x.dtype, tf.int32],
)
def sums_and_signs(x, k, sums, signs):
    for i in range(x.shape[0]):
        sums[i] = x[i].sum()
        for j in range(k.shape[0]):
            signs[2 * i, j] = k[j] * (1 if sums[i] > 0 else -1)
            signs[2 * i + 1, j] = -signs[2 * i, j]


def test_a_step_calls_the_function_natively(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    y = squares(x + 1.0, name="y")
    assert (y.name, y.op.type, y.shape.as_list(), y.dtype) == ("y:0", "NumbaOp", [None, 3], x.dtype)
    step = session.make_callable(y * 2.0, [x])
    for rows in (2, 5, 0):
        value = np.arange(3 * rows, dtype=np.float32).reshape(rows, 3)
        np.testing.assert_array_equal(step(value), 2 * (value + 1) ** 2)
    assert "native_call(" in step.text("loops")
    assert "host_call" not in step.text("loops")
    assert len(session.cache_info()["history"]) == 1


def test_several_outputs_with_sizes_of_their_own(session: Any) -> None:
    x = tf.placeholder(tf.float64, [None, None], name="x")
    sums, signs = sums_and_signs(x, tf.constant([1, 2, 3]))
    assert (sums.shape.as_list(), signs.shape.as_list()) == ([None], [None, 3])
    value = np.array([[1.0, -3.0], [2.0, 5.0]])
    got = session.run([sums, signs], {x: value})
    np.testing.assert_array_equal(got[0], [-2, 7])
    np.testing.assert_array_equal(got[1], [[-1, -2, -3], [1, 2, 3], [1, 2, 3], [-1, -2, -3]])


def test_the_declared_gradient_is_used(session: Any) -> None:
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    (gradient,) = tf.gradients(tf.reduce_sum(squares(x) * 3.0), x)
    value = np.array([[1, 2], [-3, 4]], np.float32)
    np.testing.assert_array_equal(session.run(gradient, {x: value}), 6 * value)


def test_without_a_gradient_tf_gradients_says_so() -> None:
    @tf.numba_op(shape=lambda x: x.shape)
    def plain(x, y):
        y[:] = x

    x = tf.placeholder(tf.float32, [3], name="x")
    with pytest.raises(LookupError, match=r"No gradient defined for operation 'plain'"):
        tf.gradients(plain(x), x)


def test_scalars_are_arrays_without_axes(session: Any) -> None:
    @tf.numba_op(shape=(), dtype=tf.float64)
    def total(x, factor, out):
        out[()] = x.sum() * factor[()]

    x = tf.placeholder(tf.float32, [None], name="x")
    assert session.run(total(x, 2), {x: [1, 2, 3]}) == 12.0


def test_one_function_serves_all_dtypes_and_ranks(session: Any) -> None:
    @tf.numba_op(shape=lambda x: (x.shape[0],) if x.shape else ())
    def first(x, y):
        y.flat[0] = x.flat[0]

    values = [np.array([7], t) for t in ("f4", "f8", "i1", "u8", "?", "i4")]
    values.append(np.array([[5.0]]))
    got = session.run([first(tf.constant(v)) for v in values])
    for result, value in zip(got, values, strict=True):
        assert (result.dtype, result.tolist()) == (value.dtype, value.ravel().tolist())


def test_an_exception_is_the_steps_error_and_changes_nothing(session: Any) -> None:
    x = tf.placeholder(tf.float32, [1, 2], name="x")
    v = tf.Variable(np.zeros((1, 2), np.float32), name="v")
    update = tf.assign_add(v, squares(x, name="guarded"))
    session.run(tf.global_variables_initializer())
    session.run(update, {x: [[1, 2]]})
    with pytest.raises(tf.errors.UnknownError) as caught:
        session.run(update, {x: [[2000, 2]]})
    assert "squares: the numba function raised an exception" in str(caught.value)
    assert "'guarded' created at" in str(caught.value)
    np.testing.assert_array_equal(session.run(v), [[1, 4]])


def test_a_function_that_numba_cannot_compile_is_named(session: Any) -> None:
    @tf.numba_op(shape=lambda x: x.shape)
    def wrong(x, y):
        y[:] = x.no_such_method()

    y = wrong(tf.placeholder(tf.float32, [2], name="x"), name="w")
    with pytest.raises(tf.errors.InvalidArgumentError, match="wrong: numba cannot compile"):
        session.run(y, {"x:0": [1, 2]})


def test_ranks_that_only_the_run_knows_and_the_evaluator(session: Any) -> None:
    x = tf.placeholder(tf.float32, name="x")
    y = squares(x)
    assert y.shape.ndims is None
    text = tf.placeholder(tf.string, [], name="text")
    value = np.array([[1, 2]], np.float32)
    got = session.run([y, tf.identity(text)], {x: value, text: "a"})
    np.testing.assert_array_equal(got[0], value**2)
    with pytest.raises(tf.errors.UnknownError, match="too large"):
        session.run([y, tf.identity(text)], {x: value * 1e6, text: "a"})
    late = tf.py_func(lambda v: v + 1, [x], tf.float32)
    np.testing.assert_array_equal(session.run(squares(late), {x: value}), [[4, 9]])


def test_complex_numbers_and_compiled_functions(session: Any) -> None:
    @numba.njit
    def conjugate(x, y):
        for i in range(len(x)):
            y[i] = x[i].conjugate()

    op = tf.numba_op(conjugate, shape=lambda x: x.shape, name="conj")
    x = tf.placeholder(tf.complex128, [None], name="x")
    y = op(x)
    assert y.name == "conj:0"
    np.testing.assert_array_equal(session.run(y, {x: [1 + 2j, -3j]}), [1 - 2j, 3j])


def test_declarations_are_checked_when_the_node_is_made() -> None:
    x = tf.placeholder(tf.float32, [None, 3], name="x")

    def declared(**declaration: Any) -> Any:
        return tf.numba_op(lambda x, y: None, name="op", **declaration)(x)

    with pytest.raises(ValueError, match="op: a shape is a tuple of sizes, not 3"):
        declared(shape=3)
    with pytest.raises(ValueError, match="op: 1 shapes for 2 dtypes"):
        declared(shape=lambda x: [x.shape], dtype=[tf.float32, tf.int32])
    with pytest.raises(TypeError, match="op: numba has no arrays of f16"):
        declared(shape=lambda x: x.shape, dtype=tf.float16)
    with pytest.raises(TypeError, match="op: an op without inputs needs dtype"):
        tf.numba_op(lambda y: None, shape=(2,), name="op")()


def test_without_numba_a_call_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numba", None)
    with pytest.raises(ImportError, match=r"squares: .* pip install 'stepforge\[full\]'"):
        squares(tf.placeholder(tf.float32, [1, 1], name="x"))


def test_a_checked_compile_evaluates_the_function(
    session: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFORGE_CHECK", "1")
    x = tf.placeholder(tf.float32, [None, 2], name="x")
    value = np.array([[1, 2]], np.float32)
    np.testing.assert_array_equal(session.run(squares(x) + 1.0, {x: value}), [[2, 5]])


def test_the_examples_of_the_page_run(tmp_path: Path) -> None:
    page = PAGE.read_text()
    first, second = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (shown,) = re.findall(r"```\n(@cfunc.*?)```", page, re.DOTALL)
    printed = run(["-c", first], tmp_path)
    for line in shown.splitlines():
        assert line.strip() == "..." or "# " in line or line in printed, line
    assert run(["-c", second], tmp_path) == "[array([1., 3., 6.]), array([3., 2., 1.])]\n"


def run(arguments: list[str], folder: Path) -> str:
    """What a Python program prints; it must end well."""
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_finds_the_decay(tmp_path: Path) -> None:
    printed = run([str(EXAMPLE), "--decay", "0.7"], tmp_path)
    assert re.search(r"^decay 0\.(70|69)\d+, wanted 0\.7;", printed)
    assert "us per call, by NumPy" in printed
