"""What commands take: Python files and names in them, GraphDefs, IR text, and values to feed."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from stepforge.cli import main

GRAPHS = Path(__file__).parent / "data" / "graphdefs"
MODEL = """
import stepforge as tf

x = tf.placeholder(tf.float32, [None, 2], name="x")
k = tf.placeholder(tf.int32, [], name="k")
words = tf.placeholder(tf.string, [None], name="words")
y = tf.multiply(x, 2.0, name="inner/y")
w = tf.get_variable("w", [2], initializer=tf.ones_initializer())
both = tf.identity(y * tf.cast(k, tf.float32), name="both")
said = tf.identity(words, name="said")
bump = w.assign_add([1.0, 1.0])
number = 3

def build():
    return {"sum": tf.add(y, w), "nested": [tf.negative(w)]}

def nothing():
    tf.exp(w, name="late")
"""


Command = Callable[..., str]


@pytest.fixture
def ok(model: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command that must succeed; what it printed."""

    def run(*words: str) -> str:
        status, printed = main(words), capsys.readouterr()
        assert status == 0, printed.err
        return printed.out

    return run


@pytest.fixture
def fails(model: Path, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command that must fail; what it said."""

    def run(*words: str) -> str:
        status, printed = main(words), capsys.readouterr()
        assert (status, printed.out) == (1, "")
        assert printed.err.startswith("stepforge: error: ")
        assert "Traceback" not in printed.err
        return printed.err

    return run


# ---- names behind a colon ------------------------------------------------------------------------
def test_names_of_tensors_variables_and_functions(ok: Command) -> None:
    assert ok("run", "model.py:y", "--feed", "x=[[1, 2]]") == "inner/y = [[2. 4.]]\n"
    assert ok("run", "model.py:inner/y,w", "--feed", "x=[[1, 2]]") == (
        "inner/y = [[2. 4.]]\nw = [1. 1.]\n"
    )
    assert ok("run", "model.py:bump") == "AssignAdd = [2. 2.]\n"
    assert ok("run", "model.py:build", "--feed", "x=[[1, 2]]") == (
        "Add = [[3. 5.]]\nNeg = [-1. -1.]\n"
    )
    assert ok("run", "model.py:build", "--fetch", "w") == "w = [1. 1.]\n"
    assert ok("run", "model.py:nothing", "--fetch", "late").startswith("late = [2.718")


def test_names_that_only_the_python_file_has(ok: Command, fails: Command, model: Path) -> None:
    (model / "own.py").write_text(
        "import stepforge as tf\nx = tf.placeholder(tf.float32, [None, 2])\n"
        "doubled = tf.multiply(x, 2.0)\nall_of_it = [doubled]\n"
        "with tf.Graph().as_default():\n    elsewhere = tf.constant(1.0)\n"
        "graph_first, other = doubled + 1.0, tf.identity(doubled, name='graph_first')\n"
    )
    assert ok("run", "own.py", "--fetch", "doubled", "--feed", "x=[[1, 2]]") == (
        "doubled = [[2. 4.]]\n"
    )
    assert ok("run", "own.py", "--fetch", "graph_first", "--feed", "x=[[1, 2]]").endswith(
        "[[2. 4.]]\n"
    )
    words = ("own.py", "--fetch", "doubled", "--feed", "x:f32[n,2]")
    assert "Mul(Placeholder: f32[3, 2])" in ok(
        "bench", *words, "--size", "n=3", "--seconds", "0.01"
    )
    ok("compile", *words, "-o", "own.h")
    assert "Placeholder: f32[n, 2]" in (model / "own.h").read_text()
    assert "func @Mul(" in ok("dump", "own.py", "--fetch", "doubled", "--feed", "x")
    assert "(there is doubled)" in fails("run", "own.py", "--fetch", "doubld")
    assert "all_of_it" in fails("run", "own.py", "--fetch", "all_of_it")
    assert "elsewhere" in fails("run", "own.py", "--fetch", "elsewhere")
    assert fails("run", "own.py").count("graph_first") == 1


RETURNED = """
from dataclasses import dataclass
from typing import Any, NamedTuple
import stepforge as tf
@dataclass
class Model:
    inputs: Any
    doubled: Any
class Pair(NamedTuple):
    inputs: Any
    doubled: Any
def build(kind=dict):
    x = tf.placeholder(tf.float32, [None])
    return kind(inputs=x, doubled=x * 2.0)
def model():
    return build(Model)
def pair():
    return build(Pair)
"""


@pytest.mark.parametrize("function", ["build", "model", "pair"])
def test_what_a_function_returns_has_names(function: str, ok: Command, model: Path) -> None:
    (model / "own.py").write_text(RETURNED)
    said = ok("run", f"own.py:{function}", "--fetch", "doubled", "--feed", "inputs=[1, 2]")
    assert said == "doubled = [2. 4.]\n"
    said = ok("run", f"own.py:{function}", "--feed", "inputs=[1, 2]")
    assert said == "Placeholder = [1. 2.]\nmul = [2. 4.]\n"


OWN_GRAPH = """
import sys
import stepforge as tf
assert sys.argv == ["own.py"]
graph = tf.Graph()
with graph.as_default():
    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.add(x, 1.0, name="y")
def make():
    return {"y": y}
"""


def test_a_file_may_have_a_graph_of_its_own(ok: Command, fails: Command, model: Path) -> None:
    (model / "own.py").write_text(OWN_GRAPH)
    for words in (("own.py:y",), ("own.py:make",), ("own.py:x,y",), ("own.py", "--fetch", "y")):
        assert ok("run", *words, "--feed", "x=[1, 2]").endswith("y = [2. 3.]\n")
    (model / "own.py").write_text(f"{OWN_GRAPH}z = tf.constant(1.0)\n")
    assert ok("run", "own.py:y", "--feed", "x=[1, 2]") == "y = [2. 3.]\n"
    assert ok("run", "own.py:z") == "Const = 1.0\n"
    assert "is not an element of this graph" in fails("run", "own.py:y,z", "--feed", "x=[1, 2]")
    assert "y" in fails("run", "own.py", "--fetch", "y")  # the default graph has nodes


def test_a_file_that_ends_the_process_is_an_error(fails: Command, model: Path) -> None:
    (model / "ends.py").write_text("import sys\nsys.exit(0)\n")
    assert "ends.py fails at line 2: sys.exit(0)\nSystemExit: 0" in fails("run", "ends.py:y")


def test_only_files_that_are_called_so_are_run(fails: Command, model: Path) -> None:
    (model / "model.txt").write_text("raise SystemExit(7)")
    assert "model.txt: the name of an input ends in one of .py .pb .pbtxt .sf" in fails(
        "run", "model.txt"
    )


def test_names_that_mean_nothing(fails: Command) -> None:
    assert "model.py has no function or tensor gone" in fails("run", "model.py:gone")
    said = fails("run", "model.py:number")
    assert "number of model.py is no function and no tensor, but 3" in said
    assert "nothing to compute: name results with --fetch (nothing else uses" in fails(
        "run", "model.py:nothing"
    )


# ---- GraphDefs -----------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", ["pb", "pbtxt"])
def test_every_command_takes_a_graph(suffix: str, ok: Command, model: Path) -> None:
    from google.protobuf import text_format

    import stepforge as tf

    data = (GRAPHS / "perceptron.pb").read_bytes()
    graph_def = tf.GraphDef()
    graph_def.ParseFromString(data)
    text = text_format.MessageToString(graph_def).encode()
    (model / f"net.{suffix}").write_bytes(data if suffix == "pb" else text)
    np.save("x.npy", np.ones((3, 5), np.float32))
    printed = ok("run", f"net.{suffix}:y", "--feed", "x=x.npy", "-o", "y.npz")
    assert printed.startswith("wrote y.npz (")
    y = np.load("y.npz")["y"]
    np.testing.assert_allclose(y.sum(1), np.ones(3), rtol=1e-6)
    ir = ok("dump", f"net.{suffix}", "--fetch", "y", "--stage", "tensor")
    assert "func @y(%x: f32[x_0, 5]) -> f32[x_0, 3]" in ir
    assert "func @y(%x: f32[x_0, 5])" in ok("opt", f"net.{suffix}:y", "--passes", "fold")
    assert ok("compile", f"net.{suffix}:y", "-o", "net.h", "--opt-level", "0").startswith("wrote")
    assert "int32_t net(const float *x, int64_t x_0, float *y" in Path("net.h").read_text()
    Path("net.sf").write_text(ir)
    ok("run", "net.sf", "--feed", "x=x.npy", "-o", "again.npz")
    np.testing.assert_array_equal(np.load("again.npz")["y"], y)


def test_variables_of_a_graph(ok: Command, fails: Command) -> None:
    """Its own first values, and those that are restored."""
    graph = str(GRAPHS / "counters.pb")
    assert ok("run", f"{graph}:after") == "after = 5\n"
    np.savez("count.npz", count=np.int32(40))
    assert ok("run", f"{graph}:after", "--restore", "count.npz") == "after = 42\n"
    np.savez("bad.npz", count=np.zeros(3, np.int32))
    assert "variable count has the shape ()" in fails(
        "run", f"{graph}:after", "--restore", "bad.npz"
    )
    np.savez("kind.npz", count=np.float32(1))
    assert "variable count is" in fails("run", f"{graph}:after", "--restore", "kind.npz")
    np.savez("name.npz", gone=np.int32(1))
    assert "a value for gone, which is no variable" in fails(
        "run", f"{graph}:after", "--restore", "name.npz"
    )


UNSUPPORTED = """
node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } } }
node { name: "a" op: "Frob" input: "x" }
node { name: "b" op: "Glorp" input: "x" }
node { name: "c" op: "Frob" input: "a" }
node { name: "d" op: "PartitionedCall" input: "x" }
"""


@pytest.mark.parametrize("command", ["run", "dump", "opt", "bench", "compile"])
def test_all_that_is_unsupported_at_once(command: str, fails: Command) -> None:
    Path("odd.pbtxt").write_text(UNSUPPORTED)
    said = fails(command, "odd.pbtxt:a", *(["-o", "a.o"] if command == "compile" else []))
    assert said == (
        "stepforge: error: Op type not registered 'Frob', 'Glorp', 'PartitionedCall': stepforge has"
        " no node types of these names. The graph has\n"
        "* Frob (2: a, c)\n* Glorp (1: b)\n* PartitionedCall (1: d)\n"
    )


NOT_NATIVE = """
node { name: "x" op: "Placeholder" attr { key: "dtype" value { type: DT_FLOAT } }
  attr { key: "shape" value { shape { dim { size: 3 } } } } }
