"""Steps compiled ahead of time: values against the session's, what objects need, who holds what."""

from __future__ import annotations

import functools
import shutil
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cffi
import numpy as np
import pytest

import stepforge as tf
from stepforge.codegen import elf, header, target
from stepforge.ir.parser import parse_module
from stepforge.runtime import ahead_files
from stepforge.runtime.ahead import Compiled
from stepforge.runtime.ahead_problems import CannotCompileAhead
from stepforge.runtime.ahead_steps import Feed, Step, compile_ir, parse_feed
from stepforge.runtime.ahead_steps import compile_ahead as compile_with

# What LLVM does beyond its short list of passes is tested where steps are.
compile_ahead = functools.partial(compile_with, level="O1")

ALLOWED = {"memcpy", "memset", "memmove"}
RANDOM = np.random.RandomState(0)


class Loaded:
    """A compiled library in this process: ``call(name, *arguments)`` gives the status."""

    def __init__(self, compiled: Compiled, folder: Path) -> None:
        path = folder / "libtest.so"
        ahead_files.write(compiled, path)
        self.ffi = cffi.FFI()
        self.ffi.cdef(header.declarations(compiled.library, compiled.parallel))
        self.code = self.ffi.dlopen(str(path))
        self.memory: Any = self.ffi.NULL  # the workspace of the last call

    def pointer(self, value: Any) -> Any:
        is_array = isinstance(value, np.ndarray)
        return self.ffi.cast("void *", value.ctypes.data) if is_array else value

    def call(self, name: str, *arguments: Any, sizes: tuple[int, ...] = ()) -> int:
        self.memory = np.empty(getattr(self.code, f"{name}_workspace")(*sizes), np.uint8)
        passed = [self.pointer(a) for a in (*arguments, self.memory)]
        return int(getattr(self.code, name)(*passed))

    def message(self, name: str, status: int) -> str:
        text = getattr(self.code, f"{name}_message")(status, self.pointer(self.memory))
        return self.ffi.string(text).decode()


Module = Callable[..., Any]


@pytest.fixture
def module(tmp_path: Path) -> Module:
    """Writes the Python module of a library and runs it."""

    def load(compiled: Compiled, name: str = "made") -> Any:
        ahead_files.write(compiled, tmp_path / f"{name}.py")
        namespace: dict[str, Any] = {"__file__": str(tmp_path / f"{name}.py"), "__name__": name}
        exec((tmp_path / f"{name}.py").read_text(), namespace)
        return type("Made", (), {n: staticmethod(v) if callable(v) else v
                                 for n, v in namespace.items() if n != "__doc__"})

    return load


def network() -> tuple[Any, Any, Any]:
    """A small classifier: the input, its result, a session with its variables."""
    x = tf.placeholder(tf.float32, [None, 30], name="x")
    start = tf.random_normal_initializer(seed=3)
    w = tf.get_variable("w", [30, 70], initializer=start)
    b = tf.get_variable("b", [70], initializer=start)
    y = tf.nn.softmax(tf.tanh(tf.matmul(x, w) + b), name="y")
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return x, y, session


@pytest.fixture(autouse=True)
def _graph() -> Any:
    with tf.Graph().as_default():
        yield


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


# ---- threads ------------------------------------------------------------------------------------


