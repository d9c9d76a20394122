"""Node types of linear algebra: factorisations, solvers, and diagonals.

Matrices are the last two axes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.frontend.nodedefs.products import fit
from stepforge.frontend.nodedefs.sizes import (
    bracketed,
    scalar,
    static_list,
    static_scalar,
    undetermined,
)
from stepforge.ir import dims
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError

Shape = tuple[Dim, ...]


def matrices(x: Any, operand: Any) -> Shape:
    """The shape of an operand of matrices. Raises: ShapeError, UnknownRank."""
    shape: Shape = x.shape(operand)
    if len(shape) < 2:
        raise ShapeError(f"Shape must be at least rank 2 but is rank {len(shape)}")
    return shape


def square(x: Any, operand: Any) -> Shape:
    """The shape of an operand of square matrices. Raises: ShapeError, UnknownRank."""
    shape = matrices(x, operand)
    fit(x, shape[-2], shape[-1], told("Input matrix must be square, got {}", shape))
    return shape


@define_node
class Cholesky(NodeDef):
    """The lower triangular factor of symmetric positive definite matrices; NaN where they are not.
    """

    inputs = ("input",)

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The IR's ``cholesky``."""
        square(x, value)
        return x.emit("cholesky", value)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Murray's formula, blocked: ``l⁻ᵀ Φ(lᵀ dz) l⁻¹``, symmetrised."""
        factor = op.outputs[0]
        shape = tf.shape(factor)
        eye = tf.eye(shape[-1], batch_shape=shape[:-2], dtype=factor.dtype)
        inverse = tf.matrix_triangular_solve(factor, eye)
        middle = tf.matmul(factor, dz, adjoint_a=True)
        middle = tf.matrix_set_diag(middle, 0.5 * tf.matrix_diag_part(middle))
        middle = tf.matrix_band_part(middle, -1, 0)
        slope = tf.matmul(tf.matmul(inverse, middle, adjoint_a=True), inverse)
        return [(slope + tf.adjoint(slope)) * 0.5]


@define_node
class MatrixInverse(NodeDef):
    """The inverse of square matrices, or of their adjoints."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"adjoint": False}

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The IR's ``matrix_inverse``."""
        square(x, value)
        return x.emit("matrix_inverse", value, adjoint=node.attrs["adjoint"])

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """``-zᴴ dz zᴴ``."""
        inverse, flag = op.outputs[0], op.get_attr("adjoint")
        right = tf.matmul(dz, inverse, adjoint_a=flag, adjoint_b=not flag)
        return [-tf.matmul(inverse, right, adjoint_a=not flag)]


@define_node
class MatrixDeterminant(NodeDef):
    """The determinant of square matrices."""

    inputs = ("input",)

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The IR's ``matrix_determinant``."""
        square(x, value)
        return x.emit("matrix_determinant", value)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """``dz det(a) a⁻ᴴ``."""
        scale = tf.expand_dims(tf.expand_dims(dz * op.outputs[0], -1), -1)
        return [scale * tf.matrix_inverse(op.inputs[0], adjoint=True)]


class Solve(NodeDef):
    """Base of solvers of ``a x = b``: ``op`` is the IR op, ``flags`` its attributes."""

    inputs = ("matrix", "rhs")
    op: ClassVar[str] = ""

    def extract(self, x: Any, node: Any, matrix: Any, rhs: Any) -> Any:
        """The IR's solver, once the rows fit."""
        left, right = square(x, matrix), matrices(x, rhs)
        fit(x, left[-1], right[-2],
            f"Input matrix and rhs are incompatible: {bracketed(left)}, {bracketed(right)}")
        x.broadcast(left[:-2], right[:-2])
        return x.emit(self.op, matrix, rhs, **node.attrs)

    def slopes(self, tf: Any, op: Any, rhs: Any) -> Any:
        """The gradient of the matrix from that of the right hand side."""
        solution = op.outputs[0]
        if op.get_attr("adjoint"):
            return -tf.matmul(solution, rhs, adjoint_b=True)
        return -tf.matmul(rhs, solution, adjoint_b=True)


