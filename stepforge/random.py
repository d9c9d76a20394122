"""``tf.random``: random numbers."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.random_ops": (
            "categorical multinomial normal=random_normal shuffle=random_shuffle truncated_normal "
            "uniform=random_uniform"
        ),
        "frontend.seeds": "get_seed set_random_seed",
    },
)
