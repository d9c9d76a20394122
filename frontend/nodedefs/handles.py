"""Node types that keep tensors in memory between runs, read and delete them."""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.ir.kept_tensors import kept_tensors


@define_node
class GetSessionHandle(NodeDef):
    """Keeps a tensor; gives its handle, a scalar of text."""

    inputs = ("value",)
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """A call of the store."""
        handle = x.emit("py_func", value, fn=kept_tensors().keep_token, outputs=("string",))
        return x.emit("refine", handle, shape=())


@define_node
class GetSessionTensor(NodeDef):
    """The tensor that a handle stands for; of any shape."""

    inputs = ("handle",)
    attrs: ClassVar[dict[str, Any]] = {"dtype": REQUIRED}
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any, handle: Any) -> Any:
        """A call of the store."""
        outputs = (node.attrs["dtype"],)
        return x.emit("py_func", handle, fn=kept_tensors().get_token, outputs=outputs)


@define_node
class DeleteSessionTensor(NodeDef):
    """Lets go of the tensor that a handle stands for."""

    inputs = ("handle",)
    outputs = 0
    no_gradient = True
    stateful = True

    def extract(self, x: Any, node: Any, handle: Any) -> None:
        """A call of the store."""
        x.emit("py_func", handle, fn=kept_tensors().drop_token, outputs=())
