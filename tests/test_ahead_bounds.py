"""Results whose size depends on data, compiled ahead of time: declared bounds, found shapes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ahead_testing import ALLOWED, RANDOM, Loaded, Module, compile_ahead

import stepforge as tf
from stepforge.cli import main
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead_problems import CannotCompileAhead
from stepforge.runtime.ahead_steps import Step

pytestmark = pytest.mark.usefixtures("own_graph")


def test_a_bound_gives_results_memory_and_the_step_their_shape(module: Module) -> None:
    ids, x = tf.placeholder(tf.int32, [None], "ids"), tf.placeholder(tf.float32, [None, 3], "x")
    values, places, counts = tf.unique_with_counts(ids, name="found")
    rows = tf.boolean_mask(x, x[:, 0] > 0)
    step = Step("f", [values, places, rows, counts], ["ids:i32[n]", "x:f32[k,3]"])
    made = compile_ahead(step, bounds={values: "n", rows: "k"})
    assert set(made.object.undefined) <= ALLOWED
    header = ahead_files.c_header(made)
    assert "found_shape: result, i64[1]" in header
    assert "at most i32[n], dense, its shape in found_shape" in header
    f = module(made).f
    for count in (0, 1, 30):
        given = RANDOM.randint(0, 5, count).astype(np.int32)
        matrix = RANDOM.normal(size=(7, 3)).astype(np.float32)
        have = f(given, matrix)
        with tf.Session() as session:
            want = session.run([values, places, rows, counts], {ids: given, x: matrix})
        for array, expected in zip(have, want, strict=True):
            np.testing.assert_array_equal(array, expected)


def test_more_than_the_bound_is_an_error_and_leaves_variables(module: Module) -> None:
    x = tf.placeholder(tf.float32, [None, 2], "x")
    v = tf.get_variable("v", [], initializer=tf.zeros_initializer())
    found = tf.where(x > 0, name="found")
    with tf.control_dependencies([found]):
        add = v.assign_add(1.0)
    compiled = compile_ahead(Step("f", [found, add.op], [x]), values={"v": 0.0},
                             bounds={"found": 3})
    made = module(compiled)
    np.testing.assert_array_equal(made.f([[1, 0], [0, 1]]), [[0, 0], [1, 1]])
    text = r"InvalidArgumentError: the size of found:0 is 4, and its bound is 3"
    with pytest.raises(made.StepError, match=text):
        made.f([[1, 1], [1, 1]])
    assert made.library.state["v"] == 1


def test_sizes_that_are_values_need_bounds_too(module: Module) -> None:
    n = tf.placeholder(tf.int32, [], "n")
    steps = tf.range(n, name="steps")
    total = tf.reduce_sum(tf.exp(-tf.cast(tf.reshape(steps, [-1, 1]) * steps, tf.float32)))
    with pytest.raises(CannotCompileAhead, match="no upper bound is declared"):
        compile_ahead(Step("f", [steps, total], [n]))
    f = module(compile_ahead(Step("f", [steps, total], [n]), bounds={steps: 10})).f
    with tf.Session() as session:
        for count in (0, 3, 10):
            have, sum_ = f(count)
            want, expected = session.run([steps, total], {n: count})
            np.testing.assert_array_equal(have, want)
            np.testing.assert_allclose(sum_, expected, rtol=1e-6)


def test_a_small_temporary_of_a_found_size_has_memory(module: Module) -> None:
    ends = tf.placeholder(tf.float32, [3], "ends")
    steps = tf.range(ends[0], ends[1], ends[2], name="steps")
    f = module(compile_ahead(Step("f", steps, [ends]), bounds={steps: 100})).f
    for low, high, step in ((0, 25, 0.25), (3, 3, 1), (5, -2, -1.5)):
        np.testing.assert_allclose(f([low, high, step]), np.arange(low, high, step), rtol=1e-6)


def test_embeddings_train_without_bounds(module: Module) -> None:
    ids = tf.placeholder(tf.int32, [None], "ids")
    table = tf.get_variable("table", [20, 5], initializer=tf.random_normal_initializer(seed=1))
    loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(table, ids) - 1))
    train = tf.train.AdamOptimizer(0.1).minimize(loss)
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    made = module(compile_ahead(Step("train", [loss, train], [ids]), session=session))
    for _ in range(4):
        given = RANDOM.randint(0, 20, 30)
        want, _ = session.run([loss, train], {ids: given})
        np.testing.assert_allclose(made.train(given), want, rtol=1e-5)
    np.testing.assert_allclose(made.library.state["table"], session.run(table), rtol=1e-4,
                               atol=1e-6)
    with pytest.raises(made.StepError, match=r"= 20 is not in \[0, 20\)"):
        made.train([3, 20])


def test_c_gets_the_shape_by_address(tmp_path: Path) -> None:
    x = tf.placeholder(tf.bool, [None, 3], "x")
    compiled = compile_ahead(Step("f", tf.where(x, name="w"), ["x:bool[n,3]"]),
                             bounds={"w": "n*3"})
    loaded = Loaded(compiled, tmp_path)
    given = np.array([[0, 1, 0], [1, 0, 1]], np.uint8)
    out, shape = np.full((6, 2), -1), np.zeros(2, np.int64)
    assert loaded.call("f", given, 2, out, shape, sizes=(2,)) == 0
    assert shape.tolist() == [3, 2]
    assert out[:3].tolist() == [[0, 1], [1, 0], [1, 2]]


@pytest.mark.parametrize(
    ("limit", "error"),
    [("m", r"sizes of feeds \(n\): m"), ("n - 1", "made of numbers"), ("2 *", "an expression")],
)
def test_what_is_no_bound(limit: str, error: str) -> None:
    x = tf.placeholder(tf.int32, [None], "x")
    values, _ = tf.unique(x)
    with pytest.raises(ValueError, match=error):
        compile_ahead(Step("f", values, ["x:i32[n]"]), bounds={values: limit})


def test_a_bound_of_what_has_a_size_is_told() -> None:
    x = tf.placeholder(tf.int32, [None], "x")
    with pytest.raises(ValueError, match="no step computes x:0, so that it needs no bound"):
        compile_ahead(Step("f", x + 1, [x]), bounds={x: 3})
    y = tf.add(x, 1, name="y")
    with pytest.raises(CannotCompileAhead, match="the size of y:0 does not depend on data"):
        compile_ahead(Step("f", y, [x]), bounds={y: 3})


def test_the_command_line_takes_bounds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bounded.py").write_text(
        "import stepforge as tf\nx = tf.placeholder(tf.int32, [None], name='x')\n"
        "tf.identity(tf.unique(x)[0], name='y')\n"
    )
    command = ["compile", "bounded.py", "--fetch=y", "--feed=x:i32[n]", "-o", "y.o", "-o", "y.h"]
    assert main([*command, "--bound", "y=2*n"]) == 0
    assert "at most i32[2*n]" in Path("y.h").read_text()
    command[3] = "--feed=x"
    assert main([*command, "--bound", "y=2*x_0"]) == 0
    assert "at most i32[2*x_0]" in Path("y.h").read_text()
    assert main([*command, "--bound", "y"]) == 1
    assert "a bound is written TENSOR=SIZE" in capsys.readouterr().err
    assert main(command) == 1
    assert "no upper bound is declared" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("bound", "said"),
    [
        ("nothing=n", "The name 'nothing' refers to an Operation not in the graph"),
        ("found=n", "a bound is of a tensor, and found is an operation (found:0, found:1)"),
    ],
)
def test_bounds_of_what_is_no_tensor(
    bound: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.py"
    model.write_text("import stepforge as tf\nids = tf.placeholder(tf.int32, [None], 'ids')\n"
                     "values, places = tf.unique(ids, name='found')\n")
    words = ["compile", f"{model}:values", "--feed", "ids:i32[n]", "--bound", bound]
    assert main([*words, "-o", str(tmp_path / "found.o")]) == 1
    assert said in capsys.readouterr().err