@define_node
class MatrixSolve(Solve):
    """The solution of linear equations with a general matrix, or its adjoint."""

    attrs: ClassVar[dict[str, Any]] = {"adjoint": False}
    op = "matrix_solve"

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """A solution with the adjoint matrix, and an outer product."""
        rhs = tf.matrix_solve(op.inputs[0], dz, adjoint=not op.get_attr("adjoint"))
        return [self.slopes(tf, op, rhs), rhs]


@define_node
class MatrixTriangularSolve(Solve):
    """The solution of linear equations with a triangular matrix; the other triangle is not read."""

    attrs: ClassVar[dict[str, Any]] = {"lower": True, "adjoint": False}
    op = "matrix_triangular_solve"

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """As for ``MatrixSolve``, within the triangle."""
        matrix, rhs = op.inputs
        lower = op.get_attr("lower")
        flags = {"lower": lower, "adjoint": not op.get_attr("adjoint")}
        slope = tf.matrix_triangular_solve(matrix, dz, **flags)
        band = (-1, 0) if lower else (0, -1)
        triangle = tf.matrix_band_part(self.slopes(tf, op, slope), *band)
        return [tf.sum_to(triangle, matrix), tf.sum_to(slope, rhs)]


# ---- diagonals ----------------------------------------------------------------------------------
@define_node
class MatrixBandPart(NodeDef):
    """A copy with everything outside a central band set to 0; a negative bound keeps the whole
    side.
    """

    inputs = ("input", "num_lower", "num_upper")

    def extract(self, x: Any, node: Any, value: Any, lower: Any, upper: Any) -> Any:
        """The IR's ``matrix_band_part``."""
        matrices(x, value)
        below = scalar(x, lower, "num_lower must be scalar, got shape {}")
        above = scalar(x, upper, "num_upper must be scalar, got shape {}")
        return x.emit("matrix_band_part", value, lower=below, upper=above)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """The same band of dz."""
        return [tf.matrix_band_part(dz, op.inputs[1], op.inputs[2]), None, None]


def _offset(x: Any, k: Any) -> int | None:
    """The number of the one diagonal meant; None where it is not known. Raises: ShapeError."""
    values = static_list(x, k)
    if values is None:
        return None
    if len(set(values)) > 1:
        raise ShapeError(f"bands of several diagonals are not supported: k = {values}")
    return values[0]


def _placed(x: Any, diagonal: Any, k: int, rows: Dim, columns: Dim) -> Any:
    """Matrices of zeros with ``diagonal`` on the diagonal number ``k``."""
    square_ = x.emit("matrix_diag", diagonal)
    size = x.shape(diagonal)[-1]
    low = (max(-k, 0), max(k, 0))
    batch = (0,) * (len(x.shape(square_)) - 2)
    high = (rows - size - low[0], columns - size - low[1])
    if low == (0, 0) and high == (0, 0):
        return square_
    zero = x.const(0, diagonal.type.dtype)
    return x.emit("pad", square_, zero, low=(*batch, *low), high=(*batch, *high))


def _matrix_sizes(x: Any, length: Dim, k: int, rows: Any, columns: Any) -> list[Dim]:
    """The size of matrices with a diagonal of ``length``; -1 for rows and columns means square
    ones, for one of them the least that there is room in.
    """
    given = [
        None if static_scalar(x, operand) == -1 else scalar(x, operand, f"{name} must be a scalar")
        for name, operand in (("num_rows", rows), ("num_cols", columns))
    ]
    least = [length + max(-k, 0), length + max(k, 0)]
    if given == [None, None]:
        return [length + abs(k)] * 2
    return [low if size is None else size for low, size in zip(least, given, strict=True)]


@define_node
class MatrixDiag(NodeDef):
    """Matrices with the given main diagonals, 0 elsewhere."""

    inputs = ("diagonal",)

    def extract(self, x: Any, node: Any, diagonal: Any) -> Any:
        """The IR's ``matrix_diag``."""
        return x.emit("matrix_diag", diagonal)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """The diagonals of dz."""
        return [tf.matrix_diag_part(dz)]


