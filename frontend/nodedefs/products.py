"""Node types of products: ``MatMul``, its batched forms and ``Einsum``."""

from __future__ import annotations

from typing import Any, ClassVar

from stepforge.frontend.extract.messages import told
from stepforge.frontend.nodedefs import einsum
from stepforge.frontend.nodedefs.base import NodeDef, define_node
from stepforge.ir.dims import Dim
from stepforge.ir.errors import ShapeError

Shape = tuple[Dim, ...]

# (transpose_a, transpose_b) -> for each input: left factor, right factor and their transpositions
GRADIENTS: dict[tuple[bool, bool], tuple[tuple[str, str, bool, bool], ...]] = {
    (False, False): (("dz", "b", False, True), ("a", "dz", True, False)),
    (False, True): (("dz", "b", False, False), ("dz", "a", True, False)),
    (True, False): (("b", "dz", False, True), ("a", "dz", False, False)),
    (True, True): (("b", "dz", True, True), ("dz", "a", True, True)),
}


def fit(x: Any, a: Dim, b: Dim, message: str) -> None:
    """Declare two sizes equal; ``message`` is that of the running step. Raises: ShapeError."""
    if isinstance(a, int) and isinstance(b, int) and a != b:
        raise ShapeError(f"Dimensions must be equal, but are {a} and {b}. {message}")
    x.unify(a, b, message)


def _check_inner(x: Any, left: Shape, right: Shape, transpose_a: bool, transpose_b: bool) -> None:
    inner = left[-2 if transpose_a else -1], right[-1 if transpose_b else -2]
    if inner[0] != inner[1]:
        fit(x, *inner, told("Matrix size-incompatible: In[0]: {}, In[1]: {}", left, right))


@define_node
class MatMul(NodeDef):
    """The product of two matrices, either of them transposed on the way."""

    inputs = ("a", "b")
    attrs: ClassVar[dict[str, Any]] = {"transpose_a": False, "transpose_b": False}

    def extract(self, x: Any, node: Any, a: Any, b: Any) -> Any:
        """The IR's ``matmul``, of rank 2 only."""
        left, right = x.shape(a), x.shape(b)
        for shape in (left, right):
            if len(shape) != 2:
                raise ShapeError(f"Shape must be rank 2 but is rank {len(shape)} for '{node.name}'")
        flags = {"transpose_a": node.attrs["transpose_a"], "transpose_b": node.attrs["transpose_b"]}
        _check_inner(x, left, right, **flags)
        return x.emit("matmul", a, b, **flags)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Products of dz with the other factor."""
        a, b = op.inputs
        factors = {"a": tf.conj(a), "b": tf.conj(b), "dz": dz}
        rule = GRADIENTS[op.get_attr("transpose_a"), op.get_attr("transpose_b")]
        return [
            tf.matmul(factors[left], factors[right], transpose_a=first, transpose_b=second)
            for left, right, first, second in rule
        ]


@define_node
class SparseMatMul(MatMul):
    """``MatMul`` of matrices that are said to be mostly zero; computed like any other."""

    attrs: ClassVar[dict[str, Any]] = {
        **MatMul.attrs, "a_is_sparse": False, "b_is_sparse": False,
    }


@define_node
class BatchMatMulV2(NodeDef):
    """Products of the matrices in the last two axes; the other axes broadcast."""

    inputs = ("x", "y")
    attrs: ClassVar[dict[str, Any]] = {"adj_x": False, "adj_y": False}

    def extract(self, x: Any, node: Any, a: Any, b: Any) -> Any:
        """The IR's ``matmul``, of conjugates where an adjoint is asked for."""
        left, right = x.shape(a), x.shape(b)
        for shape in (left, right):
            if len(shape) < 2:
                raise ShapeError(f"Shape must be at least rank 2 but is rank {len(shape)}")
        adj_x, adj_y = node.attrs["adj_x"], node.attrs["adj_y"]
        _check_inner(x, left, right, adj_x, adj_y)
        x.broadcast(left[:-2], right[:-2])
        if a.type.kind == "c":
            a = x.emit("conj", a) if adj_x else a
            b = x.emit("conj", b) if adj_y else b
        return x.emit("matmul", a, b, transpose_a=adj_x, transpose_b=adj_y)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Products of dz with the other factor, summed over what was broadcast."""
        x, y = op.inputs
        factors = {"a": x, "b": y, "dz": dz}
        rule = GRADIENTS[op.get_attr("adj_x"), op.get_attr("adj_y")]
        return [
            tf.sum_to(
                tf.matmul(factors[left], factors[right], adjoint_a=first, adjoint_b=second), source
            )
            for source, (left, right, first, second) in zip((x, y), rule, strict=True)
        ]


@define_node
class BatchMatMul(BatchMatMulV2):
    """The older form of ``BatchMatMulV2``, made for equal batch axes."""


@define_node
class Einsum(NodeDef):
    """A sum of products over labelled axes, of one or two tensors."""

    inputs = ("*inputs",)
    attrs: ClassVar[dict[str, Any]] = {"equation": ""}

    def extract(self, x: Any, node: Any, *operands: Any) -> Any:
        """Transposes, one ``matmul`` or product, a transpose."""
        return einsum.lower(x, node.attrs["equation"], operands)

    def gradient(self, tf: Any, op: Any, dz: Any) -> list[Any]:
        """Einsums of dz with the other operand; see ``einsum.operand_gradient``."""
        return einsum.gradients(tf, op.attrs["equation"], list(op.inputs), dz)
