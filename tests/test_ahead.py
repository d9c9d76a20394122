"""Steps compiled ahead of time: values against the session's, who holds what, what cannot be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ahead_testing import ALLOWED, RANDOM, Loaded, Module, compile_ahead, network

import stepforge as tf
from stepforge.ir.parser import parse_module
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead_problems import CannotCompileAhead
from stepforge.runtime.ahead_steps import Feed, Step, compile_ir, parse_feed

pytestmark = pytest.mark.usefixtures("own_graph")


# ---- values -------------------------------------------------------------------------------------


@pytest.mark.parametrize("variables", ["baked", "arguments", "file"])
def test_a_step_gives_what_the_session_gives(variables: Any, module: Module) -> None:
    x, y, session = network()
    made = compile_ahead(Step("predict", y, [x]), session=session, variables=variables)
    assert set(made.object.undefined) <= ALLOWED
    predict = module(made).predict
    named = ("w:0", "b:0") if variables == "arguments" else ()
    held = dict(zip(("w", "b"), session.run(list(named)), strict=False))
    for count in (0, 1, 7, 33):
        given = RANDOM.normal(size=(count, 30)).astype(np.float32)
        want = session.run(y, {x: given})
        np.testing.assert_allclose(predict(given, **held), want, rtol=2e-6)


def test_scalars_go_by_value_and_come_back_by_address(tmp_path: Path) -> None:
    a, b = tf.placeholder(tf.float64, [], "a"), tf.placeholder(tf.int16, [], "b")
    flag = tf.placeholder(tf.bool, [], "flag")
    y = tf.where(flag, a * tf.cast(b, tf.float64), a)
    loaded = Loaded(compile_ahead(Step("f", [y, b + b], [a, b, flag])), tmp_path)
    out, twice = np.empty(1), np.empty(1, np.int16)
    assert loaded.call("f", 2.5, -3, 1, out, twice) == 0
    assert (out[0], twice[0]) == (-7.5, -6)
    assert loaded.call("f", 2.5, -3, 0, out, twice) == 0
    assert out[0] == 2.5


def test_a_fetched_feed_and_a_fetched_operation(module: Module) -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    v = tf.get_variable("v", [], initializer=tf.zeros_initializer())
    add = tf.group(v.assign_add(tf.reduce_sum(x)), name="add")
    made = module(compile_ahead(Step("f", [x, add], [x]), values={"v": 1.0}))
    given = np.arange(4, dtype=np.float32)
    np.testing.assert_array_equal(made.f(given), given)
    assert made.library.state["v"] == 7


def test_equal_sizes_are_one_parameter_with_the_users_name() -> None:
    x = tf.placeholder(tf.float32, [None, None], "x")
    y = tf.placeholder(tf.float32, [None, 3], "y")
    made = compile_ahead(Step("f", tf.matmul(x, y), ["x:f32[rows,n]", "y:f32[n,?]"]))
    (step,) = made.library.steps
    assert step.sizes == ["rows", "n"]
    declared = "f(const float *x, const float *y, int64_t rows, int64_t n,"
    assert declared in ahead_files.c_header(made)


def test_every_variant_of_random_numbers_continues_its_stream(module: Module) -> None:
    noise = tf.random_normal([5], seed=7)
    uniform = tf.random_uniform([3], seed=8, dtype=tf.float64)
    made = module(compile_ahead(Step("draw", [noise, uniform])))
    with tf.Session() as session:
        for _ in range(3):
            for have, want in zip(made.draw(), session.run([noise, uniform]), strict=True):
                np.testing.assert_array_equal(have, want)


def test_large_products_use_no_library(module: Module) -> None:
    a = tf.placeholder(tf.float32, [None, 400], "a")
    b = tf.placeholder(tf.float32, [400, 390], "b")
    made = compile_ahead(Step("product", tf.matmul(a, b), [a, b]))
    assert set(made.object.undefined) <= ALLOWED
    x, y = RANDOM.normal(size=(400, 400)), RANDOM.normal(size=(400, 390))
    given = x.astype(np.float32), y.astype(np.float32)
    np.testing.assert_allclose(module(made).product(*given), x @ y, rtol=1e-3, atol=1e-3)


def test_a_function_of_ir(module: Module) -> None:
    text = """
