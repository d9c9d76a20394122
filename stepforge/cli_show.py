"""``stepforge run``, ``dump``, ``opt`` and ``devices``: thin commands over what sessions, passes
and targets offer.
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np

from stepforge import cli_dump, cli_inputs, cli_passes
from stepforge.cli_inputs import INPUT_HELP, CommandError, Text
from stepforge.codegen import target
from stepforge.ir.core import Function
from stepforge.ir.evaluate import evaluate
from stepforge.ir.parser import parse_module
from stepforge.ir.text import print_function
from stepforge.passes.manager import Report, run_passes
from stepforge.runtime import threads
from stepforge.runtime.ahead_steps import fetched
from stepforge.runtime.devices import local_devices
from stepforge.runtime.show.dumps import dump
from stepforge.runtime.show.subject import of_function


def add_commands(commands: Any) -> None:
    """Add the commands."""
    _add_run(commands)
    _add_dump(commands)
    _add_opt(commands)
    devices = commands.add_parser("devices", help="say what there is to compute on")
    devices.set_defaults(command=devices_command)


def _parser(commands: Any, name: str, summary: str, more: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return made


# ---- run ----------------------------------------------------------------------------------------


def _add_run(commands: Any) -> None:
    parser = _parser(commands, "run", "run fetches once and print their values", INPUT_HELP + """
examples:
  stepforge run model.py --fetch y --feed 'x=[1.0, 2.0]'
  stepforge run model.py --fetch y --feed x=images.npy -o results.npz
""")
    cli_inputs.add_input(parser)
    parser.add_argument("--fetch", action="append", default=[], metavar="TENSOR")
    parser.add_argument("--feed", action="append", default=[], metavar="TENSOR=VALUE",
                        help="VALUE is a Python literal, or a file that ends in .npy")
    parser.add_argument("-o", "--output", metavar="FILE.npz", help="keep the values there instead")
    parser.set_defaults(command=run_command)


def run_command(options: argparse.Namespace) -> None:
    """Compute, then print or keep the values."""
    given = cli_inputs.read(options)
    feeds = dict(_fed(text) for text in options.feed)
    if isinstance(given, Text):
        function = _only(given)
        missing = [p.name for p in function.params if p.name not in feeds]
        if missing:
            raise CommandError(f"{function.name} needs --feed for {', '.join(missing)}")
        arguments = [feeds[p.name] for p in function.params]
        values = evaluate(function, arguments, dict(given.restored))
        results = {f"result_{i}": value for i, value in enumerate(values)}
    else:
        if not options.fetch:
            raise CommandError("nothing to run: name results with --fetch")
        feed_dict = {_tensor(name): value for name, value in feeds.items()}
        fetches = {name: fetched(given.graph, name) for name in options.fetch}
        results = given.session.run(fetches, feed_dict)
    if options.output:
        np.savez(options.output, **{n: v for n, v in results.items() if v is not None})
        print(f"wrote {options.output}")
        return
    for name, value in results.items():
        print(f"{name} = {value}")


def _fed(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"a feed is written TENSOR=VALUE, not {text!r}")
    if value.endswith(".npy"):
        return name, np.load(value)
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        raise CommandError(f"{value!r} is neither a Python literal nor a .npy file") from None


def _tensor(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _only(given: Text) -> Function:
    if len(given.module.functions) != 1:
        raise CommandError(f"{given.path} has {len(given.module.functions)} functions, not one")
    return given.module.functions[0]


# ---- dump ---------------------------------------------------------------------------------------


def _add_dump(commands: Any) -> None:
    more = f"{INPUT_HELP}\n{cli_dump.DUMP_HELP}"
    parser = _parser(commands, "dump", "show what a step becomes, at each stage of its way", more)
    cli_inputs.add_input(parser)
    parser.add_argument("--fetch", action="append", default=[], metavar="TENSOR")
    parser.add_argument("--feed", action="append", default=[], metavar="TENSOR")
    cli_dump.add_options(parser)
    parser.set_defaults(command=dump_command)


def dump_command(options: argparse.Namespace) -> None:
    """Print or write a stage, or what a pass made."""
    given, wanted = cli_inputs.read(options), cli_dump.keywords(options)
    if isinstance(given, Text):
        cli_dump.report(dump(of_function(_only(given)), options.output, **wanted), options)
        return
    if not options.fetch:
        raise CommandError("nothing to show: name results with --fetch")
    fetches = [fetched(given.graph, name) for name in options.fetch]
    step: Any = given.session.make_callable(fetches, [_tensor(name) for name in options.feed])
    cli_dump.report(step.dump(options.output, **wanted), options)


# ---- opt ----------------------------------------------------------------------------------------


def _add_opt(commands: Any) -> None:
    parser = _parser(commands, "opt", "run passes on IR text and print what they make of it",
                     cli_passes.PASSES_HELP)
    parser.add_argument("input", help="a file of IR text, or - for standard input")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--passes", default="tensor", help="passes and levels, in order (tensor)")
    which.add_argument("--until", metavar="PASS", help="all that a compile runs, up to this one")
    parser.add_argument("--timings", action="store_true", help="print the time of each pass too")
    parser.set_defaults(command=opt_command)


def opt_command(options: argparse.Namespace) -> None:
    """Print every function after the passes, each of which is verified."""
    text = sys.stdin.read() if options.input == "-" else Path(options.input).read_text("utf-8")
    named = cli_passes.until(options.until) if options.until else cli_passes.listed(options.passes)
    report = Report()
    made = [run_passes(f, named, check=True, report=report) for f in parse_module(text).functions]
    print("\n".join(map(print_function, made)), end="")
    if options.timings:
        print(report, file=sys.stderr)


# ---- devices ------------------------------------------------------------------------------------


def devices_command(options: argparse.Namespace) -> None:
    """Print the devices of sessions, and the processor that code is made for."""
    for device in local_devices():
        print(f"{device.name}  {device.memory_limit_bytes / 2**30:.1f} GiB")
    host, common = target.host(), target.baseline()
    print(f"processor: {host.cpu} ({host.triple}), vectors of {host.vector_bits} bits,"
          f" {threads.available()} threads")
    print(f"ahead of time: {common.cpu}, vectors of {common.vector_bits} bits")
