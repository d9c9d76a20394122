"""The node type of ops that users write as numba functions."""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.ir.numba_functions import NUMBA_FUNCTIONS


@define_node
class NumbaOp(NodeDef):
    """What the numba function of ``token`` fills its arrays with; see ``tf.numba_op``."""

    inputs = ("*input",)
    attrs: ClassVar[dict[str, Any]] = {"token": REQUIRED, "outputs": 1}

    def output_count(self, node: Any) -> int:
        """As many as were declared."""
        return int(node.attrs["outputs"])

    def extract(self, x: Any, node: Any, *values: Any) -> Any:
        """One call, whose results have the types that were declared for these inputs."""
        token = node.attrs["token"]
        types = [x.type(x.ranked(value)) for value in values]
        results = NUMBA_FUNCTIONS[token].results(types)
        shapes = tuple(result.dims for result in results)
        dtypes = tuple(result.dtype for result in results)
        return x.emit("numba_call", *values, fn=token, shapes=shapes, dtypes=dtypes)

    def gradient(self, tf: Any, op: Any, *grads: Any) -> Any:
        """What the user's gradient function gives. Raises: LookupError where there is none."""
        function = NUMBA_FUNCTIONS[op.attrs["token"]]
        if function.gradient is None:
            raise LookupError(
                f"No gradient defined for operation '{op.name}' (op type: NumbaOp): declare one by "
                f"tf.numba_op(..., gradient=...)"
            )
        return function.gradient(op, *grads)
