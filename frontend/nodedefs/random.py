"""Node types that draw random numbers: each has a stream of its own, which every run reads on.

The numbers are TensorFlow's for the seeds in the attributes; both 0 ask for a start that nobody
can foresee.
"""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs import sizes
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.ir import dims
from stepforge.ir.errors import ShapeError
from stepforge.ir.types import Type


class RandomNode(NodeDef):
    """Base of the nodes with a stream."""

    attrs: ClassVar[dict[str, Any]] = {"seed": 0, "seed2": 0}
    no_gradient = True
    stateful = True
    draws = True

    def stream(self, x: Any, node: Any) -> Any:
        """The symbol of the node's stream."""
        return x.symbol(node, "random", Type("resource"))


class Distribution(RandomNode):
    """Base of the distributions of floats without parameters: ``op`` is the IR op."""

    inputs = ("shape",)
    attrs: ClassVar[dict[str, Any]] = {**RandomNode.attrs, "dtype": "f32"}
    op: ClassVar[str]

    def extract(self, x: Any, node: Any, shape: Any) -> Any:
        """The shape may be computed."""
        wanted = drawn_shape(x, node, shape)
        return x.emit(self.op, self.stream(x, node), shape=wanted, dtype=node.attrs["dtype"])


def drawn_shape(x: Any, node: Any, shape: Any) -> tuple[Any, ...]:
    """The shape input of a random node. Raises: ShapeError for a negative size or no vector."""
    if len(x.shape(shape)) != 1:
        raise ShapeError(f"Shape must be rank 1 but is rank {len(x.shape(shape))}")
    wanted = sizes.vector(x, node, 0, shape)
    for size in wanted:
        if isinstance(size, int) and size < 0:
            raise ShapeError(f"Dimension {size} must be >= 0")
    return wanted


@define_node
class RandomUniform(Distribution):
    """Floats in [0, 1)."""

    op = "random_uniform"


@define_node
class RandomStandardNormal(Distribution):
    """Floats of mean 0 and deviation 1."""

    op = "random_normal"


@define_node
class TruncatedNormal(Distribution):
    """Normal floats nearer to 0 than two deviations."""

    op = "truncated_normal"


@define_node
class RandomUniformInt(RandomNode):
    """Integers in [minval, maxval)."""

    inputs = ("shape", "minval", "maxval")

    def extract(self, x: Any, node: Any, shape: Any, low: Any, high: Any) -> Any:
        """The range must not be empty where numbers are wanted."""
        wanted = drawn_shape(x, node, shape)
        first, last = x.static(low), x.static(high)
        if first is None or last is None or first >= last:
            ordered = x.emit("less", low, high)
            count = x.dimensions(dims.product(wanted), "i64")
            fine = x.emit("logical_or", ordered, x.emit("equal", count, x.const(0, "i64")))
            x.emit("require", fine, low, high, message="Need minval < maxval, got {} >= {}")
        return x.emit("random_uniform_int", self.stream(x, node), low, high, shape=wanted)


@define_node
class RandomShuffle(RandomNode):
    """The rows of a tensor in random order."""

    inputs = ("value",)

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The IR's shuffle."""
        return x.emit("shuffle", self.stream(x, node), x.ranked(value))


@define_node
class Multinomial(RandomNode):
    """Class numbers drawn for each row of unnormalised log probabilities."""

    inputs = ("logits", "num_samples")
    attrs: ClassVar[dict[str, Any]] = {**RandomNode.attrs, "output_dtype": "i64"}

    def extract(self, x: Any, node: Any, logits: Any, num_samples: Any) -> Any:
        """The number of samples may be computed."""
        shape = x.shape(logits)
        if len(shape) != 2:
            raise ShapeError(f"Shape must be rank 2 but is rank {len(shape)}")
        count = sizes.scalar(x, num_samples, "num_samples should be a scalar, got {}")
        if isinstance(count, int) and count < 0:
            raise ShapeError(f"num_samples should be non-negative, got {count}")
        if shape[1] == 0:
            raise ShapeError("num_classes should be positive, got 0")
        stream, dtype = self.stream(x, node), node.attrs["output_dtype"]
        return x.emit("multinomial", stream, logits, samples=count, dtype=dtype)
