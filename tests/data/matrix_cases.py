"""Functions of linear algebra and neural networks that ``make_math_reference.py`` records."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from math_cases import Case, case


def product_cases() -> Iterator[Case]:
    for flags in (
        "",
        ", transpose_a=True",
        ", transpose_b=True",
        ", transpose_a=True, transpose_b=True",
    ):
        left = "f64[?3,2]" if "_a" in flags else "f64[?2,3]"
        right = "f64[4,3]" if "_b" in flags else "f64[3,4]"
        yield case(f"tf.matmul(x, y{flags})", x=left, y=right)
        batch = left.replace("[?", "[?2,"), right.replace("[", "[2,")
        yield case(f"tf.matmul(x, y{flags})", x=batch[0], y=batch[1])
    yield case("tf.matmul(x, y, adjoint_a=True)", x="c64[3,2]", y="c64[3,2]")
    yield case("tf.matmul(x, y, adjoint_b=True)", x="c128[2,2,3]", y="c128[2,4,3]")
    yield case("tf.matmul(x, y)", x="c64[2,3]", y="c64[3,2]")
    yield case("tf.matmul(x, y)", x="f64[2,1,2,3]", y="f64[3,3,2]")
    yield case("tf.matmul(x, y)", x="i32[2,3]", y="i32[3,2]")
    yield case("tf.matmul(x, [[1.0], [2.0]])", x="f32[?3,2]")
    yield case("tf.linalg.matvec(x, y)", x="f32[2,3]", y="f32[3]")
    for axes, left, right in (
        ("1", "f32[2,3]", "f32[3,4]"),
        ("2", "f64[2,3,4]", "f64[3,4,2]"),
        ("0", "f32[2]", "f32[3]"),
        ("[[1], [0]]", "f64[?2,3,2]", "f64[3,2]"),
        ("[[0, 2], [1, 0]]", "f32[2,3,4]", "f32[4,2,5]"),
        ("[1, 0]", "f32[2,3]", "f32[3,4]"),
        ("1", "f64[?2,3,2]", "f64[2,?4]"),
    ):
        yield case(f"tf.tensordot(x, y, {axes})", nodes="?" not in left, x=left, y=right)


def einsum_cases() -> Iterator[Case]:
    for equation, left, right in (
        ("ij,jk->ik", "f64[2,3]", "f64[3,4]"),
        ("ij,kj->ik", "f64[?2,3]", "f64[4,3]"),
        ("bij,bjk->bik", "f64[2,2,3]", "f64[2,3,2]"),
        ("i,i->", "f64[3]", "f64[3]"),
        ("i,j->ij", "f64[3]", "f64[2]"),
        ("ij,ij->i", "f64[2,3]", "f64[2,3]"),
        ("abc,cd->abd", "f64[2,?3,2]", "f64[2,4]"),
        ("bhqd,bhkd->bhqk", "f64[1,2,3,2]", "f64[1,2,2,2]"),
        ("ij,jk", "f64[2,3]", "f64[3,2]"),
        ("...ij,...jk->...ik", "f64[2,1,2,3]", "f64[3,3,2]"),
        ("ij,k->ik", "f64[2,3]", "f64[2]"),
        ("...i,i->...", "f64[2,3,4]", "f64[4]"),
        ("ii,ij->j", "f64[3,3]", "f64[3,2]"),
        ("i...,i...->...", "f64[2,3]", "f64[2,1]"),
    ):
        yield case(f"tf.einsum('{equation}', x, y)", x=left, y=right)
    for equation, kind in (
        ("ij->ji", "f64[2,3]"),
        ("ij->i", "f64[2,3]"),
        ("ij->", "f64[?2,3]"),
        ("ii->i", "f64[3,3]"),
        ("ii->", "f64[3,3]"),
        ("ijk->ki", "f64[2,3,4]"),
        ("...ij->...ji", "f64[2,2,3]"),
        ("ij", "f64[2,3]"),
        ("ji", "f64[2,3]"),
    ):
        yield case(f"tf.einsum('{equation}', x)", x=kind)
    yield case("tf.einsum('ij,jk,kl->il', x, y, x)", nodes=False, x="f64[2,3]", y="f64[3,2]")


def solver_cases() -> Iterator[Case]:
    for kind in ("f64[3,3]spd", "f64[2,2,2]spd", "f32[3,3]spd"):
        slack = 40 if kind.startswith("f32") else 10
        for function in (
            "cholesky",
            "matrix_inverse",
            "matrix_determinant",
            "trace",
            "linalg.logdet",
        ):
            yield case(f"tf.{function}(x)", nodes="logdet" not in function, tolerance=slack, x=kind)
        yield case("tf.matrix_inverse(x, adjoint=True)", tolerance=slack, x=kind)
    yield case("tf.self_adjoint_eig(x)[0]", tolerance=10, x="f64[3,3]spd")
    yield case("tf.self_adjoint_eigvals(x)", tolerance=10, x="f64[3,3]spd")
    yield case("tf.abs(tf.self_adjoint_eig(x)[1])", tolerance=100, nodes=False, x="f64[3,3]spd")
    yield case("tf.svd(x, compute_uv=False)", tolerance=10, x="f64[3,2]")
    for kind in ("f64[3,2]", "f64[2,3]", "f64[2,2]"):
        yield case("tf.svd(x)[0]", tolerance=10, x=kind)
        yield case("tf.abs(tf.svd(x)[1]) + 0", tolerance=100, nodes=False, x=kind)
        yield case("tf.abs(tf.svd(x)[2]) + 0", tolerance=100, nodes=False, x=kind)
        yield case("tf.abs(tf.qr(x)[0]) + 0", tolerance=100, nodes=False, x=kind)
        yield case("tf.abs(tf.qr(x)[1]) + 0", tolerance=100, nodes=False, x=kind)
    for flags in ("", ", adjoint=True"):
        yield case(f"tf.matrix_solve(x, y{flags})", tolerance=10, x="f64[3,3]spd", y="f64[3,2]")
        for side in ("", ", lower=False"):
            yield case(
                f"tf.matrix_triangular_solve(x, y{side}{flags})", x="f64[3,3]tri", y="f64[3,2]"
            )
    yield case("tf.matrix_triangular_solve(x, y)", x="f64[2,3,3]tri", y="f64[3,2]")
    yield case("tf.cholesky_solve(x, y)", x="f64[3,3]tri", y="f64[3,2]")


def diagonal_cases() -> Iterator[Case]:
    for arguments in (
        "x",
        "x, ord=1",
        "x, ord=2",
        "x, ord=np.inf",
        "x, ord=3",
        "x, axis=0",
        "x, axis=1, keepdims=True",
        "x, ord='fro', axis=[0, 1]",
        "x, ord=1, axis=[0, 1]",
        "x, ord=np.inf, axis=[-2, -1]",
    ):
        yield case(f"tf.norm({arguments})", x="f64[2,3]")
    yield case("tf.norm(x, ord=2, axis=[0, 1])", nodes=False, tolerance=10, x="f64[2,3]")
    for function in ("matrix_diag", "diag"):
        yield case(f"tf.{function}(x)", x="f32[3]")
    yield case("tf.matrix_diag(x)", x="f64[?2,3]")
    yield case("tf.diag(x)", x="f32[2,2]")
    yield case("tf.diag_part(x)", x="f32[2,3,2,3]")
    yield case("tf.linalg.diag(x, k=1)", x="f64[2,3]")
    yield case("tf.linalg.diag(x, k=-1, num_rows=4, num_cols=5, padding_value=9.0)", x="f64[3]")
    for kind in ("f64[3,3]", "f64[2,2,4]", "f64[?3,2]"):
        yield case("tf.matrix_diag_part(x)", x=kind)
        yield case("tf.matrix_band_part(x, 0, -1)", x=kind)
        yield case("tf.matrix_band_part(x, 1, 0)", x=kind)
    yield case("tf.linalg.diag_part(x, k=1)", x="f64[3,4]")
    yield case("tf.matrix_set_diag(x, y)", x="f64[2,3,3]", y="f64[2,3]")
    yield case("tf.linalg.set_diag(x, y, k=-1)", x="f64[3,3]", y="f64[2]")
    yield case("tf.eye(3)")
    yield case("tf.eye(2, 3, dtype=tf.float64)")
    yield case("tf.eye(2, batch_shape=[2])")


def softmax_cases() -> Iterator[Case]:
    for axis in (0, 1, -2):
        yield case(f"tf.nn.softmax(x, axis={axis})", nodes=False, x="f64[2,3,4]")
        yield case(f"tf.nn.log_softmax(x, dim={axis})", nodes=False, x="f64[2,3,4]")
    yield case("tf.nn.softmax(x)", x="f32[2,?3,4]")
    dense = "labels=y, logits=x"
    for function in ("softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2"):
        for kind in ("f64[2,3]", "f64[?2,3]", "f64[2,2,3]", "f64[3]"):
            yield case(f"tf.nn.{function}({dense})", x=kind, y=kind + "+")
        yield case(f"tf.nn.{function}({dense}, dim=0)", nodes=False, x="f64[2,3]", y="f64[2,3]+")
        yield case(f"tf.nn.{function}({dense})", x="f16[2,3]", y="f16[2,3]+")
    sparse = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=x)"
    for logits, labels in (
        ("f64[2,3]", "i32[2]0..3"),
        ("f32[?2,3]", "i64[?2]0..3"),
        ("f16[2,3]", "i32[2]0..3"),
    ):
        yield case(sparse, x=logits, y=labels)
    yield case(sparse, nodes=False, x="f64[2,2,3]", y="i32[2,2]0..3")
    yield case(sparse, nodes=False, x="f64[3]", y="i32[]0..3")


def logistic_cases() -> Iterator[Case]:
    dense = "labels=y, logits=x"
    for kind in ("f64[2,3]", "f32[?4]"):
        yield case(f"tf.nn.sigmoid_cross_entropy_with_logits({dense})", x=kind, y=kind + "+")
        yield case(
            f"tf.nn.weighted_cross_entropy_with_logits({dense}, pos_weight=2.0)",
            x=kind,
            y=kind + "+",
        )
    yield case(
        "tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=x)", x="f64[3]0..1", y="f64[3]+"
    )


def layer_cases() -> Iterator[Case]:
    for kind in ("f32[2,3]", "f64[?2,4,3]"):
        yield case("tf.nn.bias_add(x, y)", x=kind, y=kind[:3] + "[3]")
    yield case("tf.nn.bias_add(x, y, data_format='NCHW')", x="f64[2,3,2,2]", y="f64[3]")
    yield case("tf.nn.xw_plus_b(x, y, z)", x="f32[?2,3]", y="f32[3,4]", z="f32[4]")
    yield case("tf.nn.relu_layer(x, y, z)", x="f32[2,3]", y="f32[3,4]", z="f32[4]")
    for arguments in ("x, 2", "x, k=1", "x, 3, sorted=True"):
        yield case(f"tf.nn.top_k({arguments})[0]", x="f64[2,?5]")
        yield case(f"tf.nn.top_k({arguments}).indices", x="f32[5]")
    yield case("tf.nn.in_top_k(x, y, 2)", x="f32[3,4]", y="i32[3]0..4")
    yield case("tf.nn.dropout(x, keep_prob=1.0)", x="f32[3]")
    yield case("tf.nn.embedding_lookup(x, y)", nodes=False, x="f64[4,2]", y="i32[2,2]0..4")
    yield case(
        "tf.nn.embedding_lookup([x, z], y)", nodes=False, x="f64[2,2]", y="i32[5]0..4", z="f64[2,2]"
    )
    yield case(
        "tf.nn.embedding_lookup([x, z], y, partition_strategy='div')",
        nodes=False,
        x="f64[3,2]",
        y="i32[5]0..5",
        z="f64[2,2]",
    )
    yield case(
        "tf.nn.embedding_lookup(x, y, max_norm=1.0)", nodes=False, x="f64[4,2]", y="i32[3]0..4"
    )
    yield case("tf.nn.relu(x)", x="f32[5]-2..2")
    yield case("tf.abs(x)", x="f32[5]-2..2")


def normalization_cases() -> Iterator[Case]:
    for arguments in ("x, [0]", "x, [0, 1], keep_dims=True", "x, [1], keepdims=False"):
        yield case(f"tf.stack(tf.nn.moments({arguments}))", x="f64[?4,3]")
    yield case("tf.nn.weighted_moments(x, [0], y)[1]", x="f64[4,3]", y="f64[4,1]+")
    yield case("tf.nn.sufficient_statistics(x, [0])[2]", x="f64[4,3]")
    yield case("tf.nn.normalize_moments(4.0, x, y, None)[1]", x="f32[3]", y="f32[3]+")
    yield case(
        "tf.nn.batch_normalization(x, y, z, 0.5, 2.0, 1e-3)", x="f64[?4,3]", y="f64[3]", z="f64[3]+"
    )
    yield case(
        "tf.nn.batch_normalization(x, y, z, None, None, 1e-3)",
        x="f64[4,3]",
        y="f64[3]",
        z="f64[3]+",
    )
    yield case(
        "tf.nn.batch_norm_with_global_normalization(x, y, z, y, z, 1e-3, True)",
        x="f64[4,3]",
        y="f64[3]",
        z="f64[3]+",
    )
    for arguments in ("x", "x, axis=1", "x, dim=[0], epsilon=0.5"):
        yield case(f"tf.nn.l2_normalize({arguments})", x="f64[2,3]")


GROUPS: tuple[Callable[[], Iterator[Case]], ...] = (
    product_cases,
    einsum_cases,
    solver_cases,
    diagonal_cases,
    softmax_cases,
    logistic_cases,
    layer_cases,
    normalization_cases,
)
