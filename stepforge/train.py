"""``tf.train``: optimizers, learning rates, the global step."""

from stepforge.lazy import namespace

__getattr__, __dir__ = namespace(
    __name__,
    {
        "frontend.optimizer": "Optimizer",
        "frontend.optimizers": (
            "AdadeltaOptimizer AdagradOptimizer AdamOptimizer FtrlOptimizer "
            "GradientDescentOptimizer MomentumOptimizer ProximalAdagradOptimizer "
            "ProximalGradientDescentOptimizer RMSPropOptimizer"
        ),
        "frontend.learning_rates": (
            "cosine_decay cosine_decay_restarts exponential_decay inverse_time_decay "
            "linear_cosine_decay natural_exp_decay noisy_linear_cosine_decay piecewise_constant "
            "piecewise_constant_decay=piecewise_constant polynomial_decay"
        ),
        "frontend.graphdef.exporting": "write_graph",
        "frontend.moving_averages": "ExponentialMovingAverage",
        "frontend.variable_lists": (
            "assert_global_step create_global_step get_global_step get_or_create_global_step "
            "global_step"
        ),
    },
)
