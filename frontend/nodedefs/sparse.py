"""The node type that makes a dense tensor of indices and values."""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.frontend.nodedefs.indexing import index_depth
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError

OUTSIDE = "indices{place} = {compact} is out of bounds: need 0 <= index < {shape}"
REPEATED = "indices[{}] is repeated"
UNORDERED = (
    "indices[{}] is out of order. Many sparse ops require sorted indices.\n"
    "    Use `tf.sparse.reorder` to create a correctly ordered copy."
)


@define_node
class SparseToDense(NodeDef):
    """``default_value`` in ``output_shape``, with ``sparse_values`` at ``sparse_indices``."""

    inputs = ("sparse_indices", "output_shape", "sparse_values", "default_value")
    attrs: ClassVar[dict[str, Any]] = {"validate_indices": True}

    def extract(
        self, x: Any, node: Any, indices: Any, output_shape: Any, values: Any, default: Any
    ) -> Any:
        """Checks of the indices, and a scatter. Scalars and vectors index a vector."""
        where = x.shape(indices)
        if len(where) > 2:
            raise ShapeError(
                "sparse_indices should be a scalar, vector, or matrix, got shape "
                f"{sizes.bracketed(where)}"
            )
        if x.shape(default):
            raise ShapeError("default_value should be a scalar.")
        shape = sizes.vector(x, node, 1, output_shape)
        if len(where) < 2:
            indices = x.emit("reshape", indices, shape=(dims.product(where), 1))
        depth = index_depth(x, indices)
        if depth is None:
            return sizes.undetermined(x, values.type.dtype, len(shape))
        if depth != len(shape):
            raise ShapeError("output_shape has incorrect number of elements: "
                             f"{len(shape)} should be: {depth}")  # fmt: skip
        count = x.shape(indices)[0]
        values = _one_each(x, values, count)
        if depth:
            x.emit("check_vectors", indices, shape=shape, message=OUTSIDE)
        if node.attrs["validate_indices"]:
            _check_order(x, indices, shape, count)
        whole = x.emit("fill", default, shape=shape)
        return x.emit("scatter_nd_update", whole, indices, values, kind="update")

    def gradient(self, tf: Any, op: Any, grad: Any) -> list[Any]:
        """What stands at the indices goes to the values, the rest to the default."""
        values = tf.gather_nd(grad, op.inputs[0])
        return [None, None, values, tf.reduce_sum(grad) - tf.reduce_sum(values)]


def _one_each(x: Any, values: Any, count: Dim) -> Any:
    """The values, one for each index; a scalar stands at all of them."""
    have = x.shape(values)
    if not have:
        return x.emit("broadcast_to", values, shape=(count,))
    message = "sparse_values has incorrect shape {}, should be [] or [{}]"
    if len(have) != 1:
        raise ShapeError(message.format(sizes.bracketed(have), "?"))
    sizes.require_equal(x, have[0], count, told(message, have, count))
    return sizes.in_shape(x, values, (count,))


def _check_order(x: Any, indices: Any, shape: tuple[Dim, ...], count: Dim) -> None:
    """Each index must come behind the one before it; the first that does not is named."""
    steps = [dims.product(shape[axis + 1 :]) for axis in range(len(shape))]
    wide = x.emit("cast", indices, dtype="i64")
    rows = x.emit("mul", wide, x.dimensions(steps, "i64"))
    places = x.emit("reduce_sum", rows, axes=(1,))
    rest = sizes.at_least_0(count - 1)
    before = x.emit("slice", places, begin=(0,), size=(rest,))
    behind = x.emit("slice", places, begin=(count - rest,), size=(rest,))
    numbers = x.emit("iota", shape=(rest,), axis=0, dtype="i64")
    numbers = x.emit("add", numbers, x.const(1, "i64"))
    end = x.dimensions(count, "i64")
    for test, message in (("less", UNORDERED), ("equal", REPEATED)):
        wrong = x.emit("select", x.emit(test, behind, before), numbers, end)
        first = x.emit("minimum", x.emit("reduce_min", wrong, axes=(0,)), end)
        x.emit("require", x.emit("equal", first, end), first, message=message)
