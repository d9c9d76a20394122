"""``tf.manip``: rearranging tensors."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.indexing_ops": "gather_nd scatter_nd",
        "frontend.shape_ops": "reshape",
        "frontend.joining_ops": "reverse tile",
    },
)
