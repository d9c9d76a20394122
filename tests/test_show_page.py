"""The page of a step: well-formed, self-contained, and true: its numbers are those of the step."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import stepforge as tf
from stepforge.ir import dims
from stepforge.ir.parser import parse_function
from stepforge.passes.order import ORDER
from stepforge.runtime.show.markup import shortened
from stepforge.runtime.show.memory import likely, readable, temporaries
from stepforge.runtime.show.page import page
from stepforge.runtime.show.subject import Subject, of_function, of_variant

VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = "</script><img src=x onerror=alert(1)>"


class Tree(HTMLParser):
    """Every element with its attributes and its text; complains of tags that do not match."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[dict[str, Any]] = []
        self._open: list[dict[str, Any]] = []
        self.feed(text)
        self.close()
        assert not self._open, [e["tag"] for e in self._open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        column = self._open[-1]["column"] if self._open else ""
        given = dict(attrs)
        element = {"tag": tag, "text": "", **given, "column": given.get("data-stage") or column}
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append({"tag": tag, "text": "", **dict(attrs), "column": ""})

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element["text"] += data

    def all(self, **wanted: str) -> list[dict[str, Any]]:
        names = {name.replace("_", "-"): value for name, value in wanted.items()}
        return [e for e in self.elements if all(e.get(n) == v for n, v in names.items())]

    def lines(self, stage: str) -> list[dict[str, Any]]:
        return [e for e in self.elements if e.get("class") == "l" and e["column"] == stage]


def model() -> Any:
    """A step with two layers and its loss; ``h`` is made on a line of its own."""
    x = tf.placeholder(tf.float32, [None, 20], name="x")
    with tf.variable_scope("one"):
        w = tf.get_variable("w", [20, 30], initializer=tf.ones_initializer())
        product = tf.matmul(x, w)
        h = tf.tanh(product, name="h")
    y = tf.reduce_mean(tf.exp(h - tf.reduce_max(h, 1, keepdims=True)), 0, name="y")
    session = tf.Session()
    session.run(tf.global_variables_initializer())
    return session.make_callable(y, [x])


@pytest.fixture(scope="module")
def subject() -> Subject:
    with tf.Graph().as_default():
        program = model().program
    return of_variant(program.name, program.variants[0], program.nodes())


@pytest.fixture(scope="module")
def tree(subject: Subject) -> Tree:
    return Tree(page(subject))


def test_the_page_needs_nothing_else(subject: Subject) -> None:
    text = page(subject)
    assert "default-src 'none'" in text
    for element in Tree(text).elements:
        assert element["tag"] not in ("img", "link", "iframe", "object")
        assert "src" not in element
        assert not any(name.startswith("on") for name in element)
        assert str(element.get("href", "#")).startswith("#")
        if element["tag"] == "style":
            assert not re.search(r"@import|url\((?!#)", element["text"])


def test_columns_hold_the_text_of_their_stages(tree: Tree, subject: Subject) -> None:
    columns = [e["data-stage"] for e in tree.elements if "data-stage" in e]
    assert columns == ["source", "graph", "tensor", "fused", "loops", "llvm", "asm"]
    for stage in ("tensor", "fused", "loops", "llvm"):
        want = [shortened(line) or "\u200b" for line in subject.text(stage).splitlines()]
        assert [line["text"] for line in tree.lines(stage)] == want
    assert [line["text"].split(" = ")[0] for line in tree.lines("graph")] == [
        node.name for node in subject.nodes
    ]
    buttons = [e for e in tree.elements if e["tag"] == "button"]
    folded = {e["column"]: e["aria-expanded"] for e in buttons}
    assert (folded["llvm"], folded["fused"]) == ("false", "true")
    ids = {e["id"] for e in tree.elements if "id" in e}
    assert {e["aria-controls"] for e in buttons} <= ids
    assert len(ids) == sum("id" in e for e in tree.elements)


def test_a_value_is_joined_to_its_node_and_its_source_line(tree: Tree) -> None:
    rows = json.loads(tree.all(id="origins")[0]["text"])
    number = next(i for i, row in enumerate(rows) if row[0] == "one/h")
    for stage in ("graph", "tensor", "fused", "loops"):
        values = [
            e for e in tree.elements
            if e["tag"] == "i" and e["column"] == stage and e.get("data-o") == str(number)
        ]
        assert values, stage
        assert all("h" in value["text"] for value in values)
    _, place, line = rows[number]
    source = tree.all(data_s=str(line))[0]
    assert source["text"].strip() == 'h = tf.tanh(product, name="h")'
    assert place.endswith(f"test_show_page.py:{source['data-n']}")
    assert Path(place.rpartition(":")[0]).name == "test_show_page.py"
    for element in tree.elements:
        numbers = element.get("data-o", "").split()
        assert all(0 <= int(n) < len(rows) for n in numbers)


def test_machine_code_is_joined_to_the_nodes_of_its_nests(tree: Tree) -> None:
    rows = json.loads(tree.all(id="origins")[0]["text"])
    for stage in ("llvm", "asm"):
        marked = [e for e in tree.lines(stage) if e.get("data-o")]
        assert marked
        for line in marked:
            nodes = {rows[int(n)][0] for n in line["data-o"].split()}
            if re.search(r"kernel_\w+_nest\d+", line["text"]):
                assert nodes & {"y", "Exp", "sub", "Max"}
            else:
                assert "one_h_MatMul" in line["text"]
                assert nodes == {"one/h", "one/MatMul"}


def test_every_pass_is_there_with_what_it_changed(tree: Tree, subject: Subject) -> None:
    shown = [e for e in tree.elements if str(e.get("class", "")).startswith("pass ")
             or e.get("class") == "pass"]
    names = [change.name for change in subject.history.changes]
    for element, change in zip(shown, subject.history.changes, strict=True):
        assert element["text"].startswith(f"{change.name}{change.level}")
    wanted = [step.__name__ for level in ORDER.values() for step in level]
    loops = len(ORDER["loops"])
    assert names == [*wanted[:-loops], "lower", *wanted[-loops:], "plan"]
    assert any(e["class"] == "pass idle" for e in shown)
    fuse = shown[names.index("fuse")]
    assert fuse["class"] == "pass"
    assert "fused(" in fuse["text"]
    for element, change in zip(shown, subject.history.changes, strict=True):
        assert change.changed or element["class"] == "pass idle"


def test_memory_and_costs_are_those_of_the_step(tree: Tree, subject: Subject) -> None:
    loops = subject.history.stages["loops"]
    found = temporaries(loops)
    assert len(tree.all(tag="g", **{"class": "box"})) == sum(t.offset is not None for t in found)
    text = "".join(e["text"] for e in tree.all(id="memory"))
    assert str(subject.history.arena) in text
    assert "drawn for x_0 = 32" in text
    costs = "".join(e["text"] for e in tree.all(id="cost"))
    product = 2 * 32 * 20 * 30 + 8 * 32 * 30  # with tanh as its epilogue, at x_0 = 32
    assert readable(product, "") in costs
    assert readable(4 * (32 * 20 + 20 * 30 + 32 * 30)) in costs


def test_temporaries_that_are_alive_together_do_not_meet(subject: Subject) -> None:
    found = [t for t in temporaries(subject.history.stages["loops"]) if t.offset is not None]
    for a in found:
        for b in found:
            if a is not b and a.first <= b.last and b.first <= a.last:
                (x, n), (y, m) = a.likely, b.likely
                assert x + n <= y or y + m <= x


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    text = f'func @"{HOSTILE}"(%x: f32[n]) -> f32[n] {{\n' \
           f'  require(true, message="{HOSTILE}")\n' \
           "  %y = exp(%x) : f32[n]\n  return(%y)\n}\n"
    shown = page(of_function(parse_function(text)))
    assert HOSTILE not in shown
    tree = Tree(shown)
    assert not [e for e in tree.elements if e["tag"] == "img"]
    assert tree.all(tag="h1")[0]["text"] == HOSTILE
    source = tmp_path / "<img onerror=alert(2)>.py"
    source.write_text(f"y = tf.exp(x, name='a')  # {HOSTILE}\n")
    with tf.Graph().as_default() as graph:
        namespace = {"tf": tf, "x": tf.placeholder(tf.float32, [3])}
        exec(compile(source.read_text(), str(source), "exec"), namespace)
        program = tf.Session(graph=graph).make_callable(namespace["y"], [namespace["x"]]).program
    shown = page(of_variant(program.name, program.variants[0], program.nodes()))
    assert HOSTILE not in shown
    assert "<img" not in shown
    assert HOSTILE in "".join(e["text"] for e in Tree(shown).lines("source"))


def test_a_step_of_the_evaluator_has_a_page(tmp_path: Path) -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.string, [None], name="x")
        y = tf.identity(x, name="y")
        step: Any = tf.Session(graph=graph).make_callable(y, [x])
        shown = step.dump(tmp_path / "y.html")
    tree = Tree(shown)
    assert [e["data-stage"] for e in tree.elements if "data-stage" in e] == [
        "source", "graph", "tensor"
    ]
    assert "The evaluator runs this step" in shown
    assert (step.text("llvm"), step.text("asm")) == ("", "")
    assert (tmp_path / "y.html").read_text() == shown


def test_sizes_that_must_broadcast_have_a_likely_value() -> None:
    n, m = dims.named("n"), dims.named("m")
    assert likely(n * m + 1) == 32 * 32 + 1
    assert likely(dims.broadcast(n, m)) == 32
    assert likely(dims.broadcast(n * m, m)) == 1


def test_numbers_are_readable() -> None:
    assert [readable(n) for n in (0, 512, 1536, 2e6)] == ["0 B", "512 B", "1.54 kB", "2 MB"]
    assert readable(3.2e-5, "s") == "32 µs"
