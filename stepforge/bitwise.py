"""``tf.bitwise``: operations on the bits of integers."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.comparison_ops": (
            "bitwise_and bitwise_or bitwise_xor invert left_shift right_shift"
        ),
    },
)
