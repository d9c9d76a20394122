"""API functions of linear algebra: products, solvers, decompositions, norms, diagonals."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from stepforge.frontend import elementwise_ops, reduction_ops
from stepforge.frontend.convert import constant, convert_to_tensor
from stepforge.frontend.dtypes import bfloat16, float32, int32
from stepforge.frontend.graph import create_op
from stepforge.frontend.node_calls import call, call_op, renamed, unary
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope


# ---- products -----------------------------------------------------------------------------------
def matmul(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    transpose_b: bool = False,
    adjoint_a: bool = False,
    adjoint_b: bool = False,
    a_is_sparse: bool = False,
    b_is_sparse: bool = False,
    name: str | None = None,
) -> Tensor:
    """The matrix product; with more than two axes that of the matrices in the last two.

    Raises: ValueError for a factor that is to be both transposed and adjoint, or sizes that do not fit.
    """
    for label, transpose, adjoint_ in (("a", transpose_a, adjoint_a), ("b", transpose_b, adjoint_b)):
        if transpose and adjoint_:
            raise ValueError(
                f"Only one of `transpose_{label}` and `adjoint_{label}` can be True. Received "
                f"`transpose_{label}`={transpose}, `adjoint_{label}`={adjoint_}."
            )
    if not (isinstance(a, Tensor) and isinstance(b, Tensor)) or adjoint_a or adjoint_b:
        with name_scope(name, "MatMul") as scope:
            left = convert_to_tensor(a, name="a")
            right = convert_to_tensor(b, dtype_hint=left.dtype.base_dtype, name="b")
            flags = (transpose_a, transpose_b, adjoint_a, adjoint_b)
            return _product(left, right, flags, a_is_sparse, b_is_sparse, scope)
    flags = (transpose_a, transpose_b, False, False)
    return _product(a, b, flags, a_is_sparse, b_is_sparse, name or "MatMul")


def _product(
    a: Tensor,
    b: Tensor,
    flags: tuple[bool, bool, bool, bool],
    a_is_sparse: bool,
    b_is_sparse: bool,
    name: str,
) -> Tensor:
    transpose_a, transpose_b, adjoint_a, adjoint_b = flags
    batched = any(t.shape.ndims is None or t.shape.ndims > 2 for t in (a, b))
    if batched and not (a_is_sparse or b_is_sparse):
        a = elementwise_ops.conj(a) if transpose_a else a
        b = elementwise_ops.conj(b) if transpose_b else b
        adjoints = {"adj_x": transpose_a or adjoint_a, "adj_y": transpose_b or adjoint_b}
        return call("BatchMatMulV2", (a, b), adjoints, name)
    a = elementwise_ops.conj(a) if adjoint_a else a
    b = elementwise_ops.conj(b) if adjoint_b else b
    attrs = {"transpose_a": transpose_a or adjoint_a, "transpose_b": transpose_b or adjoint_b}
    sparse = {a.dtype.base_dtype, b.dtype.base_dtype} <= {float32, bfloat16}
    if sparse and (a_is_sparse or b_is_sparse):
        attrs.update(a_is_sparse=a_is_sparse, b_is_sparse=b_is_sparse)
        return call("SparseMatMul", (a, b), attrs, name)
    return call("MatMul", (a, b), attrs, name)


def matvec(
    a: Any,
    b: Any,
    transpose_a: bool = False,
    adjoint_a: bool = False,
    name: str | None = None,
) -> Tensor:
    """The product of matrices with vectors."""
    with name_scope(name, "MatVec"):
        axis = constant(-1, name="ExpandDims/dim")
        column = create_op("ExpandDims", (convert_to_tensor(b, name="b"), axis)).outputs[0]
        product = matmul(a, column, transpose_a=transpose_a, adjoint_a=adjoint_a)
        return create_op("Squeeze", (product,), {"squeeze_dims": (-1,)}).outputs[0]


def trace(x: Any, name: str | None = None) -> Tensor:
    """The sums of the main diagonals."""
    with name_scope(name, "Trace") as scope:
        value = convert_to_tensor(x, name="x")
        return reduction_ops.reduce_sum(matrix_diag_part(value), [-1], name=scope)


def cross(a: Any, b: Any, name: str | None = None) -> Tensor:
    """The cross products of vectors of three elements in the last axis."""
    return call("Cross", (a, b), None, name)


# ---- solvers and decompositions -----------------------------------------------------------------
cholesky = unary("Cholesky", "The lower triangular factor of positive definite matrices.")
matrix_determinant = unary("MatrixDeterminant", "The determinants of square matrices.")


def matrix_inverse(input: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """The inverses of square matrices, or of their adjoints; a singular one is an error of the step."""
    return call("MatrixInverse", (input,), {"adjoint": adjoint}, name)


def matrix_solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """x of ``matrix @ x = rhs``."""
    return call("MatrixSolve", (matrix, rhs), {"adjoint": adjoint}, name)


def matrix_triangular_solve(
    matrix: Any,
    rhs: Any,
    lower: bool = True,
    adjoint: bool = False,
    name: str | None = None,
) -> Tensor:
    """x of ``matrix @ x = rhs`` for triangular matrices."""
    attrs = {"lower": lower, "adjoint": adjoint}
    return call("MatrixTriangularSolve", (matrix, rhs), attrs, name)


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """x of ``a @ x = rhs`` where ``chol`` is the Cholesky factor of a."""
    with name_scope(name, "cholesky_solve"):
        half = matrix_triangular_solve(chol, rhs)
        return matrix_triangular_solve(chol, half, adjoint=True)


def logdet(matrix: Any, name: str | None = None) -> Tensor:
    """The logarithms of the determinants of positive definite matrices."""
    with name_scope(name, "logdet"):
        diagonal = elementwise_ops.real(matrix_diag_part(cholesky(matrix)))
        total = reduction_ops.reduce_sum(elementwise_ops.log(diagonal), [-1])
        return elementwise_ops.multiply(
            convert_to_tensor(2.0, total.dtype.base_dtype, "mul/x"), total, "mul"
        )


def qr(
    input: Any, full_matrices: bool = False, name: str | None = None
) -> tuple[Tensor, Tensor]:
    """The orthonormal and the upper triangular factor."""
    q, r = call_op("Qr", (input,), {"full_matrices": full_matrices}, name).outputs
    return q, r


def svd(
    tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None
) -> Any:
    """Singular values, and with ``compute_uv`` left and right singular vectors."""
    attrs = {"compute_uv": compute_uv, "full_matrices": full_matrices}
    s, u, v = call_op("Svd", (tensor,), attrs, name).outputs
    return (s, u, v) if compute_uv else s


def self_adjoint_eig(tensor: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of self-adjoint matrices."""
    e, v = call_op("SelfAdjointEigV2", (tensor,), {"compute_v": True}, name).outputs
    return e, v


