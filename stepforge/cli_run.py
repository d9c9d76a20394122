"""``stepforge run``: a step once, its values printed or kept."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stepforge import cli_feeds, cli_files, cli_inputs, cli_steps
from stepforge.cli_feeds import FEED_HELP, Fed
from stepforge.cli_files import CommandError
from stepforge.cli_inputs import INPUT_HELP, GraphInput
from stepforge.cli_parsers import command_parser
from stepforge.cli_progress import progress
from stepforge.cli_steps import argument_of
from stepforge.runtime.feeds import feed_tensor

_MORE = f"""\
{INPUT_HELP}
{FEED_HELP}
examples:
  stepforge run model.py --fetch y --feed 'x=[1.0, 2.0]'
  stepforge run model.py:y --feed x=images.npy -o results.npz
  stepforge run frozen.pb --fetch logits --feed images=batch.npz:pixels
  stepforge run model.sf --restore weights.npz --feed x=table.csv
"""


def add_commands(commands: Any) -> None:
    """Add ``run`` to the commands."""
    parser = command_parser(commands, "run", "run fetches once and print their values", _MORE)
    cli_inputs.add_input(parser)
    parser.add_argument("--fetch", action="append", default=[], metavar="TENSOR",
                        help="a result, or an operation to run (once for each)")
    cli_feeds.add_feeds(parser)
    parser.add_argument("-o", "--output", metavar="FILE.npz", help="keep the values there instead")
    parser.set_defaults(command=run_command)


def run_command(options: argparse.Namespace) -> None:
    """Compute, then print or keep the values."""
    if options.output and Path(options.output).suffix != ".npz":
        raise CommandError(f"{options.output}: values are kept in a file whose name ends in .npz")
    given = cli_inputs.read(options)
    feeds = cli_feeds.parse(options.feed)
    with progress("compiling and running"):
        results = (
            _run_graph(given, options, feeds) if isinstance(given, GraphInput)
            else _run_text(cli_steps.make_step(given, options), feeds)
        )
    if options.output:
        _keep(results, Path(options.output))
        return
    for name, value in results.items():
        print(f"{name} = {value}" if value is not None else f"{name} ran")


def _run_graph(
    given: GraphInput, options: argparse.Namespace, feeds: dict[str, Fed]
) -> dict[str, Any]:
    fetches = cli_steps.fetches_of(given, options.fetch)
    feeds = {cli_steps.known_name(given, name): fed for name, fed in feeds.items()}
    fed = [feed_tensor(given.graph, cli_steps.tensor_name(name)) for name in feeds]
    fed += cli_steps.feeds_of(given, fetches, (), beside=fed)
    arguments = [argument_of(tensor) for tensor in fed]
    values = cli_feeds.values_for(arguments, feeds)
    returned = given.session.run(fetches, dict(zip(fed, values, strict=True)))
    names = options.fetch or [fetch.name.removesuffix(":0") for fetch in fetches]
    return dict(zip(names, returned, strict=True))


def _run_text(step: cli_steps.CalledStep, feeds: dict[str, Fed]) -> dict[str, Any]:
    unknown = feeds.keys() - {argument.name for argument in step.arguments}
    if unknown:
        names = ", ".join(argument.name for argument in step.arguments) or "none"
        raise CommandError(f"there is no parameter {min(unknown)} (they are: {names})")
    values = cli_feeds.values_for(step.arguments, feeds)
    return dict(zip(step.results, step.call(*values), strict=True))


def _keep(results: Mapping[str, Any], path: Path) -> None:
    """Write the values; texts as bytes, lest anything is pickled."""
    arrays = {name: np.asarray(value) for name, value in results.items() if value is not None}
    for name, array in arrays.items():
        if array.dtype == object:
            arrays[name] = array.astype(np.bytes_)
            if not np.array_equal(arrays[name].astype(object), array):
                raise CommandError(f"{name} has bytes that an array in a file cannot hold")
    cli_files.write_arrays(path, arrays)
    print(f"wrote {path} ({path.stat().st_size} bytes)")
