"""Matrix products, factorisations and solvers. Matrices lie in the last two axes, the others are
batches.

``matrix_inverse`` and ``matrix_solve`` raise for singular matrices, so their effect is "check".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import numpy as np

from stepforge.ir import dims
from stepforge.ir.core import Block, Operand
from stepforge.ir.dims import Dim
from stepforge.ir.errors import InvalidArgumentError
from stepforge.ir.loop_builder import LoopBuilder
from stepforge.ir.opdef import OpDef, define_op
from stepforge.ir.ops.arrays import Array, narrow, widen
from stepforge.ir.ops.epilogue import WithEpilogue
from stepforge.ir.ops.inference import (
    DECOMPOSABLE,
    NUMBER,
    broadcast_dims,
    check_dtype,
    check_equal,
    check_min_rank,
    check_same_dtype,
    merge_dims,
)
from stepforge.ir.products import scratch_size
from stepforge.ir.types import Type, item_bytes

Dims = tuple[Dim, ...]
SMALL_PRODUCT = 512  # multiplications up to which loops in place beat a call
REAL_PARTS = {"c64": "f32", "c128": "f64"}


def adjoint_of(x: Array) -> Array:
    """The conjugate transpose of matrices."""
    return np.conj(np.swapaxes(x, -1, -2))


def check_square(op: str, **operand: Type) -> None:
    """The one operand given is a batch of square matrices. Raises: DTypeError, ShapeError."""
    ((name, x),) = operand.items()
    check_dtype(op, DECOMPOSABLE, **operand)
    check_min_rank(op, 2, **operand)
    check_equal(op, x.dims[-2], x.dims[-1], f"{name} must be square", operand)


def small_product(m: Dim, n: Dim, depth: Dim) -> bool:
    """True for a product that loops in place compute faster than a call of anything."""
    work = m * n * depth
    return isinstance(work, int) and work <= SMALL_PRODUCT


def lower_product(
    k: LoopBuilder,
    out: Operand,
    a: Operand,
    b: Operand,
    operands: Sequence[Operand] = (),
    region: Block | None = None,
    *,
    transpose_a: bool = False,
    transpose_b: bool = False,
) -> None:
    """``out = a @ b`` for batches of matrices, each element through ``region`` where there is one.

    The region's first parameter stands for the element of the product, the others for ``operands``,
    which broadcast to ``out``.
    """
    m, n = out.type.dims[-2:]
    depth = a.type.dims[-2 if transpose_a else -1]
    batch = out.type.dims[:-2]
    if out.type.dtype not in ("f32", "f64") or (region is None and small_product(m, n, depth)):
        with k.nest(batch, simd=False) as at:
            left, right, result = (k.matrix(x, batch, at) for x in (a, b, out))
            _loops(k, result, left, right, transpose_a, transpose_b)
        return
    if not transpose_a:
        out, a, b, operands = _batches_as_rows(k, out, a, b, operands)
        batch, m = out.type.dims[:-2], out.type.dims[-2]
    flags: dict[str, Any] = {"transpose_a": transpose_a, "transpose_b": transpose_b}
    size = scratch_size(m, n, depth, item_bytes(out.type.dtype), **flags)
    scratch = k.alloc(out.type.dtype, (size,))
    spread = [k.view(x, (1,) * (2 - x.type.rank) + x.type.dims) for x in operands]
    regions = () if region is None else (region,)
    with k.nest(batch, simd=False) as at:
        matrices = [k.matrix(x, batch, at) for x in (a, b, out)]
        others = [k.matrix(x, batch, at) for x in spread]
        k.emit("gemm", *matrices, scratch, *others, regions=regions, **flags)


def _batches_as_rows(
    k: LoopBuilder, out: Operand, a: Operand, b: Operand, operands: Sequence[Operand]
) -> tuple[Operand, Operand, Operand, Sequence[Operand]]:
    """Batches of a that meet one matrix b as one product of more rows, where all broadcasts fit."""
    shape = out.type.dims
    batch, rows = shape[:-2], dims.product(shape[:-1])
    spread = [_as_rows(x.type.dims, shape, rows) for x in operands]
    if not batch or a.type.dims[:-2] != batch or set(b.type.dims[:-2]) - {1} or None in spread:
        return out, a, b, operands
    views = [k.view(x, seen) for x, seen in zip(operands, spread, strict=True) if seen is not None]
    a, b = k.view(a, (rows, a.type.dims[-1])), k.view(b, b.type.dims[-2:])
    return k.view(out, (rows, shape[-1])), a, b, views


def _as_rows(own: Dims, shape: Dims, rows: Dim) -> Dims | None:
    """How an operand of sizes ``own`` broadcasts to ``rows``, all rows of ``shape``; None: not."""
    last = own[-1] if own else 1
    if all(size == 1 for size in own[:-1]):
        return (1, last)
    return (rows, last) if own[:-1] == shape[:-1] else None


def _loops(
    k: LoopBuilder, out: Operand, a: Operand, b: Operand, transpose_a: bool, transpose_b: bool
) -> None:
    dtype = out.type.dtype
    m, n = out.type.dims
    depth = a.type.dims[0 if transpose_a else 1]
    wide = "f32" if dtype in ("f16", "bf16") else dtype
    with k.loop(m) as i, k.loop(n, simd=not transpose_b) as j:
        def term(p: Operand) -> Operand:
            left = k.load(a, p, i) if transpose_a else k.load(a, i, p)
            right = k.load(b, j, p) if transpose_b else k.load(b, p, j)
            return k.emit("mul", k.cast(left, wide), k.cast(right, wide))  # type: ignore

        value = k.fold(depth, "add", wide, term, simd=transpose_b)
        k.store(k.cast(value, dtype), out, i, j)


@define_op
class Matmul(WithEpilogue):
    """The matrix product of ``a`` [..., m, k] and ``b`` [..., k, n]; batches broadcast.

    ``%r = matmul(%a, %b, transpose_b=true) : f32[n, 128]`` of f32[n, 784] and f32[128, 784]

    With an epilogue: ``%r = matmul(%a, %b, %c) : f32[n, 128] |%acc: f32, %p: f32| { ... yield(%v)
    }``
    """

    cases = (
        "matmul(f32[3, 4], f32[4, 5])",
        "matmul(f32[3, 4], f32[5, 4], transpose_b=true)",
        "matmul(f64[2, 4, 3], f64[2, 4, 5], transpose_a=true)",
        "matmul(f32[5, 1, 2, 3], f32[4, 3, 2])",
        "matmul(f64[3, 2], f64[4, 3], transpose_a=true, transpose_b=true)",
        "matmul(f32[2, 0], f32[0, 3])",
        "matmul(f32[0, 2], f32[2, 3])",
        "matmul(i32[2, 3], i32[3, 2])",
        "matmul(i64[1, 1], i64[1, 1])",
        "matmul(f16[2, 3], f16[3, 2])",
        "matmul(bf16[2, 3], bf16[3, 2])",
        "matmul(c64[2, 3], c64[3, 2])",
        "matmul(c128[1, 3], c128[3, 1])",
    )

    def infer(
        self,
        a: Type,
        b: Type,
        *operands: Type,
        transpose_a: bool = False,
        transpose_b: bool = False,
    ) -> Type:
        check_same_dtype("matmul", a=a, b=b)
        check_dtype("matmul", NUMBER, a=a, b=b)
        check_min_rank("matmul", 2, a=a, b=b)
        rows, inner_a = a.dims[-2:] if not transpose_a else a.dims[:-3:-1]
        inner_b, columns = b.dims[-2:] if not transpose_b else b.dims[:-3:-1]
        check_equal("matmul", inner_a, inner_b, "inner dimensions differ", {"a": a, "b": b})
        batch = a.dims[:-2]
        if batch != b.dims[:-2]:
            batch = broadcast_dims("matmul", (batch, b.dims[:-2]), {"a": a, "b": b})
        return a.with_shape((*batch, rows, columns))

    def numpy(self, a: Array, b: Array, *, transpose_a: bool, transpose_b: bool) -> Array:
        left = np.swapaxes(a, -1, -2) if transpose_a else a
        right = np.swapaxes(b, -1, -2) if transpose_b else b
        with np.errstate(all="ignore"):
            return narrow(np.matmul(widen(left), widen(right)), a.dtype)

    def lower_epilogue(
        self,
        k: LoopBuilder,
        out: Operand,
        factors: tuple[Operand, Operand],
        taken: Sequence[Operand],
        region: Block | None,
        **attrs: Any,
    ) -> None:
        lower_product(k, out, *factors, taken, region, **attrs)


@define_op
class Cholesky(OpDef):
    """The lower triangular factor L of ``x = L @ adjoint(L)``, of which the lower triangle is read.

    A matrix that is not positive definite gives NaN on and below the diagonal.
    ``%l = cholesky(%x) : f32[n, n]``
    """

    cases = (
        "cholesky(f32[3, 3])",
        "cholesky(f64[2, 3, 3])",
        "cholesky(c64[2, 2])",
        "cholesky(f32[0, 0])",
        "cholesky(f64[1, 1])",
    )

    def infer(self, x: Type) -> Type:
        check_square("cholesky", x=x)
        return x

    def numpy(self, x: Array) -> Array:
        out = np.zeros(x.shape, x.dtype)
        for at in np.ndindex(*x.shape[:-2]):
            out[at] = _factor(x[at])
        return out


def _factor(matrix: Array) -> Array:
    try:
        return np.asarray(np.linalg.cholesky(matrix))
    except np.linalg.LinAlgError:
        return np.tril(np.full(matrix.shape, np.nan, matrix.dtype))


@define_op
class MatrixInverse(OpDef):
    """The inverse, or with ``adjoint`` that of the adjoint. ``%r = matrix_inverse(%x) : f32[n, n]``

    Raises InvalidArgumentError "Input is not invertible." for a singular matrix.
    """

    effect = "check"
    cases = (
        "matrix_inverse(f32[3, 3])",
        "matrix_inverse(f64[2, 2, 2], adjoint=true)",
        "matrix_inverse(c64[2, 2], adjoint=true)",
        "matrix_inverse(f32[0, 0])",
    )

    def infer(self, x: Type, *, adjoint: bool = False) -> Type:
        check_square("matrix_inverse", x=x)
        return x

    def numpy(self, x: Array, *, adjoint: bool) -> Array:
        try:
            return np.asarray(np.linalg.inv(adjoint_of(x) if adjoint else x))
        except np.linalg.LinAlgError:
            _singular("Input is not invertible.")


def _singular(message: str) -> NoReturn:
    raise InvalidArgumentError(None, None, message) from None


@define_op
class MatrixDeterminant(OpDef):
    """The determinant; 1 of an empty matrix. ``%r = matrix_determinant(%x) : f32``"""

    cases = (
        "matrix_determinant(f32[3, 3])",
        "matrix_determinant(f64[2, 4, 4])",
        "matrix_determinant(c128[2, 2])",
        "matrix_determinant(f32[0, 0])",
    )

    def infer(self, x: Type) -> Type:
        check_square("matrix_determinant", x=x)
        return x.with_shape(x.dims[:-2])

    def numpy(self, x: Array) -> Array:
        with np.errstate(all="ignore"):
            return narrow(np.linalg.det(x), x.dtype)


def solution_type(op: str, a: Type, b: Type) -> Type:
    """The type of x in ``a @ x = b``; batches broadcast. Raises: ShapeError, DTypeError."""
    check_square(op, a=a)
    check_same_dtype(op, a=a, b=b)
    check_min_rank(op, 2, b=b)
    operands = {"a": a, "b": b}
    merge_dims(op, {"a": a.dims[-1:], "b": b.dims[-2:-1]}, operands, "rows of a and b")
    return b.with_shape((*broadcast_dims(op, (a.dims[:-2], b.dims[:-2]), operands), *b.dims[-2:]))


@define_op
class MatrixSolve(OpDef):
    """The x of ``a @ x = b``, with ``adjoint`` of ``adjoint(a) @ x = b``.
    ``%x = matrix_solve(%a, %b) : f32[n, k]``

    Raises InvalidArgumentError "Input matrix is not invertible." for a singular matrix.
    """

    effect = "check"
    cases = (
        "matrix_solve(f32[3, 3], f32[3, 2])",
        "matrix_solve(f64[2, 3, 3], f64[2, 3, 1], adjoint=true)",
        "matrix_solve(c64[2, 2], c64[2, 2], adjoint=true)",
        "matrix_solve(f32[0, 0], f32[0, 2])",
    )

    def infer(self, a: Type, b: Type, *, adjoint: bool = False) -> Type:
        return solution_type("matrix_solve", a, b)

    def numpy(self, a: Array, b: Array, *, adjoint: bool) -> Array:
        try:
            return narrow(np.linalg.solve(adjoint_of(a) if adjoint else a, b), b.dtype)
        except np.linalg.LinAlgError:
            _singular("Input matrix is not invertible.")


@define_op
class MatrixTriangularSolve(OpDef):
    """The x of ``a @ x = b`` (``adjoint``: of ``adjoint(a) @ x = b``) by substitution; batches
    broadcast.

    Only the triangle that ``lower`` names is read; a 0 on the diagonal gives infinities, not an
    error. ``%x = matrix_triangular_solve(%a, %b, lower=false) : f32[n, k]``
    """

    cases = (
        "matrix_triangular_solve(f32[3, 3], f32[3, 2])",
        "matrix_triangular_solve(f64[2, 3, 3], f64[2, 3, 1], lower=false)",
        "matrix_triangular_solve(f32[3, 3], f32[2, 3, 2], adjoint=true)",
        "matrix_triangular_solve(c128[2, 2], c128[2, 2], lower=false, adjoint=true)",
        "matrix_triangular_solve(f32[0, 0], f32[0, 2])",
    )

    def infer(self, a: Type, b: Type, *, lower: bool = True, adjoint: bool = False) -> Type:
        return solution_type("matrix_triangular_solve", a, b)

    def numpy(self, a: Array, b: Array, *, lower: bool, adjoint: bool) -> Array:
        if adjoint:
            a, lower = adjoint_of(a), not lower
        size = a.shape[-1]
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        x = np.array(np.broadcast_to(b, (*batch, *b.shape[-2:])))
        with np.errstate(all="ignore"):
            for step in range(size):
                i = step if lower else size - 1 - step
                done = slice(0, i) if lower else slice(i + 1, size)
                known = np.matmul(a[..., i : i + 1, done], x[..., done, :])
                x[..., i : i + 1, :] = (x[..., i : i + 1, :] - known) / a[..., i : i + 1, i : i + 1]
        return x


@define_op
class Qr(OpDef):
    """``x = q @ r``, q with orthonormal columns, r upper triangular.
    ``%q, %r = qr(%x) : f32[m, k], f32[k, n]``

    k is the smaller of m and n; with ``full_matrices`` it is m.
    """

    cases = (
        "qr(f32[4, 3])",
        "qr(f64[2, 3, 4])",
        "qr(f64[4, 2], full_matrices=true)",
        "qr(c64[3, 3])",
    )

    def infer(self, x: Type, *, full_matrices: bool = False) -> tuple[Type, Type]:
        check_dtype("qr", DECOMPOSABLE, x=x)
        check_min_rank("qr", 2, x=x)
        *batch, m, n = x.dims
        k = m if full_matrices else dims.minimum(m, n)
        return x.with_shape((*batch, m, k)), x.with_shape((*batch, k, n))

    def numpy(self, x: Array, *, full_matrices: bool) -> tuple[Array, Array]:
        q, r = np.linalg.qr(x, "complete" if full_matrices else "reduced")
        return q, r


@define_op
class Svd(OpDef):
    """``x = u @ diag(s) @ adjoint(v)``, s descending.
    ``%s, %u, %v = svd(%x) : f32[k], f32[m, k], f32[n, k]``

    k is the smaller of m and n; with ``full_matrices`` u is [m, m] and v is [n, n]; without
    ``compute_uv`` s is the only result.
    """

    cases = (
        "svd(f32[4, 3])",
        "svd(f64[2, 3, 4])",
        "svd(f64[4, 2], full_matrices=true)",
        "svd(f32[3, 3], compute_uv=false)",
        "svd(c64[3, 2])",
    )

    def infer(
        self, x: Type, *, compute_uv: bool = True, full_matrices: bool = False
    ) -> tuple[Type, ...]:
        check_dtype("svd", DECOMPOSABLE, x=x)
        check_min_rank("svd", 2, x=x)
        *batch, m, n = x.dims
        k = dims.minimum(m, n)
        s = Type(REAL_PARTS.get(x.dtype, x.dtype), (*batch, k))
        if not compute_uv:
            return (s,)
        u_columns, v_columns = (m, n) if full_matrices else (k, k)
        return s, x.with_shape((*batch, m, u_columns)), x.with_shape((*batch, n, v_columns))

    def numpy(self, x: Array, *, compute_uv: bool, full_matrices: bool) -> tuple[Array, ...]:
        if not compute_uv:
            return (np.linalg.svd(x, compute_uv=False),)
        u, s, vh = np.linalg.svd(x, full_matrices)
        return s, u, adjoint_of(vh)


@define_op
class SelfAdjointEig(OpDef):
    """Eigenvalues (ascending) and eigenvectors (columns) of self-adjoint matrices.

    Only the lower triangle is read. ``%e, %v = self_adjoint_eig(%x) : f32[n], f32[n, n]``; without
    ``compute_v`` e is the only result.
    """

    cases = (
        "self_adjoint_eig(f32[3, 3])",
        "self_adjoint_eig(f64[2, 4, 4])",
        "self_adjoint_eig(f64[3, 3], compute_v=false)",
        "self_adjoint_eig(c64[2, 2])",
    )

    def infer(self, x: Type, *, compute_v: bool = True) -> tuple[Type, ...]:
        check_square("self_adjoint_eig", x=x)
        e = Type(REAL_PARTS.get(x.dtype, x.dtype), x.dims[:-1])
        return (e, x) if compute_v else (e,)

    def numpy(self, x: Array, *, compute_v: bool) -> tuple[Array, ...]:
        if not compute_v:
            return (np.linalg.eigvalsh(x),)
        values, vectors = np.linalg.eigh(x)
        return values, vectors
