"""``tf.nn``: neural networks."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.nn_ops": (
            "bias_add crelu dropout elu in_top_k l2_loss leaky_relu log_softmax relu relu6 "
            "relu_layer selu sigmoid silu softmax softplus softsign swish tanh top_k xw_plus_b"
        ),
        "frontend.conv_ops": (
            "atrous_conv2d conv1d conv1d_transpose conv2d conv2d_backprop_filter "
            "conv2d_backprop_input conv2d_transpose conv3d conv3d_transpose convolution "
            "depthwise_conv2d depthwise_conv2d_backprop_filter="
            "depthwise_conv2d_native_backprop_filter depthwise_conv2d_backprop_input="
            "depthwise_conv2d_native_backprop_input depthwise_conv2d_native "
            "depthwise_conv2d_native_backprop_filter depthwise_conv2d_native_backprop_input "
            "separable_conv2d"
        ),
        "frontend.pool_ops": (
            "avg_pool avg_pool1d avg_pool2d=avg_pool avg_pool3d avg_pool_v2 "
            "local_response_normalization lrn max_pool max_pool1d max_pool2d max_pool3d "
            "max_pool_v2 max_pool_with_argmax pool"
        ),
        "frontend.cross_entropy_ops": (
            "sigmoid_cross_entropy_with_logits softmax_cross_entropy_with_logits "
            "softmax_cross_entropy_with_logits_v2 sparse_softmax_cross_entropy_with_logits "
            "weighted_cross_entropy_with_logits"
        ),
        "frontend.normalization_ops": (
            "batch_norm_with_global_normalization batch_normalization fused_batch_norm "
            "l2_normalize moments normalize_moments sufficient_statistics weighted_moments"
        ),
        "frontend.segment_ops": "embedding_lookup",
        "frontend.elementwise_ops": "log_sigmoid",
        "frontend.reduction_ops": "zero_fraction",
    },
)
