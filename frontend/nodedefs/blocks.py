"""Node types that move square blocks of pixels of images to and from the channels."""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError


class Blocks(NodeDef):
    """Base of the nodes of both directions."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"block_size": REQUIRED, "data_format": "NHWC"}

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """Channels come last while the blocks move."""
        if len(x.shape(value)) != 4:
            raise ShapeError(f"Shape must be rank 4 but is rank {len(x.shape(value))}")
        first = node.attrs["data_format"] == "NCHW"
        if first:
            value = x.emit("transpose", value, perm=(0, 2, 3, 1))
        moved = self.moved(x, value, node.attrs["block_size"])
        return x.emit("transpose", moved, perm=(0, 3, 1, 2)) if first else moved

    def moved(self, x: Any, value: Any, block: int) -> Any:
        """The result for channels last."""
        raise NotImplementedError


def _divided(x: Any, size: Dim, by: int) -> Dim:
    part = dims.floor_div(size, by)
    message = f"Dimension size must be evenly divisible by {by} but is {size}"
    sizes.require_equal(x, part * by, size, message)
    return part


@define_node
class SpaceToDepth(Blocks):
    """Blocks of pixels become channels."""

    def moved(self, x: Any, value: Any, block: int) -> Any:
        """Split height and width, and put their inner parts before the channels."""
        batch, height, width, depth = x.shape(value)
        rows, columns = _divided(x, height, block), _divided(x, width, block)
        split = x.emit("reshape", value, shape=(batch, rows, block, columns, block, depth))
        turned = x.emit("transpose", split, perm=(0, 1, 3, 2, 4, 5))
        return x.emit("reshape", turned, shape=(batch, rows, columns, depth * block * block))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Back again."""
        return [
            tf.depth_to_space(grad, op.attrs["block_size"], data_format=op.attrs["data_format"])
        ]


@define_node
class DepthToSpace(Blocks):
    """Channels become blocks of pixels."""

    def moved(self, x: Any, value: Any, block: int) -> Any:
        """The reverse of ``SpaceToDepth``."""
        batch, height, width, channels = x.shape(value)
        depth = _divided(x, channels, block * block)
        split = x.emit("reshape", value, shape=(batch, height, width, block, block, depth))
        turned = x.emit("transpose", split, perm=(0, 1, 3, 2, 4, 5))
        return x.emit("reshape", turned, shape=(batch, height * block, width * block, depth))

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """Back again."""
        return [
            tf.space_to_depth(grad, op.attrs["block_size"], data_format=op.attrs["data_format"])
        ]
