"""Drawings: dot by a small grammar of it, SVG as XML, and where the layout puts boxes."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree

import pytest

import stepforge as tf
from stepforge.ir.parser import parse_function
from stepforge.runtime.show.dot import dot, quoted
from stepforge.runtime.show.layers import Placed, place
from stepforge.runtime.show.picture import Arrow, Box, Picture, of_function, of_nodes
from stepforge.runtime.show.svg import svg

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = 'a"b\\c</title><img onerror=x>\n\x00&'
TOKEN = re.compile(
    r'\s*("(?:[^"\\]|\\.)*"|digraph|subgraph|node|edge|label|color|fontname|[A-Za-z_]\w*|[\d.]+|->|[][{};=,])'
)
FUNCTION = """
func @f(%x: f32[n], %y: f32[n]) -> f32[n] {
  %a = add(%x, %y) : f32[n]
  %b = fused(%a, shape=[n]) : f32[n] |%p: f32| {
    %e = exp(%p) : f32
    %t = mul(%e, 2.0: f32) : f32
    yield(%t)
  }
  return(%b)
}
"""


class Dot:
    """Reads what ``dot`` writes: nodes with their clusters and attributes, and edges."""

    def __init__(self, text: str) -> None:
        self.tokens = self._split(text)
        self.nodes: dict[str, dict[str, str]] = {}
        self.edges: list[tuple[str, str, dict[str, str]]] = []
        assert self._next() == "digraph"
        self.name = self._next()
        self._block("")
        assert not self.tokens

    def _split(self, text: str) -> list[str]:
        found, end = [], 0
        text = text.rstrip()
        while end < len(text):
            match = TOKEN.match(text, end)
            assert match, text[end : end + 40]
            found.append(match[1])
            end = match.end()
        return found[::-1]

    def _next(self) -> str:
        return self.tokens.pop()

    def _block(self, cluster: str) -> None:
        assert self._next() == "{"
        while (word := self._next()) != "}":
            if word == "subgraph":
                self._block(self._next())
                continue
            follows = self._next()
            if follows == "=":  # an attribute of the cluster
                self._next()
                assert self._next() == ";"
            elif follows == "->":
                target = self._next()
                assert self._next() == "["
                self.edges.append((word, target, self._attributes()))
            else:
                assert follows == "["
                attributes = self._attributes()
                if word not in ("node", "edge"):
                    self.nodes[word] = {**attributes, "cluster": cluster}

    def _attributes(self) -> dict[str, str]:
        found = {}
        while True:
            name, equals, value, end = (self._next() for _ in range(4))
            assert equals == "="
            found[name] = value
            if end == "]":
                assert self._next() == ";"
                return found
            assert end == ","


def nodes() -> list[Any]:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        with tf.name_scope("outer"), tf.name_scope("inner"):
            y = tf.exp(x, name="y")
        with tf.control_dependencies([y]):
            tf.add(x, x, name="z")
        return graph.get_operations()


def test_dot_has_nodes_in_clusters_of_their_scopes_and_every_edge() -> None:
    given = nodes()
    read = Dot(dot(of_nodes("g", given)))
    by_label = {v["label"].strip('"').split("\\n")[0]: (k, v) for k, v in read.nodes.items()}
    assert by_label["y"][1]["cluster"] == '"cluster_outer/inner/"'
    assert by_label["x"][1]["cluster"] == ""
    assert len(read.nodes) == len(given)
    want = {(t.op.name.split("/")[-1], n.name.split("/")[-1]) for n in given for t in n.inputs}
    label = {k: v["label"].strip('"').split("\\n")[0] for k, v in read.nodes.items()}
    solid = {(label[a], label[b]) for a, b, style in read.edges if "style" not in style}
    dashed = {(label[a], label[b]) for a, b, style in read.edges if style.get("style") == "dashed"}
    assert solid == want
    assert dashed == {("y", "z")}
    assert "test_show_drawings.py" in by_label["y"][1]["tooltip"]


def test_functions_are_drawn_by_what_passes_between_operations() -> None:
    picture = of_function(parse_function(FUNCTION))
    assert [box.label for box in picture.boxes] == [
        ("%x", "f32[n]"), ("%y", "f32[n]"), ("%a", "add"), ("%b", "fused: exp mul"), ("", "return"),
    ]
    assert [(a.source, a.target) for a in picture.arrows] == [(0, 2), (1, 2), (2, 3), (3, 4)]
    assert len(Dot(dot(picture)).edges) == 4


def test_hostile_names_are_quoted() -> None:
    picture = Picture(HOSTILE, [Box((HOSTILE, "t"), HOSTILE, scope="a/b\"c"), Box(("", "k"), "k")],
                      [Arrow(0, 1, HOSTILE)])
    read = Dot(dot(picture))
    assert read.name == quoted(HOSTILE)
    root = ElementTree.fromstring(svg(picture))
    titles = [e.text for e in root.iter(f"{SVG}title")]
    assert HOSTILE.replace("\x00", "?") in titles
    assert not [e for e in root.iter() if e.tag.endswith("img")]


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_takes_it() -> None:
    text = dot(of_nodes("g", nodes()))
    subprocess.run(["dot", "-Tsvg"], input=text, text=True, check=True, capture_output=True)


def test_svg_has_a_title_for_every_box_and_arrow() -> None:
    picture = of_nodes("the graph", nodes())
    root = ElementTree.fromstring(svg(picture))
    assert root.tag == f"{SVG}svg"
    assert root[0].text == "the graph"
    groups, paths = root.findall(f"{SVG}g"), root.findall(f"{SVG}path")
    assert len(groups) == len(picture.boxes)
    assert len(paths) == len(picture.arrows)
    assert all(each.find(f"{SVG}title") is not None for each in (*groups, *paths))
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    for group in groups:
        rect = group.find(f"{SVG}rect")
        assert rect is not None
        x, y, w, h = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        assert left <= x <= x + w <= left + width
        assert top <= y <= y + h <= top + height
        for text in group.findall(f"{SVG}text"):
            assert len(text.text or "") * 6.7 <= w
            assert y < float(text.attrib["y"]) < y + h


def boxes(placed: Placed, sizes: list[tuple[float, float]]) -> Iterator[tuple[float, ...]]:
    for (x, y), (w, h) in zip(placed.centres, sizes, strict=True):
        yield x - w / 2, y - h / 2, x + w / 2, y + h / 2


@pytest.mark.parametrize("seed", range(8))
def test_boxes_are_apart_and_arrows_point_down(seed: int) -> None:
    rng = random.Random(seed)
    count = rng.randrange(2, 60)
    sizes = [(rng.uniform(20, 200), rng.uniform(20, 40)) for _ in range(count)]
    arrows = [(rng.randrange(b), b) for b in range(1, count) for _ in range(rng.randrange(3))]
    placed = place(sizes, arrows)
    found = list(boxes(placed, sizes))
    for i, a in enumerate(found):
        for b in found[i + 1 :]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]
    for (a, b), route in zip(arrows, placed.routes, strict=True):
        assert placed.centres[a][1] < placed.centres[b][1]
        assert (route[0], route[-1]) == (placed.centres[a], placed.centres[b])
        assert all(upper[1] < lower[1] for upper, lower in pairwise(route))
    width, height = placed.width + 1e-6, placed.height + 1e-6
    assert all(x0 > -1e-6 and x1 < width and y1 < height for x0, _, x1, y1 in found)


def test_a_chain_is_straight_and_a_loop_points_back() -> None:
    chain = [(0, 1), (1, 2), (2, 3)]
    placed = place([(30.0, 20.0)] * 4, chain)
    assert len({x for x, _ in placed.centres}) == 1
    placed = place([(30.0, 20.0)] * 4, [*chain, (3, 1)])
    assert placed.routes[3][0][1] > placed.routes[3][-1][1]


def test_nothing_is_a_drawing_too() -> None:
    ElementTree.fromstring(svg(Picture("nothing", [], [])))
    assert Dot(dot(Picture("nothing", [], []))).nodes == {}
