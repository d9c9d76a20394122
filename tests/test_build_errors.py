"""Mistakes that are found while a graph is built: the classes, and where they are the same also the
words, that TensorFlow 2.21 was seen to use. ValueErrors quote the node that was to be made.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import stepforge as tf

VALUE, TYPE = ValueError, TypeError
SHAPES = "Dimension 0 in both shapes must be equal, but are 2 and 3. Shapes are [2] and [3]."
CASES: list[tuple[str, type[Exception], str]] = [
    ("tf.split(1.0, 3, axis=0)", VALUE, ""),
    ("tf.split(C([1.0, 2.0]), 3)", VALUE, "Dimension size must be evenly divisible by 3 but is 2"),
    ("C(1) + C(1.0)", TYPE, "Input 'y' of 'AddV2' Op has type float32 that does not match"),
    ("C(1.0) + C(1.0, tf.float64)", TYPE,
     "Input 'y' of 'AddV2' Op has type float64 that does not match"),
    ("tf.matmul(ones([2, 3]), ones([2, 3]))", VALUE, "Dimensions must be equal, but are 3 and 2"),
    ("tf.matmul(ones([3]), ones([2, 3]))", VALUE, "Shape must be rank 2 but is rank 1"),
    ("ones([2]) + ones([3])", VALUE, "Dimensions must be equal, but are 2 and 3"),
    ("tf.concat([ones([2, 2]), ones([3, 3])], 0)", VALUE, SHAPES),
    ("tf.concat([ones([2, 2]), ones([3])], 0)", VALUE, "Shape must be rank 2 but is rank 1"),
    ("tf.concat([ones([2, 2]), ones([2, 2])], 5)", VALUE,
     "Shape must be at least rank 6 but is rank 2"),
    ("tf.reshape(ones([2, 3]), [4])", VALUE,
     "Cannot reshape a tensor with 6 elements to shape [4] (4 elem"),
    ("tf.reshape(ones([2, 3]), [4, -1])", VALUE,
     "Dimension size must be evenly divisible by 4 but is 6"),
    ("ones([3])[5]", VALUE, "slice index 5 of dimension 0 out of bounds."),
    ("ones([3])[1, 2]", VALUE, "Index out of range using input dim 1; input has only 1 dims"),
    ("tf.reduce_sum(ones([3]), axis=2)", VALUE,
     "Invalid reduction dimension 2 for input with 1 dimensions."),
    ("tf.convert_to_tensor(C(1.0), tf.int32)", VALUE,
     "Tensor conversion requested dtype int32 for Tensor with dtyp"),
    ("tf.sqrt(C(4))", TYPE, ""),
    ("-C(True)", TYPE, ""),
    ("C(1.0, name='a b')", VALUE, "`a b` is not a valid node name. Accepted names conform to Re"),
    ("C(1.0, name='_a')", VALUE, "`_a` is not a valid node name. Accepted names conform to Reg"),
    ("bool(C(1.0))", TYPE, "Using a symbolic `tf.Tensor` as a Python `bool` is not allow"),
    ("len(C([1.0, 2.0]))", TYPE, "len is not well defined for a symbolic Tensor (Const:0). Ple"),
    ("int(C(1))", TYPE, ""),
    ("float(C(1.0))", TYPE, ""),
    ("tf.transpose(ones([2, 3]), [0])", VALUE, "Dimension must be 2 but is 1"),
    ("tf.transpose(ones([2, 3]), [0, 5])", VALUE, ""),
    ("tf.stack([ones([2]), ones([3])])", VALUE, SHAPES),
    ("tf.stack([ones([2])], axis=4)", VALUE, "Argument `axis` = 4 not in range [-2, 2)"),
    ("tf.unstack(tf.placeholder(tf.float32, [None]))", VALUE,
     "Cannot infer argument `num` from shape (?,)"),
    ("tf.unstack(ones([3]), num=2)", VALUE, ""),
    ("tf.expand_dims(ones([3]), 5)", VALUE, "dim 5 not in the interval [-2, 1]."),
    ("tf.squeeze(ones([3]), [0])", VALUE,
     "Can not squeeze dim[0], expected a dimension of 1, got 3"),
    ("tf.squeeze(ones([3]), [4])", VALUE, "squeeze_dims[0] not in [-1,1)."),
    ("tf.tile(ones([3]), [1, 2])", VALUE, ""),
    ("tf.pad(ones([3]), [[1, 1], [1, 1]])", VALUE, "Shape must be rank 2 but is rank 1"),
    ("tf.gather(C(1.0), [0])", VALUE, "Shape must be at least rank 1 but is rank 0"),
    ("tf.gather(C([1.0]), [0.0])", TYPE, ""),
    ("tf.gather_nd(C([1.0]), [[0, 0]])", VALUE, ""),
    ("tf.one_hot([1.0], 3)", TYPE, ""),
    ("tf.where([True, False], C([1.0, 2.0, 3.0]), C([1.0, 2.0, 3.0]))", VALUE, ""),
    ("tf.where(C([1.0, 0.0]), C([1.0, 2.0]), C([1.0, 2.0]))", TYPE,
     "Input 'condition' of 'Select' Op has type float32 that does "),
    ("tf.nn.softmax(C([1, 2]))", TYPE, ""),
    ("tf.nn.softmax_cross_entropy_with_logits(labels=ones([2, 3]), logits=ones([3, 3]))", VALUE,
     "Dimensions must be equal, but are 3 and 2"),
    ("tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[1, 2], logits=ones([3, 3]))", VALUE,
     "`labels.shape` must equal `logits.shape` except for the last"),
    ("tf.nn.bias_add(ones([2, 3]), ones([4]))", VALUE, "Dimensions must be equal, but are 3 and 4"),
    ("tf.nn.conv2d(ones([1, 3, 3, 2]), ones([2, 2, 3, 1]), 1, 'SAME')", VALUE,
     "Depth of input (2) is not a multiple of input depth of filte"),
    ("tf.nn.conv2d(ones([3, 3, 2]), ones([2, 2, 3, 1]), 1, 'SAME')", VALUE,
     "Shape must be rank 4 but is rank 3"),
    ("tf.nn.max_pool(ones([3, 3, 2]), 2, 1, 'SAME')", VALUE, "Shape must be rank 4 but is rank 3"),
    ("tf.nn.top_k(C([1.0, 2.0]), 5)", VALUE, "input must have last dimension >= k = 5 but is 2"),
    ("tf.range(5, 3)", VALUE, "Requires start <= limit when delta > 0: 5/3"),
    ("tf.range(1, 3, 0)", VALUE, "Requires delta != 0"),
    ("tf.fill([-1], 1.0)", VALUE, ""),
    ("tf.zeros([-1])", VALUE, ""),
    ("tf.placeholder(tf.float32, [-3])", VALUE, ""),
    ("C([1, 2, 3], shape=[2])", VALUE, "Too many elements provided. Takes at most 2, but got 3."),
    ("C([1.5], dtype=tf.int32)", TYPE, "Expected int32, but got 1.5 of type 'float'."),
    ("C('a', dtype=tf.float32)", TYPE, "Expected float32, but got a of type 'str'."),
    ("C(None)", VALUE, "None values not supported."),
    ("C([[1, 2], [3]])", VALUE, "setting an array element with a sequence. The requested arra"),
    ("tf.Variable([1.0, 2.0]).assign([1.0, 2.0, 3.0])", VALUE, SHAPES),
    ("tf.Variable([1.0, 2.0]).assign(C([1, 2]))", TYPE,
     "Input 'value' of 'Assign' Op has type int32 that does not ma"),
    ("tf.Variable()", VALUE, "initial_value must be specified."),
    ("tf.Variable(tf.placeholder(tf.float32))", VALUE,
     'initial_value must have a shape specified: Tensor("Placehold'),
    ("tf.einsum('ij,jk->ik', ones([2, 3]), ones([2, 3]))", VALUE, ""),
    ("tf.add_n([])", VALUE, "Inputs must be an iterable of at least one Tensor/IndexedSli"),
    ("tf.add_n([C(1.0), C(1)])", TYPE, ""),
    ("tf.matrix_inverse(ones([2, 3]))", VALUE, "Dimensions must be equal, but are 2 and 3"),
    ("tf.cholesky(ones([3]))", VALUE, "Shape must be at least rank 2 but is rank 1"),
    ("ones([3]).set_shape([4])", VALUE,
     "Dimension 0 in both shapes must be equal, but are 3 and 4. S"),
    ("tf.unsorted_segment_sum(ones([3]), C([1, 2]), 3)", VALUE, ""),
    ("tf.broadcast_to(ones([3]), [2])", VALUE, ""),
    ("tf.matmul(ones([2, 2]), ones([2, 2], tf.int32))", TYPE,
     "Input 'b' of 'MatMul' Op has type int32 that does not match "),
    ("C(2.0) ** C(2)", TYPE, "Input 'y' of 'Pow' Op has type int32 that does not match typ"),
    ("C(2.0) % C(2)", TYPE, "Input 'y' of 'FloorMod' Op has type int32 that does not matc"),
    ("tf.equal(C(1.0), C(1))", TYPE,
     "Input 'y' of 'Equal' Op has type int32 that does not match t"),
    ("tf.logical_and(C(1), C(True))", TYPE, ""),
    ("C(1.0) < C('a')", TYPE, "Input 'y' of 'Less' Op has type string that does not match t"),
    ("tf.maximum(C(True), C(False))", TYPE, ""),
    ("tf.clip_by_value(C(1.0), C(1), C(2))", TYPE,
     "Input 'y' of 'Minimum' Op has type int32 that does not match"),
    ("C([1.0, 2.0])['a']", TYPE, "Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`"),
    ("C([1.0, 2.0])[1.5]", TYPE, "Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`"),
    ("iter(C([1.0, 2.0]))", TYPE, "Iterating over a symbolic `tf.Tensor` is not allowed"),
    ("np.array(C(1.0))", NotImplementedError,
     "Cannot convert a symbolic tf.Tensor (Const:0) to a numpy"),
]  # fmt: skip


@pytest.mark.parametrize(("code", "kind", "text"), CASES, ids=[case[0] for case in CASES])
def test_mistakes(code: str, kind: type[Exception], text: str) -> None:
    names = {"tf": tf, "np": np, "C": tf.constant, "ones": tf.ones}
    with tf.Graph().as_default(), pytest.raises(kind) as found:
        eval(code, names)
    assert text in str(found.value)


def test_the_node_that_was_to_be_made() -> None:
    with tf.Graph().as_default() as graph:
        value = tf.constant([1.0, 2.0], name="value")
        text = (
            " for '{{node split}} = "
            "Split[num_split=3](split/split_dim, value)' with input shapes: [], [2].\n"
        )
        with pytest.raises(ValueError, match=re.escape(text)) as found:
            tf.split(value, 3)  # the user's line
        assert "tf.split(value, 3)  # the user's line" in str(found.value)
        rows = tf.placeholder(tf.float32, [None, 3])
        text = "with input shapes: [?,3], [2,2]."
        with pytest.raises(ValueError, match=re.escape(text)):
            tf.matmul(rows, tf.ones([2, 2]))
        with pytest.raises(ValueError, match=re.escape("with input shapes: <unknown>, [2,2], [].")):
            tf.gather(tf.placeholder(tf.float32), tf.ones([2, 2], tf.int32), batch_dims=3)
        assert "split" not in [op.name for op in graph.get_operations()]
