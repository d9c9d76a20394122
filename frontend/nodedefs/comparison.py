"""Node types that give truth values: comparisons, tests of floats, logic.

None of them has a gradient.
"""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs.base import NodeDef, define_elementwise, define_node
from stepforge.frontend.nodedefs.formula import terms

# node type, IR op, inputs
PREDICATES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Equal", "equal", ("x", "y")),
    ("NotEqual", "not_equal", ("x", "y")),
    ("Less", "less", ("x", "y")),
    ("LessEqual", "less_equal", ("x", "y")),
    ("Greater", "greater", ("x", "y")),
    ("GreaterEqual", "greater_equal", ("x", "y")),
    ("LogicalAnd", "logical_and", ("x", "y")),
    ("LogicalOr", "logical_or", ("x", "y")),
    ("LogicalNot", "logical_not", ("x",)),
    ("IsNan", "is_nan", ("x",)),
    ("IsInf", "is_inf", ("x",)),
    ("IsFinite", "is_finite", ("x",)),
)

for _type, _op, _inputs in PREDICATES:
    define_elementwise(_type, _op, _inputs)


@define_node
class ApproximateEqual(NodeDef):
    """``|x - y| < tolerance``."""

    inputs = ("x", "y")
    attrs: ClassVar[dict[str, Any]] = {"tolerance": 1e-5}
    no_gradient = True

    def extract(self, x: Any, node: Any, left: Any, right: Any) -> Any:
        """By absolute difference."""
        a, b = terms(x, left, right)
        return ((a - b).fn("abs") < node.attrs["tolerance"]).operand
