"""``tf.nn``: neural networks."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.nn_ops": (
            "bias_add crelu dropout elu in_top_k l2_loss leaky_relu log_softmax relu relu6 "
            "relu_layer selu sigmoid silu softmax softplus softsign swish tanh top_k xw_plus_b"
        ),
        "frontend.cross_entropy_ops": (
            "sigmoid_cross_entropy_with_logits softmax_cross_entropy_with_logits "
            "softmax_cross_entropy_with_logits_v2 sparse_softmax_cross_entropy_with_logits "
            "weighted_cross_entropy_with_logits"
        ),
        "frontend.normalization_ops": (
            "batch_norm_with_global_normalization batch_normalization l2_normalize moments "
            "normalize_moments sufficient_statistics weighted_moments"
        ),
        "frontend.segment_ops": "embedding_lookup",
        "frontend.elementwise_ops": "log_sigmoid",
        "frontend.reduction_ops": "zero_fraction",
    },
)
