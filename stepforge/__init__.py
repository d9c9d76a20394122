"""stepforge runs TensorFlow-1 graph programs at native speed: ``import stepforge as tf``.

This module is names only; they come from the modules in the table.
"""

from stepforge.lazy import namespace

__version__ = "0.1.0"

__getattr__, __dir__ = namespace(
    __name__,
    {
        "nn": "nn=",
        "train": "train=",
        "errors": "errors= OpError",
        "math": "math=",
        "linalg": "linalg=",
        "random": "random=",
        "initializers": "initializers=",
        "dtypes": "dtypes=",
        "bitwise": "bitwise=",
        "manip": "manip=",
        "compat": "compat=",
        "ahead": "ahead=",
        "python": "python=",
        "sparse": "sparse=",
        "frontend.session_handles": "delete_session_tensor get_session_handle get_session_tensor",
        "frontend.sparse_ops": (
            "SparseTensor SparseTensorValue sparse_placeholder sparse_tensor_to_dense "
            "sparse_to_dense"
        ),
        "graph_util": "graph_util=",
        "io": "io=",
        "frontend.check_ops": (
            "assert_equal assert_greater assert_greater_equal assert_integer assert_less "
            "assert_less_equal assert_negative assert_non_negative assert_non_positive "
            "assert_none_equal assert_positive assert_rank assert_rank_at_least assert_scalar "
            "assert_type"
        ),
        "runtime.session": "Session InteractiveSession",
        "runtime.config": (
            "ConfigProto GPUOptions GraphOptions OptimizerOptions RunMetadata RunOptions"
        ),
        "frontend.graph": "Graph get_default_graph reset_default_graph",
        "frontend.operation": "Operation Tensor",
        "frontend.graphdef.messages": "AttrValue GraphDef NameAttrList NodeDef",
        "frontend.graphdef.importing": "import_graph_def",
        "frontend.default": "get_default_session",
        "frontend.graph_collections": "GraphKeys",
        "frontend.devices": "DeviceSpec",
        "frontend.seeds": "get_seed set_random_seed",
        "frontend.scopes": (
            "add_to_collection add_to_collections colocate_with container control_dependencies "
            "device get_all_collection_keys get_collection get_collection_ref init_scope "
            "name_scope op_scope"
        ),
        "frontend.dtypes": (
            "DType as_dtype bfloat16 bool=bool_ complex128 complex64 double float16 float32 "
            "float64 half int16 int32 int64 int8 qint16 qint32 qint8 quint16 quint8 resource "
            "string uint16 uint32 uint64 uint8 variant"
        ),
        "frontend.shapes": ("Dimension TensorShape dimension_value dimension_at_index"),
        "frontend.convert": (
            "constant convert_to_tensor convert_to_tensor_or_indexed_slices "
            "register_tensor_conversion_function"
        ),
        "frontend.indexed_slices": "IndexedSlices IndexedSlicesValue",
        "frontend.core_ops": (
            "Assert Print check_numerics group guarantee_const=identity identity identity_n "
            "is_tensor no_op numpy_function placeholder placeholder_with_default py_func "
            "stop_gradient tuple=tuple_"
        ),
        "frontend.variables": "Variable VariableAggregation VariableSynchronization",
        "frontend.variable_lists": (
            "all_variables assert_variables_initialized global_variables "
            "global_variables_initializer initialize_all_variables initialize_local_variables "
            "initialize_variables local_variables local_variables_initializer model_variables "
            "moving_average_variables report_uninitialized_variables trainable_variables "
            "variables_initializer"
        ),
        "frontend.variable_scope": (
            "AUTO_REUSE VariableScope fixed_size_partitioner get_local_variable get_variable "
            "get_variable_scope no_regularizer variable_op_scope variable_scope"
        ),
        "frontend.variable_store": (
            "disable_resource_variables enable_resource_variables resource_variables_enabled"
        ),
        "frontend.state_ops": (
            "assign assign_add assign_sub count_up_to is_variable_initialized scatter_add "
            "scatter_div scatter_max scatter_min scatter_mul scatter_nd_add scatter_nd_sub "
            "scatter_nd_update scatter_sub scatter_update"
        ),
        "frontend.initializers": (
            "constant_initializer=Constant glorot_normal_initializer=GlorotNormal "
            "glorot_uniform_initializer=GlorotUniform ones_initializer=Ones "
            "orthogonal_initializer=Orthogonal random_normal_initializer=RandomNormal "
            "random_uniform_initializer=RandomUniform "
            "truncated_normal_initializer=TruncatedNormal "
            "uniform_unit_scaling_initializer=UniformUnitScaling "
            "variance_scaling_initializer=VarianceScaling zeros_initializer=Zeros"
        ),
        "frontend.custom_gradients": "custom_gradient",
        "frontend.numba_ops": "numba_op",
        "frontend.gradients": (
            "AggregationMethod NoGradient=NotDifferentiable NotDifferentiable RegisterGradient "
            "UnconnectedGradients gradients hessians no_gradient=NotDifferentiable"
        ),
        "frontend.clipping": (
            "clip_by_average_norm clip_by_global_norm clip_by_norm clip_by_value global_norm"
        ),
        "frontend.elementwise_ops": (
            "abs accumulate_n acos acosh add add_n angle asin asinh atan atan2 atanh cast ceil "
            "complex conj cos cosh digamma div div_no_nan divide erf erfc exp expm1 floor "
            "floor_div floordiv floormod igamma igammac imag lgamma log log1p log_sigmoid maximum "
            "minimum mod multiply negative polygamma pow real realdiv reciprocal rint round rsqrt "
            "saturate_cast scalar_mul sigmoid sign sin sinh sqrt square squared_difference "
            "subtract tan tanh to_bfloat16 to_complex128 to_complex64 to_double to_float to_int32 "
            "to_int64 truediv truncatediv truncatemod zeta"
        ),
        "frontend.comparison_ops": (
            "equal greater greater_equal is_finite is_inf is_nan less less_equal logical_and "
            "logical_not logical_or logical_xor not_equal"
        ),
        "frontend.reduction_ops": (
            "arg_max arg_min argmax argmin count_nonzero cumprod cumsum reduce_all reduce_any "
            "reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum"
        ),
        "frontend.linalg_ops": (
            "cholesky cholesky_solve cross matmul matrix_determinant matrix_inverse matrix_solve "
            "matrix_triangular_solve qr self_adjoint_eig self_adjoint_eigvals svd trace"
        ),
        "frontend.contraction_ops": "einsum norm tensordot",
        "frontend.diagonal_ops": (
            "diag diag_part eye matrix_band_part matrix_diag matrix_diag_part matrix_set_diag"
        ),
        "frontend.shape_ops": (
            "broadcast_dynamic_shape broadcast_static_shape broadcast_to expand_dims "
            "invert_permutation matrix_transpose rank reshape shape shape_n size squeeze "
            "transpose"
        ),
        "frontend.array_ops": (
            "fill lin_space linspace meshgrid one_hot ones ones_like range sequence_mask zeros "
            "zeros_like"
        ),
        "frontend.array_calls": "get_static_value=constant_value",
        "frontend.joining_ops": (
            "concat depth_to_space pad parallel_stack reverse reverse_sequence reverse_v2 "
            "space_to_depth split stack tile unstack"
        ),
        "frontend.slicing": "newaxis slice strided_slice",
        "frontend.indexing_ops": (
            "batch_gather boolean_mask dynamic_partition dynamic_stitch gather gather_nd repeat "
            "scatter_nd setdiff1d tensor_scatter_add tensor_scatter_max tensor_scatter_min "
            "tensor_scatter_nd_add tensor_scatter_nd_max tensor_scatter_nd_min "
            "tensor_scatter_nd_sub tensor_scatter_nd_update tensor_scatter_sub "
            "tensor_scatter_update unique unique_with_counts where where_v2"
        ),
        "frontend.segment_ops": (
            "segment_max segment_mean segment_min segment_prod segment_sum unsorted_segment_max "
            "unsorted_segment_mean unsorted_segment_min unsorted_segment_prod "
            "unsorted_segment_sqrt_n unsorted_segment_sum"
        ),
        "frontend.sorting_ops": "argsort sort",
        "frontend.random_ops": (
            "multinomial random_crop random_normal random_shuffle random_uniform truncated_normal"
        ),
        "frontend.v2_switches": (
            "control_flow_v2_enabled disable_control_flow_v2 disable_eager_execution "
            "disable_tensor_equality disable_v2_behavior disable_v2_tensorshape "
            "enable_eager_execution enable_v2_behavior executing_eagerly "
            "executing_eagerly_outside_functions"
        ),
    },
)
