"""A process that loads files which nobody should trust, with little memory: what it is told to load
comes in by standard input, what came of it goes out.

A message is a line of JSON, ``{"suffix": ".pb", "data": <base64>, "run": false}``. So is the
answer, ``{"error": "ValueError", "text": "...", "expected": true}``, with empty texts where nothing
was wrong.
"""

from __future__ import annotations

import argparse
import base64
import json
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from stepforge import cli_feeds, cli_files, cli_inputs, cli_steps
from stepforge.frontend.operation import Tensor
from stepforge.ir.errors import IRError, OpError
from stepforge.passes.lower import lower, lowerable
from stepforge.passes.manager import run_passes
from stepforge.passes.order import ORDER

ROOM = 2 << 30  # bytes above what the process has when it starts
# What a wrong file may raise: a command's own error, the IR's, and those of TensorFlow.
EXPECTED = (cli_files.CommandError, IRError, OpError, ValueError, TypeError)


def main() -> None:
    """Answer messages until there are none."""
    warnings.simplefilter("ignore")
    answers = sys.stdout
    sys.stdout = sys.stderr
    limit_memory()
    with tempfile.TemporaryDirectory() as folder:
        for line in sys.stdin:
            print(json.dumps(answer(json.loads(line), Path(folder))), file=answers, flush=True)


def limit_memory() -> None:
    """From now on, memory runs out ``ROOM`` above what there is."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + ROOM
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)


def answer(message: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Load what a message has."""
    path = folder / f"file{message['suffix']}"
    path.write_bytes(base64.b64decode(message["data"]))
    error: BaseException | None = None
    try:
        LOADERS[path.suffix](path, message["run"])
    except Exception as raised:
        error = raised
    expected = error is None or (isinstance(error, EXPECTED) and bool(str(error).strip()))
    shown = "" if expected else "".join(traceback.format_exception(error))
    return {
        "error": "" if error is None else type(error).__name__,
        "text": shown or str(error or ""),
        "expected": expected,
    }


def _options(path: Path) -> argparse.Namespace:
    return argparse.Namespace(input=str(path), restore=None, fetch=[], feed=[])


def load_graph(path: Path, run: bool) -> None:
    """Import a graph, then take what nothing else uses through all passes, and run it."""
    given = cli_inputs.read(_options(path))
    assert isinstance(given, cli_inputs.GraphInput)
    operations = given.graph.get_operations()
    used = {tensor.op for op in operations for tensor in op.inputs}
    ends = [op.outputs[0] if op.outputs else op for op in operations if op not in used]
    options = _options(path)
    options.fetch = [end.name for end in ends]
    for function in cli_steps.functions_of(given, options):
        through_passes(function)
    if run:
        feeds = cli_steps.feeds_of(given, ends, ())
        given.session.run(ends, {tensor: zeros(tensor) for tensor in feeds})
    given.graph.as_graph_def()


def zeros(tensor: Tensor) -> Any:
    """A value to feed."""
    shape = [2 if n is None else n for n in tensor.shape.as_list()] if tensor.shape.ndims else []
    if np.prod(shape, dtype=float) > 1e6:
        raise ValueError("a feed of that size is none of ours")
    return np.zeros(shape, tensor.dtype.base_dtype.as_numpy_dtype)


def load_text(path: Path, run: bool) -> None:
    """Read functions, take them through all passes, and call those that take nothing."""
    given = cli_inputs.read(_options(path))
    assert isinstance(given, cli_inputs.Text)
    for function in given.module.functions:
        through_passes(function)
        if run and not function.params:
            text = cli_inputs.Text(path, type(given.module)((function,)), {})
            cli_steps.make_step(text, _options(path)).call()


def through_passes(function: Any) -> None:
    """What a compile does before there is LLVM text."""
    tensors = run_passes(function, ORDER["tensor"])
    if lowerable(tensors):
        run_passes(lower(run_passes(tensors, ORDER["fusion"])).function, ORDER["loops"])


def load_arrays(path: Path, run: bool) -> None:
    """Read an archive, and feed what is in it."""
    arrays = cli_files.read_arrays(path)
    assert all(array.dtype != object for array in arrays.values())
    if run:
        cli_feeds.parse([str(path)])


def load_array(path: Path, run: bool) -> None:
    """Read an array."""
    assert cli_files.read_array(path).dtype != object


LOADERS = {
    ".pb": load_graph, ".pbtxt": load_graph, ".sf": load_text, ".npz": load_arrays,
    ".npy": load_array,
}  # fmt: skip

if __name__ == "__main__":
    main()
