"""Dumps as users ask for them: from Python, from the command line, from notebooks, of a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import GOLDEN

import stepforge as tf
from stepforge.cli import main
from stepforge.ir.parser import parse_function
from stepforge.ir.text import print_function
from stepforge.runtime.show.dumps import safe_name

MODEL = """
import stepforge as tf
x = tf.placeholder(tf.float32, [None, 4], name="x")
with tf.variable_scope("net"):
    w = tf.get_variable("w", [4, 2], initializer=tf.ones_initializer())
    y = tf.tanh(tf.matmul(x, w) * 2.0, name="y")
"""
# What `stepforge opt --passes` is told for the golden files of a folder, where not its own name.
REPLAYED = {"fuse": "fuse,prune", "bufferize": "lower"}


@pytest.fixture
def step() -> Any:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 4], name="x")
        y = tf.tanh(tf.multiply(x, 2.0), name="y")
        return tf.Session(graph=graph).make_callable(y, [x])


# ---- from Python --------------------------------------------------------------------------------


def test_a_dump_is_text_of_a_stage_unless_more_is_said(step: Any, tmp_path: Path) -> None:
    assert step.dump() == step.text("fused")
    assert step.dump(stage="loops") == step.text("loops")
    everything = step.dump(stage="all")
    for stage in ("graph", "tensor", "fused", "loops", "llvm", "asm"):
        assert f"// {stage}\n{step.text(stage).rstrip()}\n" in everything
    for name, start in (("a.html", "<!doctype html>"), ("a.dot", "digraph"), ("a.svg", "<svg")):
        text = step.dump(tmp_path / name)
        assert (tmp_path / name).read_text() == text
        assert text.startswith(start)
    assert step.dump(str(tmp_path / "a.txt"), format="svg", stage="tensor").startswith("<svg")
    assert step.dump(stage="numba") == step.text("numba")
    assert 'data-stage="tensor"' not in step.dump(format="html", stage="loops")


def test_before_and_after_a_pass(step: Any) -> None:
    before, after = step.dump(before="fuse"), step.dump(after="fuse")
    assert "fused(" not in before
    assert "tanh" in print_function(parse_function(before))
    assert "fused(" in after
    assert step.dump(after="plan") == step.text("loops")
    assert "fused" in step.dump(after="fuse", format="dot")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stage": "soup"}, "stage must be one of graph, tensor"),
        ({"format": "pdf"}, "format must be one of text, html, dot, svg"),
        ({"after": "melt"}, "there is no pass 'melt'"),
        ({"after": "fuse", "stage": "loops"}, "of a stage, or before a pass, or after one"),
        ({"after": "fuse", "before": "fold"}, "of a stage, or before a pass, or after one"),
        ({"after": "fuse", "format": "html"}, "html shows every pass"),
        ({"stage": "asm", "format": "svg"}, "svg draws one of graph, tensor, fused, loops"),
    ],
)
def test_what_there_is_not(step: Any, options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step.dump(**options)


# ---- notebooks ----------------------------------------------------------------------------------


def test_notebooks_show_graphs_and_steps(step: Any) -> None:
    frame = step._repr_html_()
    assert re.match(r'<iframe srcdoc="[^"]*" sandbox="allow-scripts"', frame)
    page = unescape(frame[len('<iframe srcdoc="') : frame.index('" sandbox')])
    assert re.findall(r'data-stage="(\w+)"', page) == ["source", "tensor", "fused", "loops"]
    graph = step.program.session.graph
    drawn = ElementTree.fromstring(graph._repr_html_())
    titles = [e.text for e in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert any(str(title).startswith("y = Tanh : float32(?, 4)") for title in titles)


def test_a_large_graph_is_counted() -> None:
    with tf.Graph().as_default() as graph:
        for _ in range(300):
            tf.constant(1.0)
    table = ElementTree.fromstring(graph._repr_html_())  # type: ignore[arg-type]
    assert [e.text for e in table.iter("td")] == ["Const", "300"]


def test_callables_with_options_have_dumps(step: Any) -> None:
    graph = step.program.session.graph
    with graph.as_default():
        call: Any = tf.Session(graph=graph).make_callable("y:0", ["x:0"], accept_options=True)
    assert call.dump() == step.dump()
    assert call._repr_html_().startswith("<iframe")


# ---- the command line ---------------------------------------------------------------------------


def test_the_command_writes_pages_and_drawings(
    model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dump = "dump model.py --fetch net/y --feed x "
    for options, start in (
        ("", "variable @net.w: f32[4, 2]"),
        ("--stage all", "// graph\n"),
        ("--pass fuse --before", "variable @net.w"),
        ("--pass fuse --after --format dot", 'digraph "net.y"'),
        ("--format svg", "<svg"),
    ):
        assert main((dump + options).split()) == 0
        assert capsys.readouterr().out.startswith(start)
    assert main((dump + "-o y.html").split()) == 0
    assert capsys.readouterr().out == "wrote y.html\n"
    assert "tf.matmul(x, w) * 2.0" in (model / "y.html").read_text()


def test_functions_of_text_have_pages(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (model / "f.sf").write_text("func @f(%x: f32[n]) -> f32[n] {\n  %y = exp(%x) : f32[n]\n"
                                "  return(%y)\n}\n")
    assert main(["dump", "f.sf", "--stage", "loops"]) == 0
    assert "exp(" in capsys.readouterr().out
    assert main(["dump", "f.sf", "--format", "html"]) == 0
    assert re.findall(r'data-stage="(\w+)"', capsys.readouterr().out) == [
        "tensor", "fused", "loops", "llvm", "asm"
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--before", "name it with --pass"),
        ("--pass melt", "there is no pass 'melt'"),
        ("--pass fuse --stage loops", "of a stage, or before a pass"),
        ("--stage numba --format svg", "svg draws one of"),
    ],
)
def test_what_the_command_cannot_show(
    options: str, message: str, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = f"dump model.py --fetch net/y --feed x {options}"
    assert main(command.split()) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("case", sorted(p.name for p in GOLDEN.iterdir() if p.is_dir()))
def test_golden_files_are_replayed_by_hand(case: str, capsys: pytest.CaptureFixture[str]) -> None:
    for out in sorted((GOLDEN / case).glob("*.out.sf")):
        given = str(out).replace(".out.sf", ".sf")
        assert main(["opt", given, "--passes", REPLAYED.get(case, case)]) == 0
        want = out.read_text(encoding="utf-8")
        if case == "plan":
            want = want.partition("\n")[2]  # the first line says how large the arena is
        assert capsys.readouterr().out == want


def test_all_passes_up_to_one(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = str(GOLDEN / "fuse" / "chain.sf")
    given = given if os.path.exists(given) else str(sorted((GOLDEN / "fuse").glob("*.sf"))[1])
    assert main(["opt", given, "--until", "fuse", "--timings"]) == 0
    printed = capsys.readouterr()
    assert re.findall(r"^(\w+) ", printed.err, re.MULTILINE)[-2:] == ["recompute", "fuse"]
    assert main(["opt", given, "--until", "melt"]) == 1
    assert "no compile runs 'melt', but prune" in capsys.readouterr().err


# ---- every step of a program --------------------------------------------------------------------


def test_a_folder_gets_every_stage_of_every_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STEPFORGE_DUMP", str(tmp_path / "deep" / "dumps"))
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, None, name="x")
        y = tf.exp(x, name="a/y")
        session = tf.Session(graph=graph)
        assert session.run(y, {x: 0.0}) == 1
        np.testing.assert_array_equal(session.run(y, {x: [0.0]}), [1])
    names = sorted(path.name for path in (tmp_path / "deep" / "dumps").iterdir())
    endings = ["asm.s", "fused.sf", "graph.txt", "html", "llvm.ll", "loops.sf",
               "numba.py", "tensor.sf"]
    assert names == [f"a.y_{i}.{ending}" for i in (0, 1) for ending in endings]
    text = (tmp_path / "deep" / "dumps" / "a.y_1.tensor.sf").read_text()
    assert parse_function(text).name == "a.y"


def test_processes_share_a_folder(tmp_path: Path) -> None:
    code = MODEL + "s = tf.Session()\ns.run(tf.global_variables_initializer())\n" \
                   "s.run(y, {x: [[1, 2, 3, 4]]})\n"
    environment = {**os.environ, "STEPFORGE_DUMP": str(tmp_path), "STEPFORGE_CACHE": "off"}
    running = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(3)]
    assert [process.wait(timeout=120) for process in running] == [0, 0, 0]
    pages = sorted(path.name for path in tmp_path.glob("net.y_*.html"))
    assert pages == ["net.y_0.html", "net.y_1.html", "net.y_2.html"]
    texts = {path.read_text() for path in tmp_path.glob("net.y_*.loops.sf")}
    assert len(texts) == 1


@pytest.mark.parametrize("name", ["y", "layer.MatMul_1", "step"])
def test_plain_names_are_names_of_files(name: str) -> None:
    assert safe_name(name) == name


def test_other_names_become_safe_and_stay_apart() -> None:
    given = ["a/b", "a:b", "../../etc", "", ".", "ß", "x" * 300, "x" * 301, "a\0b", "\ud800"]
    made = [safe_name(name) for name in given]
    assert len(set(made)) == len(given)
    for name in made:
        assert re.fullmatch(r"[\w-][\w.-]*", name, re.ASCII)
        assert len(name) < 100