node { name: "a" op: "Lgamma" input: "x" attr { key: "T" value { type: DT_FLOAT } } }
node { name: "b" op: "Digamma" input: "a" attr { key: "T" value { type: DT_FLOAT } } }
"""


def test_all_that_has_no_native_lowering_at_once(fails: Command) -> None:
    Path("odd.pbtxt").write_text(NOT_NATIVE)
    assert fails("compile", "odd.pbtxt:b", "-o", "b.o") == (
        "stepforge: error: cannot compile ahead of time, for 2 reasons:\n"
        "* lgamma: has no native lowering for (f32[3]) -> (f32[3])\n  'a'\n"
        "* digamma: has no native lowering for (f32[3]) -> (f32[3])\n  'b'\n"
    )


def test_files_that_are_no_graphs(fails: Command) -> None:
    Path("a.pb").write_bytes(b"\xff" * 9)
    Path("b.pbtxt").write_text("node { nome: 3 }")
    Path("c.pbtxt").write_bytes(b"node { name: '\xff' }")
    Path("d.pb").write_bytes(b"")
    Path("e.sf").write_text("func @f(%x: f32[2]) {\n  %y = sine(%x) : f32[2]\n  return(%y)\n}")
    Path("f.sf").write_text("")
    assert "a.pb is no GraphDef: " in fails("run", "a.pb", "--fetch", "x")
    assert 'no field named "nome"' in fails("run", "b.pbtxt", "--fetch", "x")
    assert "c.pbtxt is no text: " in fails("run", "c.pbtxt", "--fetch", "x")
    assert "d.pb is no GraphDef with nodes" in fails("run", "d.pb", "--fetch", "x")
    assert "unknown operation 'sine'" in fails("run", "e.sf", "--feed", "x=[1, 2]")
    assert "f.sf is not IR: it has no function" in fails("opt", "f.sf")


# ---- IR text -------------------------------------------------------------------------------------
TWO = """
variable @w: f32[2]
func @first(%x: f32[n, 2]) -> f32[n, 2] {
  %0 = read(@w) : f32[2]
  %y = mul(%x, %0) : f32[n, 2]
  return(%y)
}
func @second(%a: i32, %b: i32) -> i32, i32 {
  %s = add(%a, %b) : i32
  return(%s, %a)
}
"""


def test_standard_input(
    ok: Command, fails: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(TWO))
    assert ok("opt", "-", "--passes", "prune").count("func @") == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("func"))
    assert "standard input is not IR:\nline 1, column 5" in fails("opt", "-")


def test_functions_of_a_text(ok: Command, fails: Command) -> None:
    Path("two.sf").write_text(TWO)
    np.savez("w.npz", w=np.array([3, 4], np.float32))
    assert ok("run", "two.sf:second", "--feed", "a=1", "--feed", "b=2") == "s = 3\na = 1\n"
    feed = "x=[[1, 1]]"
    assert ok("run", "two.sf:first", "--restore", "w.npz", "--feed", feed) == "y = [[3. 4.]]\n"
    assert "gemm" not in ok("dump", "two.sf:first", "--stage", "loops")
    assert ok("opt", "two.sf", "--passes", "prune").count("func @") == 2
    assert "two.sf has 2 functions: two.sf:NAME is one (first, second)" in fails("run", "two.sf")
    assert "there is no function third: first, second" in fails("run", "two.sf:third")
    assert "--feed b=VALUE    of i32" in fails("run", "two.sf:second", "--feed", "a=1")
    assert "there is no parameter c" in fails("run", "two.sf:second", "--feed", "c=1")
    np.savez("w.npz", w=np.ones(3, np.float32))
    assert "first(): " in fails("run", "two.sf:first", "--restore", "w.npz", "--feed", feed)
    assert "uninitialized value w" in fails("run", "two.sf:first", "--feed", feed)


# ---- feeds ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "feed", ["x=x.npy", "x=x.npz", "x=all.npz", "x=all.npz:other", "x=x.csv", "x=[[1, 2]]", "x.npz",
             "x:0=x.npy"]
)
def test_feeds_from_files(feed: str, ok: Command) -> None:
    x = np.array([[1, 2]])
    np.save("x.npy", x)
    np.savez("x.npz", x=x)
    np.savez("all.npz", **{"x:0": x, "other": x})
    Path("x.csv").write_text("height, width\n1, 2\n")
    assert ok("run", "model.py:y", "--feed", feed) == "inner/y = [[2. 4.]]\n"


def test_tables_as_vectors_numbers_and_text(ok: Command) -> None:
    Path("k.csv").write_text("7\n")
    Path("words.csv").write_text("one,two\n")
    feeds = ["--feed", "x=[[1, 1]]", "--feed", "k=k.csv"]
    assert ok("run", "model.py:both", *feeds) == "both = [[14. 14.]]\n"
    assert ok("run", "model.py:said", "--feed", "words=words.csv") == "said = [b'one' b'two']\n"
    ok("run", "model.py:said", "--feed", "words=words.csv", "-o", "said.npz")
    assert np.load("said.npz")["said"].tolist() == [b"one", b"two"]


@pytest.mark.parametrize(
    ("feed", "message"),
    [
        ("x=gone.npy", "there is no file gone.npy"),
        ("x=three.npy", "three.npy has the shape [3, 3], but x is f32[x_0, 2]"),
        ("x=three.npz", "three.npz: three has the shape [3, 3], but x is"),
        ("x=many.npz", "many.npz has no array x (its arrays: a, b)"),
        ("x=many.npz:c", "many.npz has no array c"),
        ("x=complex.npy", "complex.npy has complex128, but x is f32[x_0, 2]"),
        ("x=objects.npy", "cannot read objects.npy: it holds Python objects, which are not read"),
        ("x=text.npy", "cannot read text.npy: "),
        ("x=bad.csv", "cannot read bad.csv: 'two' in row 2, column 1 is no float32"),
        ("x=imaginary.csv", "cannot read imaginary.csv: '1j' in row 1, column 2 is no float32"),
        ("x=nothing.csv", "cannot read nothing.csv: its rows have no columns"),
        ("x=ragged.csv", "cannot read ragged.csv: its rows have 1 and 2 columns"),
        ("x=[[1, 2], [3]]", "[[1, 2], [3]] is no array for x"),
        ("x=__import__('os')", "is neither a Python literal nor a file"),
        ("many.npz", "Cannot interpret feed_dict key as Tensor"),
    ],
)
def test_feeds_that_will_not_do(feed: str, message: str, fails: Command) -> None:
    np.save("three.npy", np.zeros((3, 3)))
    np.savez("three.npz", three=np.zeros((3, 3)))
    np.savez("many.npz", a=1, b=2)
    np.save("complex.npy", np.zeros((1, 2), complex))
    np.save("objects.npy", np.array([[{}, []]], object), allow_pickle=True)
    Path("text.npy").write_text("1, 2")
    Path("bad.csv").write_text("1,2\ntwo,3\n")
    Path("imaginary.csv").write_text("1,1j\n")
    Path("nothing.csv").write_text("\n")
    Path("ragged.csv").write_text("1,2\n3\n")
    assert message in fails("run", "model.py:y", "--feed", feed)


def test_numbers_that_a_dtype_has_not(fails: Command) -> None:
    Path("k.csv").write_text("99999999999999999999\n")
    feeds = ["--feed", "x=[[1, 1]]", "--feed", "k=k.csv"]
    assert "cannot read k.csv: '99999999999999999999' in row 1, column 1 is no int32" in fails(
        "run", "model.py:both", *feeds
    )


def test_everything_that_is_not_fed(fails: Command) -> None:
    assert fails("run", "model.py:both") == (
        "stepforge: error: values are missing:\n"
        "  --feed x=VALUE    of f32[x_0, 2]\n  --feed k=VALUE    of i32\n"
    )
    twice = fails("run", "model.py:y", "--feed", "x=1", "--feed", "x:0=2")
    assert "x is fed twice: by 1 and 2" in twice
    assert "ends in .npz" in fails("run", "model.py:y", "-o", "y.npy")


def test_what_is_fed_inside_needs_nothing_before(ok: Command) -> None:
    feeds = ["--feed", "inner/y=[[1, 1]]", "--feed", "k=3"]
    assert ok("run", "model.py:both", *feeds) == "both = [[3. 3.]]\n"


def test_names_of_results_are_names_in_the_archive(ok: Command) -> None:
    Path("names.py").write_text("import stepforge as tf\ntf.constant(1.0, name='file')\n")
    ok("run", "names.py:file", "-o", "deep/er/out.npz")
    assert np.load("deep/er/out.npz")["file"] == 1
