"""``stepforge dump`` and ``opt``: thin commands over what sessions and passes offer."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from stepforge import cli_dump, cli_inputs, cli_passes, cli_steps
from stepforge.cli_inputs import INPUT_HELP
from stepforge.cli_parsers import command_parser, complete
from stepforge.cli_progress import progress
from stepforge.ir.text import print_function
from stepforge.passes.manager import Report, run_passes
from stepforge.passes.order import ORDER


def add_commands(commands: Any) -> None:
    """Add the commands."""
    _add_dump(commands)
    _add_opt(commands)


# ---- dump ---------------------------------------------------------------------------------------


def _add_dump(commands: Any) -> None:
    parser = command_parser(
        commands, "dump", "show what a step becomes, at each stage of its way",
        f"{INPUT_HELP}\n{cli_dump.DUMP_HELP}",
    )
    cli_inputs.add_input(parser)
    cli_steps.add_step(parser)
    cli_dump.add_options(parser)
    parser.set_defaults(command=dump_command)


def dump_command(options: argparse.Namespace) -> None:
    """Print or write a stage, or what a pass made."""
    given, wanted = cli_inputs.read(options), cli_dump.keywords(options)
    with progress("compiling"):
        text = cli_steps.make_step(given, options).call.dump(options.output, **wanted)
    cli_dump.report(text, options)


# ---- opt ----------------------------------------------------------------------------------------


def _add_opt(commands: Any) -> None:
    parser = command_parser(
        commands, "opt", "run passes on functions and print what they make of them",
        f"{INPUT_HELP}  -                    IR text from standard input\n\n"
        f"{cli_passes.PASSES_HELP}",
    )
    cli_inputs.add_input(parser)
    cli_steps.add_step(parser)
    which = parser.add_mutually_exclusive_group()
    passes = which.add_argument(
        "--passes", default="tensor", metavar="LIST",
        help="passes and levels between commas, in order (tensor)",
    )
    complete(passes, (*cli_passes.PASSES, *ORDER))
    until = which.add_argument(
        "--until", metavar="PASS", help="all that a compile runs, up to this one"
    )
    complete(until, cli_passes.PASSES)
    parser.add_argument("--timings", action="store_true", help="print the time of each pass too")
    parser.set_defaults(command=opt_command)


def opt_command(options: argparse.Namespace) -> None:
    """Print every function after the passes, each of which is verified."""
    named = cli_passes.until(options.until) if options.until else cli_passes.listed(options.passes)
    report = Report()
    if options.input == "-":
        functions = list(cli_inputs.parse_text(sys.stdin.read(), "standard input").functions)
    else:
        functions = cli_steps.functions_of(cli_inputs.read(options), options)
    made = [run_passes(function, named, check=True, report=report) for function in functions]
    print("\n".join(map(print_function, made)), end="")
    if options.timings:
        print(report, file=sys.stderr)
