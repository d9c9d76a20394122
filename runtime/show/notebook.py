"""What notebooks show where a graph or a step is the value of a cell."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import Any

from stepforge.runtime.show.page import page
from stepforge.runtime.show.picture import of_nodes
from stepforge.runtime.show.subject import Subject
from stepforge.runtime.show.svg import svg

MOST_DRAWN = 250  # nodes of a graph that is drawn; a larger one is counted
IN_NOTEBOOK = ("tensor", "fused", "loops")  # the columns of a step's page there
_BOX = "max-height:36rem;overflow:auto;border:1px solid #8884;border-radius:8px;padding:.5rem"


def graph_html(graph: Any) -> str:
    """A drawing of a graph, or, where that is large, how many nodes there are of each type."""
    nodes = graph.get_operations()
    if len(nodes) <= MOST_DRAWN:
        return f'<div style="{_BOX}">{svg(of_nodes(f"{len(nodes)} nodes", nodes))}</div>'
    counts = Counter(node.type for node in nodes).most_common()
    rows = "".join(f"<tr><td>{escape(kind)}</td><td>{count}</td></tr>" for kind, count in counts)
    return (
        f'<div style="{_BOX}"><table><thead><tr><th>{len(nodes)} nodes</th><th>count</th></tr>'
        f"</thead><tbody>{rows}</tbody></table></div>"
    )


def step_html(subject: Subject) -> str:
    """The page of a step in a frame of its own, which nothing gets out of."""
    content = escape(page(subject, [s for s in IN_NOTEBOOK if s in subject.stages]))
    return (
        f'<iframe srcdoc="{content}" sandbox="allow-scripts" title="{escape(subject.name)}"'
        ' style="width:100%;height:44rem;border:1px solid #8884;border-radius:8px"></iframe>'
    )