@define_node
class MatrixDiagV3(NodeDef):
    """Matrices with the given diagonals, number ``k``, and ``padding_value`` elsewhere."""

    inputs = ("diagonal", "k", "num_rows", "num_cols", "padding_value")
    attrs: ClassVar[dict[str, Any]] = {"align": "RIGHT_LEFT"}

    def extract(self, x: Any, node: Any, diagonal: Any, k: Any, rows: Any, columns: Any,
                padding: Any) -> Any:
        """``matrix_diag``, padded to the size."""
        offset = _offset(x, k)
        if offset is None:
            return undetermined(x, diagonal.type.dtype, len(x.shape(diagonal)) + 1)
        if not x.shape(diagonal):
            raise ShapeError("diagonal must be at least 1-dim, received shape: []")
        sizes = _matrix_sizes(x, x.shape(diagonal)[-1], offset, rows, columns)
        placed = _placed(x, diagonal, offset, *sizes)
        fill = x.static(padding)
        if fill is not None and not fill.any():
            return placed
        ones = x.emit("fill", x.const(True), shape=x.shape(diagonal))
        inside = _placed(x, ones, offset, *sizes)
        return x.emit("select", inside, placed, padding)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """The diagonals of dz."""
        return [tf.matrix_diag_part(dz, k=op.inputs[1]), None, None, None, None]


@define_node
class MatrixDiagPart(NodeDef):
    """The main diagonals of matrices."""

    inputs = ("input",)

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The IR's ``matrix_diag_part``."""
        matrices(x, value)
        return x.emit("matrix_diag_part", value)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Zeros but for the diagonals."""
        return [tf.matrix_set_diag(tf.zeros_like(op.inputs[0]), dz)]


@define_node
class MatrixDiagPartV3(NodeDef):
    """The diagonals of matrices, number ``k``."""

    inputs = ("input", "k", "padding_value")
    attrs: ClassVar[dict[str, Any]] = {"align": "RIGHT_LEFT"}

    def extract(self, x: Any, node: Any, value: Any, k: Any, padding: Any) -> Any:
        """A slice that starts where the diagonal does, and its ``matrix_diag_part``."""
        shape = matrices(x, value)
        offset = _offset(x, k)
        if offset is None:
            return undetermined(x, value.type.dtype, len(shape) - 1)
        if offset:
            begin = (*(0 for _ in shape[:-2]), max(-offset, 0), max(offset, 0))
            size = tuple(n - b for n, b in zip(shape, begin, strict=True))
            strides = (1,) * len(shape)
            value = x.emit("slice", value, begin=begin, size=size, strides=strides)
        return x.emit("matrix_diag_part", value)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Zeros but for the diagonals."""
        zeros = tf.zeros_like(op.inputs[0])
        return [tf.matrix_set_diag(zeros, dz, k=op.inputs[1]), None, None]


@define_node
class MatrixSetDiag(NodeDef):
    """Matrices with their main diagonals replaced."""

    inputs = ("input", "diagonal")

    def extract(self, x: Any, node: Any, value: Any, diagonal: Any) -> Any:
        """The IR's ``matrix_set_diag``, once the sizes fit."""
        diagonal = _fitted_diagonal(x, matrices(x, value), 0, diagonal)
        return x.emit("matrix_set_diag", value, diagonal)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """What lies off the diagonals, and the diagonals."""
        diagonal = tf.zeros_like(op.inputs[1])
        return [tf.matrix_set_diag(dz, diagonal), tf.matrix_diag_part(dz)]


def _fitted_diagonal(x: Any, shape: Shape, k: int, diagonal: Any) -> Any:
    """The diagonal number ``k`` of matrices of ``shape``, with its sizes in their terms."""
    have = x.shape(diagonal)
    length = dims.minimum(shape[-2] + min(k, 0), shape[-1] - max(k, 0))
    wanted = (*shape[:-2], length)
    if len(have) != len(wanted):
        raise ShapeError(f"Shape must be rank {len(wanted)} but is rank {len(have)}")
    for a, b in zip(have, wanted, strict=True):
        fit(x, a, b, f"diagonal {bracketed(have)} does not fit {bracketed(shape)}")
    return diagonal if have == wanted else x.emit("reshape", diagonal, shape=wanted)


