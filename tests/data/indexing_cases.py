"""Array functions as cases to compare with TensorFlow: indices, conditions, sorting, segments.

Importing this module adds them to those of ``array_cases``.
"""

from __future__ import annotations

import numpy as np
from array_cases import INVALID, M, V, X, bools, case, floats, ints, nn

# ---- indexing ------------------------------------------------------------------------------------
case("gather", lambda tf, x, i: tf.gather(x, i), x=M, i=ints([[2, 0], [2, 1]]))
case("gather_scalar", lambda tf, x, i: tf.gather(x, i), x=M, i=ints(1))
case("gather_axis", lambda tf, x, i: tf.gather(x, i, axis=1), x=X, i=ints([[2, 0], [2, 1]]))
case("gather_last", lambda tf, x, i: tf.gather(x, i, axis=-1), x=X, i=ints(3, 3, 0))
case(
    "gather_batch",
    lambda tf, x, i: tf.gather(x, i, axis=1, batch_dims=1),
    x=X,
    i=ints([[2, 0], [1, 1]]),
)
case(
    "gather_batch_axis",
    lambda tf, x, i: tf.gather(x, i, axis=2, batch_dims=1),
    x=X,
    i=ints([[2, 0, 0], [1, 1, 3]]),
)
case(
    "batch_gather",
    lambda tf, x, i: tf.batch_gather(x, i),
    x=M,
    nodes=False,
    i=ints([[2, 0], [1, 1], [3, 2]]),
)
case(
    "gather_wrong",
    lambda tf, x, i: tf.gather(x, i),
    x=M,
    i=ints([[0, 5]]),
    error=(INVALID, "indices[0,1] = 5 is not in [0, 3)"),
)
case(
    "gather_negative",
    lambda tf, x, i: tf.gather(x, i, axis=1),
    x=M,
    i=ints(0, -1),
    error=(INVALID, "indices[1] = -1 is not in [0, 4)"),
)
case(
    "gather_nd",
    lambda tf, x, i: tf.gather_nd(x, i),
    x=X,
    i=ints([[0, 2], [1, 1], [0, 2]]),
    shapes={"i": [None, 2]},
)
case(
    "gather_nd_rows",
    lambda tf, x, i: tf.gather_nd(x, i),
    x=M,
    i=ints([[2], [0], [2]]),
    shapes={"i": [None, 1]},
)
case(
    "gather_nd_wrong",
    lambda tf, x, i: tf.gather_nd(x, i),
    x=M,
    i=ints([[0, 5]]),
    shapes={"i": [None, 2]},
    error=(INVALID, ""),
)
case(
    "scatter_nd",
    lambda tf, i, x: tf.scatter_nd(i, x, [5, 4]),
    i=ints([[3], [0], [3]]),
    x=M,
    shapes={"i": [None, 1]},
)
case(
    "scatter_nd_points",
    lambda tf, i, x: tf.scatter_nd(i, x, [2, 3]),
    i=ints([[0, 1], [1, 2], [0, 1], [1, 0], [0, 0]]),
    x=V,
    shapes={"i": [None, 2]},
)
case(
    "scatter_nd_wrong",
    lambda tf, i, x: tf.scatter_nd(i, x, [2, 4]),
    i=ints([[3], [0], [3]]),
    x=M,
    shapes={"i": [None, 1]},
    error=(INVALID, ""),
)
for _kind in ("update", "add", "sub", "max", "min"):
    _name = {
        "update": "tensor_scatter_update",
        "add": "tensor_scatter_add",
        "sub": "tensor_scatter_sub",
        "max": "tensor_scatter_nd_max",
        "min": "tensor_scatter_nd_min",
    }[_kind]
    case(
        _name,
        lambda tf, x, i, u, name=_name: getattr(tf, name)(x, i, u),
        x=floats(4, 2),
        i=ints([[3], [1]]),
        u=floats(2, 2) * 3 + 1,
        shapes={"i": [None, 1]},
    )
