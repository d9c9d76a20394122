"""``SparseTensor``: a matrix of indices, a vector of values, and the shape of the whole; and the
functions that make dense tensors of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from stepforge.frontend import core_ops
from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.dtypes import DType, int64
from stepforge.frontend.graph import create_op
from stepforge.frontend.node_calls import integer_argument
from stepforge.frontend.operation import Operation, Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shapes import TensorShape, dimension_value


class SparseTensorValue(NamedTuple):
    """What fetching a ``SparseTensor`` gives, and what it may be fed."""

    indices: Any
    values: Any
    dense_shape: Any


class SparseTensor:
    """``indices`` [n, rank], ``values`` [n] and ``dense_shape`` [rank] as tensors.

    Raises: ValueError where their shapes do not go together.
    """

    def __init__(self, indices: Any, values: Any, dense_shape: Any) -> None:
        with name_scope(None, "SparseTensor"):
            self._indices = convert_to_tensor(indices, int64, "indices")
            self._values = convert_to_tensor(values, name="values")
            self._dense_shape = convert_to_tensor(dense_shape, int64, "dense_shape")
        rows = self._indices.shape.with_rank(2)
        rows[0].assert_is_compatible_with(self._values.shape.with_rank(1)[0])
        rows[1].assert_is_compatible_with(self._dense_shape.shape.with_rank(1)[0])
        self._shape: TensorShape | None = None

    @classmethod
    def from_value(cls, sparse: Any) -> SparseTensor:
        """A sparse tensor of what one is fed. Raises: TypeError."""
        if isinstance(sparse, SparseTensor):
            return sparse
        if not isinstance(sparse, SparseTensorValue):
            raise TypeError(
                f"Argument sparse_tensor_value={sparse} is neither a SparseTensor nor "
                "SparseTensorValue."
            )
        return cls(sparse.indices, sparse.values, sparse.dense_shape)

    @property
    def indices(self) -> Tensor:
        """Where the values stand: one row for each."""
        return self._indices

    @property
    def values(self) -> Tensor:
        """What is not 0."""
        return self._values

    @property
    def dense_shape(self) -> Tensor:
        """The shape of the whole as a tensor."""
        return self._dense_shape

    @property
    def shape(self) -> TensorShape:
        """The static shape of the whole."""
        if self._shape is not None:
            return self._shape
        known = self.graph.inference.known(self._dense_shape.abstract)
        if known is None:
            (rank,) = self._dense_shape.shape.as_list()
            return TensorShape(None if rank is None else [None] * rank)
        return TensorShape([n if isinstance(n, int) and n >= 0 else None for n in known.flat])

    def get_shape(self) -> TensorShape:
        """The static shape of the whole."""
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Say what is known of the shape of the whole. Raises: ValueError for a contradiction."""
        self._shape = self.shape.merge_with(shape)

    @property
    def dtype(self) -> DType:
        """The dtype of the values."""
        return self._values.dtype

    @property
    def op(self) -> Operation:
        """The node of the values."""
        return self._values.op

    @property
    def graph(self) -> Any:
        """The graph."""
        return self._indices.graph

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """The value in ``session``, by default the default one: a ``SparseTensorValue``."""
        indices, values, dense_shape = (
            tensor.eval(feed_dict, session)
            for tensor in (self._indices, self._values, self._dense_shape)
        )
        return SparseTensorValue(indices, values, dense_shape)

    def __str__(self) -> str:
        return (
            f"SparseTensor(indices={self._indices}, values={self._values}, "
            f"dense_shape={self._dense_shape})"
        )


def sparse_placeholder(
    dtype: Any, shape: Sequence[Any] | None = None, name: str | None = None
) -> SparseTensor:
    """A sparse tensor that every run must feed: indices, values and, where the ``shape`` is not
    given, the shape.
    """

    def part(suffix: str) -> str | None:
        return None if name is None else f"{name}/{suffix}"

    if shape is None:
        rank, static = None, None
        dense_shape = core_ops.placeholder(int64, [None], part("shape"))
    else:
        sizes = [dimension_value(size) for size in shape]
        rank, static = len(sizes), [None if size == -1 else size for size in sizes]
        default = convert_to_tensor([-1 if n is None else n for n in static], int64,
                                    part("shape_default"))  # fmt: skip
        dense_shape = core_ops.placeholder_with_default(default, [rank], part("shape"))
    values = core_ops.placeholder(dtype, [None], part("values"))
    indices = core_ops.placeholder(int64, [None, rank], part("indices"))
    made = SparseTensor(indices, values, dense_shape)
    made.set_shape(static)
    return made


def sparse_to_dense(
    sparse_indices: Any,
    output_shape: Any,
    sparse_values: Any,
    default_value: Any = 0,
    validate_indices: bool = True,
    name: str | None = None,
) -> Tensor:
    """A tensor of ``default_value`` with ``sparse_values`` at ``sparse_indices``.

    Runs check that the indices are inside and, with ``validate_indices``, in order and unique.
    """
    with name_scope(name, "SparseToDense") as scope:
        values = convert_to_tensor(sparse_values, name="sparse_values")
        inputs = [
            integer_argument("SparseToDense", "sparse_indices", sparse_indices),
            integer_argument("SparseToDense", "output_shape", output_shape),
            values,
            convert_to_tensor(default_value, values.dtype.base_dtype, "default_value"),
        ]
        attrs = {"validate_indices": validate_indices}
        return create_op("SparseToDense", inputs, attrs, scope).outputs[0]


def sparse_tensor_to_dense(
    sp_input: Any,
    default_value: Any = None,
    validate_indices: bool = True,
    name: str | None = None,
) -> Tensor:
    """The dense tensor, ``default_value`` (0) where there is no value.

    Raises: TypeError for anything but a sparse tensor.
    """
    sparse = sp_input
    if not isinstance(sparse, SparseTensor):
        if not isinstance(sparse, SparseTensorValue):
            raise TypeError("Input must be a SparseTensor.")
        sparse = SparseTensor.from_value(sparse)
    if default_value is None:
        nothing = b"" if sparse.dtype.name == "string" else 0
        default_value = constant(nothing, sparse.dtype, name="zeros")
    return sparse_to_dense(
        sparse.indices, sparse.dense_shape, sparse.values, default_value, validate_indices, name
    )
