"""``tf.linalg``: matrices."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.linalg_ops": (
            "cholesky cholesky_solve cross det=matrix_determinant eigh=self_adjoint_eig "
            "eigvalsh=self_adjoint_eigvals inv=matrix_inverse logdet matmul matvec qr "
            "solve=matrix_solve svd trace triangular_solve=matrix_triangular_solve"
        ),
        "frontend.contraction_ops": "einsum norm tensordot",
        "frontend.diagonal_ops": (
            "adjoint band_part=matrix_band_part diag=matrix_diag diag_part=matrix_diag_part eye "
            "set_diag=matrix_set_diag tensor_diag=diag tensor_diag_part=diag_part"
        ),
        "frontend.shape_ops": "transpose=matrix_transpose matrix_transpose",
        "frontend.normalization_ops": "l2_normalize",
        "frontend.clipping": "global_norm",
    },
)
