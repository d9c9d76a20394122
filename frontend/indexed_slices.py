"""``IndexedSlices``: rows ``values[i]`` that stand at ``indices[i]`` of a larger tensor of zeros.

The gradient of a gather is of this kind; duplicate indices add up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from stepforge.frontend.dtypes import DType
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.shapes import TensorShape


class IndexedSlicesValue(NamedTuple):
    """What fetching an ``IndexedSlices`` gives."""

    values: Any
    indices: Any
    dense_shape: Any


class IndexedSlices:
    """``values`` of shape [n, ...], integer ``indices`` of shape [n], ``dense_shape`` or None."""

    def __init__(self, values: Tensor, indices: Tensor, dense_shape: Tensor | None = None) -> None:
        self._values, self._indices, self._dense_shape = values, indices, dense_shape

    @property
    def values(self) -> Tensor:
        """The rows."""
        return self._values

    @property
    def indices(self) -> Tensor:
        """Where the rows stand."""
        return self._indices

    @property
    def dense_shape(self) -> Tensor | None:
        """The shape of the dense tensor, None where it is not known."""
        return self._dense_shape

    @property
    def shape(self) -> TensorShape:
        """The static shape of the dense tensor."""
        if self._dense_shape is None:
            return TensorShape(None)
        known = self.graph.inference.known(self._dense_shape.abstract)
        if known is None:
            return TensorShape([None] * (self._dense_shape.shape.num_elements() or 0))
        return TensorShape([n if isinstance(n, int) else None for n in known.flat])

    def get_shape(self) -> TensorShape:
        """The static shape of the dense tensor."""
        return self.shape

    @property
    def name(self) -> str:
        """The name of the tensor with the rows."""
        return self._values.name

    @property
    def op(self) -> Operation:
        """The node that gives the rows."""
        return self._values.op

    @property
    def dtype(self) -> DType:
        """The dtype."""
        return self._values.dtype

    @property
    def device(self) -> str:
        """The device."""
        return self._values.device

    @property
    def graph(self) -> Any:
        """The graph."""
        return self._values.graph

    def __neg__(self) -> IndexedSlices:
        negative: Any = -self._values  # type: ignore[operator]
        return IndexedSlices(negative, self._indices, self._dense_shape)

    def __str__(self) -> str:
        tail = "" if self._dense_shape is None else f", dense_shape={self._dense_shape}"
        return f"IndexedSlices(indices={self._indices}, values={self._values}{tail})"