def self_adjoint_eigvals(tensor: Any, name: str | None = None) -> Tensor:
    """Eigenvalues, ascending, of self-adjoint matrices."""
    return call_op("SelfAdjointEigV2", (tensor,), {"compute_v": False}, name).outputs[0]


# ---- diagonals ----------------------------------------------------------------------------------
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
        value = convert_to_tensor(matrix, name="matrix")
        rank = value.shape.ndims
        if rank is None:
            raise ValueError("adjoint: the rank of the matrix must be known")
        perm = constant([*range(rank - 2), rank - 1, rank - 2], int32, name="transpose/perm")
        type_ = "ConjugateTranspose" if value.dtype.is_complex else "Transpose"
        return create_op(type_, (value, perm), None, "transpose").outputs[0]


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
        known = not any(isinstance(v, Tensor) for v in (num_rows, columns, batch_shape))
        if known:
            return _known_eye(num_rows, columns, list(batch_shape or ()), dtype)
        size = num_rows if num_columns is None else call("Minimum", (num_rows, num_columns))
        ones = _ones(_joined(batch_shape, size), dtype)
        if num_columns is None:
            return matrix_diag(ones)
        zeros = _filled(0, _joined(batch_shape, num_rows, columns), dtype, "zeros")
        return matrix_set_diag(zeros, ones)


def _known_eye(rows: Any, columns: Any, batch: list[int], dtype: Any) -> Tensor:
    if not all(isinstance(n, (int, np.integer)) for n in (rows, columns)):
        raise TypeError(
            "Arguments `num_rows` and `num_columns` must be positive integer values. Received: "
            f"num_rows={rows}, num_columns={columns}"
        )
    ones = constant(1, dtype, [*batch, min(rows, columns)], "ones")
    if rows == columns:
        return matrix_diag(ones)
    return matrix_set_diag(constant(0, dtype, [*batch, rows, columns], "zeros"), ones)


def _joined(batch_shape: Any, *sizes: Any) -> Tensor:
    parts = [convert_to_tensor([size], name=f"values_{i + 1}") for i, size in enumerate(sizes)]
    if batch_shape is None:
        batch_shape = constant([], int32, name="shape")
    batch = convert_to_tensor(batch_shape, int32, "shape")
    axis = constant(0, name="concat/axis")
    return create_op("ConcatV2", (batch, *parts, axis), None, "concat").outputs[0]


