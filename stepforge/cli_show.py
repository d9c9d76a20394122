"""``stepforge dump``, ``opt`` and ``devices``: thin commands over what sessions, passes and targets
offer.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from stepforge import cli_inputs, cli_steps
from stepforge.cli_files import CommandError
from stepforge.cli_inputs import INPUT_HELP
from stepforge.cli_parsers import command_parser, complete
from stepforge.cli_progress import progress
from stepforge.codegen import target
from stepforge.ir.core import Function
from stepforge.ir.text import print_function
from stepforge.passes import lower as lowering
from stepforge.passes.manager import Pass, Report, name_of, run_passes
from stepforge.passes.order import ORDER
from stepforge.runtime import threads
from stepforge.runtime.devices import local_devices
from stepforge.runtime.variant import stages

_PASSES: dict[str, Pass] = {name_of(step): step for steps in ORDER.values() for step in steps}


def add_commands(commands: Any) -> None:
    """Add the commands."""
    _add_dump(commands)
    _add_opt(commands)
    devices = command_parser(commands, "devices", "say what there is to compute on", """\
example:
  stepforge devices
""")
    devices.set_defaults(command=devices_command)


# ---- dump ---------------------------------------------------------------------------------------


def _add_dump(commands: Any) -> None:
    parser = command_parser(
        commands, "dump", "print what a step becomes, at a stage of its way", f"""\
{INPUT_HELP}
stages: {', '.join(stages())}

examples:
  stepforge dump model.py --fetch y --stage loops
  stepforge dump frozen.pb:logits --stage graph
  stepforge dump model.sf --stage llvm
""")
    cli_inputs.add_input(parser)
    cli_steps.add_step(parser)
    parser.add_argument("--stage", choices=[*stages()], default="fused", help="which one (fused)")
    parser.set_defaults(command=dump_command)


def dump_command(options: argparse.Namespace) -> None:
    """Print a stage."""
    given = cli_inputs.read(options)
    with progress("compiling"):
        text = cli_steps.make_step(given, options).call.text(options.stage)
    print(text)


# ---- opt ----------------------------------------------------------------------------------------


def _add_opt(commands: Any) -> None:
    parser = command_parser(
        commands, "opt", "run passes on functions and print what they make of them", f"""\
{INPUT_HELP}  -                    IR text from standard input

passes: {', '.join(_PASSES)}, lower
levels: {', '.join(ORDER)} are the lists that compiles use, in that order (lower before loops)

examples:
  stepforge opt model.sf --passes fold,simplify,cse
  stepforge opt model.sf --passes tensor,fusion,lower,loops --timings
  stepforge opt frozen.pb --fetch logits --passes tensor
""")
    cli_inputs.add_input(parser)
    cli_steps.add_step(parser)
    passes = parser.add_argument(
        "--passes", default="tensor", metavar="LIST",
        help="passes and levels between commas, in order (tensor)",
    )
    complete(passes, (*_PASSES, "lower", *ORDER))
    parser.add_argument("--timings", action="store_true", help="print the time of each pass too")
    parser.set_defaults(command=opt_command)


def opt_command(options: argparse.Namespace) -> None:
    """Print every function after the passes, each of which is verified."""
    passes = [step for name in options.passes.split(",") for step in _named(name.strip())]
    report = Report()
    if options.input == "-":
        functions = list(cli_inputs.parse_text(sys.stdin.read(), "standard input").functions)
    else:
        functions = cli_steps.functions_of(cli_inputs.read(options), options)
    for function in functions:
        print(print_function(run_passes(function, passes, check=True, report=report)))
    if options.timings:
        print(report, file=sys.stderr)


def _named(name: str) -> tuple[Pass, ...]:
    if name == "lower":
        return (lower,)
    if name in ORDER:
        return ORDER[name]
    if name not in _PASSES:
        raise CommandError(f"there is no pass {name!r}: {', '.join((*_PASSES, 'lower', *ORDER))}")
    return (_PASSES[name],)


def lower(function: Function) -> Function:
    """The loops of a function; what host calls stand for is left out."""
    return lowering.lower(function).function


# ---- devices ------------------------------------------------------------------------------------


def devices_command(options: argparse.Namespace) -> None:
    """Print the devices of sessions, and the processor that code is made for."""
    for device in local_devices():
        print(f"{device.name}  {device.memory_limit_bytes / 2**30:.1f} GiB")
    host, common = target.host(), target.baseline()
    print(f"processor: {host.cpu} ({host.triple}), vectors of {host.vector_bits} bits,"
          f" {threads.available()} threads")
    print(f"ahead of time: {common.cpu}, vectors of {common.vector_bits} bits")
