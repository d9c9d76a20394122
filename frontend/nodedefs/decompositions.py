"""Node types of decompositions with several factors: ``Qr``, ``Svd``, ``SelfAdjointEigV2``.

Their gradients are the published formulas in TensorFlow's form; they want inner sizes that are
known while the graph is built where TensorFlow wants them.
"""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.frontend.nodedefs.linalg import matrices, square


def _empty(x: Any, like: Any) -> Any:
    """What TensorFlow gives for factors that were not asked for."""
    return x.emit("fill", x.const(0, like.type.dtype), shape=(0,))


def _given(tf: Any, grad: Any, output: Any) -> Any:
    return tf.zeros_like(output) if grad is None else grad


def _inverse_differences(tf: Any, values: Any) -> Any:
    """``1 / (v_j - v_i)`` off the diagonal and 0 on it; near ties stay finite."""
    difference = tf.expand_dims(values, -2) - tf.expand_dims(values, -1)
    return tf.matrix_set_diag(_safe_reciprocal(tf, difference), tf.zeros_like(values))


def _safe_reciprocal(tf: Any, value: Any) -> Any:
    return value * tf.reciprocal(value * value + 1e-20)


@define_node
class Qr(NodeDef):
    """An orthonormal and an upper triangular factor."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"full_matrices": False}
    outputs = 2

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The IR's ``qr``."""
        matrices(x, value)
        return x.emit("qr", value, full_matrices=node.attrs["full_matrices"])

    def gradient(self, tf: Any, op: Any, dq: Any, dr: Any) -> list[Any]:
        """By triangular solves; a wide matrix is split into a square part and the rest."""
        q, r = op.outputs
        dq, dr = _given(tf, dq, q), _given(tf, dr, r)
        rows, columns = r.shape.as_list()[-2:]
        if rows is None or columns is None:
            raise NotImplementedError(f"{op.name}: the gradient of qr wants known inner sizes")
        if rows > columns and q.shape.as_list()[-1] == q.shape.as_list()[-2]:
            raise NotImplementedError(f"{op.name}: the gradient of a full qr of a tall matrix")
        if rows >= columns:
            return [_qr_gradient(tf, q, r, dq, dr)]
        beyond, du, dv = op.inputs[0][..., rows:], dr[..., :rows], dr[..., rows:]
        dq = dq + tf.matmul(beyond, dv, adjoint_b=True)
        first = _qr_gradient(tf, q, r[..., :rows], dq, du)
        return [tf.concat([first, tf.matmul(q, dv)], -1)]


def _qr_gradient(tf: Any, q: Any, r: Any, dq: Any, dr: Any) -> Any:
    if q.dtype.is_complex:
        raise NotImplementedError("the gradient of qr of complex matrices")
    by_q = tf.matmul(q, dq, adjoint_a=True)
    by_r = tf.matmul(r, dr, adjoint_b=True)
    turned = by_q - tf.adjoint(by_q) + by_r - tf.adjoint(by_r)
    lower = tf.matrix_band_part(turned, -1, 0)
    inside = tf.matmul(q, dr + _over_adjoint(tf, lower, r))
    return inside + _over_adjoint(tf, dq - tf.matmul(q, by_q), r)


def _over_adjoint(tf: Any, value: Any, r: Any) -> Any:
    """``value r⁻ᴴ``."""
    return tf.adjoint(tf.matrix_triangular_solve(r, tf.adjoint(value), lower=False))


@define_node
class SelfAdjointEigV2(NodeDef):
    """Eigenvalues, ascending, and eigenvectors of self-adjoint matrices."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"compute_v": True}
    outputs = 2

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The IR's ``self_adjoint_eig``."""
        square(x, value)
        if node.attrs["compute_v"]:
            return x.emit("self_adjoint_eig", value)
        return x.emit("self_adjoint_eig", value, compute_v=False), _empty(x, value)

    def gradient(self, tf: Any, op: Any, de: Any, dv: Any) -> list[Any]:
        """Of the lower triangle, which is all that is read."""
        e, v = op.outputs
        de = _given(tf, de, e)
        if not op.get_attr("compute_v"):
            _, v = tf.self_adjoint_eig(op.inputs[0])
        inner = tf.matrix_diag(de)
        if op.get_attr("compute_v") and dv is not None:
            inner = inner + _inverse_differences(tf, e) * tf.matmul(v, dv, adjoint_a=True)
        slope = tf.matmul(v, tf.matmul(inner, v, adjoint_b=True))
        slope = tf.matrix_band_part(slope + tf.adjoint(slope), -1, 0)
        return [tf.matrix_set_diag(slope, 0.5 * tf.matrix_diag_part(slope))]


@define_node
class Svd(NodeDef):
    """Singular values, descending, and singular vectors."""

    inputs = ("input",)
    attrs: ClassVar[dict[str, Any]] = {"compute_uv": True, "full_matrices": False}
    outputs = 3

    def extract(self, x: Any, node: Any, value: Any) -> Any:
        """The IR's ``svd``."""
        matrices(x, value)
        if node.attrs["compute_uv"]:
            return x.emit("svd", value, full_matrices=node.attrs["full_matrices"])
        empty = _empty(x, value)
        return x.emit("svd", value, compute_uv=False), empty, empty

    def gradient(self, tf: Any, op: Any, ds: Any, du: Any, dv: Any) -> list[Any]:
        """Of a tall matrix by way of its adjoint."""
        a = op.inputs[0]
        ds = tf.cast(_given(tf, ds, op.outputs[0]), a.dtype)
        if not op.get_attr("compute_uv"):
            _, u, v = tf.svd(a, compute_uv=True)
            return [tf.matmul(u, tf.matmul(tf.matrix_diag(ds), v, adjoint_b=True))]
        rows, columns = a.shape.as_list()[-2:]
        if rows is None or columns is None or a.dtype.is_complex or op.get_attr("full_matrices"):
            raise NotImplementedError(
                f"{op.name}: the gradient of svd wants real matrices of known inner sizes, not full"
            )
        s, u, v = op.outputs
        du, dv = _given(tf, du, u), _given(tf, dv, v)
        if rows > columns:
            return [tf.adjoint(_svd_gradient(tf, s, v, u, ds, dv, du, wide=True))]
        return [_svd_gradient(tf, s, u, v, ds, du, dv, wide=rows < columns)]


def _svd_gradient(tf: Any, s: Any, u: Any, v: Any, ds: Any, du: Any, dv: Any, *, wide: bool) -> Any:
    """The gradient of a matrix with no more rows than columns."""
    differences = _inverse_differences(tf, tf.square(s))
    of_u = differences * tf.matmul(u, du, adjoint_a=True)
    of_v = differences * tf.matmul(v, dv, adjoint_a=True)
    values = tf.matrix_diag(s)
    middle = (
        tf.matrix_diag(ds)
        + tf.matmul(of_u + tf.adjoint(of_u), values)
        + tf.matmul(values, of_v + tf.adjoint(of_v))
    )
    slope = tf.matmul(u, tf.matmul(middle, v, adjoint_b=True))
    if not wide:
        return slope
    outside = tf.adjoint(dv)
    outside = outside - tf.matmul(tf.matmul(outside, v), v, adjoint_b=True)
    inverse = tf.matrix_diag(_safe_reciprocal(tf, s))
    return slope + tf.matmul(tf.matmul(u, inverse), outside)
