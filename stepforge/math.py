"""``tf.math``: functions of numbers."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.elementwise_ops": (
            "abs accumulate_n acos acosh add add_n angle asin asinh atan atan2 atanh ceil conj cos "
            "cosh digamma divide divide_no_nan erf erfc exp expm1 floor floordiv floormod igamma "
            "igammac imag lgamma log log1p log_sigmoid maximum minimum mod multiply "
            "multiply_no_nan negative polygamma polyval pow real reciprocal reciprocal_no_nan rint "
            "round rsqrt scalar_mul sigmoid sign sin sinh sqrt square squared_difference subtract "
            "tan tanh truediv xdivy xlog1py xlogy zeta"
        ),
        "frontend.comparison_ops": (
            "equal greater greater_equal is_finite is_inf is_nan less less_equal logical_and "
            "logical_not logical_or logical_xor not_equal"
        ),
        "frontend.reduction_ops": (
            "argmax argmin count_nonzero cumprod cumsum reduce_all reduce_any "
            "reduce_euclidean_norm reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod "
            "reduce_std reduce_sum reduce_variance zero_fraction"
        ),
        "frontend.segment_ops": (
            "segment_max segment_mean segment_min segment_prod segment_sum unsorted_segment_max "
            "unsorted_segment_mean unsorted_segment_min unsorted_segment_prod "
            "unsorted_segment_sqrt_n unsorted_segment_sum"
        ),
        "frontend.normalization_ops": "l2_normalize",
        "frontend.nn_ops": "in_top_k log_softmax softmax softplus softsign top_k",
    },
)