@define_node
class MatrixSetDiagV3(NodeDef):
    """Matrices with their diagonals number ``k`` replaced."""

    inputs = ("input", "diagonal", "k")
    attrs: ClassVar[dict[str, Any]] = {"align": "RIGHT_LEFT"}

    def extract(self, x: Any, node: Any, value: Any, diagonal: Any, k: Any) -> Any:
        """``matrix_set_diag``, or for other diagonals a selection."""
        shape = matrices(x, value)
        offset = _offset(x, k)
        if offset is None:
            return undetermined(x, value.type.dtype, len(shape))
        diagonal = _fitted_diagonal(x, shape, offset, diagonal)
        if offset == 0:
            return x.emit("matrix_set_diag", value, diagonal)
        placed = _placed(x, diagonal, offset, shape[-2], shape[-1])
        ones = x.emit("fill", x.const(True), shape=x.shape(diagonal))
        inside = _placed(x, ones, offset, shape[-2], shape[-1])
        return x.emit("select", inside, placed, value)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """What lies off the diagonals, and the diagonals."""
        diagonal, k = tf.zeros_like(op.inputs[1]), op.inputs[2]
        return [tf.matrix_set_diag(dz, diagonal, k=k), tf.matrix_diag_part(dz, k=k), None]


@define_node
class Diag(NodeDef):
    """A tensor of twice the rank with the given one on its diagonal."""

    inputs = ("diagonal",)

    def extract(self, x: Any, node: Any, diagonal: Any) -> Any:
        """``matrix_diag`` of the flat tensor."""
        shape = x.shape(diagonal)
        flat = x.emit("reshape", diagonal, shape=(dims.product(shape),))
        return x.emit("reshape", x.emit("matrix_diag", flat), shape=(*shape, *shape))

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """The diagonal of dz."""
        return [tf.diag_part(dz)]


@define_node
class DiagPart(NodeDef):
    """The diagonal of a tensor whose shape is one shape twice."""

    inputs = ("input",)

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """``matrix_diag_part`` of the flat tensor."""
        shape = x.shape(value)
        half = len(shape) // 2
        if len(shape) % 2 or not shape:
            raise ShapeError(f"Input must have even and non-zero rank, but is rank {len(shape)}")
        for a, b in zip(shape[:half], shape[half:], strict=True):
            fit(x, a, b, f"the halves of {bracketed(shape)} must be equal")
        count = dims.product(shape[:half])
        flat = x.emit("reshape", value, shape=(count, count))
        return x.emit("reshape", x.emit("matrix_diag_part", flat), shape=shape[:half])

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Zeros but for the diagonal."""
        return [tf.diag(dz)]


@define_node
class Cross(NodeDef):
    """The cross product of vectors of three elements in the last axis."""

    inputs = ("a", "b")

    def extract(self, x: Any, node: Any, a: Any, b: Any) -> Any:
        """Products of the rotated vectors."""
        axis = len(x.shape(a)) - 1
        for shape in (x.shape(a), x.shape(b)):
            if not shape:
                raise ShapeError("Shape must be at least rank 1 but is rank 0")
            fit(x, shape[-1], 3, f"inputs must have 3 elements in the last axis, not {shape[-1]}")
        turned = [
            [x.emit("gather", v, x.const(order, "i32"), axis=axis) for v in (a, b)]
            for order in ([1, 2, 0], [2, 0, 1])
        ]
        (a1, b1), (a2, b2) = turned
        return x.emit("sub", x.emit("mul", a1, b2), x.emit("mul", a2, b1))

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Cross products."""
        a, b = op.inputs
        return [tf.cross(b, dz), tf.cross(dz, a)]