def _ones(shape: Tensor, dtype: Any) -> Tensor:
    return _filled(1, shape, dtype, "ones")


def _filled(value: int, shape: Tensor, dtype: Any, name: str) -> Tensor:
    content = constant(value, dtype, name=f"{name}/Const")
    return create_op("Fill", (shape, content), None, name).outputs[0]


# ---- norms --------------------------------------------------------------------------------------
def norm(
    tensor: Any,
    ord: Any = "euclidean",
    axis: Any = None,
    keepdims: Any = None,
    name: str | None = None,
    keep_dims: Any = None,
) -> Tensor:
    """The norm of vectors along one axis, of matrices along two, or of all elements.

    ``ord`` is "euclidean", 1, 2, infinity, any positive number (vectors), or "fro" (matrices).
    Raises: ValueError for another ``ord`` or ``axis``.
    """
    keepdims = bool(renamed("keepdims", keepdims, "keep_dims", keep_dims))
    matrix = isinstance(axis, (tuple, list)) and len(axis) == 2
    axes = _norm_axes(axis, matrix)
    _check_order(ord, matrix)
    with name_scope(name, "norm"):
        value = convert_to_tensor(tensor)
        result = _norm(value, ord, axes, matrix)
        if keepdims:
            return result
        attrs = {"squeeze_dims": tuple(axes or ())}
        return create_op("Squeeze", (result,), attrs).outputs[0]


def _norm_axes(axis: Any, matrix: bool) -> tuple[int, ...] | None:
    whole = "'axis' must be None, an integer, or a tuple of 2 unique integers, got"
    if matrix:
        if not all(isinstance(a, int) for a in axis) or axis[0] == axis[1]:
            raise ValueError(f"{whole} {axis}")
        return tuple(axis)
    if axis is not None and not isinstance(axis, int):
        raise ValueError(f"{whole} {axis}")
    return None if axis is None else (axis,)


def _check_order(ord: Any, matrix: bool) -> None:
    names = ["euclidean", "fro"] if matrix else ["euclidean"]
    if ord in [*names, 1, 2, np.inf]:
        return
    if matrix:
        raise ValueError(f"'ord' must be a supported matrix norm in {[*names, 1, 2, np.inf]}, got {ord}")
    if isinstance(ord, str) or not np.isreal(ord) or ord <= 0:
        raise ValueError(f"'ord' must be a supported vector norm, got {ord}")


def _norm(value: Tensor, ord: Any, axes: tuple[int, ...] | None, matrix: bool) -> Tensor:
    reduce_sum, reduce_max = reduction_ops.reduce_sum, reduction_ops.reduce_max
    if ord in ("fro", "euclidean", 2):
        if matrix and ord == 2:
            return _spectral_norm(value, axes or ())
        squares = call("Mul", (value, elementwise_ops.conj(value)), None, "mul")
        return elementwise_ops.sqrt(reduce_sum(squares, axes, keepdims=True))
    size = elementwise_ops.abs(value)
    if ord == 1:
        result = reduce_sum(size, None if axes is None else axes[0], keepdims=True)
        return reduce_max(result, axes[-1], keepdims=True) if matrix and axes else result
    if ord == np.inf:
        if matrix and axes:
            size = reduce_sum(size, axes[1], keepdims=True)
        return reduce_max(size, None if axes is None else axes[0], keepdims=True)
    powers = reduce_sum(elementwise_ops.pow(size, ord), axes, keepdims=True)
    return elementwise_ops.pow(powers, 1.0 / ord)


def _spectral_norm(value: Tensor, axes: Sequence[int]) -> Tensor:
    """The largest singular value; the two axes go last meanwhile and come back with size 1."""
    rank = value.shape.ndims
    if rank is None:
        raise ValueError("norm: the 2-norm of matrices wants a known rank")
    pair = [axis % rank for axis in axes]
    order = [axis for axis in range(rank) if axis not in pair] + pair
    moved = create_op("Transpose", (value, constant(order, int32, name="transpose/perm")))
    values = svd(moved.outputs[0], compute_uv=False)
    largest = reduction_ops.reduce_max(values, -1, keepdims=True)
    last = constant(-1, name="ExpandDims/dim")
    whole = create_op("ExpandDims", (largest, last)).outputs[0]
    back = constant([order.index(axis) for axis in range(rank)], int32, name="transpose_1/perm")
    return create_op("Transpose", (whole, back)).outputs[0]
