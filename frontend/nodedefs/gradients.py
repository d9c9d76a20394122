"""Node types that gradients need: sums over what broadcasting has repeated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from stepforge.frontend.extract.extractor import InferenceExtractor
from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import REQUIRED, NodeDef, define_node
from stepforge.ir.core import Value
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError


@define_node
class SumToShape(NodeDef):
    """A tensor summed down to ``shape``, which broadcasts to its own."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"shape": REQUIRED}

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """A reduction over the axes that are 1 or missing in ``shape``."""
        return summed(x, value, node.attrs["shape"])

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """Broadcast back."""
        return [tf.broadcast_to(dz, tf.shape(op.inputs[0]))]


@define_node
class SumToLike(NodeDef):
    """A tensor summed down to the shape of ``like``, which broadcasts to its own."""

    inputs = ("input", "like")

    def extract(self, x: Any, node: Any, value: Any, like: Any) -> Any:
        """A reduction over the axes that are 1 or missing in the shape of ``like``."""
        shape = x.type(like).shape
        if isinstance(x, InferenceExtractor):
            return Value(x.type(value).with_shape(shape))
        return summed(x, value, x.shape(like))

    def gradient(self, tf: Any, op: Any, dz: Any) -> Any:
        """Broadcast back; the value of ``like`` does not matter."""
        return [tf.broadcast_to(dz, tf.shape(op.inputs[0])), None]


def summed(x: Any, value: Any, shape: Sequence[Dim]) -> Any:
    """``value`` summed over what broadcasting from ``shape`` has repeated.

    Whether a size that is not known yet was repeated becomes an assumption of the step's variant.
    Raises: ShapeError.
    """
    have = x.shape(value)
    extra = len(have) - len(shape)
    if extra < 0:
        raise ShapeError(f"a gradient of shape {have} cannot belong to a tensor of shape {shape}")
    if extra:
        value = x.emit("reduce_sum", value, axes=tuple(range(extra)))
    axes = []
    for axis, (size, wanted) in enumerate(zip(have[extra:], shape, strict=True)):
        if wanted == 1 and size != 1:
            axes.append(axis)
        elif size != wanted:
            x.broadcast_sizes(wanted, size)
            x.unify(size, wanted, "a gradient does not fit its tensor")
    return x.emit("reduce_sum", value, axes=tuple(axes), keep_dims=True) if axes else value


@define_node
class BroadcastGradientArgs(NodeDef):
    """The axes over which broadcasting from the shapes ``s0`` and ``s1`` has repeated either.

    Gradients in graphs of TensorFlow sum over them; ours say ``SumToLike``.
    """

    inputs = ("s0", "s1")
    outputs = 2
    no_gradient = True

    def extract(self, x: Any, node: Any, first: Any, second: Any) -> Any:
        """Shape arithmetic; what is open becomes an assumption of the step's variant."""
        dtype = first.type.dtype
        if sizes.building(x):
            unknown = sizes.undetermined(x, dtype, 1)
            return unknown, sizes.undetermined(x, dtype, 1)
        shapes = list(x.sizes(first)), list(x.sizes(second))
        rank = max(map(len, shapes))
        padded = ([1] * (rank - len(shape)) + shape for shape in shapes)
        axes: tuple[list[int], list[int]] = ([], [])
        for axis, (a, b) in enumerate(zip(*padded, strict=True)):
            if a != b and a != 1 and b != 1:
                x.broadcast_sizes(a, b)
                x.unify(a, b, "Incompatible shapes")
            for found, size in zip(axes, (a, b), strict=True):
                if size == 1:
                    found.append(axis)
        return tuple(x.dimensions(tuple(found), dtype) for found in axes)
