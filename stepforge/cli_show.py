"""``stepforge run``, ``dump``, ``opt`` and ``devices``: thin commands over what sessions, passes
and targets offer.
"""

from __future__ import annotations

import argparse
import ast
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from stepforge import cli_inputs
from stepforge.cli_inputs import INPUT_HELP, CommandError, Text
from stepforge.codegen import target
from stepforge.ir.analyses import checked_sizes, entry_sizes
from stepforge.ir.core import Function
from stepforge.ir.evaluate import evaluate
from stepforge.ir.parser import parse_module
from stepforge.ir.text import print_function
from stepforge.passes import lower as lowering
from stepforge.passes import plan as planning
from stepforge.passes.manager import Pass, Report, name_of, run_passes
from stepforge.passes.order import ORDER
from stepforge.passes.simplify import simplify
from stepforge.runtime import threads
from stepforge.runtime.ahead_steps import fetched
from stepforge.runtime.devices import local_devices
from stepforge.runtime.show.dumps import ALL, DEFAULT_STAGE, dump
from stepforge.runtime.show.subject import of_function
from stepforge.runtime.variant import stages


def lower(function: Function) -> Function:
    """The loops of a function; what host calls stand for is left out."""
    return lowering.lower(function).function


def plan(function: Function) -> Function:
    """The function with places for its temporaries."""
    sizes = checked_sizes(function) | entry_sizes(function)
    return planning.plan(function, sizes).function


_PASSES: dict[str, Pass] = {
    **{name_of(step): step for steps in ORDER.values() for step in steps},
    "simplify_inexact": partial(simplify, inexact=True),
    "lower": lower,
    "plan": plan,
}


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
    parser = _parser(commands, "dump", "show what a step becomes, at each stage of its way",
                     INPUT_HELP + """
stages: graph, tensor, fused, loops, numba, llvm, asm, and all of them (text and html)
passes: `stepforge opt --help` lists them; fold:2 is the second run of fold

examples:
  stepforge dump model.py --fetch y --feed x --stage loops
  stepforge dump model.py --fetch y --feed x --pass fuse --before
  stepforge dump model.py --fetch y --feed x -o y.html
""")
    cli_inputs.add_input(parser)
    parser.add_argument("--fetch", action="append", default=[], metavar="TENSOR")
    parser.add_argument("--feed", action="append", default=[], metavar="TENSOR")
    parser.add_argument("--stage", choices=[*stages(), ALL], help="one of the stages (of text:"
                        " fused, of html: all, of drawings: graph)")
    parser.add_argument("--pass", dest="passed", metavar="NAME", help="what a pass made, instead")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--before", action="store_true", help="what the pass was given")
    when.add_argument("--after", action="store_true", help="what it made (that is meant anyway)")
    parser.add_argument("--format", choices=[*DEFAULT_STAGE], help="html is one page that explains"
                        " itself (by default what FILE's name says, or text)")
    parser.add_argument("-o", "--output", metavar="FILE", help="write it there")
    parser.set_defaults(command=dump_command)


def dump_command(options: argparse.Namespace) -> None:
    """Print a stage, or what a pass made, or write it to a file."""
    given = cli_inputs.read(options)
    if (options.before or options.after) and options.passed is None:
        raise CommandError("--before and --after are of a pass: name it with --pass")
    wanted = {"stage": options.stage, "format": options.format,
              "before" if options.before else "after": options.passed}
    if isinstance(given, Text):
        text = dump(of_function(_only(given)), options.output, **wanted)
    else:
        if not options.fetch:
            raise CommandError("nothing to show: name results with --fetch")
        fetches = [fetched(given.graph, name) for name in options.fetch]
        step: Any = given.session.make_callable(fetches, [_tensor(name) for name in options.feed])
        text = step.dump(options.output, **wanted)
    print(f"wrote {options.output}" if options.output else text.rstrip("\n"))


# ---- opt ----------------------------------------------------------------------------------------


def _add_opt(commands: Any) -> None:
    parser = _parser(commands, "opt", "run passes on IR text and print what they make of it", f"""\
passes: {', '.join(_PASSES)}
levels: {', '.join(ORDER)} are the lists that compiles use, in that order (lower before loops,
plan behind)

examples:
  stepforge opt model.sf --passes fold,simplify,cse
  stepforge opt model.sf --passes tensor,fusion,lower,loops,plan --timings
  stepforge opt model.sf --until fuse                         all passes up to that one
  stepforge opt tests/golden/cse/pure.sf --passes cse         a golden test, by hand
""")
    parser.add_argument("input", help="a file of IR text, or - for standard input")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--passes", default="tensor", help="passes and levels, in order (tensor)")
    which.add_argument("--until", metavar="PASS", help="all that a compile runs, up to this one")
    parser.add_argument("--timings", action="store_true", help="print the time of each pass too")
    parser.set_defaults(command=opt_command)


def opt_command(options: argparse.Namespace) -> None:
    """Print every function after the passes, each of which is verified."""
    text = sys.stdin.read() if options.input == "-" else Path(options.input).read_text("utf-8")
    if options.until is not None:
        passes = _until(options.until)
    else:
        passes = [step for name in options.passes.split(",") for step in _named(name.strip())]
    report = Report()
    for function in parse_module(text).functions:
        print(print_function(run_passes(function, passes, check=True, report=report)))
    if options.timings:
        print(report, file=sys.stderr)


def _named(name: str) -> tuple[Pass, ...]:
    if name in ORDER:
        return ORDER[name]
    if name not in _PASSES:
        raise CommandError(f"there is no pass {name!r}: {', '.join((*_PASSES, *ORDER))}")
    return (_PASSES[name],)


def _until(name: str) -> list[Pass]:
    """All passes of a compile up to the first that is called ``name``."""
    everything = [*ORDER["tensor"], *ORDER["fusion"], lower, *ORDER["loops"], plan]
    places = [place for place, step in enumerate(everything, 1) if name_of(step) == name]
    if not places:
        raise CommandError(f"no compile runs {name!r}, but {', '.join(map(name_of, everything))}")
    return everything[: places[0]]


# ---- devices ------------------------------------------------------------------------------------


def devices_command(options: argparse.Namespace) -> None:
    """Print the devices of sessions, and the processor that code is made for."""
    for device in local_devices():
        print(f"{device.name}  {device.memory_limit_bytes / 2**30:.1f} GiB")
    host, common = target.host(), target.baseline()
    print(f"processor: {host.cpu} ({host.triple}), vectors of {host.vector_bits} bits,"
          f" {threads.available()} threads")
    print(f"ahead of time: {common.cpu}, vectors of {common.vector_bits} bits")
