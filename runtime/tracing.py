"""Runs with options: a deadline, and metadata that says what the run did.

A step is one native call, so a trace has one entry for the whole of it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from stepforge.runtime import errors
from stepforge.runtime.config import (
    DeviceStepStats,
    NodeExecStats,
    RunMetadata,
    RunOptions,
    StepStats,
)
from stepforge.runtime.program import Program


def check_options(options: Any, run_metadata: Any) -> None:
    """Raises: TypeError where they are neither None nor what their names say."""
    if options is not None and not isinstance(options, RunOptions):
        raise TypeError(f"options must be a tf.RunOptions, but got {options!r}")
    if run_metadata is not None and not isinstance(run_metadata, RunMetadata):
        raise TypeError(f"run_metadata must be a tf.RunMetadata, but got {run_metadata!r}")


def run_with_options(
    program: Program, feeds: Sequence[Any], options: Any, run_metadata: Any, timeout_in_ms: int
) -> Any:
    """The result of a program's step; ``timeout_in_ms`` (0: none) holds unless options have one.

    What a step has written cannot be taken back, so only one that writes nothing is held to its
    deadline. Raises: DeadlineExceededError.
    """
    limit = (options.timeout_in_ms if options is not None else 0) or timeout_in_ms
    started = time.time()
    result = program.step(*feeds)
    seconds = time.time() - started
    if limit and seconds * 1e3 > limit and not program.writes:
        raise errors.timed_out()
    if run_metadata is not None:
        run_metadata.CopyFrom(_metadata(program, options or RunOptions(), started, seconds))
    return result


def _metadata(
    program: Program, options: RunOptions, started: float, seconds: float
) -> RunMetadata:
    metadata = RunMetadata()
    if options.trace_level == RunOptions.FULL_TRACE:
        feeds = ", ".join(tensor.op.name for tensor in program.feeds)
        end = round(seconds * 1e6)
        stats = NodeExecStats(
            node_name=program.name,
            timeline_label=f"{program.name} = Step({feeds})",
            all_start_micros=round(started * 1e6),
            op_end_rel_micros=end,
            all_end_rel_micros=end,
        )
        device = program.session.list_devices()[0].name
        metadata.step_stats = StepStats(
            dev_stats=[DeviceStepStats(device=device, node_stats=[stats])]
        )
    if options.output_partition_graphs:
        from stepforge.frontend.graphdef.exporting import graph_def

        metadata.partition_graphs = [graph_def(program.nodes())]
    return metadata