def test_the_caller_may_hand_in_a_parallel_for(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    compiled = compile_ahead(Step("f", tf.exp(tf.sin(x)), [x]))
    assert compiled.parallel == {"f"}
    loaded = Loaded(compiled, tmp_path)
    chunks: list[int] = []

    def run(pool: Any, job: Any, arguments: Any, count: int) -> None:
        assert loaded.ffi.cast("intptr_t", pool) == 77
        for index in reversed(range(count)):
            chunks.append(index)
            job(arguments, index)

    callback = loaded.ffi.callback("f_parallel_for", run)
    given = RANDOM.normal(size=500_000).astype(np.float32)
    alone, shared = np.empty_like(given), np.empty_like(given)
    assert loaded.call("f", given, given.size, alone, sizes=(given.size,)) == 0
    workspace = loaded.pointer(loaded.memory)
    status = loaded.code.f_parallel(
        loaded.pointer(given), given.size, loaded.pointer(shared), workspace, callback,
        loaded.ffi.cast("void *", 77),
    )
    assert status == 0
    assert len(chunks) > 1
    np.testing.assert_array_equal(alone, shared)
    np.testing.assert_allclose(alone, np.exp(np.sin(given)), rtol=1e-6)


def test_calls_from_many_threads(module: Module) -> None:
    x, y, session = network()
    predict = module(compile_ahead(Step("predict", y, [x]), session=session)).predict
    given = RANDOM.normal(size=(50, 30)).astype(np.float32)
    want, wrong = predict(given), []

    def work() -> None:
        results = [predict(given) for _ in range(50)]
        wrong.extend(result for result in results if not np.array_equal(result, want))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# ---- what cannot be done ------------------------------------------------------------------------


def test_all_that_cannot_be_compiled_is_told_at_once() -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    v = tf.get_variable("v", [3])
    found = tf.where(x > 0, name="places")
    y = tf.lgamma(x, name="gamma") + tf.reduce_sum(v)
    text = tf.as_string(x, name="text") if hasattr(tf, "as_string") else y
    with pytest.raises(CannotCompileAhead) as caught:
        compile_ahead(Step("f", [found, y, text], [x]))
    message = str(caught.value)
    assert "where: the size of its result depends on data" in message
    assert "lgamma: has no native lowering for f32[x_0]" in message
    assert "variable v has no value" in message
    assert message.count("test_ahead.py") >= 3
    assert "tf.where(x > 0" in message


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


# ---- files --------------------------------------------------------------------------------------

MAIN = """
#include <stdio.h>
#include <stdlib.h>
#include "lib.h"
int main(void) {
    float x[60] = {1}, y[140];
    void *workspace = malloc(f_workspace(2));
    int32_t status = f(x, 2, y, workspace);
    if (status) { puts(f_message(status, workspace)); return 1; }
    printf("%.6f\\n", y[0]);
    free(workspace);
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
@pytest.mark.parametrize("file", ["lib.o", "liblib.a", "liblib.so"])
def test_c_programs_link_every_kind_of_file(file: str, tmp_path: Path) -> None:
    x, y, session = network()
    compiled = compile_ahead(Step("f", y, [x]), session=session, name="lib")
    for name in (file, "lib.h"):
        ahead_files.write(compiled, tmp_path / name)
    (tmp_path / "main.c").write_text(MAIN)
    warnings = ["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic"]
    command = ["cc", *warnings, "main.c", file, "-lm", "-Wl,-rpath,$ORIGIN", "-o", "main"]
    subprocess.run(command, cwd=tmp_path, check=True)
    printed = subprocess.run([tmp_path / "main"], check=True, capture_output=True, text=True)
    given = np.zeros((2, 30), np.float32)
    given[0, 0] = 1
    assert printed.stdout.strip() == f"{session.run(y, {x: given})[0, 0]:.6f}"


@pytest.mark.skipif(shutil.which("nm") is None, reason="needs nm")
def test_nm_shows_what_is_left(tmp_path: Path) -> None:
    x, y, session = network()
    compiled = compile_ahead(Step("f", y, [x]), session=session, name="lib", variables="file")
    written = ahead_files.write(compiled, tmp_path / "lib.o")
    assert [p.name for p in written] == ["lib.o", "lib.state"]
    shown = subprocess.run(["nm", "-u", tmp_path / "lib.o"], capture_output=True, text=True,
                           check=True).stdout
    assert set(shown.replace("U", "").split()) <= ALLOWED


def test_functions_of_libm_come_through_the_shared_library(tmp_path: Path) -> None:
    x = tf.placeholder(tf.float32, [None], "x")
    compiled = compile_ahead(Step("f", [tf.sin(x), tf.cos(x)], [x]))
    assert set(compiled.object.undefined) - ALLOWED <= {"sinf", "cosf"}
    loaded = Loaded(compiled, tmp_path)
    given = np.array([1e9, 3, -5e20], np.float32)  # so large that the polynomials leave it to libm
    sin, cos = np.empty_like(given), np.empty_like(given)
    assert loaded.call("f", given, 3, sin, cos, sizes=(3,)) == 0
    np.testing.assert_allclose(sin, np.sin(given), rtol=1e-6)
    np.testing.assert_allclose(cos, np.cos(given), rtol=1e-6)


@pytest.mark.parametrize(
    ("triple", "magic", "words"),
    [
        ("aarch64-unknown-linux-gnu", b"\x7fELF", ["fmla", ".4s", "ret"]),
        ("arm64-apple-macosx11", b"\xcf\xfa\xed\xfe", ["fmla", "ret"]),
        ("x86_64-pc-windows-msvc", b"\x64\x86", ["vfmadd", "ymm", "retq"]),
    ],
)
def test_objects_for_other_machines(
    triple: str, magic: bytes, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, y, session = network()
    chosen = target.chosen(triple)
    compiled = compile_ahead(Step("f", y, [x]), session=session, target=chosen)
    assert compiled.object.startswith(magic)
    assembly = compiled.assembly()
    assert all(word in assembly for word in words)
    if chosen.windows:
        assert "/EXPORT:f_workspace" in assembly
    monkeypatch.delenv("CC", raising=False)
    suffix = ahead_files.shared_suffix(chosen)
    with pytest.raises(RuntimeError, match=f"needs a linker for {triple}: set CC"):
        ahead_files.write(compiled, tmp_path / f"f{suffix}")


def test_features_choose_the_vectors() -> None:
    x, y, session = network()
    for cpu, features, register in (
        ("x86-64", "", "xmm"), ("x86-64-v3", "", "ymm"), ("x86-64-v4", "", "zmm"),
        ("x86-64", "+avx,+fma", "ymm"),
    ):
        chosen = target.chosen("x86_64-unknown-linux-gnu", cpu, features)
        text = compile_ahead(Step("f", y, [x]), session=session, target=chosen).assembly()
        widest = next(r for r in ("zmm", "ymm", "xmm") if f"%{r}" in text)
        assert widest == register, (cpu, features)


def test_a_wheel_holds_the_module_and_its_library(tmp_path: Path) -> None:
    x, y, session = network()
    compiled = compile_ahead(Step("f", y, [x]), session=session, name="lib", variables="file")
    (path,) = ahead_files.write(compiled, tmp_path / "lib.whl")
    assert path.name == "lib-1.0-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        wheel.extractall(tmp_path)
    package = {"lib/__init__.py", "lib/liblib.so", "lib/lib.state", "lib/lib.h"}
    assert package < names
    code = (
        "import sys, numpy as np, lib\n"
        "print(lib.f(np.zeros((1, 30)))[0, :3])\n"
        "assert not {'llvmlite', 'stepforge'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code],
                          cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    want = session.run(y, {x: np.zeros((1, 30))})[0, :3]
    np.testing.assert_allclose(np.array(done.stdout.strip("[]\n").split(), float), want, rtol=1e-4)


def test_the_reader_of_elf_names_what_is_defined() -> None:
    x, y, session = network()
    compiled = compile_ahead(Step("f", y, [x]), session=session)
    names = {s.name for s in elf.ElfObject(compiled.object).exports}
    assert names == {"f", "f_parallel", "f_workspace", "f_message"}
    with pytest.raises(ValueError, match="not a little-endian ELF"):
        elf.ElfObject(b"MZ")
