"""``tf.sparse``: sparse tensors."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.sparse_ops": (
            "SparseTensor placeholder=sparse_placeholder to_dense=sparse_tensor_to_dense"
        ),
    },
)
