"""API functions about diagonals of matrices, and the adjoint."""

from __future__ import annotations

from typing import Any

import numpy as np

from stepforge.frontend.array_ops import ones, zeros
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.dtypes import float32, int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.joining_ops import concat
from stepforge.frontend.node_calls import call
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import matrix_transpose


def matrix_diag(
    diagonal: Any,
    name: str = "diag",
    k: Any = 0,
    num_rows: Any = -1,
    num_cols: Any = -1,
    padding_value: Any = 0,
    align: str = "RIGHT_LEFT",
) -> Tensor:
    """Matrices with ``diagonal`` on their diagonal number ``k``."""
    with name_scope(name) as scope:
        value = convert_to_tensor(diagonal, name="diagonal")
        sizes = [
            convert_to_tensor(given, int32, label)
            for label, given in (("k", k), ("num_rows", num_rows), ("num_cols", num_cols))
        ]
        padding = convert_to_tensor(padding_value, value.dtype.base_dtype, "padding_value")
        return create_op(
            "MatrixDiagV3", (value, *sizes, padding), {"align": align}, scope
        ).outputs[0]


def matrix_diag_part(
    input: Any,
    name: str = "diag_part",
    k: Any = 0,
    padding_value: Any = 0,
    align: str = "RIGHT_LEFT",
) -> Tensor:
    """The diagonals number ``k`` of matrices."""
    with name_scope(name) as scope:
        value = convert_to_tensor(input, name="input")
        number = convert_to_tensor(k, int32, "k")
        padding = convert_to_tensor(padding_value, value.dtype.base_dtype, "padding_value")
        return create_op(
            "MatrixDiagPartV3", (value, number, padding), {"align": align}, scope
        ).outputs[0]


def matrix_set_diag(
    input: Any, diagonal: Any, name: str = "set_diag", k: Any = 0, align: str = "RIGHT_LEFT"
) -> Tensor:
    """Matrices with their diagonals number ``k`` replaced."""
    with name_scope(name) as scope:
        value = convert_to_tensor(input, name="input")
        new = convert_to_tensor(diagonal, value.dtype.base_dtype, "diagonal")
        number = convert_to_tensor(k, int32, "k")
        attrs = {"align": align}
        return create_op("MatrixSetDiagV3", (value, new, number), attrs, scope).outputs[0]


def matrix_band_part(
    input: Any, num_lower: Any, num_upper: Any, name: str | None = None
) -> Tensor:
    """A copy with everything outside a central band set to 0; -1 keeps a whole side."""
    with name_scope(name, "MatrixBandPart") as scope:
        value = convert_to_tensor(input, name="input")
        lower = convert_to_tensor(num_lower, name="num_lower")
        upper = convert_to_tensor(num_upper, name="num_upper")
        return create_op("MatrixBandPart", (value, lower, upper), None, scope).outputs[0]


def diag(diagonal: Any, name: str | None = None) -> Tensor:
    """A tensor of twice the rank with ``diagonal`` on its diagonal."""
    return call("Diag", (diagonal,), None, name)


def diag_part(input: Any, name: str | None = None) -> Tensor:
    """The diagonal of a tensor whose shape is one shape twice."""
    return call("DiagPart", (input,), None, name)


def adjoint(matrix: Any, name: str | None = None) -> Tensor:
    """The conjugate transposes of matrices."""
    with name_scope(name, "adjoint"):
        return matrix_transpose(convert_to_tensor(matrix, name="matrix"), conjugate=True)


def eye(
    num_rows: Any,
    num_columns: Any = None,
    batch_shape: Any = None,
    dtype: Any = float32,
    name: str | None = None,
) -> Tensor:
    """Identity matrices, of a batch of them where ``batch_shape`` is given."""
    with name_scope(name, "eye"):
        columns = num_rows if num_columns is None else num_columns
        if not any(isinstance(v, Tensor) for v in (num_rows, columns, batch_shape)):
            return _known_eye(num_rows, columns, list(batch_shape or ()), dtype)
        size = num_rows if num_columns is None else call("Minimum", (num_rows, num_columns))
        batch = convert_to_tensor([] if batch_shape is None else batch_shape, int32, "shape")
        diagonal = ones(concat([batch, [size]], 0), dtype)
        if num_columns is None:
            return matrix_diag(diagonal)
        shape = concat([batch, [num_rows, num_columns]], 0)
        return matrix_set_diag(zeros(shape, dtype), diagonal)


def _known_eye(rows: Any, columns: Any, batch: list[int], dtype: Any) -> Tensor:
    if not all(isinstance(n, (int, np.integer)) for n in (rows, columns)):
        raise TypeError(
            "Arguments `num_rows` and `num_columns` must be positive integer values. Received: "
            f"num_rows={rows}, num_columns={columns}"
        )
    diagonal = ones([*batch, min(rows, columns)], dtype)
    if rows == columns:
        return matrix_diag(diagonal)
    return matrix_set_diag(zeros([*batch, rows, columns], dtype), diagonal)