variable @w: f32[3]
func @scale(%x: f32[n, 3], %k: f32) -> f32[n, 3] {
  %w = read(@w) : f32[3]
  %kw = mul(%w, %k) : f32[3]
  %y = mul(%x, %kw) : f32[n, 3]
  return(%y)
}
"""
    w = np.array([1, 2, 3], np.float32)
    made = module(compile_ir(parse_module(text), values={"w": w}))
    x = RANDOM.normal(size=(4, 3)).astype(np.float32)
    np.testing.assert_allclose(made.scale(x, 2.0), x * w * 2)


# ---- state --------------------------------------------------------------------------------------


def training() -> tuple[list[Step], Any, list[Any]]:
    x = tf.placeholder(tf.float32, [None, 4], "x")
    t = tf.placeholder(tf.float32, [None], "t")
    w = tf.get_variable("w", [4, 1], initializer=tf.ones_initializer())
    old = tf.get_variable("old", [4, 1], initializer=tf.zeros_initializer())
    guess = tf.matmul(x, w)[:, 0]
    loss = tf.reduce_mean(tf.square(guess - t), name="loss")
    keep = old.assign(tf.matmul(tf.eye(4) * 2.0, w))
    with tf.control_dependencies([keep]):
        train = tf.train.AdamOptimizer(0.1).minimize(loss)
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    steps = [Step("train", [loss, train], [x, t]), Step("predict", guess, [x])]
    return steps, session, [x, t, loss, train, w, old]


@pytest.mark.parametrize("variables", ["baked", "file"])
def test_training_keeps_its_variables_in_a_block(variables: Any, module: Module) -> None:
    steps, session, (x, t, loss, train, w, old) = training()
    made = module(compile_ahead(steps, session=session, name="lib", variables=variables))
    spare = made.library.state.copy()
    xs, ts = RANDOM.normal(size=(9, 4)).astype("f"), RANDOM.normal(size=9).astype("f")
    for _ in range(5):
        want, _ = session.run([loss, train], {x: xs, t: ts})
        np.testing.assert_allclose(made.train(xs, ts), want, rtol=1e-6)
    declared = " ".join(made._DECLARATIONS.replace("( ", "(").split())
    assert "int64_t x_0, const void *state, float *" in declared
    for variable in (w, old):
        have = made.library.state[variable.op.name]
        np.testing.assert_allclose(have, session.run(variable), rtol=1e-6)
    np.testing.assert_allclose(made.predict(np.eye(4), state=spare), 1)
    spare["w"] = [[1], [2], [3], [4]]
    np.testing.assert_allclose(made.predict(np.eye(4), state=spare), [1, 2, 3, 4])
    with pytest.raises(ValueError, match=r"w has the shape \(4, 1\), not \(4,\)"):
        spare["w"] = np.ones(4)


def test_a_value_that_needs_the_last_one_is_made_in_a_place_of_its_own(module: Module) -> None:
    v = tf.get_variable("v", [20, 20], initializer=tf.zeros_initializer())
    i = tf.placeholder(tf.int32, [], "i")
    new = v.assign(tf.matmul(v, v) * tf.cast(tf.gather([1, 2], i), tf.float32))
    start = np.eye(20, dtype=np.float32) * 3
    compiled = compile_ahead(Step("f", new.op, [i]), values={"v": start}, name="lib")
    assert [held.twofold for held in compiled.library.held] == [True]
    assert compiled.library.state_bytes > 2 * start.nbytes
    made = module(compiled)
    state = made.library.state
    for wanted in (9, 81, 6561):
        kept = state.copy()
        made.f(0)
        np.testing.assert_array_equal(state["v"], np.eye(20) * wanted)
        with pytest.raises(made.StepError, match=r"indices = 2 is not in \[0, 2\)"):
            made.f(2)
        np.testing.assert_array_equal(state["v"], np.eye(20) * wanted)
        made.f(1, state=kept)
        np.testing.assert_array_equal(kept["v"], np.eye(20) * 2 * wanted)
    state["v"] = start
    made.f(0)
    np.testing.assert_array_equal(state["v"], np.eye(20) * 9)


def test_variables_as_arguments_are_changed_in_place(module: Module) -> None:
    steps, session, (_, _, _, _, w, old) = training()
    made = module(compile_ahead(steps, session=session, name="lib", variables="arguments"))
    names = [a.name for a in made.train._held]
    held = {n: np.zeros(a.shape, a.dtype) for n, a in zip(names, made.train._held, strict=True)}
    held["w"][:], held["beta1_power"][()], held["beta2_power"][()] = 1, 0.9, 0.999
    xs, ts = np.eye(4, dtype="f"), np.zeros(4, "f")
    made.train(xs, ts, **held)
    session.run(steps[0].fetches, dict(zip(steps[0].feeds, (xs, ts), strict=True)))
    np.testing.assert_allclose(held["w"], session.run(w), rtol=1e-6)
    np.testing.assert_allclose(held["old"], session.run(old), rtol=1e-6)
    with pytest.raises(TypeError, match="w changes: it must be a dense float32 array"):
        made.train(xs, ts, **{**held, "w": np.ones((4, 1))})


def test_a_failed_step_says_why_and_changes_nothing(module: Module) -> None:
    v = tf.get_variable("v", [3], initializer=tf.ones_initializer())
    i = tf.placeholder(tf.int32, [None], "i")
    new = v.assign_add(tf.reduce_sum(tf.gather(v, i)) * tf.ones([3]))
    made = module(compile_ahead(Step("step", new, [i]), values={"v": np.ones(3)}))
    with pytest.raises(made.StepError, match=r"indices\[1\] = 8 is not in \[0, 3\)"):
        made.step([0, 8])
    np.testing.assert_array_equal(made.library.state["v"], 1)
    made.step([0, 2])
    np.testing.assert_array_equal(made.library.state["v"], 3)


def test_statuses_have_words_with_and_without_a_workspace(tmp_path: Path) -> None:
    _, y, session = network()
    loaded = Loaded(compile_ahead(Step("f", y, ["x:f32[n,30]"]), session=session), tmp_path)
    out, null = np.empty((1, 70), np.float32), loaded.ffi.NULL
    assert loaded.message("f", 0) == "success"
    status = loaded.call("f", out, -(2**63), out, sizes=(1,))
    wanted = "InvalidArgumentError: the size n = -9223372036854775808 is negative"
    assert loaded.message("f", status) == wanted
    assert loaded.ffi.string(loaded.code.f_message(status, null)) == (
        b"InvalidArgumentError: the size n = {0} is negative"
    )
    pointer = loaded.pointer(out)
    status = loaded.code.f(pointer, 1, pointer, null)
    assert loaded.message("f", status) == "a workspace is needed and was not given"
    assert loaded.message("f", 999) == "an unknown status"


# ---- what cannot be done ------------------------------------------------------------------------


def test_all_that_cannot_be_compiled_is_told_at_once() -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    v = tf.get_variable("v", [3])
    found = tf.where(x > 0, name="places")
    y = tf.lgamma(x, name="gamma") + tf.reduce_sum(v)
    s = tf.placeholder(tf.string, [], "s")
    words, _ = tf.unique(tf.stack([s, s], name="pair"), name="words")
    called = tf.py_func(lambda a: a, [x], tf.float32, name="called")
    kept, _ = tf.setdiff1d(x, x + 1.0)
    with pytest.raises(CannotCompileAhead) as caught:
        compile_ahead(Step("f", [found, y, words, called, kept], [x, s]))
    message = str(caught.value)
    assert "where: the size of its result depends on data" in message
    assert "lgamma: has no native lowering for (f32[x_0]) -> (f32[x_0])" in message
    assert "the feed s is string" in message
    assert "reshape, concat: text, resources" in message  # one node, one reason
    assert "py_func: a Python function needs its interpreter" in message
    assert "setdiff1d: has no native lowering" in message
    assert message.count("no upper bound is declared") == 1  # a bound would not help the others
    assert "variable v has no value" in message
    assert message.count("test_ahead.py") >= 3
    assert "tf.where(x > 0" in message


def test_a_variable_stays_as_large_as_its_value() -> None:
    text = (
        "variable @v: f32[n, 3]\nfunc @f(%x: f32[m, 8], %y: f32[4, 3]) {\n"
        "  write(@v, %x)\n  write(@v, %y)\n  return()\n}"
    )
    with pytest.raises(CannotCompileAhead) as caught:
        compile_ir(parse_module(text), values={"v": np.zeros((4, 3), np.float32)})
    (problem,) = caught.value.problems
    assert str(problem) == "write: a value f32[m, 8] for variable v, which stays f32[4, 3]"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("x", Feed("x")),
        ("a/x:1", Feed("a/x:1")),
        ("x:f32[?, 784]", Feed("x", "f32", (None, 784))),
        ("x:0:i64[n]", Feed("x:0", "i64", ("n",))),
        ("x:bool", Feed("x", "bool", ())),
    ],
)
def test_feeds_are_written_as_types(text: str, wanted: Feed) -> None:
    assert parse_feed(text) == wanted


@pytest.mark.parametrize("text", ["x:f31[3]", "x:f32[-1]", "x:f32[2", "", "x[3]"])
def test_what_is_no_feed(text: str) -> None:
    with pytest.raises(ValueError, match=r"is written name|a size is"):
        parse_feed(text)


@pytest.mark.parametrize(
    ("feed", "error"),
    [
        ("x:f64[?,30]", "x:0 is f32, not f64"),
        ("x:f32[?]", "x:0 has rank 2, not 1"),
        ("x:f32[?,31]", "x:0 has the shape"),
    ],
)
def test_feeds_must_fit_the_graph(feed: str, error: str) -> None:
    _, y, session = network()
    with pytest.raises(ValueError, match=error):
        compile_ahead(Step("f", y, [feed]), session=session)


@pytest.mark.parametrize(
    ("name", "error"), [("2x", "C identifier"), ("while", "C identifier"), ("sin", "needs that")]
)
def test_names_that_will_not_do(name: str, error: str) -> None:
    x = tf.placeholder(tf.float64, [None], "x")
    with pytest.raises(ValueError, match=error):
        compile_ahead(Step(name, tf.sin(x), [x]))