case("one_hot", lambda tf, i: tf.one_hot(i, 4), i=ints([0, 3], [7, -1]))
case("one_hot_values", lambda tf, i: tf.one_hot(i, 3, 5.0, -1.0, axis=0), i=ints(0, 2))
case("one_hot_int", lambda tf, i: tf.one_hot(i, 3, dtype=tf.int64), i=ints(0, 2))
case("one_hot_fed_depth", lambda tf, i, n: tf.one_hot(i, n), i=ints(0, 2), n=ints(4))
case("where", lambda tf, c: tf.where(c), c=bools([[True, False], [False, True], [True, True]]))
case("where_numbers", lambda tf, c: tf.where(c), c=ints([0, 2, 0, -1]))
case("where_choose", lambda tf, c, x, y: tf.where(c, x, y), c=M > 0, x=M, y=M * 2)
case("where_rows", lambda tf, c, x, y: tf.where(c, x, y), c=bools(True, False, True), x=M, y=M * 2)
case("where_scalar", lambda tf, c, x, y: tf.where(c, x, y), c=bools(True), x=M, y=M * 2)
case(
    "where_v2",
    lambda tf, c, x, y: tf.where_v2(c, x, y),
    c=bools([[True], [False], [True]]),
    x=floats(4),
    y=floats()[()],
)
case(
    "where_wrong",
    lambda tf, c, x, y: tf.where(c, x, y),
    c=bools(True, False),
    x=M,
    y=M,
    static_error="ValueError",
    error=(INVALID, ""),
)
case("boolean_mask", lambda tf, x, m: tf.boolean_mask(x, m), x=M, m=bools(True, False, True))
case(
    "boolean_mask_axis",
    lambda tf, x, m: tf.boolean_mask(x, m, axis=1),
    x=M,
    m=bools(True, False, True, True),
)
case(
    "boolean_mask_matrix",
    lambda tf, x, m: tf.boolean_mask(x, m),
    x=X,
    m=bools([[True, False, True], [False, False, True]]),
)
case("unique", lambda tf, x: tf.unique(x), x=ints(5, 3, 5, 1, 3))
case("unique_with_counts", lambda tf, x: tf.unique_with_counts(x, tf.int64), x=ints(5, 3, 5, 1, 3))
case("setdiff1d", lambda tf, x, y: tf.setdiff1d(x, y), x=ints(5, 3, 5, 1), y=ints(3, 9))
case("dynamic_partition", lambda tf, x, p: tf.dynamic_partition(x, p, 3), x=M, p=ints(2, 0, 2))
case(
    "dynamic_partition_points",
    lambda tf, x, p: tf.dynamic_partition(x, p, 2),
    x=floats(2, 3),
    p=ints([0, 1, 1], [1, 0, 1]),
)
case(
    "dynamic_partition_wrong",
    lambda tf, x, p: tf.dynamic_partition(x, p, 2),
    x=floats(3),
    p=ints(0, 1, 2),
    error=(INVALID, "partitions[2] = 2 is not in [0, 2)"),
)
case(
    "dynamic_stitch",
    lambda tf, i, j, x, y: tf.dynamic_stitch([i, j], [x, y]),
    i=ints(0, 3),
    j=ints(2, 1, 3),
    x=floats(2, 2),
    y=floats(3, 2) + 10,
    gradient=False,
)
case(
    "dynamic_stitch_gradient",
    lambda tf, i, j, x, y: tf.dynamic_stitch([i, j], [x, y]),
    i=ints(0, 3),
    j=ints(2, 1),
    x=floats(2, 2),
    y=floats(2, 2) + 10,
)
case("sequence_mask", lambda tf, n: tf.sequence_mask(n, 4), n=ints(1, 0, 3))
case("sequence_mask_longest", lambda tf, n: tf.sequence_mask(n, dtype=tf.float32), n=ints(1, 0, 3))
case("meshgrid", lambda tf, x, y: tf.meshgrid(x, y), x=V, y=floats(3))
case("meshgrid_ij", lambda tf, x, y: tf.meshgrid(x, y, indexing="ij"), x=V, y=floats(3))
case("repeat", lambda tf, x: tf.repeat(x, 2, axis=1), x=M, nodes=False)
case("repeat_each", lambda tf, x, n: tf.repeat(x, n, axis=0), x=M, n=ints(2, 0, 3), nodes=False)
case("repeat_flat", lambda tf, x: tf.repeat(x, 2), x=M, nodes=False)
case("sort", lambda tf, x: tf.sort(x), x=M)
case("sort_axis", lambda tf, x: tf.sort(x, axis=0, direction="DESCENDING"), x=M)
case("sort_int", lambda tf, x: tf.sort(x), x=ints(5, -(2**31), 2**31 - 1, 0))
case("argsort", lambda tf, x: tf.argsort(x), x=M)
case(
    "argsort_ties",
    lambda tf, x: tf.argsort(x, direction="DESCENDING", stable=True),
    x=np.float32([1, 0, 1, 2, 0]),
)
for _kind in ("sum", "mean", "prod", "max", "min"):
    case(
        f"segment_{_kind}",
        lambda tf, x, i, kind=_kind: getattr(tf, f"segment_{kind}")(x, i),
        x=floats(5, 2),
        i=ints(0, 0, 1, 3, 3),
    )
for _kind in ("sum", "prod", "max", "min"):
    case(
        f"unsorted_segment_{_kind}",
        lambda tf, x, i, kind=_kind: getattr(tf, f"unsorted_segment_{kind}")(x, i, 4),
        x=floats(5, 2),
        i=ints(3, -1, 1, 3, 0),
    )
case(
    "unsorted_segment_mean",
    lambda tf, x, i: tf.unsorted_segment_mean(x, i, 4),
    nodes=False,
    x=floats(5, 2),
    i=ints(3, 0, 1, 3, 0),
)
case(
    "unsorted_segment_sqrt_n",
    lambda tf, x, i: tf.unsorted_segment_sqrt_n(x, i, 4),
    nodes=False,
    x=floats(5, 2),
    i=ints(3, 0, 1, 3, 0),
)
case(
    "unsorted_segment_matrix",
    lambda tf, x, i: tf.unsorted_segment_sum(x, i, 3),
    x=X,
    i=ints([0, 2, 2], [1, 0, 2]),
)
case(
    "segment_unsorted",
    lambda tf, x, i: tf.segment_sum(x, i),
    x=V,
    i=ints(0, 2, 1, 3, 3),
    error=(INVALID, "segment ids are not increasing"),
)
case(
    "embedding_lookup", lambda tf, x, i: nn(tf).embedding_lookup(x, i), x=M, i=ints([2, 0], [2, 1])
)
case(
    "embedding_lookup_max_norm",
    lambda tf, x, i: nn(tf).embedding_lookup(x, i, max_norm=2.0),
    x=M,
    i=ints(2, 0, 2),
)
case(
    "embedding_lookup_mod",
    lambda tf, x, y, i: nn(tf).embedding_lookup([x, y], i),
    x=M,
    y=floats(2, 4) + 20,
    i=ints(0, 1, 4, 3, 0),
)
