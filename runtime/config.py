"""``ConfigProto`` and its relatives: options that TF1 programs set, kept as plain objects.

Programs set fields of nested messages (``config.gpu_options.allow_growth = True``) and pass fields
by keyword; unknown names are errors, as with the protocol buffers that they stand for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar


class Message:
    """A record with declared fields; a field whose default is a class is a nested message of it."""

    fields: ClassVar[dict[str, Any]] = {}

    if TYPE_CHECKING:  # fields are declared in the table

        def __getattr__(self, name: str) -> Any: ...

    def __init__(self, **given: Any) -> None:
        for name, default in self.fields.items():
            object.__setattr__(self, name, default() if isinstance(default, type) else default)
        for name, value in given.items():
            if name not in self.fields:
                raise ValueError(f'Protocol message {type(self).__name__} has no "{name}" field.')
            self._set(name, value)

    def _set(self, name: str, value: Any) -> None:
        if isinstance(self.fields[name], type) and isinstance(value, dict):
            known = getattr(self, name)
            known.update(value) if isinstance(known, dict) else object.__setattr__(
                self, name, self.fields[name](**value)
            )
        else:
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.fields:
            raise AttributeError(f"Protocol message {type(self).__name__} has no field {name!r}.")
        object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        shown = {n: getattr(self, n) for n in self.fields}
        return f"{type(self).__name__}({', '.join(f'{n}={v!r}' for n, v in shown.items())})"

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and all(
            getattr(self, n) == getattr(other, n) for n in self.fields
        )

    __hash__ = None  # type: ignore[assignment]

    def HasField(self, name: str) -> bool:
        """True where a field is not what it is in a new record."""
        return bool(getattr(self, name) != getattr(type(self)(), name))

    def CopyFrom(self, other: Any) -> None:
        """Take over every field of ``other``."""
        for name in self.fields:
            object.__setattr__(self, name, getattr(other, name))


class GPUOptions(Message):
    """Options of GPUs, none of which changes anything here."""

    fields: ClassVar = {
        "per_process_gpu_memory_fraction": 0.0,
        "allow_growth": False,
        "allocator_type": "",
        "visible_device_list": "",
        "deferred_deletion_bytes": 0,
        "polling_active_delay_usecs": 0,
        "force_gpu_compatible": False,
    }


class OptimizerOptions(Message):
    """Levels of graph optimisation."""

    L0, L1 = -1, 0
    OFF, DEFAULT, ON_1, ON_2 = -1, 0, 1, 2
    fields: ClassVar = {
        "do_common_subexpression_elimination": False,
        "do_constant_folding": False,
        "do_function_inlining": False,
        "opt_level": 0,
        "global_jit_level": 0,
    }


class RewriterConfig(Message):
    """Graph rewriters of TensorFlow."""

    fields: ClassVar = {
        "disable_model_pruning": False,
        "memory_optimization": 0,
        "constant_folding": 0,
        "arithmetic_optimization": 0,
    }


class GraphOptions(Message):
    """Options of graph handling."""

    fields: ClassVar = {
        "enable_recv_scheduling": False,
        "optimizer_options": OptimizerOptions,
        "build_cost_model": 0,
        "build_cost_model_after": 0,
        "infer_shapes": False,
        "place_pruned_graph": False,
        "enable_bfloat16_sendrecv": False,
        "timeline_step": 0,
        "rewrite_options": RewriterConfig,
    }


class Experimental(Message):
    """Options that TensorFlow may take away; ``executor_type`` chooses the back end."""

    fields: ClassVar = {
        "collective_group_leader": "",
        "executor_type": "",
        "recv_buf_max_chunk": 0,
        "use_numa_affinity": False,
        "collective_deterministic_sequential_execution": False,
        "collective_nccl": False,
        "share_session_state_in_clusterspec_propagation": False,
        "disable_thread_spinning": False,
        "share_cluster_devices_in_session": False,
        "session_metadata": None,
        "optimize_for_static_graph": False,
        "enable_mlir_bridge": False,
        "mlir_bridge_rollout": 0,
        "enable_mlir_graph_optimization": False,
        "disable_output_partition_graphs": False,
        "xla_fusion_autotuner_thresh": 0,
        "use_tfrt": False,
        "xla_prefer_single_graph_cluster": False,
    }


class ConfigProto(Message):
    """Options of a session."""

    Experimental = Experimental
    fields: ClassVar = {
        "device_count": dict,
        "intra_op_parallelism_threads": 0,
        "inter_op_parallelism_threads": 0,
        "use_per_session_threads": False,
        "session_inter_op_thread_pool": list,
        "placement_period": 0,
        "device_filters": list,
        "gpu_options": GPUOptions,
        "allow_soft_placement": False,
        "log_device_placement": False,
        "graph_options": GraphOptions,
        "operation_timeout_in_ms": 0,
        "isolate_session_state": False,
        "experimental": Experimental,
    }


class RunOptions(Message):
    """Options of one run."""

    NO_TRACE, SOFTWARE_TRACE, HARDWARE_TRACE, FULL_TRACE = 0, 1, 2, 3
    fields: ClassVar = {
        "trace_level": 0,
        "timeout_in_ms": 0,
        "inter_op_thread_pool": 0,
        "output_partition_graphs": False,
        "report_tensor_allocations_upon_oom": False,
    }


class CallableOptions(Message):
    """What ``Session._make_callable_from_options`` runs, by names."""

    fields: ClassVar = {
        "feed": list,
        "fetch": list,
        "target": list,
        "run_options": RunOptions,
        "tensor_connection": list,
        "feed_devices": dict,
        "fetch_devices": dict,
        "fetch_skip_sync": False,
    }


class NodeExecStats(Message):
    """When something ran, in microseconds; the relative times count from its start."""

    fields: ClassVar = {
        "node_name": "",
        "timeline_label": "",
        "all_start_micros": 0,
        "op_start_rel_micros": 0,
        "op_end_rel_micros": 0,
        "all_end_rel_micros": 0,
        "scheduled_micros": 0,
        "thread_id": 0,
    }


class DeviceStepStats(Message):
    """What ran on one device."""

    fields: ClassVar = {"device": "", "node_stats": list}


class StepStats(Message):
    """What ran in a step."""

    fields: ClassVar = {"dev_stats": list}


class RunMetadata(Message):
    """What a run may report about itself."""

    fields: ClassVar = {
        "step_stats": StepStats,
        "cost_graph": None,
        "partition_graphs": list,
        "function_graphs": list,
    }
