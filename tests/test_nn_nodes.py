"""Linear algebra and neural network functions against what TensorFlow was recorded to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from math_reference import Built, describe, entries, failures

import stepforge as tf

GROUPS = (
    "product_cases",
    "einsum_cases",
    "solver_cases",
    "diagonal_cases",
    "softmax_cases",
    "logistic_cases",
    "layer_cases",
    "normalization_cases",
)
CASES = [entry for entry in entries() if entry["group"] in GROUPS]


@pytest.mark.parametrize("entry", CASES, ids=describe)
def test_agrees_with_tensorflow(entry: dict[str, Any]) -> None:
    assert vars(failures(Built(entry))) == dict.fromkeys(
        ("nodes", "static", "value", "gradients", "second"), ""
    )


@pytest.fixture
def inputs() -> Any:
    """Placeholders of several shapes and dtypes, in a graph of their own."""
    with tf.Graph().as_default():
        yield {
            "tf": tf,
            "np": np,
            "x": tf.placeholder(tf.float32, [2, 3], "x"),
            "any": tf.placeholder(tf.float32, None, "any"),
            "m": tf.placeholder(tf.float32, [None, None], "m"),
            "i": tf.placeholder(tf.int32, [2, 3], "i"),
            "v": tf.placeholder(tf.float32, [2], "v"),
            "k": tf.placeholder(tf.int32, [None], "k"),
        }


MISTAKES = [
    ("tf.matmul(x, x)", ValueError, "Dimensions must be equal, but are 3 and 2"),
    ("x @ x", ValueError, "Dimensions must be equal"),
    ("tf.matmul(v, x)", ValueError, "Shape must be rank 2 but is rank 1"),
    ("tf.matmul(x, i)", TypeError, "Input 'b' of 'MatMul' Op has type int32"),
    ("tf.matmul(x, x, transpose_a=True, adjoint_a=True)", ValueError, "Only one of"),
    ("tf.matrix_inverse(x)", ValueError, "Dimensions must be equal, but are 2 and 3"),
    ("tf.matrix_determinant(v)", ValueError, "at least rank 2"),
    ("tf.matrix_set_diag(x, [1.0, 2.0, 3.0])", ValueError, "but are 3 and 2"),
    ("tf.diag_part(v)", ValueError, "even"),
    ("tf.tensordot(x, x, 1)", ValueError, "Dimensions must be equal"),
    ("tf.tensordot(x, x, [[0], [0, 1]])", ValueError, "1 != 2"),
    ("tf.tensordot(x, x, 3)", ValueError, "must not be larger"),
    ("tf.einsum('ij,jk->ik', x, x)", ValueError, "'j'"),
    ("tf.einsum('ij,jk->ik', x)", ValueError, "Got 1 inputs"),
    ("tf.einsum('ij,jk->iz', x, x)", ValueError, "contain the label z not present"),
    ("tf.einsum('ij->ii', x)", ValueError, "more than once"),
    ("tf.einsum('i-j', x)", ValueError, "incorrect format"),
    ("tf.einsum('ijk->i', x)", ValueError, "rank"),
    ("tf.norm(x, ord='bad')", ValueError, "supported vector norm"),
    ("tf.norm(x, ord=3, axis=[0, 1])", ValueError, "supported matrix norm"),
    ("tf.norm(x, axis=[0, 1, 2])", ValueError, "'axis' must be None"),
    ("tf.eye(2.0)", TypeError, "positive integer"),
    ("tf.nn.softmax(v, 2)", tf.errors.InvalidArgumentError, "`dim` must be in the range"),
    ("tf.nn.top_k(v, 5)", ValueError, "input must have last dimension >= k = 5 but is 2"),
    ("tf.nn.bias_add(x, v)", ValueError, "Dimensions must be equal, but are 3 and 2"),
    ("tf.nn.bias_add(v, v)", ValueError, "at least rank 2"),
    ("tf.nn.bias_add(x, v, data_format='CN')", ValueError, "data_format"),
    ("tf.nn.softmax_cross_entropy_with_logits(labels=x)", ValueError, "Both `labels` and `logits`"),
    (
        "tf.nn.softmax_cross_entropy_with_logits_v2(labels=np.zeros((2, 4), 'f'), logits=x)",
        ValueError,
        "3 and 4",
    ),
    (
        "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=i, logits=x)",
        ValueError,
        "must equal `logits.shape.rank - 1`",
    ),
    (
        "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[0, 1, 2], logits=x)",
        ValueError,
        "except for the last dimension",
    ),
    (
        "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=v, logits=x)",
        TypeError,
        "int32, int64",
    ),
    (
        "tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=v)",
        ValueError,
        "must have the same shape",
    ),
    ("tf.nn.dropout(x)", ValueError, "`rate` must be provided"),
    ("tf.nn.dropout(x, 0.0)", ValueError, r"range \[0, 1\)"),
    ("tf.nn.dropout(x, keep_prob='half')", ValueError, "floating point number"),
    ("tf.nn.dropout(i, 0.5)", ValueError, "floating point tensor"),
    ("tf.nn.dropout(x, keep_prob=0.5, rate=0.5)", ValueError, "Cannot specify both"),
]


@pytest.mark.parametrize(("code", "error", "text"), MISTAKES, ids=[m[0] for m in MISTAKES])
def test_mistake_is_found_while_building(
    inputs: Any, code: str, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        eval(code, {}, inputs)


SPARSE = "tf.nn.sparse_softmax_cross_entropy_with_logits(labels=k, logits=x)"
FAILING_STEPS = [
    (SPARSE, {"k": [1, 9], "x": np.zeros((2, 3))}, r"label value of 9 .* range of \[0, 3\)"),
    (SPARSE, {"k": [-1, 0], "x": np.zeros((2, 3))}, r"label value of -1 .* range of \[0, 3\)"),
    (SPARSE, {"k": [1, 0, 2], "x": np.zeros((2, 3))}, "must have the same first dimension"),
    ("tf.matmul(m, x)", {"m": np.zeros((2, 3)), "x": np.zeros((2, 3))}, "Matrix size-incompatible"),
    ("tf.matrix_inverse(m)", {"m": np.zeros((2, 2))}, "Input is not invertible"),
    ("tf.matrix_inverse(m)", {"m": np.zeros((2, 3))}, "must be square"),
    ("tf.matrix_solve(m, x)", {"m": np.zeros((2, 2)), "x": np.ones((2, 3))}, "not invertible"),
    ("tf.nn.top_k(any, 5)[0]", {"any": [1.0, 2.0]}, "at least k columns"),
    ("tf.nn.bias_add(m, v)", {"m": np.zeros((2, 4)), "v": [1.0, 2.0]}, "as many biases"),
]


@pytest.mark.parametrize(("code", "feeds", "text"), FAILING_STEPS)
def test_mistake_is_found_by_the_step(
    inputs: Any, code: str, feeds: dict[str, Any], text: str
) -> None:
    output = eval(code, {}, inputs)
    with tf.Session() as session, pytest.raises(tf.errors.InvalidArgumentError, match=text):
        session.run(output, {inputs[name]: value for name, value in feeds.items()})


def test_cholesky_of_what_is_not_positive_gives_nan(inputs: Any) -> None:
    with tf.Session() as session:
        factor = session.run(tf.cholesky(inputs["m"]), {inputs["m"]: -np.eye(2)})
    assert np.isnan(factor[0, 0])
    assert factor[0, 1] == 0


def test_dropout_draws_tensorflows_numbers() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        tf.set_random_seed(1)
        kept = session.run(tf.nn.dropout(tf.ones([8]), keep_prob=0.5, seed=3))
    assert kept.tolist() == [2, 2, 2, 0, 2, 0, 2, 2]


def test_dropout_makes_tensorflows_nodes() -> None:
    with tf.Graph().as_default() as graph:
        x = tf.placeholder(tf.float32, [None, 3], "x")
        tf.nn.dropout(x, rate=0.25, seed=1)
        names = {op.name: op.type for op in graph.get_operations()}
    assert names["dropout/Const"] == "Const"
    assert names["dropout/Mul"] == "Mul"
    assert names["dropout/GreaterEqual"] == "GreaterEqual"
    assert names["dropout/SelectV2"] == "SelectV2"
    assert names["dropout/random_uniform/RandomUniform"] == "RandomUniform"


def test_dropout_with_a_fed_probability_and_its_gradient() -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        keep = tf.placeholder(tf.float32, [])
        x = tf.placeholder(tf.float32, [None, 4])
        y = tf.nn.dropout(x, keep, noise_shape=[tf.shape(x)[0], 1], seed=2)
        (slope,) = tf.gradients(y, x)
        value, got = session.run([y, slope], {x: np.ones((50, 4)), keep: 0.25})
        np.testing.assert_array_equal(value, got)
        assert set(value.ravel().tolist()) == {0.0, 4.0}
        assert (value == value[:, :1]).all()
        np.testing.assert_array_equal(session.run(y, {x: np.ones((2, 4)), keep: 1.0}), 1)


def test_keeping_everything_is_no_node_but_takes_a_seed() -> None:
    def draw(rate: float) -> Any:
        with tf.Graph().as_default(), tf.Session() as session:
            tf.set_random_seed(7)
            x = tf.ones([2])
            dropped = tf.nn.dropout(x, rate=rate)
            assert (dropped is x) == (rate == 0)
            return session.run(tf.random_uniform([3]))

    np.testing.assert_array_equal(draw(0.0), draw(0.5))


def test_labels_are_constants_in_the_first_version_only(inputs: Any) -> None:
    x = inputs["x"]
    labels = tf.constant([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]])
    old = tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=x)
    new = tf.nn.softmax_cross_entropy_with_logits_v2(labels=labels, logits=x)
    assert tf.gradients(old, labels) == [None]
    assert tf.gradients(new, labels)[0] is not None


def test_cross_entropy_of_unknown_rank(inputs: Any) -> None:
    loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=inputs["any"], logits=inputs["any"])
    value = np.full((2, 2, 4), 0.25, np.float32)
    with tf.Session() as session:
        got = session.run(loss, {inputs["any"]: value})
    np.testing.assert_allclose(got, np.full((2, 2), np.log(4)), 1e-6)


def test_ellipsis_and_three_operands_in_einsum() -> None:
    random = np.random.RandomState(3)
    shapes = ((2, 3, 4), (4, 5), (2, 5, 3))
    values = [random.randn(*shape) for shape in shapes]
    with tf.Graph().as_default(), tf.Session() as session:
        tensors = [tf.constant(value) for value in values]
        product = tf.einsum("...ij,jk,...ki->...i", *tensors)
        slopes = tf.gradients(product, tensors)
        found = session.run([product, *slopes])
    np.testing.assert_allclose(found[0], np.einsum("...ij,jk,...ki->...i", *values), 1e-12)
    assert [slope.shape for slope in found[1:]] == list(shapes)
    for i, value in enumerate(values):  # the product is linear in each operand
        np.testing.assert_allclose((found[1 + i] * value).sum(), found[0].sum(), 1e-10)


def test_gradients_of_decompositions_are_those_of_differences() -> None:
    rules = {
        "svd": lambda x: [tf.square(part) for part in tf.svd(x)],
        "qr": lambda x: [tf.square(part) for part in tf.qr(x)],
        "eig": lambda x: [tf.square(part) for part in tf.self_adjoint_eig(x + tf.transpose(x))],
    }
    random = np.random.RandomState(5)
    for name, rule in rules.items():
        for shape in ((3, 3),) if name == "eig" else ((3, 2), (2, 3), (3, 3)):
            value = random.randn(*shape)
            with tf.Graph().as_default(), tf.Session() as session:
                x = tf.placeholder(tf.float64, shape)
                parts = rule(x)
                scales = [np.cos(1.0 + np.arange(np.prod(p.shape.as_list()))) for p in parts]
                total = tf.add_n(
                    [
                        tf.reduce_sum(tf.reshape(p, [-1]) * s)
                        for p, s in zip(parts, scales, strict=True)
                    ]
                )
                (slope,) = tf.gradients(total, x)
                got = session.run(slope, {x: value})
                step = np.zeros(shape)
                want = np.zeros(shape)
                for at in np.ndindex(*shape):
                    step[at] = 1e-6
                    ends = [session.run(total, {x: value + sign * step}) for sign in (1, -1)]
                    want[at] = (ends[0] - ends[1]) / 2e-6
                    step[at] = 0
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6, err_msg=f"{name} {shape}")
