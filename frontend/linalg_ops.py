"""API functions of linear algebra: products, solvers, decompositions."""

from __future__ import annotations

from typing import Any

from stepforge.frontend import elementwise_ops, reduction_ops
from stepforge.frontend.convert import convert_to_tensor
from stepforge.frontend.diagonal_ops import matrix_diag_part
from stepforge.frontend.dtypes import bfloat16, float32
from stepforge.frontend.node_calls import call, call_op
from stepforge.frontend.operation import Tensor
from stepforge.frontend.scopes import name_scope
from stepforge.frontend.shape_ops import expand_dims, squeeze


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

    Raises: ValueError for a factor that is to be both transposed and adjoint, or sizes that do not
    fit.
    """
    for label, both in (("a", transpose_a and adjoint_a), ("b", transpose_b and adjoint_b)):
        if both:
            raise ValueError(
                f"Only one of `transpose_{label}` and `adjoint_{label}` can be True. Received "
                f"`transpose_{label}`=True, `adjoint_{label}`=True."
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
        product = matmul(a, expand_dims(b, -1), transpose_a=transpose_a, adjoint_a=adjoint_a)
        return squeeze(product, -1)


def trace(x: Any, name: str | None = None) -> Tensor:
    """The sums of the main diagonals."""
    with name_scope(name, "Trace") as scope:
        value = convert_to_tensor(x, name="x")
        return reduction_ops.reduce_sum(matrix_diag_part(value), [-1], name=scope)


def cross(a: Any, b: Any, name: str | None = None) -> Tensor:
    """The cross products of vectors of three elements in the last axis."""
    return call("Cross", (a, b), None, name)


# ---- solvers and decompositions -----------------------------------------------------------------


def cholesky(input: Any, name: str | None = None) -> Tensor:
    """The lower triangular factors of positive definite matrices; NaN where they are not."""
    return call("Cholesky", (input,), None, name)


def matrix_determinant(input: Any, name: str | None = None) -> Tensor:
    """The determinants of square matrices."""
    return call("MatrixDeterminant", (input,), None, name)


def matrix_inverse(input: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """The inverses of square matrices, or of their adjoints; a singular one is an error of the
    step.
    """
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
    with name_scope(name, "triangular_solve"):
        return _triangular_solve(matrix, rhs, lower, adjoint)


def _triangular_solve(matrix: Any, rhs: Any, lower: bool, adjoint: bool) -> Tensor:
    attrs = {"lower": lower, "adjoint": adjoint}
    return call("MatrixTriangularSolve", (matrix, rhs), attrs)


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """x of ``a @ x = rhs`` where ``chol`` is the Cholesky factor of a."""
    with name_scope(name, "cholesky_solve"):
        half = _triangular_solve(chol, rhs, True, False)
        return _triangular_solve(chol, half, True, True)


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
